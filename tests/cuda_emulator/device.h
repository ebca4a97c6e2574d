// What nvcc gives a kernel, for the host's compiler. Included before every source that the stand-in for NVRTC compiles.
#pragma once
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 900
typedef unsigned long size_t;

extern "C" {
unsigned emulator_index(int) __attribute__((const));
void emulator_barrier(int line);
unsigned long emulator_shuffle(int line, unsigned mask, unsigned long value, unsigned from);
void emulator_atomic(const void *at, unsigned bytes);
void emulator_trap();
}

template <int I> struct EmulatorIndex {
  operator unsigned() const { return emulator_index(I); }
};
template <int I> struct EmulatorDim3 {
  EmulatorIndex<I> x;
  EmulatorIndex<I + 1> y;
  EmulatorIndex<I + 2> z;
};
static const EmulatorDim3<0> threadIdx{};
static const EmulatorDim3<3> blockIdx{};
static const EmulatorDim3<6> blockDim{};
static const EmulatorDim3<9> gridDim{};
constexpr int warpSize = 32;

#define __syncthreads() emulator_barrier(__LINE__)
#define __syncwarp(...) emulator_sync_warp(__LINE__, ##__VA_ARGS__)
#define __trap() emulator_trap()
#define __shfl_sync(mask, v, from, ...) emulator_shfl(__LINE__, mask, v, from, 0, ##__VA_ARGS__)
#define __shfl_down_sync(mask, v, by, ...) emulator_shfl(__LINE__, mask, v, by, 1, ##__VA_ARGS__)
#define __shfl_up_sync(mask, v, by, ...) emulator_shfl(__LINE__, mask, v, by, 2, ##__VA_ARGS__)
#define __shfl_xor_sync(mask, v, by, ...) emulator_shfl(__LINE__, mask, v, by, 3, ##__VA_ARGS__)

#define EMULATOR_PLAIN __attribute__((no_sanitize("thread")))

EMULATOR_PLAIN inline unsigned emulator_lane() {
  return (emulator_index(0) + emulator_index(6) * (emulator_index(1) + emulator_index(7) * emulator_index(2))) % 32;
}
EMULATOR_PLAIN inline void emulator_sync_warp(int line, unsigned mask = 0xffffffffu) {
  emulator_shuffle(line, mask, 0, emulator_lane());
}
template <class T> EMULATOR_PLAIN inline T emulator_shfl(int line, unsigned mask, T v, int by, int kind, int width = 32) {
  int lane = emulator_lane(), first = lane / width * width, from = lane;
  if (kind == 0) from = first + (by & (width - 1));
  if (kind == 1 && lane + by < first + width) from = lane + by;
  if (kind == 2 && lane - by >= first) from = lane - by;
  if (kind == 3 && (lane ^ by) < first + width) from = lane ^ by;
  unsigned long bits = 0;
  __builtin_memcpy(&bits, &v, sizeof v);
  bits = emulator_shuffle(line, mask, bits, from);
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}

// A launch has one thread of the host: an atomic operation is a plain one.
#define EMULATOR_ATOMIC(name, expression)                                                                              \
  template <class T> EMULATOR_PLAIN inline T name(T *at, T v) {                                                        \
    emulator_atomic(at, sizeof *at);                                                                                   \
    T old = *at;                                                                                                       \
    *at = expression;                                                                                                  \
    return old;                                                                                                        \
  }
EMULATOR_ATOMIC(atomicAdd, old + v)
EMULATOR_ATOMIC(atomicMax, old > v ? old : v)
EMULATOR_ATOMIC(atomicMin, old < v ? old : v)
EMULATOR_ATOMIC(atomicExch, v)
template <class T> EMULATOR_PLAIN inline T atomicCAS(T *at, T expected, T v) {
  emulator_atomic(at, sizeof *at);
  T old = *at;
  if (old == expected) *at = v;
  return old;
}

// A launch runs one thread after the other: what one has written the next one sees.
#define __threadfence() ((void)0)
inline long long __double_as_longlong(double v) {
  long long bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline unsigned __float_as_uint(float v) {
  unsigned bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline double __longlong_as_double(long long v) {
  double value;
  __builtin_memcpy(&value, &v, sizeof value);
  return value;
}
// Never contracted, as nothing here is.
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }

#define EMULATOR_MATH(name)                                                                                            \
  inline float name(float x) { return __builtin_##name##f(x); }                                                        \
  inline double name(double x) { return __builtin_##name(x); }
#define EMULATOR_MATH2(name)                                                                                           \
  inline float name(float x, float y) { return __builtin_##name##f(x, y); }                                            \
  inline double name(double x, double y) { return __builtin_##name(x, y); }
EMULATOR_MATH(exp) EMULATOR_MATH(log) EMULATOR_MATH(sqrt) EMULATOR_MATH(tanh) EMULATOR_MATH(fabs) EMULATOR_MATH(floor)
EMULATOR_MATH(ceil) EMULATOR_MATH(log1p) EMULATOR_MATH(expm1) EMULATOR_MATH(sin) EMULATOR_MATH(cos) EMULATOR_MATH(erf)
EMULATOR_MATH2(pow) EMULATOR_MATH2(fmax) EMULATOR_MATH2(fmin)
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
template <class T> inline T max(T a, T b) { return a > b ? a : b; }
template <class T> inline T min(T a, T b) { return a < b ? a : b; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long)a * b >> 32; }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }

// Calls a kernel with the parameters of a launch.
template <class... A> struct EmulatorCall;
template <> struct EmulatorCall<> {
  template <class F, class... B> EMULATOR_PLAIN static void call(F f, void **, B... given) { f(given...); }
};
template <class A, class... R> struct EmulatorCall<A, R...> {
  template <class F, class... B> EMULATOR_PLAIN static void call(F f, void **params, B... given) {
    EmulatorCall<R...>::call(f, params + 1, given..., *static_cast<A *>(*params));
  }
};
template <class... A> EMULATOR_PLAIN inline unsigned emulator_size(void (*)(A...), unsigned i) {
  const unsigned sizes[] = {sizeof(A)..., 0};
  return i < sizeof...(A) ? sizes[i] : 0;
}
template <class... A> EMULATOR_PLAIN inline void emulator_call(void (*f)(A...), void **params) {
  EmulatorCall<A...>::call(f, params);
}
