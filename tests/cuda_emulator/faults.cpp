// Runs one kernel with one fault, named on the command line: the emulator must end the process and say what is wrong.
// "none" and the other names without a fault must end well.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

extern "C" {
int cuInit(unsigned);
int cuDeviceGet(int *, int);
int cuDevicePrimaryCtxRetain(void **, int);
int cuCtxSetCurrent(void *);
int cuMemAlloc_v2(uint64_t *, size_t);
int cuMemcpyHtoD_v2(uint64_t, const void *, size_t);
int cuMemcpyDtoH_v2(void *, uint64_t, size_t);
int cuModuleLoadData(void **, const void *);
int cuModuleGetFunction(void **, void *, const char *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
int cuMemHostAlloc(void **, size_t, unsigned);
int cuMemFreeHost(void *);
int cuMemcpyHtoDAsync_v2(uint64_t, const void *, size_t, void *);
int cuMemcpyDtoHAsync_v2(void *, uint64_t, size_t, void *);
int cuCtxSynchronize();
int cuStreamCreate(void **, unsigned);
int cuStreamSynchronize(void *);
int cuStreamWaitEvent(void *, void *, unsigned);
int cuEventCreate(void **, unsigned);
int cuEventRecord(void *, void *);
int cuEventQuery(void *);
int cuMemsetD32Async(uint64_t, unsigned, size_t, void *);
int cuMemcpyDtoDAsync_v2(uint64_t, uint64_t, size_t, void *);
int cuStreamBeginCapture_v2(void *, int);
int cuStreamEndCapture(void *, void **);
int cuGraphInstantiateWithFlags(void **, void *, unsigned long long);
int cuGraphLaunch(void *, void *);
int cuGraphDestroy(void *);
int cuGraphExecDestroy(void *);
unsigned emulator_launches();
unsigned emulator_runs(const char *);
int nvrtcCreateProgram(void **, const char *, const char *, int, const char *const *, const char *const *);
int nvrtcCompileProgram(void *, int, const char *const *);
int nvrtcGetPTXSize(void *, size_t *);
int nvrtcGetPTX(void *, char *);
int nvrtcGetProgramLogSize(void *, size_t *);
int nvrtcGetProgramLog(void *, char *);
}

// x has 64 values, y has room for 64 and none written; n = 64; 2 blocks of 32 threads.
static const char *SOURCE = R"cuda(
extern "C" __global__ void none(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2.0f * x[i];
}
extern "C" __global__ void read_beyond(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i + 1];
}
extern "C" __global__ void write_beyond(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i - 1] = x[i];
}
extern "C" __global__ void read_unwritten(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] += x[i];
}
extern "C" __global__ void host_pointer(const float *x, float *y, int n) {
  const float *wild = (const float *)0x1234;
  y[threadIdx.x] = *wild;
}
extern "C" __global__ void race(const float *x, float *y, int n) {
  __shared__ float s[32];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  s[threadIdx.x] += s[31 - threadIdx.x];
}
extern "C" __global__ void race_of_writes(const float *x, float *y, int n) {
  __shared__ float s[1];
  s[0] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[0];
}
extern "C" __global__ void race_of_blocks(const float *x, float *y, int n) {
  y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void race_on_device(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i];
  __syncthreads();
  y[i] += y[i ^ 1];
}
extern "C" __global__ void shared_unwritten(const float *x, float *y, int n) {
  __shared__ float s[32];
  if (threadIdx.x > 0) s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void barrier_in_branch(const float *x, float *y, int n) {
  if (threadIdx.x < 16) __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void two_barriers(const float *x, float *y, int n) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void shuffle_in_branch(const float *x, float *y, int n) {
  float v = x[threadIdx.x];
  if (threadIdx.x < 16) v += __shfl_down_sync(0xffffffffu, v, 8);
  y[threadIdx.x] = v;
}
extern "C" __global__ void reversed(const float *x, float *y, int n) {
  __shared__ float s[32];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  s[threadIdx.x] = x[i];
  __syncthreads();
  y[i] = s[31 - threadIdx.x];
  __syncthreads();
  s[31 - threadIdx.x] = 0.0f;
}
extern "C" __global__ void sum(const float *x, float *y, int n) {
  __shared__ float total;
  float v = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (int by = 16; by > 0; by /= 2) v += __shfl_xor_sync(0xffffffffu, v, by);
  if (threadIdx.x == 0) total = 0.0f;
  __syncthreads();
  if (threadIdx.x % 16 == 0) atomicAdd(&total, v);
  __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = total;
}
)cuda";

// Work waits in its stream, graphs repeat it, and what a capture forbids is refused.
#define IS(call, code)                                                                                                  \
  if (int r = (call); r != (code)) {                                                                                    \
    fprintf(stderr, "%s gives %d, not %d\n", #call, r, code);                                                           \
    return 4;                                                                                                           \
  }
int streams_and_graphs(void *twice, uint64_t x, uint64_t y, float *values) {
  void *stream, *other, *event, *graph, *exec, *pinned;
  float results[64];
  int n = 64;
  void *params[] = {&x, &y, &n};
  auto ask = [&](void *on) { return cuLaunchKernel(twice, 2, 1, 1, 32, 1, 1, 0, on, params, nullptr); };
  IS(cuStreamCreate(&stream, 1), 0);
  IS(cuStreamCreate(&other, 1), 0);
  IS(cuEventCreate(&event, 0), 0);
  IS(cuMemHostAlloc(&pinned, 64 * sizeof(float), 0), 0);
  auto held = static_cast<float *>(pinned);
  // What is pinned is read when the stream comes to it, what is not at once; a stream that does not wait for another sees old values.
  for (int i = 0; i < 64; ++i) held[i] = 1;
  IS(cuMemcpyHtoDAsync_v2(x, held, 64 * sizeof(float), other), 0);
  IS(ask(stream), 0);
  IS(cuMemcpyDtoHAsync_v2(results, y, sizeof results, stream), 0);
  if (results[5] != 10) return 5;
  IS(cuEventRecord(event, other), 0);
  IS(cuStreamWaitEvent(stream, event, 0), 0);
  IS(ask(stream), 0);
  held[5] = 7;
  IS(cuMemcpyDtoHAsync_v2(results, y, sizeof results, stream), 0);
  if (results[5] != 14 || results[6] != 2) return 6;
  // A graph does nothing until it is launched, and then reads what is there.
  unsigned before = emulator_launches(), runs = emulator_runs("none");
  IS(cuStreamBeginCapture_v2(stream, 1), 0);
  IS(ask(stream), 0);
  IS(ask(stream), 0);
  IS(cuStreamEndCapture(stream, &graph), 0);
  IS(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
  IS(cuGraphDestroy(graph), 0);
  for (int round = 0; round < 3; ++round) {
    values[5] = round;
    IS(cuMemcpyHtoDAsync_v2(x, values, 64 * sizeof(float), stream), 0);
    IS(cuGraphLaunch(exec, stream), 0);
    values[5] = -1;
    IS(cuMemcpyDtoHAsync_v2(results, y, sizeof results, stream), 0);
    if (results[5] != 2 * round) return 7;
  }
  IS(int(emulator_launches() - before), 0);
  IS(int(emulator_runs("none") - runs), 6);
  IS(cuGraphExecDestroy(exec), 0);
  // What a capture forbids breaks it.
  uint64_t more;
  for (int kind = 0; kind < 5; ++kind) {
    IS(cuStreamBeginCapture_v2(stream, 1), 0);
    IS(ask(stream), 0);
    switch (kind) {
    case 0: IS(cuMemAlloc_v2(&more, 4), 900); break;
    case 1: IS(cuStreamSynchronize(stream), 900); break;
    case 2: IS(cuMemcpyHtoD_v2(x, values, 4), 906); break;
    case 3: IS(cuStreamWaitEvent(stream, event, 0), 905); break;
    case 4: IS(cuCtxSynchronize(), 900); break;
    }
    IS(cuStreamEndCapture(stream, &graph), 901);
  }
  IS(cuStreamBeginCapture_v2(nullptr, 1), 900);
  IS(cuStreamEndCapture(stream, &graph), 401);
  IS(cuMemFreeHost(pinned), 0);
  return 0;
}

// Several devices: each has its own memory and streams, and NCCL meets when the streams of all ranks have come to it.
extern "C" {
void emulator_devices(int);
int ncclCommInitAll(void **, int, const int *);
int ncclCommAbort(void *);
int ncclCommDestroy(void *);
int ncclGroupStart();
int ncclGroupEnd();
int ncclAllReduce(const void *, void *, size_t, int, int, void *, void *);
int ncclBroadcast(const void *, void *, size_t, int, int, void *, void *);
}
int devices_and_ranks(const std::string &fault) {
  const int FLOAT = 7, AVG = 4, both[2] = {1, 2}, twice[2] = {1, 1};
  void *contexts[3], *comms[2], *streams[2], *beside, *event, *graph, *exec;
  uint64_t at[2];
  float values[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}}, result[4];
  emulator_devices(3);
  for (int d = 0; d < 3; ++d) IS(cuDevicePrimaryCtxRetain(&contexts[d], d), 0);
  IS(ncclCommInitAll(comms, 2, twice), 5);
  IS(ncclCommInitAll(comms, 2, both), 0);
  for (int rank = 1; rank >= 0; --rank) {
    IS(cuCtxSetCurrent(contexts[both[rank]]), 0);
    IS(cuStreamCreate(&streams[rank], 1), 0);
    IS(cuMemAlloc_v2(&at[rank], sizeof result), 0);
    IS(cuMemcpyHtoDAsync_v2(at[rank], values[rank], sizeof result, streams[rank]), 0);
  }
  IS(cuStreamCreate(&beside, 1), 0);
  IS(cuEventCreate(&event, 0), 0);
  auto average = [&](int r, uint64_t from, size_t count, void *stream) {
    void *place = reinterpret_cast<void *>(from);
    return ncclAllReduce(place, place, count, FLOAT, AVG, comms[r], stream);
  };
  auto mean = [&](int r, float first) {
    cuCtxSetCurrent(contexts[both[r]]);
    cuMemcpyDtoHAsync_v2(result, at[r], sizeof result, streams[r]);
    return result[0] == first;
  };
  // Memory and streams of another device, an unknown type.
  IS(average(0, at[1], 4, streams[0]), 4);
  IS(average(0, at[0], 4, streams[1]), 5);
  IS(average(1, at[1], 4, streams[1]), 5);
  IS(ncclAllReduce(nullptr, nullptr, 0, 3, AVG, comms[0], streams[0]), 4);
  IS(cuMemsetD32Async(at[0], 0, 4, streams[1]), 400);
  if (fault == "other_device") {
    IS(cuMemcpyDtoDAsync_v2(at[0], at[1], sizeof result, streams[0]), 0);
    IS(cuStreamSynchronize(streams[0]), 0);
  }
  // One waits for the other.
  IS(average(0, at[0], 4, streams[0]), 0);
  IS(cuEventRecord(event, streams[0]), 0);
  IS(cuEventQuery(event), 600);
  IS(cuCtxSetCurrent(contexts[2]), 0);
  IS(average(1, at[1], fault == "counts" ? 3 : 4, streams[1]), 0);
  IS(cuEventQuery(event), 0);
  if (!mean(0, 3) || !mean(1, 3)) return 5;
  // In a graph, on a stream beside: it is done when that is waited for; who does not wait is told.
  IS(cuCtxSetCurrent(contexts[1]), 0);
  for (int waits = 0; waits < 2; ++waits) {
    IS(cuStreamBeginCapture_v2(streams[0], 1), 0);
    IS(cuMemsetD32Async(at[0], 0x40e00000, 4, streams[0]), 0);
    IS(cuEventRecord(event, streams[0]), 0);
    IS(cuStreamWaitEvent(beside, event, 0), 0);
    IS(average(0, at[0], 4, beside), 0);
    IS(cuEventRecord(event, beside), 0);
    if (waits) IS(cuStreamWaitEvent(streams[0], event, 0), 0);
    IS(cuStreamEndCapture(streams[0], &graph), waits ? 0 : 904);
  }
  IS(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
  IS(cuGraphLaunch(exec, streams[0]), 0);
  IS(cuCtxSetCurrent(contexts[2]), 0);
  if (fault == "captured_here_alone") {
    IS(average(1, at[1], 4, streams[1]), 0);
    IS(cuStreamSynchronize(streams[1]), 0);
  }
  IS(cuStreamBeginCapture_v2(streams[1], 1), 0);
  IS(average(1, at[1], 4, streams[1]), 0);
  IS(cuStreamEndCapture(streams[1], &graph), 0);
  IS(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
  IS(cuGraphLaunch(exec, streams[1]), 0);
  if (!mean(1, 5) || !mean(0, 5)) return 6;
  // Groups, and values of the second rank for both.
  for (int rank = 0; rank < 2; ++rank) {
    void *place = reinterpret_cast<void *>(at[rank]);
    IS(cuCtxSetCurrent(contexts[both[rank]]), 0);
    IS(cuMemsetD32Async(at[rank], rank ? 0x40e00000 : 0, 4, streams[rank]), 0);
    IS(ncclGroupStart(), 0);
    IS(ncclBroadcast(place, place, 4, FLOAT, 1, comms[rank], streams[rank]), 0);
    IS(average(rank, at[rank], 2, streams[rank]), 0);
    IS(ncclGroupEnd(), 0);
  }
  if (!mean(0, 7) || !mean(1, 7)) return 7;
  // Who is aborted waits no longer.
  IS(cuCtxSetCurrent(contexts[1]), 0);
  IS(average(0, at[0], 4, streams[0]), 0);
  IS(cuEventRecord(event, streams[0]), 0);
  IS(cuEventQuery(event), 600);
  IS(ncclCommAbort(comms[0]), 0);
  IS(cuEventQuery(event), 0);
  IS(ncclCommDestroy(comms[1]), 0);
  return 0;
}

#define DO(call)                                                                                                        \
  if (int r = (call)) {                                                                                                 \
    fprintf(stderr, "%s gives %d\n", #call, r);                                                                         \
    return 2;                                                                                                           \
  }

int main(int count, char **arguments) {
  std::string name = count > 1 ? arguments[1] : "none";
  void *context, *program, *module, *function;
  int device;
  DO(cuInit(0));
  DO(cuDeviceGet(&device, 0));
  DO(cuDevicePrimaryCtxRetain(&context, device));
  DO(cuCtxSetCurrent(context));
  DO(nvrtcCreateProgram(&program, SOURCE, "faults.cu", 0, nullptr, nullptr));
  if (nvrtcCompileProgram(program, 0, nullptr)) {
    size_t size;
    nvrtcGetProgramLogSize(program, &size);
    std::string log(size, 0);
    nvrtcGetProgramLog(program, log.data());
    fprintf(stderr, "%s\n", log.c_str());
    return 2;
  }
  size_t size;
  DO(nvrtcGetPTXSize(program, &size));
  std::string ptx(size, 0);
  DO(nvrtcGetPTX(program, ptx.data()));
  DO(cuModuleLoadData(&module, ptx.data()));
  if (name == "devices" || name == "other_device" || name == "counts" || name == "captured_here_alone") {
    DO(devices_and_ranks(name));
    printf("%s is right\n", name.c_str());
    return 0;
  }
  bool streams = name == "streams";
  if (streams) name = "none";
  DO(cuModuleGetFunction(&function, module, name.c_str()));
  float values[64], results[64];
  for (int i = 0; i < 64; ++i) values[i] = i;
  uint64_t x, y;
  DO(cuMemAlloc_v2(&x, sizeof values));
  DO(cuMemAlloc_v2(&y, sizeof values));
  DO(cuMemcpyHtoD_v2(x, values, sizeof values));
  int n = 64;
  void *params[] = {&x, &y, &n};
  DO(cuLaunchKernel(function, 2, 1, 1, 32, 1, 1, 0, nullptr, params, nullptr));
  DO(cuMemcpyDtoH_v2(results, y, sizeof results));
  for (int i = 0; i < 64; ++i) {
    int block = i / 32 * 32;
    float sum = 31 * 16 + 32.0f * block;
    float expected = name == "none" ? 2.0f * i : name == "reversed" ? float(block + 31 - i % 32) : 2 * sum;
    if (results[i] != expected) {
      fprintf(stderr, "element %d of %s is %g, not %g\n", i, name.c_str(), results[i], expected);
      return 3;
    }
  }
  if (streams) DO(streams_and_graphs(function, x, y, values));
  printf("%s is right\n", name.c_str());
  return 0;
}
