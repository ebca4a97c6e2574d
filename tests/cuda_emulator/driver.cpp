// The stand-in for libcuda: as much of the driver's interface as Cortado calls. Everything is done when a call returns.
#include "emulator.h"
#include <chrono>
#include <cstdlib>
#include <cstring>

using namespace emulator;

namespace {
enum Result { Success = 0, InvalidValue = 1, OutOfMemory = 2, NotInitialized = 3, NoDevice = 100, InvalidDevice = 101,
              InvalidImage = 200, InvalidContext = 201, NotFound = 500 };
struct Event {
  std::chrono::steady_clock::time_point at;
  bool recorded = false;
};
bool initialized = false;
int contexts[8];
thread_local void *context = nullptr;

int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}
int devices() { return number("CUDA_EMULATOR_DEVICES", 1); }
char *memory(uint64_t at) { return reinterpret_cast<char *>(at); }
using Guard = std::lock_guard<std::recursive_mutex>;

int in_device(uint64_t at, size_t bytes, Access access, const char *who) {
  if (!context) return InvalidContext;
  if (!bytes) return Success;
  if (!is_device(memory(at))) fail(std::string("out of bounds: ") + who + " is given what is no device memory");
  check_device(memory(at), bytes, access, false, who);
  return Success;
}
} // namespace

extern "C" {

int cuInit(unsigned) {
  initialized = true;
  return devices() > 0 ? Success : NoDevice;
}
int cuDriverGetVersion(int *version) {
  *version = number("CUDA_EMULATOR_DRIVER", 13000);
  return Success;
}
int cuDeviceGetCount(int *count) {
  if (!initialized) return NotInitialized;
  *count = devices();
  return Success;
}
int cuDeviceGet(int *device, int ordinal) {
  if (ordinal < 0 || ordinal >= devices()) return InvalidDevice;
  *device = ordinal;
  return Success;
}
int cuDeviceGetName(char *name, int room, int) {
  strncpy(name, "Cortado's CUDA emulator", room - 1);
  name[room - 1] = 0;
  return Success;
}
int cuDeviceTotalMem_v2(size_t *bytes, int) {
  size_t free_bytes;
  free_and_total(&free_bytes, bytes);
  return Success;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
  case 1: case 2: case 3: *value = 1024; break;              // threads of a block, and its extents
  case 4: *value = 64; break;
  case 5: *value = 2147483647; break;                        // extents of a grid
  case 6: case 7: *value = 65535; break;
  case 8: *value = 49152; break;                             // shared memory of a block
  case 9: *value = 65536; break;                             // constant memory
  case 10: *value = 32; break;                               // lanes of a warp
  case 11: *value = 2147483647; break;                       // pitch
  case 12: *value = 65536; break;                            // registers
  case 13: *value = 1000000; break;                          // clock, kHz
  case 14: *value = 512; break;                              // alignment of textures
  case 15: *value = 1; break;                                // copies beside kernels
  case 16: *value = 4; break;                                // multiprocessors
  case 17: *value = 0; break;                                // limit on the time of a kernel
  case 31: *value = 1; break;                                // several kernels at once
  case 75: *value = number("CUDA_EMULATOR_ARCH", 90) / 10; break;
  case 76: *value = number("CUDA_EMULATOR_ARCH", 90) % 10; break;
  default: *value = 0;
  }
  return Success;
}
int cuDevicePrimaryCtxRetain(void **out, int device) {
  *out = &contexts[device];
  return Success;
}
int cuDevicePrimaryCtxRelease_v2(int) { return Success; }
int cuCtxSetCurrent(void *c) {
  context = c;
  return Success;
}
int cuCtxGetCurrent(void **c) {
  *c = context;
  return Success;
}
int cuCtxSynchronize() { return Success; }

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  Guard guard(lock);
  free_and_total(free_bytes, total);
  return Success;
}
int cuMemAlloc_v2(uint64_t *at, size_t bytes) {
  Guard guard(lock);
  if (!context) return InvalidContext;
  if (!bytes) return InvalidValue;
  *at = allocate(bytes);
  return *at ? Success : OutOfMemory;
}
int cuMemFree_v2(uint64_t at) {
  Guard guard(lock);
  return release(at) ? Success : InvalidValue;
}
int cuMemHostAlloc(void **at, size_t bytes, unsigned) {
  *at = malloc(bytes);
  return *at ? Success : OutOfMemory;
}
int cuMemFreeHost(void *at) {
  free(at);
  return Success;
}
int cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void *) {
  Guard guard(lock);
  int r = in_device(at, bytes, Access::Write, "cuMemsetD8");
  if (!r) memset(memory(at), value, bytes);
  return r;
}
int cuMemsetD32Async(uint64_t at, unsigned value, size_t count, void *) {
  Guard guard(lock);
  int r = in_device(at, 4 * count, Access::Write, "cuMemsetD32");
  for (size_t i = 0; !r && i < count; ++i) memcpy(memory(at) + 4 * i, &value, 4);
  return r;
}
int cuMemsetD2D32Async(uint64_t at, size_t pitch, unsigned value, size_t width, size_t height, void *) {
  Guard guard(lock);
  for (size_t y = 0; y < height; ++y) {
    for (size_t x = 0; x < width; ++x) {
      uint64_t to = at + y * pitch + 4 * x;
      int r = in_device(to, 4, Access::Write, "cuMemsetD2D32");
      if (r) return r;
      memcpy(memory(to), &value, 4);
    }
  }
  return Success;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
  Guard guard(lock);
  int r = in_device(to, bytes, Access::Write, "a copy to the device");
  if (!r) memcpy(memory(to), from, bytes);
  return r;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
  Guard guard(lock);
  int r = in_device(from, bytes, Access::Read, "a copy to the host");
  if (!r) memcpy(to, memory(from), bytes);
  return r;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) {
  Guard guard(lock);
  int r = in_device(from, bytes, Access::Read, "a copy on the device");
  if (!r) r = in_device(to, bytes, Access::Write, "a copy on the device");
  if (!r) memmove(memory(to), memory(from), bytes);
  return r;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr); }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr); }

