// Local response normalisation. A window is 2 reach + 1 channels at the same place, or a square of that side in the same channel.

// The sum of f(index) over the window of element i.
template <class F> __device__ inline Real window_sum(int i, int channels, int height, int width, int reach, int within, F f) {
  int column = i % width, row = i / width % height, size = height * width, channel = i / size % channels;
  Real sum = 0;
  if (within) {
    int first = i - column - row * width;
    for (int r = max(row - reach, 0); r <= min(row + reach, height - 1); ++r)
      for (int c = max(column - reach, 0); c <= min(column + reach, width - 1); ++c) sum += f(first + r * width + c);
  } else {
    for (int c = max(channel - reach, 0); c <= min(channel + reach, channels - 1); ++c) sum += f(i + (c - channel) * size);
  }
  return sum;
}

extern "C" __global__ void normalise(int n, int channels, int height, int width, int reach, int within, const Real *x, Real *sums, Real *y,
                                     Real alpha, Real beta, Real k) {
  FOR_EACH(i, n) {
    Real s = k + alpha * window_sum(i, channels, height, width, reach, within, [=](int j) { return x[j] * x[j]; });
    sums[i] = s;
    y[i] = x[i] * pow(s, -beta);
  }
}

// dy y / s.
extern "C" __global__ void ratio(int n, const Real *x, const Real *dy, const Real *sums, Real beta, Real *ratios) {
  FOR_EACH(i, n) ratios[i] = dy[i] * x[i] * pow(sums[i], -beta) / sums[i];
}

// dx = dy s^-beta + slope x sum of dy y / s.
extern "C" __global__ void gradient(int n, int channels, int height, int width, int reach, int within, const Real *x, const Real *dy,
                                    const Real *sums, const Real *ratios, Real beta, Real slope, Real *dx) {
  FOR_EACH(i, n) {
    Real around = window_sum(i, channels, height, width, reach, within, [=](int j) { return ratios[j]; });
    dx[i] = dy[i] * pow(sums[i], -beta) + slope * x[i] * around;
  }
}
