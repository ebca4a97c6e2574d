// Shared memory of the running block: who touched each byte last, and after how many barriers.
#include "emulator.h"
#include <vector>

namespace emulator {

namespace {
struct Touch {
  uint64_t block = 0;                  // the block in which it happened; 0 is never
  uint32_t thread = 0, barriers = 0, warp_steps = 0;
  bool atomic = false;
};
struct Byte {
  Touch write, read, other_read;       // the last write, the last read, and one by another thread than that
};
std::vector<Byte> bytes_;
uint64_t block = 1;

// Whether nothing orders an access of the current thread after this one.
bool races(const Touch &touch, bool atomic) {
  if (touch.block != block || touch.thread == current->id || (touch.atomic && atomic)) return false;
  if (touch.barriers != current->barriers) return false;
  bool same_warp = touch.thread / 32 == current->id / 32;
  return !(same_warp && touch.warp_steps != current->warp_steps);
}

[[noreturn]] void race(const char *what, const Touch &other, size_t offset) {
  fail("data race on shared memory: " + std::string(what) + " byte " + std::to_string(offset) +
       ", which thread " + std::to_string(other.thread) + " of the block touched since the last barrier");
}
} // namespace

void size_shared(size_t bytes) {
  if (bytes_.size() < bytes) bytes_.resize(bytes);
}

void forget_shared() { ++block; }

void check_shared(size_t offset, size_t count, Access access, bool atomic, const void *) {
  Touch now{block, current->id, current->barriers, current->warp_steps, atomic};
  for (size_t i = offset; i < offset + count; ++i) {
    Byte &b = bytes_[i];
    if (access == Access::Read) {
      if (b.write.block != block) fail("never written: reads byte " + std::to_string(i) + " of shared memory");
      if (races(b.write, atomic)) race("reads", b.write, i);
      if (b.read.thread != now.thread) b.other_read = b.read;
      b.read = now;
    } else {
      if (races(b.write, atomic)) race("writes", b.write, i);
      if (races(b.read, atomic)) race("writes", b.read, i);
      if (races(b.other_read, atomic)) race("writes", b.other_read, i);
      b.write = now;
    }
  }
}

} // namespace emulator
