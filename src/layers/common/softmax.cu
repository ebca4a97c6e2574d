// Softmax along an axis: vectors of `classes` elements that lie `inner` apart, each the work of a team of threads. In place x is y and dy
// is dx.

template <int TEAM> __device__ inline void softmax(int vectors, int classes, int inner, const Real *x, Real *y) {
  FOR_EACH_TEAM(TEAM, i, vectors) {
    size_t first = size_t(i / inner) * classes * inner + i % inner;
    int rank = threadIdx.x % TEAM;
    Real most = x[first];
    for (int c = rank; c < classes; c += TEAM) most = fmax(most, x[first + size_t(c) * inner]);
    most = team_max<TEAM>(most);  // all have read the first element
    Real sum = 0;
    for (int c = rank; c < classes; c += TEAM) {
      Real e = exp(x[first + size_t(c) * inner] - most);
      y[first + size_t(c) * inner] = e;
      sum += e;
    }
    sum = team_sum<TEAM>(sum);
    for (int c = rank; c < classes; c += TEAM) y[first + size_t(c) * inner] /= sum;
  }
}

// dx = y (dy - sum of dy y), or that added to dx.
template <int TEAM>
__device__ inline void backward(int vectors, int classes, int inner, const Real *y, const Real *dy, Real *dx, int add) {
  FOR_EACH_TEAM(TEAM, i, vectors) {
    size_t first = size_t(i / inner) * classes * inner + i % inner;
    int rank = threadIdx.x % TEAM;
    Real dot = 0;
    for (int c = rank; c < classes; c += TEAM) dot += y[first + size_t(c) * inner] * dy[first + size_t(c) * inner];
    dot = team_sum<TEAM>(dot);
    for (int c = rank; c < classes; c += TEAM) {
      size_t at = first + size_t(c) * inner;
      Real d = y[at] * (dy[at] - dot);
      dx[at] = add ? dx[at] + d : d;
    }
  }
}

extern "C" __global__ void softmax_by_thread(int vectors, int classes, int inner, const Real *x, Real *y) {
  softmax<1>(vectors, classes, inner, x, y);
}

extern "C" __global__ void softmax_by_warp(int vectors, int classes, int inner, const Real *x, Real *y) {
  softmax<32>(vectors, classes, inner, x, y);
}

extern "C" __global__ void softmax_by_block(int vectors, int classes, int inner, const Real *x, Real *y) {
  softmax<BLOCK>(vectors, classes, inner, x, y);
}

extern "C" __global__ void softmax_backward_by_thread(int vectors, int classes, int inner, const Real *y, const Real *dy, Real *dx,
                                                      int add) {
  backward<1>(vectors, classes, inner, y, dy, dx, add);
}

extern "C" __global__ void softmax_backward_by_warp(int vectors, int classes, int inner, const Real *y, const Real *dy, Real *dx,
                                                    int add) {
  backward<32>(vectors, classes, inner, y, dy, dx, add);
}

extern "C" __global__ void softmax_backward_by_block(int vectors, int classes, int inner, const Real *y, const Real *dy, Real *dx,
                                                     int add) {
  backward<BLOCK>(vectors, classes, inner, y, dy, dx, add);
}
