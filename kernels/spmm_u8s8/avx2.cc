// Two blocks of a group at a time, so that their input rows are the pairs of vpmaddwd.
#include "gemm_u8s8/epilogue_avx2.h"
#include "spmm_u8s8/packed.h"

namespace fastcpu {
namespace {

using Pair = avx2::Chunk<2, int16_t>;

void run(const GemmU8S8Args& args) {
  const avx2::PackedBlocks<Pair> weights(args.weights);
  for (int n = args.n_begin; n < args.n_end; n += 4) {
    const Pair* begin = weights.chunks + weights.begin[n / 4];
    const Pair* end = weights.chunks + weights.begin[n / 4 + 1];
    for (int t = 0; t < args.width; t += avx2::kSliceWidth) {
      avx2::SliceSums acc;
      avx2::start_slice(args.epilogue.init + n, acc);
      const uint8_t* tile = args.x + t;
      for (const Pair* pair = begin; pair != end; ++pair) {
        __m256i x[2];
        avx2::widen_pair(tile + static_cast<int64_t>(pair->index[0]) * args.width,
                         tile + static_cast<int64_t>(pair->index[1]) * args.width, x);
        avx2::dot_pair(x, pair->value, acc);
      }
      avx2::store_slice(args.epilogue, n, t, args.width, acc, args.out);
    }
  }
}

}  // namespace

extern const SpmmU8S8Kernel spmm_u8s8_avx2 = {"spmm_u8s8_avx2", Isa::avx2, avx2::packed_blocks_bytes<Pair>,
                                              avx2::pack_blocks<Pair>, run};

}  // namespace fastcpu
