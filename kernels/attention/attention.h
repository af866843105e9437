// Attention of one head of one sequence, on values in the tile layout (docs/numerics.md, "attention").
//
// The sequence's tokens may start anywhere in the tiles, so run() first re-lays its Q, K and V into scratch: Q and K as
// [D/4][tokens][4], V as [D][keys] (16-bit pairs instead of four bytes where there is no VNNI); then works on 64 (32,
// 16) queries at a time: S^T = K Q^T with lane = query, softmax down the columns, O^T = V^T P^T; then scatters the rows
// into the tiles of the output. Only the output's own bytes are written: heads and sequences of one value may be
// computed by different threads at once. Query and key sequences are separate so that cross-attention and a KV cache
// fit; lengths are at least 1 and at most 65,536; head_dim is a multiple of 4, at most 256, for u8; anything for f32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/tile.h"

namespace fastcpu {

// Rows [channel, channel + head_dim) of the tokens [begin, begin + length) of a value in the tile layout.
struct TileSpan {
  void* base;     // the value's buffer, u8 or f32
  Tiling tiling;  // of the whole value: fixes the tile geometry
  int channels;   // of the whole value: fixes the tile stride
  int channel;
  int64_t begin, length;
};

enum class Mask : int { none, causal };

// What is added to the scores of one head depending on how far a key stands behind its query.
struct AttentionBias {
  const float* table;  // [2 reach + 1], entry reach + distance, the first or last one beyond; nullptr for no bias
  int64_t reach;
  const int32_t* columns;  // of the tokens, which are queries and keys; nullptr where they are neighbours
};

struct AttentionArgs {
  TileSpan q, k, v;  // k and v have the same begin and length; all u8 or all f32
  TileSpan out;      // same tokens as q; u8 or f32 as out_u8 says (f32 inputs: f32 output)
  int head_dim;
  Mask mask;  // causal: key j of query i takes part if j - i <= k.length - q.length, which is then not negative
  float exponent_scale;  // c of docs/numerics.md
  AttentionBias bias;    // in the units of c times a score
  int32_t q_zero_point;  // u8 only
  float out_scale;       // ov, u8 only
  float out_zero_point;  // u8 output only
  bool out_u8;
  void* scratch;  // scratch_bytes(), 64-byte aligned
};

struct AttentionKernel {
  const char* name;
  Isa isa;
  bool u8;  // takes u8 queries, keys and values, else f32
  size_t (*scratch_bytes)(int64_t q_length, int64_t k_length, int head_dim);
  void (*run)(const AttentionArgs& args);
};

const std::vector<const AttentionKernel*>& attention_u8_manifest();
const std::vector<const AttentionKernel*>& attention_f32_manifest();

}  // namespace fastcpu
