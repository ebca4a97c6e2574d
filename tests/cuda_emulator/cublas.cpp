// The stand-in for libcublas: what Cortado calls of it, as plain loops over matrices by columns.
#include "matrix.h"
#include <type_traits>

extern "C" int emulator_capturing(void *stream);

namespace {
enum Result { Success = 0, AllocFailed = 3, InvalidValue = 7, ExecutionFailed = 13, NotSupported = 15 };
enum Math { Default = 0, Tf32 = 3 };
enum Type { Real32 = 0, Brain16 = 14 };
constexpr int COMPUTE_32F = 68, DEFAULT_ALGORITHM = -1;
struct Handle {
  void *stream = nullptr;
  int math = Default;
  bool workspace = false;              // given by the user
};
// For tests: how many products the calling thread has asked for.
thread_local unsigned products = 0, products_in_bf16 = 0;
// Does it when its stream comes to it. While that captures, work needs memory that only the user can give.
int enqueue(void *handle, Work work) {
  auto h = static_cast<Handle *>(handle);
  if (emulator_capturing(h->stream) && !h->workspace) return AllocFailed;
  return put(h->stream, std::move(work)) ? Success : ExecutionFailed;
}
bool fits(int ta, int tb, int m, int n, int k, int lda, int ldb, int ldc) {
  return m >= 0 && n >= 0 && k >= 0 && ldc >= (m > 1 ? m : 1) && lda >= ((ta ? k : m) > 1 ? (ta ? k : m) : 1) &&
         ldb >= ((tb ? n : k) > 1 ? (tb ? n : k) : 1);
}

// Operands of E, sums and results of T.
template <class T, class E>
void gemm(bool tf32, int ta, int tb, int m, int n, int k, T alpha, const E *a, int lda, const E *b, int ldb, T beta, T *c, int ldc) {
  Guard guard;
  if (alpha != 0) {
    check_matrix(a, ta ? k : m, ta ? m : k, lda, false, "gemm, A");
    check_matrix(b, tb ? n : k, tb ? k : n, ldb, false, "gemm, B");
  }
  if (beta != 0) check_matrix(c, m, n, ldc, false, "gemm, C");
  check_matrix(c, m, n, ldc, true, "gemm, C");
  std::vector<T> pa = pack<T>(ta, m, k, a, lda, tf32), pb = pack<T>(tb, k, n, b, ldb, tf32), sum(m);
  for (int j = 0; j < n; ++j) {
    sum.assign(m, T(0));
    for (int l = 0; l < k; ++l) {
      const T *column = &pa[size_t(l) * m];
      T factor = pb[size_t(j) * k + l];
      for (int i = 0; i < m; ++i) sum[i] += column[i] * factor;
    }
    T *out = c + size_t(j) * ldc;
    for (int i = 0; i < m; ++i) out[i] = alpha * sum[i] + (beta != 0 ? beta * out[i] : T(0));
  }
}

template <class T, class E>
int batched(void *handle, int ta, int tb, int m, int n, int k, const T *alpha, const E *a, int lda, long long sa, const E *b, int ldb,
            long long sb, const T *beta, T *c, int ldc, long long sc, int count) {
  if (!fits(ta, tb, m, n, k, lda, ldb, ldc)) return InvalidValue;
  T one = *alpha, two = *beta;         // the caller's are gone when the work is done
  bool tf32 = static_cast<Handle *>(handle)->math == Tf32;
  ++(std::is_same<E, Half>::value ? products_in_bf16 : products);
  return enqueue(handle, [=] {
    for (int i = 0; i < count; ++i) gemm(tf32, ta, tb, m, n, k, one, a + i * sa, lda, b + i * sb, ldb, two, c + i * sc, ldc);
  });
}

// Of all that cublasGemmEx can do, bfloat16 in and single precision out.
int rounded(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda, long long sa,
            const void *b, int type_b, int ldb, long long sb, const void *beta, void *c, int type_c, int ldc, long long sc, int count,
            int compute, int algorithm) {
  if (type_a != Brain16 || type_b != Brain16 || type_c != Real32 || compute != COMPUTE_32F || algorithm != DEFAULT_ALGORITHM)
    return NotSupported;
  return batched(handle, ta, tb, m, n, k, static_cast<const float *>(alpha), static_cast<const Half *>(a), lda, sa,
                 static_cast<const Half *>(b), ldb, sb, static_cast<const float *>(beta), static_cast<float *>(c), ldc, sc, count);
}
} // namespace

extern "C" {
int cublasCreate_v2(void **handle) {
  *handle = new Handle;
  return Success;
}
int cublasDestroy_v2(void *handle) {
  delete static_cast<Handle *>(handle);
  return Success;
}
// A new stream has the library's own workspace again.
int cublasSetStream_v2(void *handle, void *stream) {
  auto h = static_cast<Handle *>(handle);
  h->stream = stream;
  h->workspace = false;
  return Success;
}
int cublasSetMathMode(void *handle, int mode) {
  if (mode != Default && mode != Tf32) return InvalidValue;
  static_cast<Handle *>(handle)->math = mode;
  return Success;
}
int cublasSetWorkspace_v2(void *handle, void *at, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(at) % 256) return InvalidValue;
  for (size_t i : {size_t(0), bytes - 1}) emulator_check_range(static_cast<char *>(at) + (bytes ? i : 0), bytes > 0, 1, "the workspace of cuBLAS");
  static_cast<Handle *>(handle)->workspace = bytes > 0;
  return Success;
}
int cublasGetVersion_v2(void *, int *version) {
  *version = 130000;
  return Success;
}
int cublasGemmEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda, const void *b,
                 int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int algorithm) {
  return rounded(h, ta, tb, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c, type_c, ldc, 0, 1, compute, algorithm);
}
int cublasGemmStridedBatchedEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda,
                               long long sa, const void *b, int type_b, int ldb, long long sb, const void *beta, void *c, int type_c,
                               int ldc, long long sc, int count, int compute, int algorithm) {
  return rounded(h, ta, tb, m, n, k, alpha, a, type_a, lda, sa, b, type_b, ldb, sb, beta, c, type_c, ldc, sc, count, compute,
                 algorithm);
}
unsigned emulator_products() { return products; }
unsigned emulator_products_in_bf16() { return products_in_bf16; }
#define FOR(T, L)                                                                                                       \
  int cublas##L##gemm_v2(void *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b,  \
                         int ldb, const T *beta, T *c, int ldc) {                                                      \
    return batched(h, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);                                 \
  }                                                                                                                     \
  int cublas##L##gemmStridedBatched(void *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,   \
                                    long long sa, const T *b, int ldb, long long sb, const T *beta, T *c, int ldc,     \
                                    long long sc, int count) {                                                         \
    return batched(h, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count);                         \
  }
FOR(float, S)
FOR(double, D)
}
