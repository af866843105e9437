// Products with a weight W [N, K], f32, whose zeros come in 4x1 blocks and stay where they are: what training a pruned
// linear y = x W^T needs of one panel of tokens.
//
// A block is four rows 4g .. 4g+3 of W, a group, in one column; blocks are numbered by group, then by column, and
// values hold [blocks][4]. All sums are of fused multiply-adds and start at 0:
//   - forward: out[n, t] sums w x[k, t] over the columns k of the group, ascending; then the bias is added.
//   - transposed: dx[k, t] sums w_r dy[4g+r, t] over the blocks of column k by group, r = 0..3 in each.
//   - sampled: dw[block][r] increases by a sum of 16; s[i] sums x[k, t] dy[4g+r, t] over t = i, i + 16, .. and the 16
//     are added in halves: s[i] + s[i + 8], then 4, 2 and 1 apart.
// The same bits on every ISA.
#pragma once
#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/panel.h"

namespace fastcpu {

// Which blocks of W there are.
struct BlockPattern {
  int n, k;               // N is a multiple of 4
  const int32_t* begin;   // [N / 4 + 1] first block of each group
  const int32_t* column;  // ascending in each group, [blocks]
};

struct SparseLinearKernel {
  const char* name;
  Isa isa;
  // How forward is best called: for so many rows of out, and for panels of x and out of so many bytes together.
  int forward_rows;
  int64_t forward_bytes;
  // Rows of out for the groups [first, last); row 0 of out is row 4 * first of the product. Bias [N].
  void (*forward)(const BlockPattern& pattern, const float* values, const float* bias, Panel x, int width, int first,
                  int last, Panel out);
  void (*transposed)(const BlockPattern& pattern, const float* values, Panel dy, int width, Panel dx);
  // For the blocks [first, last) of a group.
  void (*sampled)(const BlockPattern& pattern, Panel x, Panel dy, int width, int group, int first, int last, float* dw);
  // Rows [tokens][channels], `pitch` elements apart, to a panel of `width` lanes, and back. T is f32 or bf16.
  void (*load_f32)(const float* rows, int64_t pitch, int tokens, int channels, int width, Panel out);
  void (*load_bf16)(const uint16_t* rows, int64_t pitch, int tokens, int channels, int width, Panel out);
  void (*store_f32)(Panel in, int tokens, int channels, int64_t pitch, float* rows);
  void (*store_bf16)(Panel in, int tokens, int channels, int64_t pitch, uint16_t* rows);
};

const std::vector<const SparseLinearKernel*>& sparse_linear_manifest();

}  // namespace fastcpu
