// What every kernel may use. `Real` is float or double; blocks have BLOCK threads.

constexpr int BLOCK = 256;

// The smallest normal number.
constexpr Real SMALLEST = sizeof(Real) == 4 ? Real(1.17549435e-38) : Real(2.2250738585072014e-308);

// i runs over 0 .. n - 1, shared among all threads of the grid.
#define FOR_EACH(i, n) \
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(n); i += gridDim.x * blockDim.x)

// The sum of a value over the threads of a block, for all of them. Always added in the same order.
template <class V> __device__ inline V block_sum(V v) {
  __shared__ V parts[BLOCK / 32];
  for (int by = 16; by > 0; by /= 2) v += __shfl_xor_sync(0xffffffffu, v, by);
  __syncthreads();  // an earlier sum has been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  V sum = 0;
  for (int i = 0; i < BLOCK / 32; ++i) sum += parts[i];
  return sum;
}

// The largest value of the threads of a block, for all of them.
__device__ inline Real block_max(Real v) {
  __shared__ Real parts[BLOCK / 32];
  for (int by = 16; by > 0; by /= 2) v = fmax(v, __shfl_xor_sync(0xffffffffu, v, by));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  Real most = parts[0];
  for (int i = 1; i < BLOCK / 32; ++i) most = fmax(most, parts[i]);
  return most;
}

// The same over a team of 1, 32 or BLOCK neighbouring threads, for all of them.
template <int TEAM, class V> __device__ inline V team_sum(V v) {
  if constexpr (TEAM == BLOCK) {
    return block_sum(v);
  } else {
    for (int by = TEAM / 2; by > 0; by /= 2) v += __shfl_xor_sync(0xffffffffu, v, by);
    return v;
  }
}
template <int TEAM> __device__ inline Real team_max(Real v) {
  if constexpr (TEAM == BLOCK) {
    return block_max(v);
  } else {
    for (int by = TEAM / 2; by > 0; by /= 2) v = fmax(v, __shfl_xor_sync(0xffffffffu, v, by));
    return v;
  }
}

// i runs over 0 .. n - 1, shared among all teams of the grid.
#define FOR_EACH_TEAM(TEAM, i, n) \
  for (unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) / TEAM; i < (unsigned)(n); i += gridDim.x * blockDim.x / TEAM)

// A block of four words of a random stream (src/math/random.rs): Philox4x32-10.
struct Words {
  unsigned a, b, c, d;
};
__device__ inline Words random_block(unsigned block, unsigned layer, unsigned long long pass, unsigned key_low, unsigned key_high) {
  unsigned c0 = block, c1 = layer, c2 = unsigned(pass), c3 = unsigned(pass >> 32);
  for (int round = 0; round < 10; ++round) {
    unsigned p0 = c0 * 0xD2511F53u, q0 = __umulhi(c0, 0xD2511F53u);
    unsigned p1 = c2 * 0xCD9E8D57u, q1 = __umulhi(c2, 0xCD9E8D57u);
    c0 = q1 ^ c1 ^ key_low;
    c1 = p1;
    c2 = q0 ^ c3 ^ key_high;
    c3 = p0;
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}
__device__ inline unsigned lane_of(Words words, unsigned lane) {
  return lane == 0 ? words.a : lane == 1 ? words.b : lane == 2 ? words.c : words.d;
}

// Word `index` of the stream.
__device__ inline unsigned random_word(unsigned index, unsigned layer, unsigned long long pass, unsigned key_low, unsigned key_high) {
  return lane_of(random_block(index / 4, layer, pass, key_low, key_high), index % 4);
}
