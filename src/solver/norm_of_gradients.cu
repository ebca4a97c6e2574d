// The L2 norm of all gradients, and from it the factor on them, for clip_gradients. Each block sums up its share; the last one to end
// adds up the sums, always in the same order.

extern "C" __global__ void norm_of_gradients(int params, const Param *table, int parts, Real limit, int iter_size, Step *step,
                                             unsigned long long *sums) {
  double sum = 0;
  for (unsigned n = blockIdx.x; n < unsigned(parts); n += gridDim.x) {
    Part here = part(params, table, n);
    const Real *diff = here.param->diff;
    for (size_t i = here.begin + threadIdx.x; i < here.end; i += BLOCK) sum += double(diff[i]) * double(diff[i]);
  }
  sum = block_sum(sum);
  __shared__ bool last;
  if (threadIdx.x == 0) {
    atomicExch(&sums[blockIdx.x], (unsigned long long)__double_as_longlong(sum));
    __threadfence();
    last = atomicAdd(&step->done, 1ull) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  double all = 0;
  for (unsigned b = threadIdx.x; b < gridDim.x; b += BLOCK) all += __longlong_as_double(atomicAdd(&sums[b], 0ull));
  all = sqrt(block_sum(all));
  if (threadIdx.x != 0) return;
  step->norm = all;
  step->scale = (all > double(limit) ? double(limit) / all : 1.0) / iter_size;
  atomicExch(&step->done, 0ull);
}
