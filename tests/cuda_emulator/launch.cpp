// Runs kernels block by block. The threads of a block are fibers, so that barriers and shuffles work; every access of a
// kernel to memory comes here, because kernels are compiled with -fsanitize=thread and its hooks are ours.
#include "stream.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <map>
#include <memory>
#include <sys/mman.h>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

struct Segment {
  const char *from, *to;
  bool writable;
  size_t offset;                       // of its bytes among the shared ones
};

struct Kernel {
  std::string name;
  void (*run)(void **);
  unsigned (*size)(unsigned);          // of a parameter, 0 behind the last
  Module *module;
};

struct Module {
  void *handle;
  int device;
  std::string name;                    // of the source
  std::vector<Segment> segments;
  std::map<std::string, std::unique_ptr<Kernel>> kernels;
};

Thread *current = nullptr;

namespace {

enum class Wait { New, Ready, Barrier, Warp, Done };

constexpr size_t STACK = 128 * 1024;

#if defined(__x86_64__)
// Saves what a call must keep, exchanges the stacks.
extern "C" void emulator_switch(void **save, void *to);
asm(".text\n.globl emulator_switch\n.hidden emulator_switch\nemulator_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#endif

struct Fiber {
  char *stack;
#if defined(__x86_64__)
  void *at;
#else
  ucontext_t at;
#endif
};

struct Lane : Thread {
  Wait wait = Wait::New;
  int line = 0;                        // of the barrier or shuffle it waits at
  unsigned mask = 0;
  uint64_t gives = 0;                  // to a shuffle
  Fiber *fiber = nullptr;
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber *> idle;
std::vector<Lane> lanes;
std::vector<uint64_t> taken;           // what the lanes gave to the last shuffle of their warp
#if defined(__x86_64__)
void *scheduler;
#else
ucontext_t scheduler;
#endif
Lane *lane = nullptr;
Kernel *kernel = nullptr;
void **params = nullptr;
uint64_t launches = 0;
unsigned grid_dim[3], block_dim[3], block_idx[3];

void to_scheduler() {
#if defined(__x86_64__)
  emulator_switch(&lane->fiber->at, scheduler);
#else
  swapcontext(&lane->fiber->at, &scheduler);
#endif
}

void body() {
  for (;;) {
    kernel->run(params);
    lane->wait = Wait::Done;
    to_scheduler();
  }
}

Fiber *fiber() {
  if (!idle.empty()) {
    Fiber *f = idle.back();
    idle.pop_back();
    return f;
  }
  auto f = std::make_unique<Fiber>();
  f->stack = static_cast<char *>(mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (f->stack == MAP_FAILED) fail("no memory for the stack of a thread");
  mprotect(f->stack, 4096, PROT_NONE);
#if defined(__x86_64__)
  void **top = reinterpret_cast<void **>(f->stack + STACK - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void *>(&body);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f->at = top;
#else
  getcontext(&f->at);
  f->at.uc_stack.ss_sp = f->stack;
  f->at.uc_stack.ss_size = STACK;
  f->at.uc_link = nullptr;
  makecontext(&f->at, body, 0);
#endif
  fibers.push_back(std::move(f));
  return fibers.back().get();
}

void run(Lane &l) {
  if (!l.fiber) l.fiber = fiber();
  lane = &l;
  current = &l;
  l.wait = Wait::Ready;
#if defined(__x86_64__)
  emulator_switch(&scheduler, l.fiber->at);
#else
  swapcontext(&scheduler, &l.fiber->at);
#endif
  if (l.wait == Wait::Done) {
    idle.push_back(l.fiber);
    l.fiber = nullptr;
  }
}

// Lets the lanes of a warp go on that all named ones have joined; whether some did.
bool release_warps() {
  bool some = false;
  for (size_t first = 0; first < lanes.size(); first += 32) {
    size_t count = std::min<size_t>(32, lanes.size() - first);
    for (size_t i = 0; i < count; ++i) {
      Lane &l = lanes[first + i];
      if (l.wait != Wait::Warp) continue;
      bool all = true;
      for (size_t j = 0; j < count; ++j) {
        Lane &o = lanes[first + j];
        if (l.mask >> j & 1) all &= o.wait == Wait::Warp && o.mask == l.mask && o.line == l.line;
      }
      if (!all) continue;
      unsigned mask = l.mask;
      for (size_t j = 0; j < count; ++j) {
        if (!(mask >> j & 1)) continue;
        Lane &o = lanes[first + j];
        taken[first + j] = o.gives;
        o.wait = Wait::Ready;
      }
      for (size_t j = 0; j < count; ++j) lanes[first + j].warp_steps++;
      some = true;
    }
  }
  return some;
}

void stuck() {
  for (Lane &l : lanes) {
    if (l.wait != Wait::Warp) continue;
    current = lane = &l;
    fail("warp shuffle not reached by all: the lanes of mask " + std::to_string(l.mask) + " do not all come to line " +
         std::to_string(l.line));
  }
  const Lane *at = nullptr;
  for (Lane &l : lanes) {
    if (l.wait == Wait::Barrier) at = &l;
  }
  for (Lane &l : lanes) {
    if (l.wait == Wait::Done || l.line != at->line) {
      current = lane = &l;
      fail("barrier not reached by all: the one of line " + std::to_string(at->line) + " is passed by this thread, where thread " +
           std::to_string(at->id) + " waits");
    }
  }
}

void run_block() {
  forget_shared();
  size_t count = size_t(block_dim[0]) * block_dim[1] * block_dim[2];
  lanes.assign(count, Lane());
  taken.assign(count, 0);
  for (size_t i = 0; i < count; ++i) {
    Lane &l = lanes[i];
    l.id = i;
    l.x = i % block_dim[0];
    l.y = i / block_dim[0] % block_dim[1];
    l.z = i / block_dim[0] / block_dim[1];
    l.barriers = l.warp_steps = 0;
  }
  for (;;) {
    for (Lane &l : lanes) {
      if (l.wait == Wait::New || l.wait == Wait::Ready) run(l);
    }
    if (release_warps()) continue;
    size_t done = 0, waiting = 0;
    bool same = true;
    int line = 0;
    for (Lane &l : lanes) {
      done += l.wait == Wait::Done;
      if (l.wait == Wait::Barrier) {
        same &= !waiting || l.line == line;
        line = l.line;
        waiting++;
      }
    }
    if (done == count) break;
    if (waiting != count || !same) stuck();
    for (Lane &l : lanes) {
      l.barriers++;
      l.wait = Wait::Ready;
    }
  }
  current = lane = nullptr;
}

void check(const void *at, size_t bytes, Access access, bool atomic) {
  if (!current) return;                // host code of a module, before main
  if (is_device(at)) return check_device(at, bytes, access, atomic, "the kernel");
  const char *p = static_cast<const char *>(at);
  if (p >= lane->fiber->stack && p + bytes <= lane->fiber->stack + STACK) return;
  for (const Segment &s : kernel->module->segments) {
    if (p < s.from || p >= s.to) continue;
    if (s.writable) return check_shared(s.offset + (p - s.from), bytes, access, atomic, at);
    if (access == Access::Read) return;
  }
  char text[96];
  snprintf(text, sizeof text, "out of bounds: %s %zu bytes at %p, which is no device memory",
           access == Access::Read ? "reads" : "writes", bytes, at);
  fail(text);
}

} // namespace

Touch touch_now(bool atomic) {
  uint32_t block = (block_idx[2] * grid_dim[1] + block_idx[1]) * grid_dim[0] + block_idx[0];
  return {launches, block, current->id, current->barriers, current->warp_steps, atomic};
}

bool races(const Touch &before, const Touch &now) {
  if (before.launch != now.launch || (before.atomic && now.atomic)) return false;
  if (before.block != now.block) return true;
  if (before.thread == now.thread || before.barriers != now.barriers) return false;
  bool same_warp = before.thread / 32 == now.thread / 32;
  return !(same_warp && before.warp_steps != now.warp_steps);
}

std::string where() {
  if (!current || !kernel) return "";
  char text[200];
  snprintf(text, sizeof text, "kernel %s of %s, block (%u, %u, %u), thread (%u, %u, %u)", kernel->name.c_str(),
           kernel->module->name.c_str(), block_idx[0],
           block_idx[1], block_idx[2], current->x, current->y, current->z);
  return text;
}

Module *load_module(const char *image, std::string *error, int device) {
  const char magic[] = "// emulated PTX: ";
  if (strncmp(image, magic, sizeof magic - 1) != 0) {
    *error = "not an image of this emulator";
    return nullptr;
  }
  std::string path(image + sizeof magic - 1);
  std::string name = path.substr(path.find('\n') + 1);
  name = name.substr(0, name.find('\n'));
  path = path.substr(0, path.find('\n'));
  void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    *error = dlerror();
    return nullptr;
  }
  auto module = new Module{handle, device, name, {}, {}};
  link_map *map = nullptr;
  dlinfo(handle, RTLD_DI_LINKMAP, &map);
  struct Find {
    Module *module;
    ElfW(Addr) base;
  } find{module, map->l_addr};
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        auto find = static_cast<Find *>(data);
        if (info->dlpi_addr != find->base) return 0;
        size_t shared = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto &header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const char *from = reinterpret_cast<const char *>(info->dlpi_addr + header.p_vaddr);
          bool writable = header.p_flags & PF_W;
          find->module->segments.push_back({from, from + header.p_memsz, writable, shared});
          if (writable) shared += header.p_memsz;
        }
        size_shared(shared);
        return 1;
      },
      &find);
  return module;
}

