// Products whose windows are gathered as they are multiplied. A block computes a square of the result, from strips of both operands in shared
// memory; always in the same order.
constexpr int SQUARE = 64, STRIP = 16;

// Top from filters and bottom, gradient of the bottom from filters and that of the top, gradient of the filters from that of the top and the bottom.
enum Way { FORWARD, DATA, FILTERS };

// Channels and outputs are those of a group.
template <int WAY, int N>
__device__ __forceinline__ void product(const Windows<N> &w, int batch, int groups, int outputs, int channels, int window, int places,
                                        const Real *a, const Real *b, Real *c) {
  __shared__ Real left[STRIP][SQUARE + 1], right[STRIP][SQUARE + 1];
  int pixels = 1;
  for (int i = 0; i < (N == MOST ? w.axes : N); ++i) pixels *= w.input[i];
  // Of the product of a group: rows, columns, and how many values are summed.
  const int spots = WAY == DATA ? pixels : places;
  const int rows = WAY == DATA ? channels : outputs;
  const int columns = WAY == FILTERS ? channels * window : batch * spots;
  const int depth = WAY == FILTERS ? batch * places : (WAY == DATA ? outputs : channels) * window;
  const int across = (columns + SQUARE - 1) / SQUARE, down = (rows + SQUARE - 1) / SQUARE;
  const int group = blockIdx.x / (across * down);
  const int row = blockIdx.x / across % down * SQUARE, column = blockIdx.x % across * SQUARE;
  const int t = threadIdx.x, tx = t % 16, ty = t / 16;
  Real sum[4][4];
#pragma unroll
  for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] = 0;
  for (int first = 0; first < depth; first += STRIP) {
    for (int j = 0; j < SQUARE / 16; ++j) {
      int k = t % STRIP, m = t / STRIP + 16 * j, at = first + k, r = row + m;
      Real value = 0;
      if (r < rows && at < depth) {
        if (WAY == FORWARD) value = a[(size_t(group) * outputs + r) * depth + at];
        if (WAY == DATA) value = a[((size_t(group) * outputs + at / window) * channels + r) * window + at % window];
        if (WAY == FILTERS) value = a[((size_t(at / places) * groups + group) * outputs + r) * places + at % places];
      }
      left[k][m] = value;
      // Neighbours in memory for neighbouring threads.
      k = WAY == FILTERS ? t % STRIP : t / SQUARE + SQUARE / STRIP * j;
      m = WAY == FILTERS ? t / STRIP + 16 * j : t % SQUARE;
      at = first + k, r = column + m;
      value = 0;
      if (r < columns && at < depth) {
        int line = WAY == FILTERS ? r : at, spot = WAY == FILTERS ? at : r;  // a tap of a channel or output, a place of an image
        int block = spot / spots * groups + group;
        if (WAY == DATA) {
          value = above(w, spot % spots, line % window, block * outputs + line / window, b);
        } else {
          value = seen(w, spot % spots, line % window, block * channels + line / window, b);
        }
      }
      right[k][m] = value;
    }
    __syncthreads();
    for (int k = 0; k < STRIP; ++k) {
      Real l[4], r[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        l[i] = left[k][ty + 16 * i];
        r[i] = right[k][tx + 16 * i];
      }
#pragma unroll
      for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] += l[i / 4] * r[i % 4];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    int m = row + ty + 16 * (i / 4), n = column + tx + 16 * (i % 4);
    if (m >= rows || n >= columns) continue;
    if (WAY == FILTERS) {
      c[(size_t(group) * rows + m) * columns + n] += sum[i / 4][i % 4];
    } else {
      c[((size_t(n / spots) * groups + group) * rows + m) * spots + n % spots] = sum[i / 4][i % 4];
    }
  }
}

extern "C" __global__ void tops2(Windows<2> w, int batch, int groups, int outputs, int channels, int window, int places, const Real *filters,
                                 const Real *x, Real *y) {
  product<FORWARD>(w, batch, groups, outputs, channels, window, places, filters, x, y);
}
extern "C" __global__ void tops(Windows<MOST> w, int batch, int groups, int outputs, int channels, int window, int places,
                                const Real *filters, const Real *x, Real *y) {
  product<FORWARD>(w, batch, groups, outputs, channels, window, places, filters, x, y);
}
extern "C" __global__ void bottoms2(Windows<2> w, int batch, int groups, int outputs, int channels, int window, int places,
                                    const Real *filters, const Real *dy, Real *dx) {
  product<DATA>(w, batch, groups, outputs, channels, window, places, filters, dy, dx);
}
extern "C" __global__ void bottoms(Windows<MOST> w, int batch, int groups, int outputs, int channels, int window, int places,
                                   const Real *filters, const Real *dy, Real *dx) {
  product<DATA>(w, batch, groups, outputs, channels, window, places, filters, dy, dx);
}
extern "C" __global__ void filters2(Windows<2> w, int batch, int groups, int outputs, int channels, int window, int places, const Real *dy,
                                    const Real *x, Real *dw) {
  product<FILTERS>(w, batch, groups, outputs, channels, window, places, dy, x, dw);
}
extern "C" __global__ void filters(Windows<MOST> w, int batch, int groups, int outputs, int channels, int window, int places, const Real *dy,
                                   const Real *x, Real *dw) {
  product<FILTERS>(w, batch, groups, outputs, channels, window, places, dy, x, dw);
}
