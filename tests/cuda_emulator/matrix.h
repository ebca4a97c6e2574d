// Matrices by columns, as the stand-ins for libcublas and libcublasLt read them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

extern "C" void emulator_check_range(const void *at, size_t bytes, int write, const char *who);
extern "C" void emulator_lock(int on);
extern "C" int emulator_enqueue(void *stream, void (*run)(void *), void *data, void (*drop)(void *));

namespace {
using Work = std::function<void()>;
// Does it when the stream comes to it: whether that can be.
inline bool put(void *stream, Work work) {
  return !emulator_enqueue(
      stream, [](void *data) { (*static_cast<Work *>(data))(); }, new Work(std::move(work)),
      [](void *data) { delete static_cast<Work *>(data); });
}
struct Guard {
  Guard() { emulator_lock(1); }
  ~Guard() { emulator_lock(0); }
};

template <class T> void check_matrix(const T *at, int rows, int columns, int lead, bool write, const char *who) {
  for (int c = 0; c < columns; ++c) emulator_check_range(at + size_t(c) * lead, rows * sizeof(T), write, who);
}

// A bfloat16: the upper half of a float.
struct Half {
  uint16_t bits;
};

// An element as it is multiplied: TF32 has 10 bits behind the point, the nearest, ties away from zero.
double value(double v, bool) { return v; }
float value(float v, bool tf32) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  if (!tf32 || (bits & 0x7f800000u) == 0x7f800000u) return v;
  bits = (bits + 0x1000u) & ~0x1fffu;
  memcpy(&v, &bits, sizeof v);
  return v;
}
float value(Half h, bool) {
  uint32_t bits = uint32_t(h.bits) << 16;
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

// Columns of op(A), one after the other.
template <class T, class E> std::vector<T> pack(bool transposed, int rows, int columns, const E *a, int lead, bool tf32) {
  std::vector<T> packed(size_t(rows) * columns);
  for (int c = 0; c < columns; ++c)
    for (int r = 0; r < rows; ++r)
      packed[size_t(c) * rows + r] = value(transposed ? a[size_t(r) * lead + c] : a[size_t(c) * lead + r], tf32);
  return packed;
}
} // namespace
