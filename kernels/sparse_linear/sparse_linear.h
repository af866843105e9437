// Products with a weight W [N, K], f32, whose zeros come in 4x1 blocks and stay where they are: what training a pruned
// linear y = x W^T needs of one panel of tokens.
//
// A panel is channel-major: element (c, t) lies at base[c * stride + t]. Its width is a
// multiple of 16; the lanes past the last token hold 0 where load() has written them. A block is four rows 4g .. 4g+3
// of W, a group, in one column; blocks are numbered by group, then by column, and values hold [blocks][4].
//   forward:     out[n, t] = acc + bias[n];  acc = 0; for the columns k of the group ascending: acc = fma(w, x[k, t],
//   acc) transposed:  dx[k, t] = acc;  acc = 0; for the blocks of column k by group, for r = 0..3: acc = fma(w_r,
//   dy[4g+r, t], acc) sampled:     dw[block][r] += sum of s;  s[i] = 0; for t = i, i + 16, ..: s[i] = fma(x[k, t],
//   dy[4g+r, t], s[i]);
//                the 16 partial sums are added in halves: s[i] + s[i + 8], then 4, 2 and 1 apart.
// The same bits on every ISA. bf16 is the upper half of an f32; to_bf16 rounds to nearest even.
#pragma once
#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace fastcpu {

// Which blocks of W there are.
struct BlockPattern {
  int n, k;               // N is a multiple of 4
  const int32_t* begin;   // [N / 4 + 1] first block of each group
  const int32_t* column;  // ascending in each group, [blocks]
};

struct Panel {
  float* data;
  int64_t stride;
};

struct SparseLinearKernel {
  const char* name;
  Isa isa;
  // Rows of out for the groups [first, last); row 0 of out is row 4 * first of the product. Bias [N] or null.
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
