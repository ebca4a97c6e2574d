// The stand-in for libcublasLt: products with what stands behind them, as plain loops. It refuses what cuBLASLt refuses, offers algorithms of all kinds
// (that need too much room, that are not the same twice, that it does not run after all), and checks that each gets what it was chosen for.
#include "matrix.h"
#include <cstdlib>

namespace {
enum Result { Success = 0, InvalidValue = 7, ExecutionFailed = 13, NotSupported = 15 };
enum Type { Real32 = 0, Real64 = 1, Brain16 = 14 };
enum Compute { Compute32 = 68, Compute64 = 70, ComputeTf32 = 77 };
enum Epilogue { Nothing = 1, Relu = 2, Bias = 4 };
enum Scheme { InPlace = 1, ComputeType = 2 };

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t lead;
};
struct Product {
  int compute, scale, transposed[2] = {0, 0};
  unsigned epilogue = Nothing;
  const void *bias = nullptr;
};
struct Preference {
  uint64_t workspace = 0;
  unsigned schemes = 7, alignment[4] = {256, 256, 256, 256};
};
// The words of an algorithm: a mark, its number, what it was chosen for, its workspace and the bytes on which its operands lie.
struct Algorithm { uint64_t mark, number, problem, workspace, alignment, unused[3]; };
struct Found {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algorithm) == 64 && sizeof(Found) == 96, "as in cublasLt.h");
constexpr uint64_t MARK = 0x636f727461646f21;

// What algorithms are like, in the order of their speed: the first few will not do for somebody who wants the same bits twice, from little memory, or
// at all.
enum Number { Plain, Split, Unordered, Greedy, Refused, Fancied, Numbers };

// For tests: what the calling thread has asked for, and whether the ReLU it asks for makes a zero of what is not a number.
thread_local unsigned products = 0, products_in_bf16 = 0, runs[Numbers] = {}, searches = 0;
thread_local bool drops_nan = false;

int version() {
  const char *text = getenv("CUDA_EMULATOR_CUBLASLT");
  return text ? atoi(text) : 130001;
}

struct Sizes {
  uint64_t m, n, k;
  size_t width;                        // bytes of a result
};
int problem(const Product &p, const Layout &a, const Layout &b, const Layout &c, Sizes *sizes) {
  for (const Layout *l : {&a, &b, &c})
    if (!l->rows || !l->columns || l->lead < int64_t(l->rows)) return InvalidValue;
  uint64_t k = p.transposed[0] ? a.rows : a.columns;
  *sizes = {c.rows, c.columns, k, size_t(c.type == Real64 ? 8 : 4)};
  if ((p.transposed[0] ? a.columns : a.rows) != c.rows || (p.transposed[1] ? b.rows : b.columns) != c.columns) return InvalidValue;
  if ((p.transposed[1] ? b.columns : b.rows) != k) return InvalidValue;
  bool full = a.type == c.type && b.type == c.type && p.scale == c.type;
  if (c.type == Real64 && full && p.compute == Compute64) return Success;
  if (c.type == Real32 && full && (p.compute == Compute32 || p.compute == ComputeTf32)) return Success;
  bool rounded = a.type == Brain16 && b.type == Brain16 && c.type == Real32 && p.scale == Real32;
  return rounded && p.compute == Compute32 ? Success : NotSupported;
}
// A number for a problem, bias and operands aside.
uint64_t key(const Product &p, const Layout &a, const Layout &b, const Layout &c) {
  uint64_t key = 14695981039346656037u;
  for (uint64_t v : {uint64_t(p.compute), uint64_t(p.epilogue), uint64_t(p.transposed[0]), uint64_t(p.transposed[1]), uint64_t(a.type), a.rows,
                     a.columns, uint64_t(a.lead), b.rows, b.columns, uint64_t(b.lead), c.rows, c.columns, uint64_t(c.lead)})
    key = (key ^ v) * 1099511628211u;
  return key;
}

constexpr int PARTS = 4;

