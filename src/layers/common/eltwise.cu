// Sum, product and maximum of blobs, two at a time: y may be a.

// A slope of 1 is no ReLU.
extern "C" __global__ void sum(int n, const Real *a, const Real *b, Real *y, Real p, Real q, Real slope) {
  FOR_EACH(i, n) {
    Real x = p * a[i] + q * b[i];
    y[i] = x > 0 || slope == 1 ? x : x * slope + Real(0);
  }
}

extern "C" __global__ void product(int n, const Real *a, const Real *b, Real *y) {
  FOR_EACH(i, n) y[i] = a[i] * b[i];
}

// Bottom `number` joins the largest so far; of the first two the second one wins a tie, later ones lose it.
extern "C" __global__ void largest(int n, const Real *a, const Real *b, Real *y, unsigned *from, int number) {
  FOR_EACH(i, n) {
    bool second = number == 1 ? !(a[i] > b[i]) : b[i] > a[i];
    y[i] = second ? b[i] : a[i];
    if (second || number == 1) from[i] = second ? number : 0;
  }
}

extern "C" __global__ void scale(int n, const Real *dy, Real *dx, Real factor) {
  FOR_EACH(i, n) dx[i] = factor * dy[i];
}

extern "C" __global__ void where(int n, const Real *dy, const unsigned *from, Real *dx, int number) {
  FOR_EACH(i, n) dx[i] = from[i] == unsigned(number) ? dy[i] : Real(0);
}
