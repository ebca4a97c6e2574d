// Distances of similar and dissimilar pairs.

// A block for each pair: its difference, its term of the loss, and what its difference is multiplied by in the gradient.
extern "C" __global__ void pairs(int size, int legacy, Real margin, Real near, const Real *a, const Real *b, const Real *similar,
                                 Real *difference, Real *factor, Real *term) {
  size_t first = size_t(blockIdx.x) * size;
  Real squared = 0;
  for (int i = threadIdx.x; i < size; i += blockDim.x) {
    Real d = a[first + i] - b[first + i];
    difference[first + i] = d;
    squared += d * d;
  }
  squared = block_sum(squared);
  if (threadIdx.x != 0) return;
  Real mark = similar[blockIdx.x], cost = 0, slope = 0;
  if (mark != floor(mark)) {
    cost = slope = log(Real(-1));  // no integer
  } else if (mark != 0) {
    cost = squared;
    slope = 1;
  } else if (legacy) {
    cost = fmax(margin - squared, Real(0));
    slope = cost > 0 ? Real(-1) : Real(0);
  } else {
    Real distance = sqrt(squared), rest = margin - distance;
    if (rest > 0) {
      cost = rest * rest;
      slope = -rest / fmax(distance, near);
    }
  }
  factor[blockIdx.x] = slope;
  term[blockIdx.x] = cost;
}

// One block.
extern "C" __global__ void add_up(int n, const Real *term, Real scale, Real *y) {
  Real sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += term[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *y = scale * sum;
}

extern "C" __global__ void gradient(int n, int size, const Real *difference, const Real *factor, const Real *dy, Real scale, Real *dx) {
  FOR_EACH(i, n) dx[i] = scale * *dy * factor[i / size] * difference[i];
}
