// Packed weights: [stride(N) / 4][pairs of k][4 rows][2 k] in s16. Scratch: [width / 16][pairs of k][16 tokens][2 k] in
// u16.
#include <cstring>

#include "base/tile.h"
#include "gemm_u8s8/epilogue_avx2.h"

namespace fastcpu {
namespace {

using PairWeights = int16_t[4][2];
constexpr int64_t kPairInputs = 2 * avx2::kSliceWidth;

int64_t pairs(int k) { return (k + 1) / 2; }

size_t packed_bytes(int n, int k) {
  return static_cast<size_t>(channel_stride(n) / 4 * pairs(k)) * sizeof(PairWeights);
}

void pack(int n, int k, const int8_t* w, void* packed) {
  std::memset(packed, 0, packed_bytes(n, k));
  for (int r = 0; r < n; ++r) {
    PairWeights* group = static_cast<PairWeights*>(packed) + r / 4 * pairs(k);
    for (int i = 0; i < k; ++i) group[i / 2][r % 4][i % 2] = w[static_cast<int64_t>(r) * k + i];
  }
}

size_t scratch_bytes(int k) { return static_cast<size_t>(pairs(k)) * 2 * kTileWidth * sizeof(uint16_t); }

void prepare(const uint8_t* x, int k, int width, void* scratch) {
  uint16_t* out = static_cast<uint16_t*>(scratch);
  for (int t = 0; t < width; t += avx2::kSliceWidth) {
    for (int64_t i = 0; i < pairs(k); ++i, out += kPairInputs) {
      const uint8_t* row = x + 2 * i * width + t;
      __m256i pair[2];
      avx2::widen_pair(row, row + width, pair);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out), pair[0]);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out) + 1, pair[1]);
    }
  }
}

void run(const GemmU8S8Args& args) {
  for (int n = args.n_begin; n < args.n_end; n += 4) {
    const PairWeights* weights = static_cast<const PairWeights*>(args.weights) + n / 4 * pairs(args.k);
    const uint16_t* tile = static_cast<const uint16_t*>(args.scratch);
    for (int t = 0; t < args.width; t += avx2::kSliceWidth) {
      avx2::SliceSums acc;
      avx2::start_slice(args.epilogue.init + n, acc);
      for (int64_t i = 0; i < pairs(args.k); ++i, tile += kPairInputs) {
        const __m256i* inputs = reinterpret_cast<const __m256i*>(tile);
        const __m256i x[2] = {_mm256_load_si256(inputs), _mm256_load_si256(inputs + 1)};
        avx2::dot_pair(x, weights[i], acc);
      }
      avx2::store_slice(args.epilogue, n, t, args.width, acc, args.out);
    }
  }
}

}  // namespace

extern const GemmU8S8Kernel gemm_u8s8_avx2 = {"gemm_u8s8_avx2", Isa::avx2, packed_bytes, pack,
                                              scratch_bytes,    prepare,   run};

}  // namespace fastcpu
