// Attention of one head of one sequence with the quantization points of an imported QDQ file, in f32 (docs/numerics.md,
// "attention_qdq"). Spans, scratch and threading are those of attention.h.
#pragma once
#include "attention/attention.h"

namespace fastcpu {

// Quantize and dequantize again; absent points leave their value alone.
struct GridPoint {
  bool present;
  float scale, inv_scale, zero_point;
};

struct AttentionQdqArgs {
  TileSpan q, k, v, out;  // f32
  int head_dim;
  float q_factor, k_factor, score_factor;
  GridPoint q_point, k_point, v_point, score_point, probability_point;
  AttentionBias bias;  // added to scores that are not scaled any more
  void* scratch;
};

struct AttentionQdqKernel {
  const char* name;
  Isa isa;
  size_t (*scratch_bytes)(int64_t q_length, int64_t k_length, int head_dim);
  void (*run)(const AttentionQdqArgs& args);
};

const std::vector<const AttentionQdqKernel*>& attention_qdq_manifest();

}  // namespace fastcpu
