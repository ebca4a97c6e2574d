// Pooling over windows of image planes.

#define SIZES                                                                                                             \
  int n, int height, int width, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h,   \
      int pad_w

// The window of output i, cut to the image; `first` is where its plane begins.
#define WINDOW(i)                                                                                                         \
  int q = i % out_w, p = i / out_w % out_h;                                                                               \
  size_t first = size_t(i / out_w / out_h) * height * width;                                                              \
  int top = max(p * stride_h - pad_h, 0), bottom = min(p * stride_h - pad_h + kernel_h, height);                          \
  int left = max(q * stride_w - pad_w, 0), right = min(q * stride_w - pad_w + kernel_w, width)

#define FOR_WINDOW(row, column)                                                                                           \
  for (int row = top; row < bottom; ++row)                                                                                \
    for (int column = left; column < right; ++column)

// The windows that hold input i, by their rows p and columns q; `windows` is where its plane of them begins.
#define FOR_WINDOWS_OF(i, p, q)                                                                                           \
  int column = i % width, row = i / width % height;                                                                       \
  size_t windows = size_t(i / width / height) * out_h * out_w;                                                            \
  for (int p = row + pad_h < kernel_h ? 0 : (row + pad_h - kernel_h) / stride_h + 1;                                      \
       p <= min((row + pad_h) / stride_h, out_h - 1); ++p)                                                                \
    for (int q = column + pad_w < kernel_w ? 0 : (column + pad_w - kernel_w) / stride_w + 1;                              \
         q <= min((column + pad_w) / stride_w, out_w - 1); ++q)

// The first largest value; a NaN wins and stays.
extern "C" __global__ void largest(SIZES, const Real *x, Real *y, unsigned *at, Real *mask) {
  FOR_EACH(i, n) {
    WINDOW(i);
    unsigned index = top * width + left;
    Real best = x[first + index];
    FOR_WINDOW(row, column) {
      Real v = x[first + row * width + column];
      if (v > best || v != v) {
        best = v;
        index = row * width + column;
      }
    }
    y[i] = best;
    at[i] = index;
    if (mask) mask[i] = index;
  }
}

// Number of values of a window with its pad.
__device__ inline Real padded(int p, int q, int height, int width, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h,
                              int pad_w) {
  int rows = min(p * stride_h + kernel_h, height + 2 * pad_h) - p * stride_h;
  int columns = min(q * stride_w + kernel_w, width + 2 * pad_w) - q * stride_w;
  return Real(rows) * Real(columns);
}

extern "C" __global__ void mean(SIZES, const Real *x, Real *y) {
  FOR_EACH(i, n) {
    WINDOW(i);
    Real sum = 0;
    FOR_WINDOW(row, column) sum += x[first + row * width + column];
    y[i] = sum / padded(p, q, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w);
  }
}

// The first value at which the running sum reaches a drawn part of the whole: word i of the layer's stream.
extern "C" __global__ void draw(SIZES, const Real *x, Real *y, unsigned *at, unsigned layer, const unsigned long long *pass,
                                unsigned key_low, unsigned key_high) {
  FOR_EACH(i, n) {
    WINDOW(i);
    Real sum = 0;
    FOR_WINDOW(row, column) sum += x[first + row * width + column];
    double uniform = random_word(i, layer, *pass, key_low, key_high) / 4294967296.0;
    Real threshold = Real(uniform) * sum, running = 0;
    unsigned chosen = 0;
    bool found = false;
    FOR_WINDOW(row, column) {
      if (found) continue;
      running += x[first + row * width + column];
      chosen = row * width + column;
      found = running >= threshold;
    }
    y[i] = x[first + chosen];
    at[i] = chosen;
  }
}

// The mean that the draws have. The sum begins with the smallest number, so that zeros give 0.
extern "C" __global__ void expect(SIZES, const Real *x, Real *y) {
  FOR_EACH(i, n) {
    WINDOW(i);
    Real sum = SMALLEST, squares = 0;
    FOR_WINDOW(row, column) {
      Real v = x[first + row * width + column];
      sum += v;
      squares += v * v;
    }
    y[i] = squares / sum;
  }
}

// To the one value that each window took.
extern "C" __global__ void send_back(SIZES, const Real *dy, const unsigned *at, Real *dx) {
  FOR_EACH(i, n) {
    Real sum = 0;
    FOR_WINDOWS_OF(i, p, q) {
      size_t window = windows + p * out_w + q;
      if (at[window] == unsigned(row * width + column)) sum += dy[window];
    }
    dx[i] = sum;
  }
}

extern "C" __global__ void mean_gradient(SIZES, const Real *dy, const Real *, Real *dx) {
  FOR_EACH(i, n) {
    Real sum = 0;
    FOR_WINDOWS_OF(i, p, q) {
      sum += dy[windows + p * out_w + q] / padded(p, q, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w);
    }
    dx[i] = sum;
  }
}

extern "C" __global__ void expect_gradient(SIZES, const Real *dy, const Real *x, Real *dx) {
  FOR_EACH(i, n) {
    Real slope = 0;
    size_t plane = size_t(i / width / height) * height * width;
    FOR_WINDOWS_OF(i, p, q) {
      int top = max(p * stride_h - pad_h, 0), bottom = min(p * stride_h - pad_h + kernel_h, height);
      int left = max(q * stride_w - pad_w, 0), right = min(q * stride_w - pad_w + kernel_w, width);
      Real sum = SMALLEST, squares = 0;
      FOR_WINDOW(r, c) {
        Real v = x[plane + r * width + c];
        sum += v;
        squares += v * v;
      }
      slope += dy[windows + p * out_w + q] * (2 * x[i] - squares / sum) / sum;
    }
    dx[i] = slope;
  }
}
