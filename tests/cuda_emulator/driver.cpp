// The stand-in for libcuda: as much of the driver's interface as Cortado calls.
#include "stream.h"
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

using namespace emulator;

namespace {
bool initialized = false;
int contexts[DEVICES];
thread_local void *context = nullptr;

thread_local unsigned pinned_copies = 0;

int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}
std::atomic<int> asked_devices{0};
int devices() { return asked_devices ? int(asked_devices) : std::min(number("CUDA_EMULATOR_DEVICES", 1), DEVICES); }
char *memory(uint64_t at) { return reinterpret_cast<char *>(at); }
using Guard = std::lock_guard<std::recursive_mutex>;

void in_device(uint64_t at, size_t bytes, Access access, const char *who) {
  if (!bytes) return;
  if (!is_device(memory(at))) fail(std::string("out of bounds: ") + who + " is given what is no device memory");
  check_device(memory(at), bytes, access, false, who);
}

// A context has no use for the streams of another device.
int usable(void *stream) {
  if (!context) return InvalidContext;
  return stream_of(stream)->device == current_device() ? Success : InvalidHandle;
}
int ask(void *stream, Work work) {
  if (int r = usable(stream)) return r;
  return enqueue(stream, {std::move(work), nullptr, nullptr});
}
} // namespace

int emulator::current_device() { return context ? static_cast<int *>(context) - contexts : -1; }

extern "C" {

// For tests: how many devices there are, whatever the environment says.
void emulator_devices(int count) { asked_devices = count; }

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
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  size_t free_bytes;
  free_and_total(&free_bytes, bytes, device);
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
int cuCtxSynchronize() {
  Guard guard(lock);
  if (int r = unsafe_in_capture()) return r;
  finish_all(std::max(current_device(), 0));
  return Success;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  Guard guard(lock);
  if (!context) return InvalidContext;
  free_and_total(free_bytes, total, current_device());
  return Success;
}
int cuMemAlloc_v2(uint64_t *at, size_t bytes) {
  Guard guard(lock);
  if (!context) return InvalidContext;
  if (int r = unsafe_in_capture()) return r;
  if (!bytes) return InvalidValue;
  *at = allocate(bytes, current_device());
  return *at ? Success : OutOfMemory;
}
int cuMemFree_v2(uint64_t at) {
  Guard guard(lock);
  if (int r = unsafe_in_capture()) return r;
  finish_all(std::max(device_of(memory(at)), 0));
  return release(at) ? Success : InvalidValue;
}
int cuMemHostAlloc(void **at, size_t bytes, unsigned) {
  Guard guard(lock);
  if (int r = unsafe_in_capture()) return r;
  *at = malloc(bytes);
  if (*at) pin(*at, bytes);
  return *at ? Success : OutOfMemory;
}
int cuMemFreeHost(void *at) {
  Guard guard(lock);
  if (int r = unsafe_in_capture()) return r;
  finish_all(std::max(current_device(), 0));
  unpin(at);
  free(at);
  return Success;
}
int cuMemsetD32Async(uint64_t at, unsigned value, size_t count, void *stream) {
  Guard guard(lock);
  return ask(stream, [=] {
    in_device(at, 4 * count, Access::Write, "cuMemsetD32");
    for (size_t i = 0; i < count; ++i) memcpy(memory(at) + 4 * i, &value, 4);
  });
}
int cuMemsetD2D32Async(uint64_t at, size_t pitch, unsigned value, size_t width, size_t height, void *stream) {
  Guard guard(lock);
  return ask(stream, [=] {
    for (size_t y = 0; y < height; ++y) {
      for (size_t x = 0; x < width; ++x) {
        uint64_t to = at + y * pitch + 4 * x;
        in_device(to, 4, Access::Write, "cuMemsetD2D32");
        memcpy(memory(to), &value, 4);
      }
    }
  });
}
// Of memory that is not pinned the driver takes a copy before the call returns, but not while it captures.
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  Guard guard(lock);
  auto copy = std::make_shared<std::string>();
  bool held = is_pinned(from, bytes) || capturing(stream);
  pinned_copies += is_pinned(from, bytes);
  if (!held) copy->assign(static_cast<const char *>(from), bytes);
  return ask(stream, [=] {
    in_device(to, bytes, Access::Write, "a copy to the device");
    memcpy(memory(to), held ? from : copy->data(), bytes);
  });
}
// For tests: copies to the device from pinned memory that the calling thread has asked for.
unsigned emulator_pinned_copies() { return pinned_copies; }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  Guard guard(lock);
  int r = ask(stream, [=] {
    in_device(from, bytes, Access::Read, "a copy to the host");
    memcpy(to, memory(from), bytes);
  });
  if (!r && !is_pinned(to, bytes) && !capturing(stream)) finish(stream);
  return r;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  Guard guard(lock);
  return ask(stream, [=] {
    in_device(from, bytes, Access::Read, "a copy on the device");
    in_device(to, bytes, Access::Write, "a copy on the device");
    memmove(memory(to), memory(from), bytes);
  });
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr); }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr); }