// Operands of E, sums and results of T. A sum goes over parts of k, of which number `first` is the first one.
template <class T, class E>
void multiply(const Product &p, Sizes s, T factor, const E *a, const Layout &la, const E *b, const Layout &lb, T kept, T *c, const Layout &lc,
              int parts, int first, char *room, size_t bytes, bool drops) {
  Guard guard;
  bool tf32 = p.compute == ComputeTf32;
  check_matrix(a, int(la.rows), int(la.columns), int(la.lead), false, "cuBLASLt, A");
  check_matrix(b, int(lb.rows), int(lb.columns), int(lb.lead), false, "cuBLASLt, B");
  if (kept != 0) check_matrix(c, int(s.m), int(s.n), int(lc.lead), false, "cuBLASLt, C");
  check_matrix(c, int(s.m), int(s.n), int(lc.lead), true, "cuBLASLt, D");
  const T *bias = nullptr;
  if (p.epilogue & Bias) {
    bias = static_cast<const T *>(p.bias);
    emulator_check_range(bias, s.m * sizeof(T), 0, "cuBLASLt, the bias");
  }
  if (bytes) {                         // whatever the workspace held is gone
    emulator_check_range(room, bytes, 1, "the workspace of cuBLASLt");
    memset(room, 0xa5, bytes);
  }
  std::vector<T> pa = pack<T>(p.transposed[0], int(s.m), int(s.k), a, int(la.lead), tf32);
  std::vector<T> pb = pack<T>(p.transposed[1], int(s.k), int(s.n), b, int(lb.lead), tf32);
  std::vector<T> sum(s.m), own(s.m);
  for (uint64_t j = 0; j < s.n; ++j) {
    sum.assign(s.m, T(0));
    for (int q = 0; q < parts; ++q) {
      uint64_t part = (q + first) % parts;
      own.assign(s.m, T(0));
      for (uint64_t l = s.k * part / parts; l < s.k * (part + 1) / parts; ++l) {
        const T *column = &pa[l * s.m];
        T by = pb[j * s.k + l];
        for (uint64_t i = 0; i < s.m; ++i) own[i] += column[i] * by;
      }
      for (uint64_t i = 0; i < s.m; ++i) sum[i] += own[i];
    }
    T *out = c + j * lc.lead;
    for (uint64_t i = 0; i < s.m; ++i) {
      T value = factor * sum[i] + (kept != 0 ? kept * out[i] : T(0)) + (bias ? bias[i] : T(0));
      if (p.epilogue & Relu) value = value > 0 || (value != value && !drops) ? value : T(0);
      out[i] = value;
    }
  }
}
} // namespace

