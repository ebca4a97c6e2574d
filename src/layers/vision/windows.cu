// Windows of images over any number of axes.

// Most axes that a blob has behind the channels.
constexpr int MOST = 31;

// Extents along each axis. Of MOST axes only the first so many count.
template <int N> struct Windows {
  int axes;
  int input[N], kernel[N], stride[N], pad[N], dilation[N], output[N];
};

// What a tap of the window at a place sees of a channel, counted over images.
template <int N> __device__ __forceinline__ Real seen(const Windows<N> &w, int place, int tap, int channel, const Real *x) {
  int offset = 0, size = 1;
  bool inside = true;
#pragma unroll
  for (int a = (N == MOST ? w.axes : N) - 1; a >= 0; --a) {
    int at = place % w.output[a] * w.stride[a] - w.pad[a] + tap % w.kernel[a] * w.dilation[a];
    place /= w.output[a];
    tap /= w.kernel[a];
    inside = inside && at >= 0 && at < w.input[a];
    offset += at * size;
    size *= w.input[a];
  }
  return inside ? x[size_t(channel) * size + offset] : Real(0);
}

// What the place whose window has a pixel under a tap has of an output, counted over images; 0 where there is no such place.
template <int N> __device__ __forceinline__ Real above(const Windows<N> &w, int pixel, int tap, int output, const Real *dy) {
  int place = 0, size = 1;
  bool inside = true;
#pragma unroll
  for (int a = (N == MOST ? w.axes : N) - 1; a >= 0; --a) {
    int from = pixel % w.input[a] + w.pad[a] - tap % w.kernel[a] * w.dilation[a], q = from / w.stride[a];
    pixel /= w.input[a];
    tap /= w.kernel[a];
    inside = inside && from >= 0 && q * w.stride[a] == from && q < w.output[a];
    place += q * size;
    size *= w.output[a];
  }
  return inside ? dy[size_t(output) * size + place] : Real(0);
}
