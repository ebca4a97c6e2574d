// Device memory: a reserved range, with a byte of state beside each byte.
#include "emulator.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>

namespace emulator {

std::recursive_mutex lock;

namespace {
// Addresses, not memory: most for the first device, since they are given once and never again.
constexpr size_t FIRST = size_t(1) << 34, OTHER = size_t(1) << 32;
constexpr size_t RANGE = FIRST + (DEVICES - 1) * OTHER;
constexpr size_t first_of(int device) { return device ? FIRST + (device - 1) * OTHER : 0; }
constexpr size_t GAP = 512;                // between allocations, so that a step too far is seen
constexpr size_t DEFAULT_TOTAL = size_t(4) << 30;
enum State : uint8_t { Free = 0, Fresh = 1, Written = 2 };
// Who touched a word of four bytes last, in the launch that runs or an earlier one.
struct Word {
  Touch write, read, other_read;         // the last write, the last read, and one by another thread than that
};

char *base = nullptr;
uint8_t *state = nullptr;
Word *words = nullptr;
size_t next[DEVICES], used[DEVICES];
std::map<uint64_t, size_t> live;

void reserve() {
  if (base) return;
  auto map = [](size_t bytes) {
    void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) fail("no address space for the device's memory");
    return at;
  };
  base = static_cast<char *>(map(RANGE));
  state = static_cast<uint8_t *>(map(RANGE));
  words = static_cast<Word *>(map(RANGE / 4 * sizeof(Word)));
}

size_t total() {
  const char *text = getenv("CUDA_EMULATOR_MEMORY");
  return text ? strtoull(text, nullptr, 10) : DEFAULT_TOTAL;
}
} // namespace

void fail(const std::string &what) {
  std::string at = where();
  fprintf(stderr, "CUDA emulator: %s%s%s\n", what.c_str(), at.empty() ? "" : "\n  in ", at.c_str());
  fflush(stderr);
  abort();
}

bool is_device(const void *at) {
  return base && at >= base && at < base + RANGE;
}

int device_of(const void *at) {
  if (!is_device(at)) return -1;
  size_t offset = static_cast<const char *>(at) - base;
  return offset < FIRST ? 0 : 1 + (offset - FIRST) / OTHER;
}

int running_device = -1;

uint64_t allocate(size_t bytes, int device) {
  reserve();
  size_t room = (bytes + GAP - 1) / GAP * GAP, begin = GAP + next[device];
  if (used[device] + bytes > total() || begin + room + GAP > (device ? OTHER : FIRST)) return 0;
  uint64_t at = reinterpret_cast<uint64_t>(base + first_of(device) + begin);
  memset(state + first_of(device) + begin, Fresh, bytes);
  next[device] += room + GAP;
  used[device] += bytes;
  live[at] = bytes;
  return at;
}

bool release(uint64_t at) {
  auto found = live.find(at);
  if (found == live.end()) return false;
  size_t offset = reinterpret_cast<char *>(at) - base;
  memset(state + offset, Free, found->second);
  size_t page = 4096, from = (offset + page - 1) / page * page, to = (offset + found->second) / page * page;
  if (to > from) {
    madvise(base + from, to - from, MADV_DONTNEED);
    // Pages of state are as many pages of words as a page is long: these begin and end on one, too.
    madvise(reinterpret_cast<char *>(words) + from / 4 * sizeof(Word), (to - from) / 4 * sizeof(Word), MADV_DONTNEED);
  }
  used[device_of(reinterpret_cast<char *>(at))] -= found->second;
  live.erase(found);
  return true;
}

void free_and_total(size_t *free_bytes, size_t *all, int device) {
  *all = total();
  *free_bytes = *all > used[device] ? *all - used[device] : 0;
}

// What two threads of one launch do to the same words must be ordered by a barrier of their block, or atomic.
static std::string describe(const void *at);
static void check_race(const char *at, size_t bytes, Access access, bool atomic) {
  Touch now = touch_now(atomic);
  size_t first = (at - base) / 4, last = (at + bytes - 1 - base) / 4;
  for (size_t w = first; w <= last; ++w) {
    Word &word = words[w];
    const Touch *other = nullptr;
    if (races(word.write, now)) other = &word.write;
    if (access == Access::Write && races(word.read, now)) other = &word.read;
    if (access == Access::Write && races(word.other_read, now)) other = &word.other_read;
    if (other) {
      fail("data race on device memory: the kernel " + std::string(access == Access::Read ? "reads " : "writes ") + describe(at) +
           ", which thread " + std::to_string(other->thread) + " of block " + std::to_string(other->block) + " touched");
    }
    if (access == Access::Write) {
      word.write = now;
    } else {
      if (word.read.thread != now.thread || word.read.block != now.block) word.other_read = word.read;
      word.read = now;
    }
  }
}

// Where an address lies, for people.
static std::string describe(const void *at) {
  uint64_t address = reinterpret_cast<uint64_t>(at);
  auto after = live.upper_bound(address);
  char text[160];
  if (after == live.begin()) {
    snprintf(text, sizeof text, "address %#lx, before all allocations", static_cast<unsigned long>(address));
    return text;
  }
  --after;
  snprintf(text, sizeof text, "byte %ld of an allocation of %zu bytes", static_cast<long>(address - after->first), after->second);
  return text;
}

void check_device(const void *at, size_t bytes, Access access, bool atomic, const char *who) {
  size_t offset = static_cast<const char *>(at) - base;
  if (running_device >= 0 && (offset < first_of(running_device) || offset >= first_of(running_device + 1))) {
    fail(std::string("another device: ") + who + " touches memory of device " + std::to_string(device_of(at)) + " on device " +
         std::to_string(running_device));
  }
  uint8_t *s = state + offset;
  // The usual case at once: words of which every byte is written.
  bool usual = (bytes == 4 && *reinterpret_cast<const uint32_t *>(s) == 0x02020202u) ||
               (bytes == 8 && *reinterpret_cast<const uint64_t *>(s) == 0x0202020202020202u);
  for (size_t i = 0; i < bytes && !usual; ++i) {
    if (s[i] == Free) {
      fail(std::string("out of bounds: ") + who + (access == Access::Read ? " reads " : " writes ") + std::to_string(bytes) +
           " bytes of device memory at " + describe(at));
    }
    if (access == Access::Write) {
      s[i] = Written;
    } else if (s[i] == Fresh) {
      fail(std::string("never written: ") + who + " reads " + std::to_string(bytes) + " bytes of device memory at " +
           describe(static_cast<const char *>(at) + i));
    }
  }
  if (current) check_race(static_cast<const char *>(at), bytes, access, atomic);
}

} // namespace emulator
