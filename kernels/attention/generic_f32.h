// The body of attention_f32 over a tier's vector V: blocks of up to kVectors vectors of queries.
#pragma once
#include "attention/generic.h"
#include "simd/math.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <class V>
struct Fma {
  using Element = float;
  using Vector = V;
  static void step(V& acc, V x, V w) { acc = fma(w, x, acc); }
};

// scores = scores * factor + bias, for the rows of `keys` keys and the `lanes` queries from `first` on.
template <class V>
void add_bias(float* scores, int64_t keys, int64_t lanes, float factor, const AttentionBias& bias,
              const SpreadBias& spread, int64_t first) {
  const V f = V::set1(factor);
  for (int64_t j = 0; j < keys; ++j, scores += lanes) {
    const float* row = spread.row(bias, j, first, lanes);
    for (int64_t i = 0; i < lanes; i += V::lanes) (V::load(scores + i) * f + V::load(row + i)).store(scores + i);
  }
}

// Rows have `lanes` queries at most; keys and channels are padded to multiples of 4, the rows of a product.
struct ScratchF32 {
  float *k, *v, *q;     // [D][keys], [channels][keys], [D][queries]
  float *scores, *out;  // [keys][lanes], which become the probabilities; [channels][lanes]
  float* result;        // [D][queries]
  int64_t keys, channels, queries;
  SpreadBias bias;

  ScratchF32(ScratchArena& arena, int64_t q_length, int64_t k_length, int head_dim, int lanes, int key_unit = 4)
      : keys(round_up(k_length, key_unit)),
        channels(round_up(head_dim, 4)),
        queries(round_up(q_length, 16)),
        bias(arena, q_length, k_length) {
    k = arena.take<float>(head_dim * keys);
    v = arena.take<float>(channels * keys);
    q = arena.take<float>(head_dim * queries);
    scores = arena.take<float>(keys * lanes);
    out = arena.take<float>(channels * lanes);
    result = arena.take<float>(head_dim * queries);
  }
};

// Turns one column vector of scores into probabilities and returns their sum. scores: [keys][stride].
template <class V>
V softmax_f32(float* scores, int64_t stride, const VisibleKeys& visible, float exponent_scale, int first_lane) {
  const V lane = lane_numbers<V>(first_lane);
  V largest = V::load(scores);
  for (int64_t j = 1; j < visible.all; ++j) largest = max(largest, V::load(scores + j * stride));
  for (int64_t j = visible.all; j < visible.some; ++j) {
    const V first_query = V::set1(static_cast<float>(j - visible.diagonal));
    largest = max(largest, where_less(lane, first_query, largest, V::load(scores + j * stride)));
  }
  const V c = V::set1(exponent_scale);
  V sum = V::zero();
  for (int64_t j = 0; j < visible.all; ++j) {
    const V p = exp2((V::load(scores + j * stride) - largest) * c);
    sum = sum + p;
    p.store(scores + j * stride);
  }
  for (int64_t j = visible.all; j < visible.some; ++j) {
    const V first_query = V::set1(static_cast<float>(j - visible.diagonal));
    const V p = exp2((V::load(scores + j * stride) - largest) * c);
    const V seen = where_less(lane, first_query, V::zero(), p);
    sum = sum + seen;
    seen.store(scores + j * stride);
  }
  return sum;
}

template <class V, int kRows, int kVectors>
void attend_f32(const AttentionArgs& args, const ScratchF32& s, int64_t first) {
  constexpr int kLanes = kVectors * V::lanes;
  const VisibleKeys visible = visible_keys(args, first, kLanes);
  product<Fma<V>, kRows, kVectors>(round_up(visible.some, 4), s.k, 1, s.keys, args.head_dim, s.q + first, s.queries,
                                   nullptr, s.scores);
  float exponent_scale = args.exponent_scale;
  if (args.bias.table != nullptr) {
    add_bias<V>(s.scores, visible.some, kLanes, exponent_scale, args.bias, s.bias, first);
    exponent_scale = 1.0f;
  }
  V factor[kVectors];
  for (int c = 0; c < kVectors; ++c)
    factor[c] = V::set1(1.0f) / softmax_f32<V>(s.scores + c * V::lanes, kLanes, visible, exponent_scale, c * V::lanes);
  product<Fma<V>, kRows, kVectors>(s.channels, s.v, s.keys, 1, visible.some, s.scores, kLanes, nullptr, s.out);
  for (int64_t d = 0; d < args.head_dim; ++d)
    for (int c = 0; c < kVectors; ++c)
      (V::load(s.out + d * kLanes + c * V::lanes) * factor[c]).store(s.result + d * s.queries + first + c * V::lanes);
}

template <class V, int kRows, int kVectors>
size_t attention_f32_scratch_bytes(int64_t q_length, int64_t k_length, int head_dim) {
  ScratchArena arena{0};
  const ScratchF32 scratch(arena, q_length, k_length, head_dim, kVectors * V::lanes);
  return arena.next;
}

template <class V, int kRows, int kVectors>
void attention_f32_run(const AttentionArgs& args) {
  ScratchArena arena{reinterpret_cast<uintptr_t>(args.scratch)};
  const ScratchF32 s(arena, args.q.length, args.k.length, args.head_dim, kVectors * V::lanes);
  gather_f32(args.k, args.head_dim, s.k, s.keys);
  gather_f32(args.v, args.head_dim, s.v, s.keys);
  gather_f32(args.q, args.head_dim, s.q, s.queries);
  if (args.bias.table != nullptr) s.bias.spread(args.bias);
  int64_t first = 0;
  for (; first + kVectors * V::lanes <= s.queries; first += kVectors * V::lanes)
    attend_f32<V, kRows, kVectors>(args, s, first);
  for (; first < s.queries; first += V::lanes) attend_f32<V, kRows, 1>(args, s, first);
  scatter_f32(s.result, s.queries, args.head_dim, args.out);
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
