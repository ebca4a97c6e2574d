// Batch normalisation of blobs as outer x channels x inner.

// Element j of the values of channel c.
__device__ inline size_t place(int j, int c, int channels, int inner) { return (size_t(j / inner) * channels + c) * inner + j % inner; }

extern "C" __global__ void gathered(int channels, const Real *m, const Real *v, const Real *f, Real eps, Real *mean, Real *inverse) {
  Real factor = *f == 0 ? Real(0) : 1 / *f;
  FOR_EACH(c, channels) {
    mean[c] = m[c] * factor;
    inverse[c] = 1 / sqrt(v[c] * factor + eps);
  }
}

// A block for each channel: mean and deviation of the batch, which join the gathered ones.
extern "C" __global__ void statistics(int outer, int channels, int inner, const Real *x, Real *m, Real *v, Real *f, Real keep, Real eps,
                                      Real *mean, Real *inverse) {
  int c = blockIdx.x, n = outer * inner;
  Real sum = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) sum += x[place(j, c, channels, inner)];
  Real mu = block_sum(sum) / n;
  // Squares of differences from the mean: nothing cancels.
  Real squares = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) {
    Real d = x[place(j, c, channels, inner)] - mu;
    squares += d * d;
  }
  Real variance = block_sum(squares) / n;
  if (threadIdx.x == 0) {
    mean[c] = mu;
    inverse[c] = 1 / sqrt(variance + eps);
    m[c] = mu + keep * m[c];
    v[c] = (n > 1 ? variance * (Real(n) / Real(n - 1)) : variance) + keep * v[c];
    if (c == 0) *f = 1 + keep * *f;
  }
}

// Also y = relu(s y + b), where s and b may be null, and a slope of 1 is no ReLU.
extern "C" __global__ void normalise(int n, int channels, int inner, const Real *x, const Real *mean, const Real *inverse, const Real *s,
                                     const Real *b, Real slope, Real *y) {
  FOR_EACH(i, n) {
    int c = i / inner % channels;
    Real v = (x[i] - mean[c]) * inverse[c];
    if (s) v = b ? v * s[c] + b[c] : v * s[c];
    y[i] = v > 0 || slope == 1 ? v : v * slope + Real(0);
  }
}

extern "C" __global__ void global_gradient(int n, int channels, int inner, const Real *inverse, const Real *dy, Real *dx) {
  FOR_EACH(i, n) dx[i] = dy[i] * inverse[i / inner % channels];
}

// A block for each channel. With t = (x - mean) inverse: dx = (dy - mean(dy) - t mean(dy t)) inverse.
extern "C" __global__ void gradient(int outer, int channels, int inner, const Real *x, const Real *mean, const Real *inverse,
                                    const Real *dy, Real *dx) {
  int c = blockIdx.x, n = outer * inner;
  Real mu = mean[c], scale = inverse[c], sum = 0, product = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) {
    size_t i = place(j, c, channels, inner);
    sum += dy[i];
    product += dy[i] * (x[i] - mu);
  }
  sum = block_sum(sum) / n;
  product = block_sum(product) / n * scale * scale;
  for (int j = threadIdx.x; j < n; j += blockDim.x) {
    size_t i = place(j, c, channels, inner);
    dx[i] = (dy[i] - sum - (x[i] - mu) * product) * scale;
  }
}