void unload_module(Module *module) {
  dlclose(module->handle);
  delete module;
}

Kernel *find_kernel(Module *module, const char *name) {
  auto &slot = module->kernels[name];
  if (!slot) {
    void *run = dlsym(module->handle, (std::string("emulator_run_") + name).c_str());
    if (!run) return nullptr;
    void *size = dlsym(module->handle, (std::string("emulator_size_") + name).c_str());
    slot = std::make_unique<Kernel>(
        Kernel{name, reinterpret_cast<void (*)(void **)>(run), reinterpret_cast<unsigned (*)(unsigned)>(size), module});
  }
  return slot.get();
}

const std::string &name_of(Kernel *kernel) { return kernel->name; }
int device_of(Kernel *kernel) { return kernel->module->device; }

Arguments::Arguments(Kernel *kernel, void **params) {
  for (unsigned i = 0; kernel->size(i); ++i) {
    if (kernel->size(i) > 4096) fail("a parameter of kernel " + kernel->name + " is larger than 4096 bytes");
    values.emplace_back((kernel->size(i) + 7) / 8);
    memcpy(values.back().data(), params[i], kernel->size(i));
    pointers.push_back(values.back().data());
  }
}

namespace {
thread_local std::map<std::string, unsigned> runs;  // of kernels, asked for by this thread
thread_local unsigned asked = 0;                     // calls of cuLaunchKernel that this thread made to have one run
} // namespace

