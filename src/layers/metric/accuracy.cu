// Whether the labelled class is among the top_k: score vectors of `classes` elements that lie `inner` apart.

// right: 1 or 0, -1 where the label is ignored, -2 where it is none. A team of threads looks at each vector.
template <int TEAM>
__device__ inline void compare(int labels, int classes, int inner, const Real *x, const Real *label, int top_k, int has_ignored,
                               int ignored, int *right) {
  FOR_EACH_TEAM(TEAM, i, labels) {
    int rank = threadIdx.x % TEAM;
    if (has_ignored && label[i] == Real(ignored)) {
      if (rank == 0) right[i] = -1;
      continue;
    }
    int c = int(label[i]);
    if (Real(c) != label[i] || c < 0 || c >= classes) {
      if (rank == 0) right[i] = -2;
      continue;
    }
    const Real *scores = x + size_t(i / inner) * classes * inner + i % inner;
    Real score = scores[size_t(c) * inner];
    int as_high = 0;  // the label's own score is one of them; what is not a number lies below nothing
    for (int k = rank; k < classes; k += TEAM) as_high += !(scores[size_t(k) * inner] < score);
    as_high = team_sum<TEAM>(as_high);
    if (rank == 0) right[i] = as_high <= top_k;
  }
}

extern "C" __global__ void compare_by_thread(int labels, int classes, int inner, const Real *x, const Real *label, int top_k,
                                             int has_ignored, int ignored, int *right) {
  compare<1>(labels, classes, inner, x, label, top_k, has_ignored, ignored, right);
}

extern "C" __global__ void compare_by_warp(int labels, int classes, int inner, const Real *x, const Real *label, int top_k,
                                           int has_ignored, int ignored, int *right) {
  compare<32>(labels, classes, inner, x, label, top_k, has_ignored, ignored, right);
}

extern "C" __global__ void compare_by_block(int labels, int classes, int inner, const Real *x, const Real *label, int top_k,
                                            int has_ignored, int ignored, int *right) {
  compare<BLOCK>(labels, classes, inner, x, label, top_k, has_ignored, ignored, right);
}

__device__ inline void finish(int hits, int all, int wrong, Real *y) {
  *y = wrong > 0 ? log(-Real(wrong)) : Real(hits) / (all > 1 ? all : 1);  // NaN for a wrong label
}

// The blocks share the labels. A single one gives the share; of several, each leaves its counts.
extern "C" __global__ void counts(int labels, const int *right, int *parts, Real *y) {
  int hits = 0, all = 0, wrong = 0;
  FOR_EACH(i, labels) {
    hits += right[i] == 1;
    all += right[i] >= 0;
    wrong += right[i] == -2;
  }
  hits = block_sum(hits);
  all = block_sum(all);
  wrong = block_sum(wrong);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    finish(hits, all, wrong, y);
  } else {
    parts[3 * blockIdx.x] = hits;
    parts[3 * blockIdx.x + 1] = all;
    parts[3 * blockIdx.x + 2] = wrong;
  }
}

// One block adds up what they left.
extern "C" __global__ void share(int blocks, const int *parts, Real *y) {
  int hits = 0, all = 0, wrong = 0;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) {
    hits += parts[3 * i];
    all += parts[3 * i + 1];
    wrong += parts[3 * i + 2];
  }
  hits = block_sum(hits);
  all = block_sum(all);
  wrong = block_sum(wrong);
  if (threadIdx.x == 0) finish(hits, all, wrong, y);
}

// A block for each class.
extern "C" __global__ void share_by_class(int labels, const int *right, const Real *label, Real *y) {
  int hits = 0, all = 0;
  for (int i = threadIdx.x; i < labels; i += blockDim.x) {
    bool mine = right[i] >= 0 && label[i] == Real(blockIdx.x);
    all += mine;
    hits += mine && right[i] == 1;
  }
  hits = block_sum(hits);
  all = block_sum(all);
  if (threadIdx.x == 0) y[blockIdx.x] = Real(hits) / (all > 1 ? all : 1);
}
