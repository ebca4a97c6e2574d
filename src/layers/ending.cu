// What stands behind a product, in one pass over y of n = outer x channels x inner elements: y = relu(((y + bias) - m / f) / sqrt(v / f + eps)
// * s + b + other). What is not asked for is null, and a slope of 1 is no ReLU.

extern "C" __global__ void ending(int n, int channels, int inner, const Real *bias, const Real *m, const Real *v, const Real *f, Real eps,
                                  const Real *s, const Real *b, const Real *other, Real slope, Real *y) {
  Real by = !m || *f == 0 ? Real(0) : 1 / *f;
  FOR_EACH(i, n) {
    int c = i / inner % channels;
    Real x = y[i];
    if (bias) x += bias[c];
    if (m) x = (x - m[c] * by) * (1 / sqrt(v[c] * by + eps));
    if (s) x = b ? x * s[c] + b[c] : x * s[c];
    if (other) x += other[i];
    y[i] = x > 0 || slope == 1 ? x : x * slope + Real(0);
  }
}
