// Self-attention of one head of one sequence while training: o = softmax(scale q k^T) v, and its gradients. Nothing of
// the forward pass is kept but its inputs.
//
// q, k, v, o and their gradients are rows [tokens][channels] of f32 or bf16, each with a pitch in elements; inside, all
// is f32. Sums are of fused multiply-adds over ascending channels, keys or queries and start at 0:
//   p[i, j] = e / sum e over j,  e = 2^(t[i, j] - max over j of t),  t = (sum of q k) * (scale * log2(e)) as f32
//   o = p v;  dv = p^T do;  dp = do v^T;  ds = p * (dp - sum over j of p dp);  dq = scale (ds k);  dk = scale (ds^T q)
// The same bits on every ISA (exp2 of simd/math.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace fastcpu {

// What forward and backward read and write, row 0 of each at the head's first channel.
struct TrainingHead {
  int tokens, channels;
  float scale;
  bool bf16;
  int64_t pitch;
  const void* q;
  const void* k;
  const void* v;
  const void* gradient;  // of o; backward only
  void* o;               // forward only
  void* dq;              // these three: backward only
  void* dk;
  void* dv;
};

struct AttentionTrainingKernel {
  const char* name;
  Isa isa;
  void (*forward)(const TrainingHead& head, float* scratch);
  void (*backward)(const TrainingHead& head, float* scratch);
};

// Floats of scratch memory, 64-byte aligned, for so many tokens and channels.
size_t attention_training_scratch(int tokens, int channels);

const std::vector<const AttentionTrainingKernel*>& attention_training_manifest();

}  // namespace fastcpu
