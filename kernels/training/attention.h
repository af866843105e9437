// Self-attention of a padded batch while training (attention_training/attention_training.h).
#pragma once
#include <cstdint>

namespace fastcpu {

// q, k, v and what belongs to them are rows [batch][sequence][heads * channels] of f32 or bf16 without gaps. Of each
// sequence the first `lengths` tokens are real, at least one; the rows of the others are written as 0.
struct AttentionBatch {
  int64_t batch, sequence;
  int heads, channels;
  float scale;
  bool bf16;
  const int64_t* lengths;
  const void* q;
  const void* k;
  const void* v;
};

void attention_forward(const AttentionBatch& batch, void* o, int threads);

// The gradients of q, k and v, of that of o.
void attention_backward(const AttentionBatch& batch, const void* gradient, void* dq, void* dk, void* dv, int threads);

}  // namespace fastcpu
