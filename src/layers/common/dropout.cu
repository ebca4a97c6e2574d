// Element i is kept, and scaled, where word i of the layer's stream is not below the threshold. In place x is y.

extern "C" __global__ void dropout(int n, const Real *x, Real *y, unsigned threshold, Real scale, unsigned layer,
                                   const unsigned long long *pass, unsigned key_low, unsigned key_high) {
  FOR_EACH(i, n) {
    bool kept = random_word(i, layer, *pass, key_low, key_high) >= threshold;
    y[i] = kept ? x[i] * scale : Real(0);
  }
}
