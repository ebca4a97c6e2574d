// Windows of images as columns, and back; the products between are cuBLAS's.

// Element i of the columns of some images: row (channel, kernel row, kernel column), column (window row, window column).
extern "C" __global__ void im2col(int n, int channels, int height, int width, int kernel_h, int kernel_w, int stride_h, int stride_w,
                                  int pad_h, int pad_w, int dilation_h, int dilation_w, int out_h, int out_w, const Real *x,
                                  Real *columns) {
  FOR_EACH(i, n) {
    int rest = i;
    int q = rest % out_w;
    rest /= out_w;
    int p = rest % out_h;
    rest /= out_h;
    int kx = rest % kernel_w;
    rest /= kernel_w;
    int ky = rest % kernel_h;
    rest /= kernel_h;  // the channel, counted over images
    int row = p * stride_h - pad_h + ky * dilation_h, column = q * stride_w - pad_w + kx * dilation_w;
    bool inside = row >= 0 && row < height && column >= 0 && column < width;
    columns[i] = inside ? x[(size_t(rest) * height + row) * width + column] : Real(0);
  }
}

// Element i of some images: the sum of its places in the columns, always in the same order.
extern "C" __global__ void col2im(int n, int channels, int height, int width, int kernel_h, int kernel_w, int stride_h, int stride_w,
                                  int pad_h, int pad_w, int dilation_h, int dilation_w, int out_h, int out_w, const Real *columns,
                                  Real *x) {
  FOR_EACH(i, n) {
    int column = i % width, row = i / width % height, channel = i / width / height;
    Real sum = 0;
    for (int ky = 0; ky < kernel_h; ++ky) {
      int p = row + pad_h - ky * dilation_h;
      if (p < 0 || p % stride_h || p / stride_h >= out_h) continue;
      for (int kx = 0; kx < kernel_w; ++kx) {
        int q = column + pad_w - kx * dilation_w;
        if (q < 0 || q % stride_w || q / stride_w >= out_w) continue;
        size_t line = (size_t(channel) * kernel_h + ky) * kernel_w + kx;
        sum += columns[(line * out_h + p / stride_h) * out_w + q / stride_w];
      }
    }
    x[i] = sum;
  }
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
