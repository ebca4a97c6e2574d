// One pass over all parameters: regularises, keeps the history, applies. A rule's own text comes before, with
//   Real change(Real g, Real rate, Real *const *history, size_t i, Real a, Real b, Real c, Real d)
// which is what a value is to lose, from its regularised gradient g. The gradient ends as that, as in Caffe, or cleared.

extern "C" __global__ void update(int params, const Param *table, const Step *step, Real a, Real b, Real c, Real d) {
  Part here = part(params, table, blockIdx.x);
  const Param &p = *here.param;
  Real *w = p.data, *diff = p.diff;
  bool clear = step->clear;
  if (!w) {
    for (size_t i = here.begin + threadIdx.x; clear && i < here.end; i += BLOCK) diff[i] = 0;
    return;
  }
  Real *history[] = {p.history[0], p.history[1]};
  Real rate = Real(step->rate * p.rate), scale = Real(step->scale), l1 = Real(p.l1), l2 = Real(p.l2);
  for (size_t i = here.begin + threadIdx.x; i < here.end; i += BLOCK) {
    Real v = w[i], sign = v > 0 ? Real(1) : v < 0 ? Real(-1) : Real(0);
    Real lost = change(diff[i] * scale + l2 * v + l1 * sign, rate, history, i, a, b, c, d);
    diff[i] = clear ? Real(0) : lost;
    w[i] = v - lost;
  }
}

// All gradients, before an iteration that found them otherwise.
extern "C" __global__ void clear(int params, const Param *table) {
  Part here = part(params, table, blockIdx.x);
  for (size_t i = here.begin + threadIdx.x; i < here.end; i += BLOCK) here.param->diff[i] = 0;
}
