// The stand-in for libcudnn: convolutions as plain loops, on the stream of their handle. It refuses what cuDNN refuses, offers algorithms of all
// kinds (that need too much room, that are not the same twice, of other precisions), and checks that each gets the workspace it asked for.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

extern "C" void emulator_check_range(const void *at, size_t bytes, int write, const char *who);
extern "C" void emulator_lock(int on);
extern "C" void emulator_takes(double ms);
extern "C" int emulator_enqueue(void *stream, void (*run)(void *), void *data, void (*drop)(void *));

namespace {
int version() {
  const char *text = getenv("CUDA_EMULATOR_CUDNN");
  return text ? atoi(text) : 91002;
}
// Statuses have other numbers from version 9 on.
int status(int eight, int nine) { return version() < 90000 ? eight : nine; }
int bad_param() { return status(3, 2000); }
int not_supported() { return status(9, 3000); }
int failed() { return status(8, 5000); }

struct Handle { void *stream = nullptr; };
struct Tensor {
  int type = -1;
  std::vector<int> dims, strides;
  size_t size() const { return type == 1 ? 8 : 4; }
  size_t count() const {
    size_t n = 1;
    for (int d : dims) n *= d;
    return n;
  }
};
struct Convolution {
  std::vector<int> pad, stride, dilation;
  int type = -1, groups = 1, math = 0;
};
struct Guard {
  Guard() { emulator_lock(1); }
  ~Guard() { emulator_lock(0); }
};
using Work = std::function<void()>;
int enqueue(void *stream, Work work) {
  int r = emulator_enqueue(
      stream, [](void *data) { (*static_cast<Work *>(data))(); }, new Work(std::move(work)),
      [](void *data) { delete static_cast<Work *>(data); });
  return r ? failed() : 0;
}

enum Direction { Forward, Data, Filter };
// cudnnConvolution...AlgoPerf_t
struct Performance {
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math, reserved[3];
};
enum { DefaultMath = 0, TensorMath = 1, FmaMath = 3 };

// What the calling thread has asked for: runs of each direction and algorithm, and the largest workspace it gave.
thread_local unsigned runs[3][8];
thread_local size_t largest;
// What each takes for it in milliseconds, where that is not what is expected.
thread_local double taken[3][8];

// The sizes of a convolution, once they are known to go together.
struct Plan {
  int type, batch, groups, channels, outputs;  // channels and outputs of a group
  size_t places, window, pixels;
  std::vector<long> from;                      // the pixel of a place and a tap, or -1
  bool strided, rounds;
  int taps(size_t place, size_t tap) const { return int(from[place * window + tap]); }
};

bool packed(const Tensor &t) {
  long stride = 1;
  for (size_t i = t.dims.size(); i-- > 0; stride *= t.dims[i])
    if (t.strides[i] != stride) return false;
  return true;
}

int plan(const Tensor &x, const Tensor &w, const Convolution &c, const Tensor &y, Plan *p) {
  size_t rank = x.dims.size(), axes = rank - 2;
  if (x.type < 0 || w.type != x.type || y.type != x.type || c.type != x.type) return bad_param();
  if (w.dims.size() != rank || y.dims.size() != rank || c.pad.size() != axes) return bad_param();
  if (axes != 2 && axes != 3) return not_supported();
  if (!packed(x) || !packed(y)) return not_supported();
  if (c.groups < 1 || x.dims[1] % c.groups || w.dims[0] % c.groups || w.dims[1] * c.groups != x.dims[1]) return bad_param();
  if (y.dims[0] != x.dims[0] || y.dims[1] != w.dims[0]) return bad_param();
  p->places = p->window = p->pixels = 1;
  p->strided = false;
  for (size_t a = 0; a < axes; ++a) {
    int reach = (w.dims[a + 2] - 1) * c.dilation[a] + 1;
    if (x.dims[a + 2] + 2 * c.pad[a] < reach) return bad_param();
    if (y.dims[a + 2] != (x.dims[a + 2] + 2 * c.pad[a] - reach) / c.stride[a] + 1) return bad_param();
    p->places *= y.dims[a + 2];
    p->window *= w.dims[a + 2];
    p->pixels *= x.dims[a + 2];
    p->strided |= c.stride[a] > 1 || c.dilation[a] > 1;
  }
  p->type = x.type;
  p->batch = x.dims[0];
  p->groups = c.groups;
  p->channels = w.dims[1];
  p->outputs = w.dims[0] / c.groups;
  // The default is TF32 where a GPU has it.
  p->rounds = x.type == 0 && c.math != FmaMath;
  p->from.resize(p->places * p->window);
  for (size_t q = 0; q < p->places; ++q) {
    for (size_t k = 0; k < p->window; ++k) {
      size_t place = q, tap = k;
      long offset = 0, step = 1;
      for (size_t a = axes; a-- > 0;) {
        long at = long(place % y.dims[a + 2]) * c.stride[a] - c.pad[a] + long(tap % w.dims[a + 2]) * c.dilation[a];
        place /= y.dims[a + 2];
        tap /= w.dims[a + 2];
        if (at < 0 || at >= x.dims[a + 2]) offset = -1;
        if (offset >= 0) offset += at * step;
        step *= x.dims[a + 2];
      }
      p->from[q * p->window + k] = offset;
    }
  }
  return 0;
}

// Bytes that an algorithm needs; a negative number is a refusal.
long workspace(Direction direction, int algorithm, const Plan &p) {
  long size = p.type == 1 ? 8 : 4, column = long(p.places * p.window) * p.channels * p.groups * size;
  switch (direction) {
  case Forward:
    if (algorithm == 0) return 0;
    if (algorithm == 1) return column / 4 + 16;
    if (algorithm == 2) return column;
    if (algorithm == 7) return p.strided || p.type == 1 ? -1 : column * p.batch;
    return -1;
  case Data:
    if (algorithm == 0) return 0;
    if (algorithm == 1) return column / 2 + 16;
    if (algorithm == 5) return p.strided || p.type == 1 ? -1 : column * p.batch;
    return -1;
  default:
    if (algorithm == 0 || algorithm == 3) return 0;
    if (algorithm == 1) return column / 2 + 32;
    if (algorithm == 5) return p.strided || p.type == 1 ? -1 : column * p.batch;
    return -1;
  }
}

// In the order of their speed; the fastest of each direction will not do for somebody who wants the same bits twice, or all of them.
struct Offer { int algorithm, determinism, math; };
const std::vector<Offer> all[3] = {
    {{1, 1, TensorMath}, {7, 1, FmaMath}, {2, 1, FmaMath}, {1, 1, DefaultMath}, {0, 1, DefaultMath}, {4, 1, DefaultMath}},
    {{0, 0, DefaultMath}, {1, 1, TensorMath}, {5, 1, FmaMath}, {1, 1, FmaMath}, {2, 1, DefaultMath}},
    {{3, 0, DefaultMath}, {0, 0, DefaultMath}, {1, 1, TensorMath}, {5, 1, FmaMath}, {1, 1, FmaMath}},
};
std::vector<Performance> offers(Direction direction, const Plan &p) {
  std::vector<Performance> found;
  for (auto &offer : all[direction]) {
    long bytes = workspace(direction, offer.algorithm, p);
    // What is said of memory is of the other precision.
    found.push_back({offer.algorithm, bytes < 0 ? not_supported() : 0, float(found.size() + 1), bytes < 0 ? 0 : size_t(bytes) / 2,
                     offer.determinism, offer.math, {0, 0, 0}});
  }
  return found;
}

// What a run takes: what the calling thread has said, else its place in that order.
double milliseconds(Direction direction, int algorithm) {
  if (taken[direction][algorithm] > 0) return taken[direction][algorithm];
  size_t place = 0;
  for (size_t i = 0; i < all[direction].size(); ++i)
    if (all[direction][i].algorithm == algorithm) place = i + 1;
  return double(place);
}

// Ten bits of the fraction, as TF32 has them.
float rounded(float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  bits = (bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fffu;
  memcpy(&v, &bits, 4);
  return v;
}
double rounded(double v) { return v; }

template <class T> void convolve(Direction direction, const Plan &p, T alpha, const T *a, const T *b, T beta, T *c) {
  Guard guard;
  size_t outputs = size_t(p.outputs) * p.groups, channels = size_t(p.channels) * p.groups;
  size_t nx = p.batch * channels * p.pixels, nw = outputs * p.channels * p.window, ny = p.batch * outputs * p.places;
  size_t counts[3][3] = {{nx, nw, ny}, {nw, ny, nx}, {nx, ny, nw}};
  emulator_check_range(a, counts[direction][0] * sizeof(T), 0, "a convolution, its first operand");
  emulator_check_range(b, counts[direction][1] * sizeof(T), 0, "a convolution, its second operand");
  if (beta != 0) emulator_check_range(c, counts[direction][2] * sizeof(T), 0, "a convolution, what it adds to");
  emulator_check_range(c, counts[direction][2] * sizeof(T), 1, "a convolution, its result");
  std::vector<T> first(a, a + counts[direction][0]), second(b, b + counts[direction][1]), sum(counts[direction][2], T(0));
  if (p.rounds) {
    for (T &v : first) v = rounded(v);
    for (T &v : second) v = rounded(v);
  }
  for (int n = 0; n < p.batch; ++n)
    for (size_t o = 0; o < outputs; ++o)
      for (int l = 0; l < p.channels; ++l) {
        size_t channel = o / p.outputs * p.channels + l;
        size_t x = (n * channels + channel) * p.pixels, w = (o * p.channels + l) * p.window, y = (n * outputs + o) * p.places;
        for (size_t q = 0; q < p.places; ++q)
          for (size_t k = 0; k < p.window; ++k) {
            long from = p.taps(q, k);
            if (from < 0) continue;
            if (direction == Forward) sum[y + q] += first[x + from] * second[w + k];
            if (direction == Data) sum[x + from] += first[w + k] * second[y + q];
            if (direction == Filter) sum[w + k] += first[x + from] * second[y + q];
          }
      }
  for (size_t i = 0; i < sum.size(); ++i) c[i] = alpha * sum[i] + (beta != 0 ? beta * c[i] : T(0));
}

int run(Direction direction, void *handle, const void *alpha, const Plan &p, const void *a, const void *b, int algorithm, void *room,
        size_t bytes, const void *beta, void *c) {
  long needed = workspace(direction, algorithm, p);
  if (needed < 0) return not_supported();
  if (bytes < size_t(needed) || (needed && !room)) return bad_param();
  ++runs[direction][algorithm];
  if (bytes > largest) largest = bytes;
  double ms = milliseconds(direction, algorithm);
  auto work = [=](auto one) {
    using T = decltype(one);
    T factor, kept;                    // the caller's are gone when the work is done
    memcpy(&factor, alpha, sizeof(T));
    memcpy(&kept, beta, sizeof(T));
    return enqueue(static_cast<Handle *>(handle)->stream, [=] {
      emulator_takes(ms);
      if (needed) {
        Guard guard;
        emulator_check_range(room, needed, 1, "a convolution, its workspace");
        memset(room, 0xff, needed);    // nothing of anybody else's stays there
      }
      convolve(direction, p, factor, static_cast<const T *>(a), static_cast<const T *>(b), kept, static_cast<T *>(c));
    });
  };
  return p.type == 1 ? work(double()) : work(float());
}

int set(Tensor *t, int type, int count, const int *dims, const int *strides) {
  if (type != 0 && type != 1) return not_supported();
  if (count < 4 || count > 8) return bad_param();
  for (int i = 0; i < count; ++i)
    if (dims[i] <= 0 || (strides && strides[i] <= 0)) return bad_param();
  t->type = type;
  t->dims.assign(dims, dims + count);
  t->strides.assign(count, 1);
  for (int i = count - 1; i-- > 0;) t->strides[i] = t->strides[i + 1] * dims[i + 1];
  if (strides) t->strides.assign(strides, strides + count);
  return 0;
}

Tensor &tensor(void *at) { return *static_cast<Tensor *>(at); }
int find(Direction direction, int error, const Plan &p, int asked, int *count, Performance *out) {
  *count = 0;
  if (error) return error;
  if (asked < 1) return bad_param();
  for (auto &offer : offers(direction, p))
    if (*count < asked) out[(*count)++] = offer;
  return 0;
}
int size(Direction direction, int error, const Plan &p, int algorithm, size_t *bytes) {
  if (error) return error;
  long needed = workspace(direction, algorithm, p);
  if (needed < 0) return not_supported();
  *bytes = needed;
  return 0;
}
} // namespace

extern "C" {
// For tests.
unsigned emulator_cudnn_runs(int direction, int algorithm) { return runs[direction][algorithm]; }
size_t emulator_cudnn_workspace() { return largest; }
void emulator_cudnn_takes(int direction, int algorithm, double ms) { taken[direction][algorithm] = ms; }

size_t cudnnGetVersion() { return version(); }
const char *cudnnGetErrorString(int error) {
  if (error == 0) return "CUDNN_STATUS_SUCCESS";
  if (error == bad_param()) return "CUDNN_STATUS_BAD_PARAM";
  if (error == not_supported()) return "CUDNN_STATUS_NOT_SUPPORTED";
  if (error == failed()) return "CUDNN_STATUS_EXECUTION_FAILED";
  return "CUDNN_STATUS_INTERNAL_ERROR";
}
int cudnnCreate(void **handle) {
  *handle = new Handle;
  return 0;
}
int cudnnDestroy(void *handle) {
  delete static_cast<Handle *>(handle);
  return 0;
}
int cudnnSetStream(void *handle, void *stream) {
  static_cast<Handle *>(handle)->stream = stream;
  return 0;
}
int cudnnCreateTensorDescriptor(void **out) {
  *out = new Tensor;
  return 0;
}
int cudnnDestroyTensorDescriptor(void *at) {
  delete &tensor(at);
  return 0;
}
int cudnnSetTensorNdDescriptor(void *at, int type, int count, const int *dims, const int *strides) {
  return set(&tensor(at), type, count, dims, strides);
}
int cudnnCreateFilterDescriptor(void **out) { return cudnnCreateTensorDescriptor(out); }
int cudnnDestroyFilterDescriptor(void *at) { return cudnnDestroyTensorDescriptor(at); }
int cudnnSetFilterNdDescriptor(void *at, int type, int format, int count, const int *dims) {
  return format ? not_supported() : set(&tensor(at), type, count, dims, nullptr);
}
int cudnnCreateConvolutionDescriptor(void **out) {
  *out = new Convolution;
  return 0;
}
int cudnnDestroyConvolutionDescriptor(void *at) {
  delete static_cast<Convolution *>(at);
  return 0;
}
int cudnnSetConvolutionNdDescriptor(void *at, int count, const int *pad, const int *stride, const int *dilation, int mode, int type) {
  auto c = static_cast<Convolution *>(at);
  if (mode != 1) return not_supported();  // kernels turned round: nobody here asks for that
  if (count < 2 || count > 6) return bad_param();
  for (int i = 0; i < count; ++i)
    if (pad[i] < 0 || stride[i] < 1 || dilation[i] < 1) return bad_param();
  c->type = type;
  c->pad.assign(pad, pad + count);
  c->stride.assign(stride, stride + count);
  c->dilation.assign(dilation, dilation + count);
  return 0;
}
int cudnnSetConvolutionGroupCount(void *at, int groups) {
  static_cast<Convolution *>(at)->groups = groups;
  return groups < 1 ? bad_param() : 0;
}
int cudnnSetConvolutionMathType(void *at, int math) {
  static_cast<Convolution *>(at)->math = math;
  return math < 0 || math > 3 ? bad_param() : 0;
}

// The operands of each direction, in the order of its functions.
#define WAY(NAME, WHICH, X, W, Y)                                                                                        \
  int cudnnGetConvolution##NAME##Algorithm_v7(void *, void *a, void *b, void *conv, void *c, int asked, int *count,      \
                                              Performance *out) {                                                      \
    Plan p;                                                                                                             \
    int error = plan(tensor(X), tensor(W), *static_cast<Convolution *>(conv), tensor(Y), &p);                            \
    return find(WHICH, error, p, asked, count, out);                                                                     \
  }                                                                                                                     \
  int cudnnGetConvolution##NAME##WorkspaceSize(void *, void *a, void *b, void *conv, void *c, int algorithm,            \
                                               size_t *bytes) {                                                        \
    Plan p;                                                                                                             \
    int error = plan(tensor(X), tensor(W), *static_cast<Convolution *>(conv), tensor(Y), &p);                            \
    return size(WHICH, error, p, algorithm, bytes);                                                                      \
  }                                                                                                                     \
  int cudnnConvolution##NAME(void *handle, const void *alpha, void *a, const void *first, void *b, const void *second,   \
                             void *conv, int algorithm, void *room, size_t bytes, const void *beta, void *c,           \
                             void *result) {                                                                           \
    Plan p;                                                                                                             \
    if (int error = plan(tensor(X), tensor(W), *static_cast<Convolution *>(conv), tensor(Y), &p)) return error;          \
    return run(WHICH, handle, alpha, p, first, second, algorithm, room, bytes, beta, result);                            \
  }