int cuStreamCreate(void **stream, unsigned) {
  *stream = new int(0);
  return Success;
}
int cuStreamDestroy_v2(void *stream) {
  delete static_cast<int *>(stream);
  return Success;
}
int cuStreamSynchronize(void *) { return Success; }
int cuStreamWaitEvent(void *, void *, unsigned) { return Success; }
int cuEventCreate(void **event, unsigned) {
  *event = new Event;
  return Success;
}
int cuEventDestroy_v2(void *event) {
  delete static_cast<Event *>(event);
  return Success;
}
int cuEventRecord(void *event, void *) {
  *static_cast<Event *>(event) = {std::chrono::steady_clock::now(), true};
  return Success;
}
int cuEventQuery(void *) { return Success; }
int cuEventSynchronize(void *) { return Success; }
int cuEventElapsedTime(float *ms, void *from, void *to) {
  auto a = static_cast<Event *>(from), b = static_cast<Event *>(to);
  if (!a->recorded || !b->recorded) return InvalidValue;
  *ms = std::chrono::duration<float, std::milli>(b->at - a->at).count();
  return Success;
}

int cuModuleLoadData(void **module, const void *image) {
  Guard guard(lock);
  std::string error;
  *module = load_module(static_cast<const char *>(image), &error);
  return *module ? Success : InvalidImage;
}
int cuModuleUnload(void *module) {
  Guard guard(lock);
  unload_module(static_cast<Module *>(module));
  return Success;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  Guard guard(lock);
  *function = find_kernel(static_cast<Module *>(module), name);
  return *function ? Success : NotFound;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *, void **params, void **) {
  Guard guard(lock);
  if (!context) return InvalidContext;
  unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
  if (!gx || !gy || !gz || !bx || !by || !bz || size_t(bx) * by * bz > 1024 || gy > 65535 || gz > 65535) return InvalidValue;
  launch(static_cast<Kernel *>(function), grid, block, shared, params);
  return Success;
}

int cuGetErrorName(int error, const char **name) {
  switch (error) {
  case Success: *name = "CUDA_SUCCESS"; break;
  case InvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; break;
  case OutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
  case NoDevice: *name = "CUDA_ERROR_NO_DEVICE"; break;
  case InvalidDevice: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
  case InvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
  case NotFound: *name = "CUDA_ERROR_NOT_FOUND"; break;
  default: *name = "CUDA_ERROR_UNKNOWN";
  }
  return Success;
}
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
}
