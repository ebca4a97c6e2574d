// Cross-entropy of the probabilities p, vectors of `classes` elements that lie `inner` apart.

// The class of a label: -1 where it is ignored, -2 where it is none.
__device__ inline int class_of(Real label, int classes, int has_ignored, int ignored) {
  if (has_ignored && label == Real(ignored)) return -1;
  int c = int(label);
  return Real(c) == label && c >= 0 && c < classes ? c : -2;
}

// A fixed normalizer of 0 means the number of labels that count.
__device__ inline void finish(Real sum, Real valid, Real fixed, Real *y, Real *normalizer) {
  Real n = fixed > 0 ? fixed : valid > 1 ? valid : Real(1);
  *normalizer = n;
  *y = sum / n;
}

// The blocks share the labels. A single one gives the loss; of several, each leaves its sum and the number of labels that count.
extern "C" __global__ void losses(int labels, int classes, int inner, const Real *p, const Real *label, int has_ignored, int ignored,
                                  Real *parts, Real fixed, Real *y, Real *normalizer) {
  Real sum = 0, valid = 0;
  FOR_EACH(i, labels) {
    int c = class_of(label[i], classes, has_ignored, ignored);
    if (c == -1) continue;
    Real q = c < 0 ? Real(0) / Real(label[i] - label[i]) : p[(size_t(i / inner) * classes + c) * inner + i % inner];
    if (q < Real(1.17549435e-38)) q = Real(1.17549435e-38);  // the smallest normal float; a NaN stays one
    sum -= log(q);
    valid += 1;
  }
  sum = block_sum(sum);
  valid = block_sum(valid);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    finish(sum, valid, fixed, y, normalizer);
  } else {
    parts[2 * blockIdx.x] = sum;
    parts[2 * blockIdx.x + 1] = valid;
  }
}

// One block adds up what they left.
extern "C" __global__ void loss(int blocks, const Real *parts, Real fixed, Real *y, Real *normalizer) {
  Real sum = 0, valid = 0;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) {
    sum += parts[2 * i];
    valid += parts[2 * i + 1];
  }
  sum = block_sum(sum);
  valid = block_sum(valid);
  if (threadIdx.x == 0) finish(sum, valid, fixed, y, normalizer);
}

// dx = dy / normalizer (p - onehot(label)).
extern "C" __global__ void gradient(int n, int classes, int inner, const Real *p, const Real *label, int has_ignored, int ignored,
                                    const Real *dy, const Real *normalizer, Real *dx) {
  Real scale = *dy / *normalizer;
  FOR_EACH(i, n) {
    int class_here = i / inner % classes;
    int c = class_of(label[i / inner / classes * inner + i % inner], classes, has_ignored, ignored);
    dx[i] = c == -1 ? Real(0) : scale * p[i] - (c == class_here ? scale : Real(0));
  }
}
