// Shared memory of the running block: who touched each byte last, and after how many barriers.
#include "emulator.h"
#include <vector>

namespace emulator {

namespace {
struct Byte {
  Touch write, read, other_read;       // the last write, the last read, and one by another thread than that
};
std::vector<Byte> bytes_;
uint64_t generation = 1;

// A block stands for a launch here: what others did in the same place is no race.
Touch of_block(bool atomic) {
  Touch now = touch_now(atomic);
  now.launch = generation;
  now.block = 0;
  return now;
}

[[noreturn]] void race(const char *what, const Touch &other, size_t offset) {
  fail("data race on shared memory: " + std::string(what) + " byte " + std::to_string(offset) +
       ", which thread " + std::to_string(other.thread) + " of the block touched since the last barrier");
}
} // namespace

void size_shared(size_t bytes) {
  if (bytes_.size() < bytes) bytes_.resize(bytes);
}

// What earlier blocks left means nothing to this one.
void forget_shared() { ++generation; }

void check_shared(size_t offset, size_t count, Access access, bool atomic, const void *) {
  Touch now = of_block(atomic);
  for (size_t i = offset; i < offset + count; ++i) {
    Byte &b = bytes_[i];
    if (access == Access::Read) {
      if (b.write.launch != generation) fail("never written: reads byte " + std::to_string(i) + " of shared memory");
      if (races(b.write, now)) race("reads", b.write, i);
      if (b.read.thread != now.thread) b.other_read = b.read;
      b.read = now;
    } else {
      if (races(b.write, now)) race("writes", b.write, i);
      if (races(b.read, now)) race("writes", b.read, i);
      if (races(b.other_read, now)) race("writes", b.other_read, i);
      b.write = now;
    }
  }
}

} // namespace emulator
