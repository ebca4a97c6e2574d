// h = momentum h + rate g, w = w - h, where g is the scaled gradient with both decays. The gradient ends as h, as in Caffe.

extern "C" __global__ void sgd(int n, Real *w, Real *diff, Real *history, Real momentum, Real rate, Real scale, Real l1, Real l2) {
  FOR_EACH(i, n) {
    Real sign = w[i] > 0 ? Real(1) : w[i] < 0 ? Real(-1) : Real(0);
    Real g = diff[i] * scale + l2 * w[i] + l1 * sign;
    Real h = momentum * history[i] + rate * g;
    history[i] = h;
    diff[i] = h;
    w[i] -= h;
  }
}
