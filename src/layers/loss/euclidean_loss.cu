// Half the mean squared distance.

// One block: y = scale sum (a - b)^2.
extern "C" __global__ void distance(int n, const Real *a, const Real *b, Real *difference, Real scale, Real *y) {
  Real sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    Real d = a[i] - b[i];
    difference[i] = d;
    sum += d * d;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) *y = scale * sum;
}

extern "C" __global__ void gradient(int n, const Real *difference, const Real *dy, Real scale, Real *dx) {
  FOR_EACH(i, n) dx[i] = scale * *dy * difference[i];
}
