// Ranking loss with hard negatives. Distances are minus inner products, rows x rows. The anchor of group k is row k * group, its positive
// the next one.

// Whether row b comes before row a: by value, ties by row.
template <class V> __device__ inline bool before(V b, int row_b, V a, int row_a) { return b < a || (b == a && row_b < row_a); }

// A block for each anchor. choice has four planes: near (0 no candidate, 1 candidate, 2 one of the nearest), the drawn word, drawn
// first, chosen; each anchors x rows. sums has four planes of one number for each anchor: hinge terms, how many, active, negatives.
extern "C" __global__ void choose(int rows, int group, int neg_num, int hard, int random, Real margin, const Real *distances,
                                  const Real *labels, unsigned *choice, Real *sums, unsigned layer,
                                  const unsigned long long *pass, unsigned key_low, unsigned key_high) {
  int k = blockIdx.x, anchors = gridDim.x, i = k * group, p = i + 1;
  size_t plane = size_t(anchors) * rows;
  unsigned *near = choice + size_t(k) * rows, *word = near + plane, *first = word + plane, *chosen = first + plane;
  const Real *from_i = distances + size_t(i) * rows, *from_p = from_i + rows;
  Real reach = from_i[p] + margin, candidates = 0, active = 0, negatives = 0;
  for (int j = threadIdx.x; j < rows; j += blockDim.x) {
    bool other = labels[j] != labels[i], candidate = other && reach - from_i[j] > 0;
    near[j] = candidate;
    word[j] = random_word(2u * (unsigned(i) * rows + j), layer, *pass, key_low, key_high);
    candidates += candidate;
    negatives += other;
    active += candidate + (other && reach - from_p[j] > 0);
  }
  candidates = block_sum(candidates);
  active = block_sum(active);
  negatives = block_sum(negatives);
  bool all = candidates <= neg_num;
  // The nearest: as many as are to be chosen.
  for (int j = threadIdx.x; j < rows; j += blockDim.x) {
    int rank = 0;
    if (near[j] && !all) {
      // near is only read here: its second meaning is kept in first until all have read it.
      for (int l = 0; l < rows; ++l) rank += near[l] && before(from_i[l], l, from_i[j], j);
    }
    first[j] = near[j] && !all && rank < neg_num;
  }
  __syncthreads();
  for (int j = threadIdx.x; j < rows; j += blockDim.x) near[j] += first[j];
  __syncthreads();
  // Some of the nearest, by the smallest words.
  for (int j = threadIdx.x; j < rows; j += blockDim.x) {
    int rank = 0;
    if (near[j] == 2) {
      for (int l = 0; l < rows; ++l) rank += near[l] == 2 && before(word[l], l, word[j], j);
    }
    first[j] = near[j] == 2 && rank < hard;
  }
  __syncthreads();
  // Some of all that are left, by the words behind those.
  for (int j = threadIdx.x; j < rows; j += blockDim.x) {
    word[j] = random_word(2u * (unsigned(i) * rows + j) + 1, layer, *pass, key_low, key_high);
  }
  __syncthreads();
  Real sum = 0, terms = 0;
  for (int j = threadIdx.x; j < rows; j += blockDim.x) {
    bool take = near[j] && (all || first[j]);
    if (near[j] && !take) {
      int rank = 0;
      for (int l = 0; l < rows; ++l) rank += near[l] && !first[l] && before(word[l], l, word[j], j);
      take = rank < random;
    }
    chosen[j] = take;
    if (!take) continue;
    Real one = reach - from_i[j], two = reach - from_p[j];
    sum += one;
    terms += 1;
    if (two > 0) {
      sum += two;
      terms += 1;
    }
  }
  sum = block_sum(sum);
  terms = block_sum(terms);
  if (threadIdx.x != 0) return;
  sums[k] = sum;
  sums[anchors + k] = terms;
  sums[2 * anchors + k] = active;
  sums[3 * anchors + k] = negatives;
}

// What the terms of the group of row a ask of rows a and b.
__device__ inline Real asks(int a, int b, int rows, int group, Real margin, const Real *distances, const unsigned *chosen,
                            const Real *terms) {
  int k = a / group, i = k * group;
  if (a - i > 1) return 0;
  if (a == i && b == i + 1) return -terms[k];
  Real reach = distances[size_t(i) * rows + i + 1] + margin;
  return chosen[size_t(k) * rows + b] && reach - distances[size_t(a) * rows + b] > 0 ? Real(1) : Real(0);
}

// The gradient is this matrix times the embeddings.
extern "C" __global__ void coefficients(int rows, int group, Real margin, const Real *distances, const unsigned *choice,
                                        const Real *sums, Real *c) {
  int anchors = rows / group;
  const unsigned *chosen = choice + size_t(3) * anchors * rows;
  const Real *terms = sums + anchors;
  FOR_EACH(at, rows * rows) {
    int a = at / rows, b = at % rows;
    c[at] = asks(a, b, rows, group, margin, distances, chosen, terms) + asks(b, a, rows, group, margin, distances, chosen, terms);
  }
}

// One block. The loss is NaN where an embedding is not finite or an anchor and its positive have different labels.
extern "C" __global__ void add_up(int rows, int group, const Real *distances, const Real *labels, const Real *sums, Real scale, Real *y,
                                  Real *share) {
  int anchors = rows / group;
  Real sum = 0, active = 0, all = 0, wrong = 0;
  for (int k = threadIdx.x; k < anchors; k += blockDim.x) {
    sum += sums[k];
    active += sums[2 * anchors + k];
    all += 2 * sums[3 * anchors + k];
    wrong += labels[k * group] != labels[k * group + 1];
  }
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    Real square = distances[size_t(i) * rows + i];
    wrong += !(square - square == 0);
  }
  sum = block_sum(sum);
  active = block_sum(active);
  all = block_sum(all);
  wrong = block_sum(wrong);
  if (threadIdx.x != 0) return;
  *y = wrong > 0 ? log(-wrong) : sum * scale;
  if (share) *share = active / (all > 1 ? all : Real(1));
}

extern "C" __global__ void times(int n, const Real *dy, Real *dx) {
  FOR_EACH(i, n) dx[i] *= *dy;
}
