// 4x1 block-sparse u8 x s8 matrix product of one token tile; same arithmetic, epilogue and layouts as gemm_u8s8.h, and
// the same bits.
//
// Canonical weights (docs/format.md): rows come in groups of 4; group g has blocks offsets[g] .. offsets[g+1],
// ascending in k; block b multiplies input channel index[b] by the four values values[4 b .. 4 b + 3], one per row of
// the group. N is a multiple of 4.
#pragma once
#include "gemm_u8s8/gemm_u8s8.h"

namespace fastcpu {

struct Blocks4x1 {
  int n, k;
  const int8_t* values;     // [offsets[n / 4]][4]
  const uint16_t* index;    // [offsets[n / 4]]
  const uint32_t* offsets;  // [n / 4 + 1]
};

struct SpmmU8S8Kernel {
  const char* name;
  Isa isa;
  TileCosts costs;
  // As GemmU8S8Kernel::pack.
  void (*pack)(const Blocks4x1& w, const TakeMemory& take);
  // args.weights = packed; args.scratch and args.tokens are not used: all lanes are computed.
  void (*run)(const GemmU8S8Args& args);
};

const std::vector<const SpmmU8S8Kernel*>& spmm_u8s8_manifest();

}  // namespace fastcpu
