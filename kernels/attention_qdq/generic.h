// The body over a tier's vector V: the products and the scratch of attention_f32, with a grid point after each step.
#pragma once
#include "attention/generic_f32.h"
#include "attention_qdq/attention_qdq.h"
#include "simd/quantize.h"

namespace fastcpu::FASTCPU_ISA_NAME {

// x = on the grid of a point, after a factor. count is a multiple of the lanes.
template <class V>
void to_grid(float* x, int64_t count, float factor, const GridPoint& point) {
  const V f = V::set1(factor), scale = V::set1(point.scale), inverse = V::set1(point.inv_scale);
  const V zero = V::set1(point.zero_point);
  for (int64_t i = 0; i < count; i += V::lanes) {
    V y = V::load(x + i) * f;
    if (point.present) y = (quantize(y, inverse, zero) - zero) * scale;
    y.store(x + i);
  }
}

constexpr int kKeyUnit = 16;  // to_grid works on whole vectors of keys

template <class V>
void attend_qdq(const AttentionQdqArgs& args, const ScratchF32& s, int64_t first) {
  constexpr float kLog2E = 0x1.715476p+0f;
  const int64_t keys = args.k.length;
  product<Fma<V>, 4, 1>(s.keys, s.k, 1, s.keys, args.head_dim, s.q + first, s.queries, nullptr, s.scores);
  to_grid<V>(s.scores, s.keys * V::lanes, args.score_factor, args.score_point);
  if (args.bias.table != nullptr) add_bias<V>(s.scores, keys, V::lanes, 1.0f, args.bias, s.bias, first);
  const VisibleKeys visible = {keys, keys, keys};
  const V sum = softmax_f32<V>(s.scores, V::lanes, visible, kLog2E, 0);
  for (int64_t j = 0; j < keys; ++j) (V::load(s.scores + j * V::lanes) / sum).store(s.scores + j * V::lanes);
  to_grid<V>(s.scores, keys * V::lanes, 1.0f, args.probability_point);
  product<Fma<V>, 4, 1>(s.channels, s.v, s.keys, 1, keys, s.scores, V::lanes, nullptr, s.out);
  for (int64_t d = 0; d < args.head_dim; ++d) V::load(s.out + d * V::lanes).store(s.result + d * s.queries + first);
}

template <class V>
size_t attention_qdq_scratch_bytes(int64_t q_length, int64_t k_length, int head_dim) {
  ScratchArena arena{0};
  const ScratchF32 scratch(arena, q_length, k_length, head_dim, V::lanes, kKeyUnit);
  return arena.next;
}

template <class V>
void attention_qdq_run(const AttentionQdqArgs& args) {
  ScratchArena arena{reinterpret_cast<uintptr_t>(args.scratch)};
  const ScratchF32 s(arena, args.q.length, args.k.length, args.head_dim, V::lanes, kKeyUnit);
  gather_f32(args.k, args.head_dim, s.k, s.keys);
  gather_f32(args.v, args.head_dim, s.v, s.keys);
  gather_f32(args.q, args.head_dim, s.q, s.queries);
  to_grid<V>(s.k, args.head_dim * s.keys, args.k_factor, args.k_point);
  to_grid<V>(s.v, args.head_dim * s.keys, 1.0f, args.v_point);
  to_grid<V>(s.q, args.head_dim * s.queries, args.q_factor, args.q_point);
  if (args.bias.table != nullptr) s.bias.spread(args.bias);
  for (int64_t first = 0; first < s.queries; first += V::lanes) attend_qdq<V>(args, s, first);
  scatter_f32(s.result, s.queries, args.head_dim, args.out);
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
