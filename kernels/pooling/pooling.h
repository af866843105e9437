// From tiles to rows: pooling over a sequence, normalization, and the transposition into the caller's arrays
// (docs/numerics.md, "pool", "l2norm").
#pragma once
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "base/isa.h"
#include "base/names.h"

namespace fastcpu {

enum class Pool : int { cls, mean, max };
constexpr Name<Pool> kPoolNames[] = {{Pool::cls, "cls"}, {Pool::mean, "mean"}, {Pool::max, "max"}};

struct PoolingKernel {
  const char* name;
  Isa isa;
  // x: f32 rows [x.channel, x.channel + count) of one sequence; out: [count] contiguous floats.
  // An empty sequence gives 0; a NaN of a channel makes its mean and maximum NaN.
  void (*pool)(Pool mode, const TileSpan& x, int count, float* out);
  // One tile in place, lane = token: [channels][width].
  void (*l2norm)(float* x, int channels, int width);
  // Copies tokens [x.begin, x.begin + x.length), channels [x.channel, x.channel + count):
  //     out[(t - x.begin) * row_stride + (c - x.channel)] = x[c, t]
  void (*to_rows)(const TileSpan& x, int count, float* out, int64_t row_stride);
  // The way back, rows -> tile columns: pooled vectors become the columns of a value with one token per sequence.
  // Writes the given columns only; a span that ends with the last token also fills the lanes past it (with its row).
  void (*from_rows)(const float* rows, int64_t row_stride, int count, const TileSpan& out);
};

const std::vector<const PoolingKernel*>& pooling_manifest();

}  // namespace fastcpu
