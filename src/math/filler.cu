// The fillers, from the same words of the same stream as on the CPU (src/math/filler.rs, random.rs) and by the same arithmetic in double
// precision. Each product and sum is rounded by itself: __dmul_rn and __dadd_rn are never contracted to a fused multiply-add. So all bits
// are those of the CPU, but for the sums of positive_unitball, which are added in another order.

// What all are told: the values, and the words of the stream.
#define FILL int n, Real *out, unsigned layer, const unsigned long long *pass, unsigned key_low, unsigned key_high
// The words of elements 4 i to 4 i + 3 of a fill whose first block this is.
#define WORDS(first, i) random_block((first) + (i), layer, *pass, key_low, key_high)

__device__ inline double times_plus(double a, double b, double c) { return __dadd_rn(__dmul_rn(a, b), c); }

// A word, or one more, by 2^32, which is exact: a word as a number from [0, 1).
__device__ inline double unit(double word) { return __dmul_rn(word, 1 / 4294967296.0); }

// Natural logarithm of a normal number: ln of random.rs.
__device__ inline double logarithm(double x) {
  constexpr unsigned long long ROOT = 0x3FE6A09E667F3BCDull;
  unsigned long long bits = __double_as_longlong(x) - ROOT;
  double exponent = int((long long)bits >> 52);
  double m = __longlong_as_double((bits & 0x000FFFFFFFFFFFFFull) + ROOT);
  double f = __ddiv_rn(__dadd_rn(m, -1.0), __dadd_rn(m, 1.0)), square = __dmul_rn(f, f), sum = 1.0 / 23;
#pragma unroll
  for (int k = 10; k >= 0; --k) sum = times_plus(sum, square, 1.0 / (2 * k + 1));
  return __dadd_rn(__dmul_rn(exponent, 0.693147180559945309417232121458), __dmul_rn(__dmul_rn(2.0, f), sum));
}

// 1 / n! for n = FIRST, FIRST + 2, ... with alternating signs, as a polynomial in the square: sine (but for a factor) and cosine.
template <int FIRST> __device__ inline double series(double square) {
  double terms[9], term = 1.0;
#pragma unroll
  for (int k = 0; k < 9; ++k) {
    int n = FIRST + 2 * k;
    terms[k] = term;
    term /= -double((n + 1) * (n + 2));
  }
  double sum = terms[8];
#pragma unroll
  for (int k = 7; k >= 0; --k) sum = times_plus(sum, square, terms[k]);
  return sum;
}

// Two independent normal numbers from two words: box_muller of random.rs.
__device__ inline void normal(unsigned a, unsigned b, double &even, double &odd) {
  double radius = __dsqrt_rn(__dmul_rn(-2.0, logarithm(unit(__dadd_rn(a, 1.0)))));
  unsigned quarter = (b + (1u << 29)) >> 30;
  double x = __dmul_rn(int(b - (quarter << 30)), 6.28318530717958647692528676656 / 4294967296.0), square = __dmul_rn(x, x);
  double sine = __dmul_rn(x, series<1>(square)), cosine = series<0>(square);
  if (quarter & 1) {
    double other = sine;
    sine = cosine;
    cosine = other;
  }
  even = __dmul_rn(radius, (quarter + 1) & 2 ? -cosine : cosine);
  odd = __dmul_rn(radius, quarter & 2 ? -sine : sine);
}

// Four values that begin at element 4 i.
__device__ inline void write(Real *out, unsigned n, unsigned i, const double (&values)[4]) {
#pragma unroll
  for (unsigned lane = 0; lane < 4; ++lane) {
    if (4 * i + lane < n) out[4 * i + lane] = Real(values[lane]);
  }
}

__device__ inline void normals(double (&values)[4], const Words &words, double mean, double std) {
  normal(words.a, words.b, values[0], values[1]);
  normal(words.c, words.d, values[2], values[3]);
#pragma unroll
  for (double &value : values) value = times_plus(std, value, mean);
}

extern "C" __global__ void fill_uniform(FILL, unsigned first, double min, double range) {
  FOR_EACH(i, ((unsigned)n + 3) / 4) {
    Words words = WORDS(first, i);
    double values[4] = {unit(words.a), unit(words.b), unit(words.c), unit(words.d)};
#pragma unroll
    for (double &value : values) value = times_plus(range, value, min);
    write(out, n, i, values);
  }
}

extern "C" __global__ void fill_gaussian(FILL, unsigned first, double mean, double std) {
  FOR_EACH(i, ((unsigned)n + 3) / 4) {
    double values[4];
    normals(values, WORDS(first, i), mean, std);
    write(out, n, i, values);
  }
}

// An element is kept with a probability, else 0; for that it has a word of its own.
extern "C" __global__ void fill_sparse_gaussian(FILL, unsigned first, double mean, double std, unsigned first_kept, double keep) {
  FOR_EACH(i, ((unsigned)n + 3) / 4) {
    double values[4];
    normals(values, WORDS(first, i), mean, std);
    Words words = WORDS(first_kept, i);
    unsigned kept[4] = {words.a, words.b, words.c, words.d};
#pragma unroll
    for (int lane = 0; lane < 4; ++lane) values[lane] = unit(kept[lane]) < keep ? values[lane] : 0.0;
    write(out, n, i, values);
  }
}

// A block for each row: the words are drawn once for the sum and once for the values.
extern "C" __global__ void fill_positive_unitball(FILL, unsigned first, int row) {
  unsigned begin = blockIdx.x * (unsigned)row;
  double sum = 0;
  for (unsigned i = threadIdx.x; i < (unsigned)row; i += BLOCK) sum += Real(unit(lane_of(WORDS(first, (begin + i) / 4), (begin + i) % 4)));
  sum = block_sum(sum);
  for (unsigned i = threadIdx.x; i < (unsigned)row; i += BLOCK) {
    Real value = Real(unit(lane_of(WORDS(first, (begin + i) / 4), (begin + i) % 4)));
    out[begin + i] = sum > 0 ? Real(value / sum) : Real(1.0 / row);
  }
}

// The weights of neighbours fall off in line with the distance from the middle, in both directions.
extern "C" __global__ void fill_bilinear(int n, Real *out, int size, double f, double c) {
  FOR_EACH(i, n) {
    double column = 1.0 - fabs(i % size / f - c), line = 1.0 - fabs(i / size % size / f - c);
    out[i] = Real(line * column);
  }
}
