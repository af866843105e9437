#include "base/tile.h"
#include "gemm_u8s8/epilogue_scalar.h"
#include "spmm_u8s8/packed.h"

namespace fastcpu {
namespace {

using Block = scalar::Chunk<1, int8_t>;

void run(const GemmU8S8Args& args) {
  const scalar::PackedBlocks<Block> weights(args.weights);
  for (int n = args.n_begin; n < args.n_end; n += 4) {
    int32_t acc[4][kTileWidth];
    for (int r = 0; r < 4; ++r)
      for (int t = 0; t < args.width; ++t) acc[r][t] = args.epilogue.init[n + r];
    const Block* end = weights.chunks + weights.begin[n / 4 + 1];
    for (const Block* block = weights.chunks + weights.begin[n / 4]; block != end; ++block) {
      const uint8_t* x = args.x + static_cast<int64_t>(block->index[0]) * args.width;
      for (int r = 0; r < 4; ++r) {
        const int32_t weight = block->value[r][0];
        for (int t = 0; t < args.width; ++t) acc[r][t] += weight * x[t];
      }
    }
    for (int r = 0; r < 4; ++r) scalar::store_row(args.epilogue, n + r, args.width, acc[r], args.out);
  }
}

}  // namespace

extern const SpmmU8S8Kernel spmm_u8s8_scalar = {
    "spmm_u8s8_scalar", Isa::scalar, {0.5, 0.25, 0, 0, 0.01, true}, scalar::pack_blocks<Block>, run};

}  // namespace fastcpu
