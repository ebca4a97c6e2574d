// A factor and a bias (or null) for each channel of blobs as outer x channels x inner.

// A slope of 1 is no ReLU.
extern "C" __global__ void scale(int n, int channels, int inner, const Real *x, const Real *s, const Real *b, Real slope, Real *y) {
  FOR_EACH(i, n) {
    int c = i / inner % channels;
    Real v = x[i] * s[c];
    if (b) v += b[c];
    y[i] = v > 0 || slope == 1 ? v : v * slope + Real(0);
  }
}

// A block for each channel: ds of dy x, in place of what it was or added to it, and db of dy; each may be null.
extern "C" __global__ void sums(int outer, int channels, int inner, const Real *dy, const Real *x, Real *ds, int overwrite, Real *db) {
  int c = blockIdx.x, n = outer * inner;
  Real sum = 0, product = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) {
    size_t i = (size_t(j / inner) * channels + c) * inner + j % inner;
    sum += dy[i];
    if (x) product += dy[i] * x[i];
  }
  sum = block_sum(sum);
  product = block_sum(product);
  if (threadIdx.x != 0) return;
  if (ds) ds[c] = overwrite ? product : ds[c] + product;
  if (db) db[c] += sum;
}
