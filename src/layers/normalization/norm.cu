// Unit length over channels, a block for each place of each image.

extern "C" __global__ void normalise(int channels, int inner, const Real *x, Real eps, Real *lengths, Real *y) {
  size_t first = size_t(blockIdx.x / inner) * channels * inner + blockIdx.x % inner;
  Real squares = 0;
  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    Real v = x[first + size_t(c) * inner];
    squares += v * v;
  }
  Real length = sqrt(block_sum(squares));
  if (threadIdx.x == 0) lengths[blockIdx.x] = length;
  Real scale = 1 / (length + eps);
  for (int c = threadIdx.x; c < channels; c += blockDim.x) y[first + size_t(c) * inner] = x[first + size_t(c) * inner] * scale;
}

// dx = dy / (length + eps) - y <y, dy> / length.
extern "C" __global__ void gradient(int channels, int inner, const Real *y, const Real *dy, Real eps, const Real *lengths, Real *dx) {
  size_t first = size_t(blockIdx.x / inner) * channels * inner + blockIdx.x % inner;
  Real dot = 0;
  for (int c = threadIdx.x; c < channels; c += blockDim.x) dot += y[first + size_t(c) * inner] * dy[first + size_t(c) * inner];
  Real length = lengths[blockIdx.x];
  dot = block_sum(dot);
  dot = length > 0 ? dot / length : Real(0);
  Real scale = 1 / (length + eps);
  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    size_t i = first + size_t(c) * inner;
    dx[i] = dy[i] * scale - y[i] * dot;
  }
}
