// y = (a + b x)^c, in the way d: 0 constant, 1 linear, 2 square, 3 root, 4 general. See power.rs.

__device__ inline Real f(Real x, Real a, Real b, Real c, Real d) {
  Real base = a + b * x;
  switch (int(d)) {
  case 0: return pow(a, c);  // 0^0 is 1, and what x holds does not matter
  case 1: return base;
  case 2: return base * base;
  case 3: return sqrt(base);
  default: return pow(base, c);
  }
}

__device__ inline Real df(Real x, Real y, Real a, Real b, Real c, Real d) {
  Real slope = c * b;
  switch (int(d)) {
  case 0: return 0;
  case 1: return slope;
  case 2: return slope * (a + b * x);
  case 3: return slope / y;
  default: return slope * pow(a + b * x, c - Real(1));
  }
}
