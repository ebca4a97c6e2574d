// a is the slope where x is not positive. See relu.rs.

__device__ inline Real f(Real x, Real a, Real, Real, Real) {
  return x > 0 ? x : x * a + Real(0);
}

__device__ inline Real df(Real x, Real y, Real a, Real, Real, Real) {
  return (x > 0 ? Real(1) : a);
}
