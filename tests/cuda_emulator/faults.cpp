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
  printf("%s is right\n", name.c_str());
  return 0;
}