WAY(Forward, Forward, a, b, c)
WAY(BackwardData, Data, c, a, b)
WAY(BackwardFilter, Filter, a, c, b)

int cudnnConvolutionBackwardBias(void *handle, const void *alpha, void *top, const void *dy, const void *beta, void *bias, void *db) {
  const Tensor &y = tensor(top), &b = tensor(bias);
  if (y.type < 0 || b.type != y.type || b.count() != size_t(b.dims[1]) || b.dims[1] != y.dims[1] || !packed(y)) return bad_param();
  size_t batch = y.dims[0], outputs = y.dims[1], places = y.count() / batch / outputs;
  auto work = [=](auto one) {
    using T = decltype(one);
    T factor, kept;
    memcpy(&factor, alpha, sizeof(T));
    memcpy(&kept, beta, sizeof(T));
    return enqueue(static_cast<Handle *>(handle)->stream, [=] {
      Guard guard;
      auto from = static_cast<const T *>(dy);
      auto to = static_cast<T *>(db);
      emulator_check_range(from, batch * outputs * places * sizeof(T), 0, "the gradient of a bias, from the top's");
      if (kept != 0) emulator_check_range(to, outputs * sizeof(T), 0, "the gradient of a bias");
      emulator_check_range(to, outputs * sizeof(T), 1, "the gradient of a bias");
      for (size_t o = 0; o < outputs; ++o) {
        T sum = 0;
        for (size_t n = 0; n < batch; ++n)
          for (size_t q = 0; q < places; ++q) sum += from[(n * outputs + o) * places + q];
        to[o] = factor * sum + (kept != 0 ? kept * to[o] : T(0));
      }
    });
  };
  return y.type == 1 ? work(double()) : work(float());
}
}