extern "C" {
size_t cublasLtGetVersion() { return version(); }
int cublasLtCreate(void **handle) {
  *handle = new int(0);
  return Success;
}
int cublasLtDestroy(void *handle) {
  delete static_cast<int *>(handle);
  return Success;
}
int cublasLtMatmulDescCreate(Product **product, int compute, int scale) {
  *product = new Product{compute, scale};
  return Success;
}
int cublasLtMatmulDescDestroy(Product *product) {
  delete product;
  return Success;
}
int cublasLtMatmulDescSetAttribute(Product *p, int attribute, const void *value, size_t bytes) {
  auto set = [=](void *to, size_t size) { return bytes == size ? (memcpy(to, value, size), Success) : InvalidValue; };
  if (!value) return InvalidValue;
  switch (attribute) {
  case 3: return set(&p->transposed[0], sizeof(int));
  case 4: return set(&p->transposed[1], sizeof(int));
  case 7: return set(&p->epilogue, sizeof(unsigned));
  case 8: return set(&p->bias, sizeof(void *));
  default: return InvalidValue;
  }
}
int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t lead) {
  *layout = new Layout{type, rows, columns, lead};
  return Success;
}
int cublasLtMatrixLayoutDestroy(Layout *layout) {
  delete layout;
  return Success;
}
int cublasLtMatmulPreferenceCreate(Preference **preference) {
  *preference = new Preference;
  return Success;
}
int cublasLtMatmulPreferenceDestroy(Preference *preference) {
  delete preference;
  return Success;
}
int cublasLtMatmulPreferenceSetAttribute(Preference *p, int attribute, const void *value, size_t bytes) {
  auto set = [=](void *to, size_t size) { return bytes == size ? (memcpy(to, value, size), Success) : InvalidValue; };
  if (attribute == 1) return set(&p->workspace, sizeof(uint64_t));
  if (attribute == 3) return set(&p->schemes, sizeof(unsigned));
  return attribute >= 5 && attribute <= 8 ? set(&p->alignment[attribute - 5], sizeof(unsigned)) : InvalidValue;
}
int cublasLtMatmulAlgoGetHeuristic(void *handle, Product *p, Layout *a, Layout *b, Layout *c, Layout *d, Preference *preference, int asked,
                                   Found *found, int *count) {
  *count = 0;
  if (!handle || asked < 1 || c->rows != d->rows || c->columns != d->columns || c->type != d->type) return InvalidValue;
  Sizes s;
  if (int error = problem(*p, *a, *b, *d, &s)) return error;
  ++searches;
  unsigned aligned = 256;
  for (unsigned to : preference->alignment) aligned = to < aligned ? to : aligned;
  uint64_t results = s.m * s.n * s.width;
  struct Offer { Number number; uint64_t workspace, alignment; unsigned scheme; int state; };
  for (const Offer &o : {Offer{Fancied, 0, 1, 0, NotSupported}, Offer{Refused, 0, 1, 0, Success}, Offer{Unordered, 64, 16, InPlace, Success},
                         Offer{Greedy, 64 * results, 16, ComputeType, Success}, Offer{Split, PARTS * results, 16, ComputeType, Success},
                         Offer{Plain, 0, s.width, 0, Success}}) {
    if (*count == asked || o.workspace > preference->workspace || o.alignment > aligned || (o.scheme & ~preference->schemes)) continue;
    if (o.scheme && s.k < 2 * PARTS) continue;
    Algorithm algorithm{MARK, o.number, key(*p, *a, *b, *d), o.workspace, o.alignment, {}};
    found[(*count)++] = Found{algorithm, size_t(o.workspace), o.state, 1.0f, {}};
  }
  return *count ? Success : NotSupported;
}
int cublasLtMatmul(void *handle, Product *p, const void *alpha, const void *a, Layout *la, const void *b, Layout *lb, const void *beta,
                   const void *c, Layout *lc, void *d, Layout *ld, const Algorithm *algorithm, void *room, size_t bytes, void *stream) {
  Sizes s;
  if (!handle || !alpha || !beta || !a || !b || !d || !algorithm || algorithm->mark != MARK) return InvalidValue;
  if (int error = problem(*p, *la, *lb, *ld, &s)) return error;
  if (algorithm->problem != key(*p, *la, *lb, *ld)) return InvalidValue;
  if (bytes < algorithm->workspace || (algorithm->workspace && (!room || uintptr_t(room) % 256))) return InvalidValue;
  if (c != d || lc->lead != ld->lead) return NotSupported;  // another C: nobody here asks for that
  if ((p->epilogue & Bias) && !p->bias) return InvalidValue;
  for (const void *at : {a, b, static_cast<const void *>(d), p->epilogue & Bias ? p->bias : d})
    if (uintptr_t(at) % algorithm->alignment) return InvalidValue;
  auto number = Number(algorithm->number);
  ++runs[number];
  if (number == Refused || number == Fancied) return NotSupported;
  ++(la->type == Brain16 ? products_in_bf16 : products);
  bool split = number == Split || number == Greedy || number == Unordered;
  static unsigned turn = 0;            // who is the first to add to a sum in place, nobody knows
  int parts = split ? PARTS : 1, first = number == Unordered ? int(turn++ % PARTS) : 0;
  auto work = [=, product = *p, layouts = std::vector<Layout>{*la, *lb, *ld}, drops = drops_nan](auto one, auto operand) {
    using T = decltype(one);
    using E = decltype(operand);
    T factor, kept;                    // the caller's are gone when the work is done
    memcpy(&factor, alpha, sizeof factor);
    memcpy(&kept, beta, sizeof kept);
    size_t taken = algorithm->workspace;
    bool done = put(stream, [=] {
      multiply<T, E>(product, s, factor, static_cast<const E *>(a), layouts[0], static_cast<const E *>(b), layouts[1], kept,
                     static_cast<T *>(d), layouts[2], parts, first, static_cast<char *>(room), taken, drops);
    });
    return done ? Success : ExecutionFailed;
  };
  if (ld->type == Real64) return work(double(), double());
  return la->type == Brain16 ? work(float(), Half()) : work(float(), float());
}
unsigned emulator_lt_products() { return products; }
unsigned emulator_lt_products_in_bf16() { return products_in_bf16; }
// How often an algorithm was asked to run, and how often somebody asked for algorithms.
unsigned emulator_lt_runs(int number) { return runs[number]; }
unsigned emulator_lt_searches() { return searches; }
void emulator_lt_drops_nan(int on) { drops_nan = on; }
}
