// h = momentum h + rate g.

__device__ inline Real change(Real g, Real rate, Real *const *history, size_t i, Real momentum, Real, Real, Real) {
  Real h = momentum * history[0][i] + rate * g;
  history[0][i] = h;
  return h;
}
