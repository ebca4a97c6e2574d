// What the parts of the stand-in for CUDA share: device memory, its checks, and the launch of kernels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace emulator {

constexpr int DEVICES = 8;             // as many as there may be

// One lock for everything: a launch is done when cuLaunchKernel returns.
extern std::recursive_mutex lock;

enum class Access { Read, Write };

// Ends the process with what went wrong, where, and in which thread of which kernel if one runs.
[[noreturn]] void fail(const std::string &what);

// --- memory.cpp: device memory is one range of addresses, a part for each device; each byte knows whether it is allocated and written.
bool is_device(const void *at);
int device_of(const void *at);         // -1 where it is no device memory
uint64_t allocate(size_t bytes, int device);  // 0 where it is full
bool release(uint64_t at);             // false where nothing was allocated there
void free_and_total(size_t *free_bytes, size_t *total, int device);
extern int running_device;             // whose work is being done; -1 where that is nobody's
void check_device(const void *at, size_t bytes, Access access, bool atomic, const char *who);

// --- launch.cpp
struct Module;
struct Kernel;
Module *load_module(const char *image, std::string *error, int device);
void unload_module(Module *module);
Kernel *find_kernel(Module *module, const char *name);
const std::string &name_of(Kernel *kernel);
int device_of(Kernel *kernel);
// A launch's own copy of what it gives a kernel.
struct Arguments {
  std::vector<std::vector<uint64_t>> values;
  std::vector<void *> pointers;
  Arguments(Kernel *kernel, void **params);
};
void launch(Kernel *kernel, const unsigned grid[3], const unsigned block[3], unsigned shared, void **params);

// --- shared.cpp: shared memory of the running block.
void forget_shared();                  // a new block begins
void check_shared(size_t offset, size_t bytes, Access access, bool atomic, const void *at);
void size_shared(size_t bytes);

// The running thread, for messages and for the order of accesses; `where()` is empty outside of kernels.
struct Thread {
  unsigned id;                         // in its block
  unsigned x, y, z;
  uint32_t barriers;                   // passed by the block
  uint32_t warp_steps;                 // passed by its warp
};

// An access, and what may order another one after it.
struct Touch {
  uint64_t launch = 0;                 // in which it happened; 0 is never
  uint32_t block = 0, thread = 0, barriers = 0, warp_steps = 0;
  bool atomic = false;
};
Touch touch_now(bool atomic);           // by the current thread
// Whether nothing orders `now` after `before`, of which one is a write.
bool races(const Touch &before, const Touch &now);
extern Thread *current;
std::string where();

} // namespace emulator
