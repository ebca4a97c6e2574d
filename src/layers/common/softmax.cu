// Softmax along an axis: vectors of `classes` elements that lie `inner` apart. In place x is y and dy is dx.

// A block for each vector of neighbouring elements.
extern "C" __global__ void softmax_rows(int, int classes, int, const Real *x, Real *y) {
  x += size_t(blockIdx.x) * classes;
  y += size_t(blockIdx.x) * classes;
  Real most = x[0];
  for (int c = threadIdx.x; c < classes; c += blockDim.x) most = fmax(most, x[c]);
  most = block_max(most);
  Real sum = 0;
  for (int c = threadIdx.x; c < classes; c += blockDim.x) {
    y[c] = exp(x[c] - most);
    sum += y[c];
  }
  sum = block_sum(sum);
  for (int c = threadIdx.x; c < classes; c += blockDim.x) y[c] /= sum;
}

// A thread for each vector.
extern "C" __global__ void softmax_columns(int vectors, int classes, int inner, const Real *x, Real *y) {
  FOR_EACH(i, vectors) {
    size_t first = size_t(i / inner) * classes * inner + i % inner;
    Real most = x[first];
    for (int c = 1; c < classes; ++c) most = fmax(most, x[first + size_t(c) * inner]);
    Real sum = 0;
    for (int c = 0; c < classes; ++c) {
      Real e = exp(x[first + size_t(c) * inner] - most);
      y[first + size_t(c) * inner] = e;
      sum += e;
    }
    for (int c = 0; c < classes; ++c) y[first + size_t(c) * inner] /= sum;
  }
}

// dx = y (dy - sum of dy y), or that added to dx.
extern "C" __global__ void softmax_backward(int vectors, int classes, int inner, const Real *y, const Real *dy, Real *dx, int add) {
  FOR_EACH(i, vectors) {
    size_t first = size_t(i / inner) * classes * inner + i % inner;
    Real dot = 0;
    for (int c = 0; c < classes; ++c) dot += y[first + size_t(c) * inner] * dy[first + size_t(c) * inner];
    for (int c = 0; c < classes; ++c) {
      size_t at = first + size_t(c) * inner;
      Real d = y[at] * (dy[at] - dot);
      dx[at] = add ? dx[at] + d : d;
    }
  }
}
