// Rows of `width` elements from blobs with longer rows to others.

extern "C" __global__ void copy_rows(int n, int width, const Real *from, int from_row, Real *to, int to_row) {
  FOR_EACH(i, n) {
    size_t row = i / width;
    to[row * to_row + i % width] = from[row * from_row + i % width];
  }
}
