// Windows as columns, and back; the products between are cuBLAS's. And the bias.

// Element i of the columns of some images: row (channel, tap of the kernel), column (window). `window` is the number of taps, `places` that
// of windows.
template <int N>
__device__ __forceinline__ void gather(const Windows<N> &w, int n, int window, int places, const Real *x, Real *columns) {
  FOR_EACH(i, n) {
    int place = i % places, line = i / places;
    columns[i] = seen(w, place, line % window, line / window, x);
  }
}

// Element i of some images: the sum of its places in the columns, always in the same order.
template <int N>
__device__ __forceinline__ void scatter(const Windows<N> &w, int n, int window, int places, const Real *columns, Real *x) {
  int axes = N == MOST ? w.axes : N;
  FOR_EACH(i, n) {
    int at[N], tap[N], channel = i;
#pragma unroll
    for (int a = axes - 1; a >= 0; --a) {
      at[a] = channel % w.input[a] + w.pad[a];
      tap[a] = 0;
      channel /= w.input[a];
    }
    Real sum = 0;
    for (int line = 0; line < window; ++line) {
      int place = 0;
      bool inside = true;
#pragma unroll
      for (int a = 0; a < axes; ++a) {
        int from = at[a] - tap[a] * w.dilation[a], q = from / w.stride[a];
        inside = inside && from >= 0 && q * w.stride[a] == from && q < w.output[a];
        place = place * w.output[a] + q;
      }
      if (inside) sum += columns[(size_t(channel) * window + line) * places + place];
      // The next tap, the last axis first.
      bool carry = true;
#pragma unroll
      for (int a = axes - 1; a >= 0; --a) {
        tap[a] += carry;
        carry = tap[a] == w.kernel[a];
        if (carry) tap[a] = 0;
      }
    }
    x[i] = sum;
  }
}

extern "C" __global__ void im2col1(Windows<1> w, int n, int window, int places, const Real *x, Real *columns) {
  gather(w, n, window, places, x, columns);
}
extern "C" __global__ void im2col2(Windows<2> w, int n, int window, int places, const Real *x, Real *columns) {
  gather(w, n, window, places, x, columns);
}
extern "C" __global__ void im2col3(Windows<3> w, int n, int window, int places, const Real *x, Real *columns) {
  gather(w, n, window, places, x, columns);
}
extern "C" __global__ void im2col(Windows<MOST> w, int n, int window, int places, const Real *x, Real *columns) {
  gather(w, n, window, places, x, columns);
}

extern "C" __global__ void col2im1(Windows<1> w, int n, int window, int places, const Real *columns, Real *x) {
  scatter(w, n, window, places, columns, x);
}
extern "C" __global__ void col2im2(Windows<2> w, int n, int window, int places, const Real *columns, Real *x) {
  scatter(w, n, window, places, columns, x);
}
extern "C" __global__ void col2im3(Windows<3> w, int n, int window, int places, const Real *columns, Real *x) {
  scatter(w, n, window, places, columns, x);
}
extern "C" __global__ void col2im(Windows<MOST> w, int n, int window, int places, const Real *columns, Real *x) {
  scatter(w, n, window, places, columns, x);
}

// A block for each output.
extern "C" __global__ void bias_gradient(int batch, int outputs, int places, const Real *dy, Real *db) {
  Real sum = 0;
  for (int i = threadIdx.x; i < batch * places; i += blockDim.x) {
    sum += dy[(size_t(i / places) * outputs + blockIdx.x) * places + i % places];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) db[blockIdx.x] += sum;
}
