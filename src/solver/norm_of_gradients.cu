// Sums of squares, for clip_gradients.

// One sum for each block.
extern "C" __global__ void squares(int n, const Real *x, Real *sums) {
  Real sum = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < unsigned(n); i += gridDim.x * blockDim.x) sum += x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
