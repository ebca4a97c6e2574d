// Operands of products in bfloat16.

// The upper half of a float, the nearest to x, ties to even. A NaN stays one.
__device__ inline unsigned short bf16(float x) {
  unsigned bits = __float_as_uint(x);
  if (x != x) return (unsigned short)(bits >> 16 | 0x40u);
  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Two at a time, in one word; y lies on a word.
extern "C" __global__ void round_to_bf16(int n, const Real *x, unsigned short *y) {
  FOR_EACH(i, n / 2) {
    unsigned low = bf16(float(x[2 * size_t(i)])), high = bf16(float(x[2 * size_t(i) + 1]));
    reinterpret_cast<unsigned *>(y)[i] = low | high << 16;
  }
  if (n % 2 == 1 && blockIdx.x == 0 && threadIdx.x == 0) y[n - 1] = bf16(float(x[n - 1]));
}
