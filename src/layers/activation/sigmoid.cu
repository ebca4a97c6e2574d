// y = 1 / (1 + e^-x). See sigmoid.rs.

__device__ inline Real f(Real x, Real a, Real, Real, Real) {
  return Real(1) / (Real(1) + exp(-x));
}

__device__ inline Real df(Real x, Real y, Real a, Real, Real, Real) {
  return y * (Real(1) - y);
}