int cuStreamCreate(void **stream, unsigned) {
  Guard guard(lock);
  if (!context) return InvalidContext;
  *stream = create_stream();
  return Success;
}
int cuStreamDestroy_v2(void *stream) {
  Guard guard(lock);
  destroy_stream(stream);
  return Success;
}
int cuStreamSynchronize(void *stream) {
  Guard guard(lock);
  if (capturing(stream)) return unsafe_in_capture(), CaptureUnsupported;
  finish(stream);
  return Success;
}
int cuStreamWaitEvent(void *stream, void *event, unsigned) {
  Guard guard(lock);
  return wait(stream, static_cast<Event *>(event));
}
int cuEventCreate(void **event, unsigned) {
  *event = new Event;
  return Success;
}
int cuEventDestroy_v2(void *handle) {
  Guard guard(lock);
  auto event = static_cast<Event *>(handle);
  if (event->recorded && !event->captured) finish(event->stream, event->ticket);
  delete event;
  return Success;
}
int cuEventRecord(void *event, void *stream) {
  Guard guard(lock);
  if (int r = usable(stream)) return r;
  return record(static_cast<Event *>(event), stream);
}
int cuEventSynchronize(void *event) {
  Guard guard(lock);
  return wait(static_cast<Event *>(event));
}
int cuEventQuery(void *event) {
  Guard guard(lock);
  return query(static_cast<Event *>(event));
}
int cuEventElapsedTime(float *ms, void *from, void *to) {
  Guard guard(lock);
  auto a = static_cast<Event *>(from), b = static_cast<Event *>(to);
  if (!a->recorded || !b->recorded || a->captured || b->captured) return InvalidValue;
  if (!a->happened || !b->happened) return NotReady;
  *ms = float(b->at - a->at);
  return Success;
}

int cuStreamBeginCapture_v2(void *stream, int mode) {
  Guard guard(lock);
  return begin_capture(stream, mode);
}
int cuStreamEndCapture(void *stream, void **graph) {
  Guard guard(lock);
  return end_capture(stream, reinterpret_cast<Graph **>(graph));
}
int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long) {
  if (!graph) return InvalidValue;
  *exec = new Graph(*static_cast<Graph *>(graph));
  return Success;
}
int cuGraphLaunch(void *exec, void *stream) {
  Guard guard(lock);
  if (int r = usable(stream)) return r;
  return launch_graph(static_cast<Graph *>(exec), stream);
}
int cuGraphDestroy(void *graph) {
  delete static_cast<Graph *>(graph);
  return Success;
}
int cuGraphExecDestroy(void *exec) {
  delete static_cast<Graph *>(exec);
  return Success;
}

int cuModuleLoadData(void **module, const void *image) {
  Guard guard(lock);
  if (int r = unsafe_in_capture()) return r;
  std::string error;
  *module = load_module(static_cast<const char *>(image), &error, current_device());
  return *module ? Success : InvalidImage;
}
int cuModuleUnload(void *module) {
  Guard guard(lock);
  finish_all(std::max(current_device(), 0));
  unload_module(static_cast<Module *>(module));
  return Success;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  Guard guard(lock);
  *function = find_kernel(static_cast<Module *>(module), name);
  return *function ? Success : NotFound;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *stream, void **params, void **) {
  Guard guard(lock);
  if (int r = usable(stream)) return r;
  if (device_of(static_cast<Kernel *>(function)) != current_device()) return InvalidHandle;
  if (!gx || !gy || !gz || !bx || !by || !bz || size_t(bx) * by * bz > 1024 || gy > 65535 || gz > 65535) return InvalidValue;
  auto kernel = static_cast<Kernel *>(function);
  auto arguments = std::make_shared<Arguments>(kernel, params);
  note_launch(stream, name_of(kernel));
  return ask(stream, [=] {
    unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    launch(kernel, grid, block, shared, arguments->pointers.data());
  });
}

int cuGetErrorName(int error, const char **name) {
  switch (error) {
  case Success: *name = "CUDA_SUCCESS"; break;
  case InvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; break;
  case OutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
  case NoDevice: *name = "CUDA_ERROR_NO_DEVICE"; break;
  case InvalidDevice: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
  case InvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
  case InvalidHandle: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
  case NotFound: *name = "CUDA_ERROR_NOT_FOUND"; break;
  case CaptureUnsupported: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
  case CaptureUnjoined: *name = "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"; break;
  case CaptureInvalidated: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
  default: *name = "CUDA_ERROR_UNKNOWN";
  }
  return Success;
}
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
}
