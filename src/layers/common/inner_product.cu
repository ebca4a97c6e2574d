// The gradient of the bias of InnerProduct; its products are cuBLAS's.

// Adds up the rows of dy: neighbouring threads read neighbouring elements.
extern "C" __global__ void bias_gradient(int rows, int columns, const Real *dy, Real *db) {
  FOR_EACH(c, columns) {
    Real sum = 0;
    for (int r = 0; r < rows; ++r) sum += dy[r * columns + c];
    db[c] += sum;
  }
}
