// The products of sparse_linear with bf16 numbers: activations, gradients and weights are bf16, sums are f32.
//
// Panels of bf16 have a width that is a multiple of 32, their lanes past the last token are 0, and their strides are
// multiples of 32. Weights of two blocks or two rows lie together in 32 bits, the first in the lower half:
//   - forward reads the blocks of a group in pairs, those of an odd number with a pair of weight 0 at the end;
//     weights [pairs][4], columns [pairs][2].
//   - transposed reads weights [blocks][2], of rows 0 and 1, and of rows 2 and 3.
// Products are exact. Sums are in any order, rounded to nearest even, and subnormal numbers may count as 0: variants do
// not give the same bits.
#pragma once
#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/panel.h"
#include "sparse_linear/sparse_linear.h"

namespace fastcpu {

struct Bf16Panel {
  uint16_t* data;
  int64_t stride;
};

struct PairedBlocks {
  int n, k;                // N is a multiple of 4
  const int32_t* begin;    // [N / 4 + 1] first pair of each group
  const int32_t* columns;  // [pairs][2]
};

struct SparseLinearBf16Kernel {
  const char* name;
  Isa isa;
  // f32 rows of out for the groups [first, last); row 0 of out is row 4 * first of the product. Bias [N].
  void (*forward)(const PairedBlocks& pairs, const uint32_t* weights, const float* bias, Bf16Panel x, int width,
                  int first, int last, Panel out);
  // All rows of dx.
  void (*transposed)(const BlockPattern& pattern, const uint32_t* weights, Bf16Panel dy, int width, Panel dx);
  // dw[block][r] += sum over t of x[column, t] dy[4 * group + r, t] for `blocks` blocks of a group.
  void (*sampled)(const int32_t* column, int blocks, Bf16Panel x, Bf16Panel dy, int width, int group, float* dw);
  // Rows [tokens][channels], `pitch` elements apart, to a panel of `width` lanes; f32 is rounded to nearest even.
  void (*load_f32)(const float* rows, int64_t pitch, int tokens, int channels, int width, Bf16Panel out);
  void (*load_bf16)(const uint16_t* rows, int64_t pitch, int tokens, int channels, int width, Bf16Panel out);
};

const std::vector<const SparseLinearBf16Kernel*>& sparse_linear_bf16_manifest();

}  // namespace fastcpu
