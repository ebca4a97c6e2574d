// The bias of InnerProduct; its products are cuBLAS's.

// y of so many elements in rows of `columns`.
extern "C" __global__ void add_bias(int n, int columns, const Real *bias, Real *y) {
  FOR_EACH(i, n) y[i] += bias[i % columns];
}

// Adds up the rows of dy: neighbouring threads read neighbouring elements.
extern "C" __global__ void bias_gradient(int rows, int columns, const Real *dy, Real *db) {
  FOR_EACH(c, columns) {
    Real sum = 0;
    for (int r = 0; r < rows; ++r) sum += dy[r * columns + c];
    db[c] += sum;
  }
}
