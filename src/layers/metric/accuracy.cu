// Whether the labelled class is among the top_k: score vectors of `classes` elements that lie `inner` apart.

// right: 1 or 0, -1 where the label is ignored, -2 where it is none.
extern "C" __global__ void compare(int labels, int classes, int inner, const Real *x, const Real *label, int top_k, int has_ignored,
                                   int ignored, int *right) {
  FOR_EACH(i, labels) {
    if (has_ignored && label[i] == Real(ignored)) {
      right[i] = -1;
      continue;
    }
    int c = int(label[i]);
    if (Real(c) != label[i] || c < 0 || c >= classes) {
      right[i] = -2;
      continue;
    }
    const Real *scores = x + size_t(i / inner) * classes * inner + i % inner;
    Real score = scores[size_t(c) * inner];
    int as_high = 0;  // the label's own score is one of them; what is not a number lies below nothing
    for (int k = 0; k < classes; ++k) as_high += !(scores[size_t(k) * inner] < score);
    right[i] = as_high <= top_k;
  }
}

// One block.
extern "C" __global__ void share(int labels, const int *right, Real *y) {
  Real hits = 0, all = 0, wrong = 0;
  for (int i = threadIdx.x; i < labels; i += blockDim.x) {
    hits += right[i] == 1;
    all += right[i] >= 0;
    wrong += right[i] == -2;
  }
  hits = block_sum(hits);
  all = block_sum(all);
  wrong = block_sum(wrong);
  if (threadIdx.x == 0) *y = wrong > 0 ? log(-wrong) : hits / (all > 1 ? all : Real(1));  // NaN for a wrong label
}

extern "C" __global__ void share_by_class(int classes, int labels, const int *right, const Real *label, Real *y) {
  FOR_EACH(c, classes) {
    Real hits = 0, all = 0;
    for (int i = 0; i < labels; ++i) {
      bool mine = right[i] >= 0 && label[i] == Real(c);
      all += mine;
      hits += mine && right[i] == 1;
    }
    y[c] = hits / (all > 1 ? all : Real(1));
  }
}