void count_run(const std::string &kernel) { ++runs[kernel]; }

void note_launch(void *stream, const std::string &kernel) {
  if (note_node(stream, kernel)) return;
  count_run(kernel);
  ++asked;
}

void launch(Kernel *what, const unsigned grid[3], const unsigned block[3], unsigned, void **arguments) {
  kernel = what;
  ++launches;
  params = arguments;
  memcpy(grid_dim, grid, sizeof grid_dim);
  memcpy(block_dim, block, sizeof block_dim);
  for (block_idx[2] = 0; block_idx[2] < grid[2]; ++block_idx[2])
    for (block_idx[1] = 0; block_idx[1] < grid[1]; ++block_idx[1])
      for (block_idx[0] = 0; block_idx[0] < grid[0]; ++block_idx[0]) run_block();
  kernel = nullptr;
}

} // namespace emulator

using namespace emulator;

// What the shim header calls.
extern "C" {
unsigned emulator_index(int i) {
  switch (i) {
  case 0: return current->x;
  case 1: return current->y;
  case 2: return current->z;
  default: return i < 6 ? block_idx[i - 3] : i < 9 ? block_dim[i - 6] : grid_dim[i - 9];
  }
}
void emulator_barrier(int line) {
  lane->line = line;
  lane->wait = Wait::Barrier;
  to_scheduler();
}
// Gives a value to the other lanes; takes that of lane `from`.
uint64_t emulator_shuffle(int line, unsigned mask, uint64_t value, unsigned from) {
  if (!(mask >> (lane->id % 32) & 1)) fail("a lane calls a shuffle whose mask does not name it");
  lane->line = line;
  lane->mask = mask;
  lane->gives = value;
  lane->wait = Wait::Warp;
  to_scheduler();
  unsigned first = lane->id / 32 * 32;
  if (!(mask >> from & 1) || first + from >= lanes.size()) {
    fail("a lane takes the value of lane " + std::to_string(from) + ", which takes no part in the shuffle");
  }
  return taken[first + from];
}
void emulator_atomic(const void *at, unsigned bytes) {
  check(at, bytes, Access::Read, true);
  check(at, bytes, Access::Write, true);
}
void emulator_trap() { fail("__trap or a failed assertion"); }

// The hooks of -fsanitize=thread.
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
#define HOOKS(n)                                                                                                        \
  void __tsan_read##n(void *at) { check(at, n, Access::Read, false); }                                                  \
  void __tsan_write##n(void *at) { check(at, n, Access::Write, false); }                                                \
  void __tsan_unaligned_read##n(void *at) { check(at, n, Access::Read, false); }                                        \
  void __tsan_unaligned_write##n(void *at) { check(at, n, Access::Write, false); }                                      \
  void __tsan_volatile_read##n(void *at) { check(at, n, Access::Read, false); }                                         \
  void __tsan_volatile_write##n(void *at) { check(at, n, Access::Write, false); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void *at, size_t n) { check(at, n, Access::Read, false); }
void __tsan_write_range(void *at, size_t n) { check(at, n, Access::Write, false); }
// For the stand-in of cuBLAS.
void emulator_check_range(const void *at, size_t bytes, int write, const char *who) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!bytes) return;
  if (!is_device(at)) fail(std::string("out of bounds: ") + who + " is given what is no device memory");
  check_device(at, bytes, write ? Access::Write : Access::Read, false, who);
}
// For tests: how many kernels the calling thread has launched one by one, those of graphs not counted.
unsigned emulator_launches() { return asked; }
// How often the calling thread has had a kernel of this name run; all kernels if it is empty.
unsigned emulator_runs(const char *name) {
  if (*name) return runs[name];
  unsigned all = 0;
  for (auto &one : runs) all += one.second;
  return all;
}
// Work of another library on a stream: `run(data)` when its time comes, each time it does.
int emulator_enqueue(void *stream, void (*run)(void *), void *data, void (*drop)(void *)) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  std::shared_ptr<void> held(data, drop);
  return enqueue(stream, {[=] { run(held.get()); }, nullptr, nullptr});
}
int emulator_capturing(void *stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  return capturing(stream);
}
void emulator_lock(int on) { on ? lock.lock() : lock.unlock(); }
}
