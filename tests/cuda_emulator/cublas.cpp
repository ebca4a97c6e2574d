// The stand-in for libcublas: what Cortado calls of it, as plain loops over matrices by columns.
#include <cstddef>
#include <cstdint>
#include <vector>

extern "C" void emulator_check_range(const void *at, size_t bytes, int write, const char *who);
extern "C" void emulator_lock(int on);

namespace {
enum Result { Success = 0, InvalidValue = 7 };
struct Guard {
  Guard() { emulator_lock(1); }
  ~Guard() { emulator_lock(0); }
};

template <class T> void check_matrix(const T *at, int rows, int columns, int lead, bool write, const char *who) {
  for (int c = 0; c < columns; ++c) emulator_check_range(at + size_t(c) * lead, rows * sizeof(T), write, who);
}

// Columns of op(A), one after the other.
template <class T> std::vector<T> pack(bool transposed, int rows, int columns, const T *a, int lead) {
  std::vector<T> packed(size_t(rows) * columns);
  for (int c = 0; c < columns; ++c)
    for (int r = 0; r < rows; ++r) packed[size_t(c) * rows + r] = transposed ? a[size_t(r) * lead + c] : a[size_t(c) * lead + r];
  return packed;
}

template <class T>
int gemm(int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b, int ldb, const T *beta, T *c, int ldc) {
  if (m < 0 || n < 0 || k < 0 || ldc < (m > 1 ? m : 1) || lda < ((ta ? k : m) > 1 ? (ta ? k : m) : 1) ||
      ldb < ((tb ? n : k) > 1 ? (tb ? n : k) : 1))
    return InvalidValue;
  Guard guard;
  if (*alpha != 0) {
    check_matrix(a, ta ? k : m, ta ? m : k, lda, false, "gemm, A");
    check_matrix(b, tb ? n : k, tb ? k : n, ldb, false, "gemm, B");
  }
  if (*beta != 0) check_matrix(c, m, n, ldc, false, "gemm, C");
  check_matrix(c, m, n, ldc, true, "gemm, C");
  std::vector<T> pa = pack(ta, m, k, a, lda), pb = pack(tb, k, n, b, ldb), sum(m);
  for (int j = 0; j < n; ++j) {
    sum.assign(m, T(0));
    for (int l = 0; l < k; ++l) {
      const T *column = &pa[size_t(l) * m];
      T factor = pb[size_t(j) * k + l];
      for (int i = 0; i < m; ++i) sum[i] += column[i] * factor;
    }
    T *out = c + size_t(j) * ldc;
    for (int i = 0; i < m; ++i) out[i] = *alpha * sum[i] + (*beta != 0 ? *beta * out[i] : T(0));
  }
  return Success;
}

template <class T>
int batched(int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, long long sa, const T *b, int ldb, long long sb,
            const T *beta, T *c, int ldc, long long sc, int count) {
  for (int i = 0; i < count; ++i) {
    int r = gemm(ta, tb, m, n, k, alpha, a + i * sa, lda, b + i * sb, ldb, beta, c + i * sc, ldc);
    if (r) return r;
  }
  return Success;
}

template <class T>
int gemv(int trans, int m, int n, const T *alpha, const T *a, int lda, const T *x, int incx, const T *beta, T *y, int incy) {
  int rows = trans ? n : m, inner = trans ? m : n;
  Guard guard;
  check_matrix(a, m, n, lda, false, "gemv, A");
  for (int i = 0; i < inner; ++i) emulator_check_range(x + size_t(i) * incx, sizeof(T), 0, "gemv, x");
  for (int r = 0; r < rows; ++r) {
    T sum = 0;
    for (int i = 0; i < inner; ++i) sum += (trans ? a[size_t(r) * lda + i] : a[size_t(i) * lda + r]) * x[size_t(i) * incx];
    T *out = y + size_t(r) * incy;
    if (*beta != 0) emulator_check_range(out, sizeof(T), 0, "gemv, y");
    emulator_check_range(out, sizeof(T), 1, "gemv, y");
    *out = *alpha * sum + (*beta != 0 ? *beta * *out : T(0));
  }
  return Success;
}
} // namespace

extern "C" {
int cublasCreate_v2(void **handle) {
  *handle = new int(0);
  return Success;
}
int cublasDestroy_v2(void *handle) {
  delete static_cast<int *>(handle);
  return Success;
}
int cublasSetStream_v2(void *, void *) { return Success; }
int cublasSetMathMode(void *, int) { return Success; }
int cublasSetWorkspace_v2(void *, void *, size_t) { return Success; }
int cublasGetVersion_v2(void *, int *version) {
  *version = 130000;
  return Success;
}
#define FOR(T, L)                                                                                                       \
  int cublas##L##gemm_v2(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b,   \
                         int ldb, const T *beta, T *c, int ldc) {                                                      \
    return gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                                                  \
  }                                                                                                                     \
  int cublas##L##gemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,    \
                                    long long sa, const T *b, int ldb, long long sb, const T *beta, T *c, int ldc,     \
                                    long long sc, int count) {                                                         \
    return batched(ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count);                            \
  }                                                                                                                     \
  int cublas##L##gemv_v2(void *, int t, int m, int n, const T *alpha, const T *a, int lda, const T *x, int incx,         \
                         const T *beta, T *y, int incy) {                                                              \
    return gemv(t, m, n, alpha, a, lda, x, incx, beta, y, incy);                                                        \
  }
FOR(float, S)
FOR(double, D)
}
