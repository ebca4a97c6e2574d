// The parameters of a net in one list, so that one launch goes over all of them (update_cuda.rs makes it, of words of 8 bytes).

struct Param {
  Real *data;  // null where only the gradient is there, and nothing is learned
  Real *diff;
  Real *history[2];
  unsigned long long len;
  unsigned long long first;  // number of its first part, counted over all parameters
  double rate, l1, l2;       // lr_mult; factors of sign(w) and of w in the gradient
};

// What an iteration asks of all of them.
struct Step {
  double rate;               // learning rate
  double scale;              // factor on the gradients
  unsigned long long clear;  // whether gradients end as zeros, instead of what was subtracted
  double norm;               // of all gradients
  unsigned long long done;   // blocks that have summed up their share of it
};

// Values of a part: what one block has at a time.
constexpr unsigned PART = 2048;

struct Part {
  const Param *param;
  size_t begin, end;
};

// Part `n` of all parameters.
__device__ inline Part part(int params, const Param *table, unsigned n) {
  int low = 0, high = params - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (table[middle].first <= n) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const Param *p = table + low;
  size_t begin = size_t(n - p->first) * PART, end = begin + PART;
  return {p, begin, end < p->len ? end : size_t(p->len)};
}
