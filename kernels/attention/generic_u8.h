// The body of attention_u8 over a tier: blocks of up to kVectors vectors of queries.
//
// A product adds kDepth (4 or 2) channels or keys at once: they are the bytes or 16-bit halves of a 32-bit element, in
// memory [channels / kDepth][tokens] or [keys / kDepth][queries]. Tier has F32, S32 and
//   kDepth, kVectors
//   rows(vectors)         rows of a product block of that many vectors
//   kOnes                 an element of ones
//   step(acc, x, w)       acc += the products of unsigned x and signed w
//   pack(p)               kDepth vectors of numbers 0..255 -> elements
//   copy(...)             see below
//   interleave<kSigned>(rows, channels, stride, out)   bytes [channels][stride] -> elements [channels / kDepth][stride]
//   widen(rows, count, out)                            signed bytes -> elements of kDepth consecutive ones
#pragma once
#include "attention/generic.h"
#include "simd/math.h"

namespace fastcpu::FASTCPU_ISA_NAME {

constexpr uint8_t kSignBit = 0x80;  // q xor kSignBit is the s8 value of a u8 with zero point 128
constexpr int kTokenPad = 64;       // of the re-laid rows

// Tier::copy(in, in_stride, flip, out, out_stride, rows, count): rows of 1 to 64 bytes, each xor flip; writes no
// others.
template <class Tier>
void gather_u8(const TileSpan& span, int rows, uint8_t flip, uint8_t* out, int64_t stride) {
  for_each_tile<const uint8_t>(span, [=](const uint8_t* x, int width, int64_t first, int count) {
    Tier::copy(x, width, flip, out + first, stride, rows, count);
  });
}

template <class Tier>
void scatter_u8(const uint8_t* in, int64_t stride, int rows, const TileSpan& span) {
  for_each_tile<uint8_t>(span, [=](uint8_t* y, int width, int64_t first, int count) {
    Tier::copy(in + first, stride, 0, y, width, rows, count);
  });
}

template <class Tier>
struct Dot {
  using Element = int32_t;
  using Vector = typename Tier::S32;
  static void step(Vector& acc, Vector x, Vector w) { Tier::step(acc, x, w); }
};

template <class Tier>
struct ScratchU8 {
  int64_t keys, queries;      // padded
  int32_t *q, *k, *v;         // elements: [D / kDepth][queries], [D / kDepth][keys], [D][keys / kDepth]
  int32_t* start;             // [keys] -q_zero_point * sum_d of the key
  int32_t *scores, *p, *out;  // [keys][lanes], [keys / kDepth][lanes], [D][lanes]
  uint8_t* rows;              // [D][keys or queries]
  float* result;              // [D][queries]; the bytes of a u8 output lie in rows

  ScratchU8(ScratchArena& arena, int64_t q_length, int64_t k_length, int64_t head_dim)
      : keys(round_up(k_length, kTokenPad)), queries(round_up(q_length, kTokenPad)) {
    constexpr int kLanes = Tier::kVectors * Tier::S32::lanes;
    q = arena.take<int32_t>(head_dim / Tier::kDepth * queries);
    k = arena.take<int32_t>(head_dim / Tier::kDepth * keys);
    v = arena.take<int32_t>(head_dim * keys / Tier::kDepth);
    start = arena.take<int32_t>(keys);
    scores = arena.take<int32_t>(keys * kLanes);
    p = arena.take<int32_t>(keys / Tier::kDepth * kLanes);
    out = arena.take<int32_t>(head_dim * kLanes);
    rows = arena.take<uint8_t>(head_dim * (keys > queries ? keys : queries));
    result = arena.take<float>(head_dim * queries);
  }
};

template <class Tier>
void relay_u8(const AttentionArgs& args, const ScratchU8<Tier>& s) {
  using S32 = typename Tier::S32;
  const int head_dim = args.head_dim;
  gather_u8<Tier>(args.q, head_dim, 0, s.rows, s.queries);
  Tier::template interleave<false>(s.rows, head_dim, s.queries, s.q);
  gather_u8<Tier>(args.k, head_dim, kSignBit, s.rows, s.keys);
  Tier::template interleave<true>(s.rows, head_dim, s.keys, s.k);
  gather_u8<Tier>(args.v, head_dim, kSignBit, s.rows, s.keys);
  Tier::widen(s.rows, head_dim * s.keys, s.v);
  const S32 ones = S32::set1(Tier::kOnes);
  for (int64_t j = 0; j < s.keys; j += S32::lanes) {
    S32 sum = S32::set1(0);
    for (int64_t d = 0; d < head_dim / Tier::kDepth; ++d) Tier::step(sum, ones, S32::load(s.k + d * s.keys + j));
    sum.store(s.start + j);
    for (int64_t i = j; i < j + S32::lanes; ++i) s.start[i] *= -args.q_zero_point;
  }
}

// Turns one column vector of scores into packed probabilities and returns their sum. scores: [keys][stride],
// packed: [keys / kDepth][stride]. Keys that a query does not see, or that do not exist, get 0.
template <class Tier>
typename Tier::S32 softmax_u8(int32_t* scores, int32_t* packed, int64_t stride, const VisibleKeys& visible,
                              float exponent_scale, int first_lane) {
  using F32 = typename Tier::F32;
  using S32 = typename Tier::S32;
  constexpr int32_t kNever = INT32_MIN / 2;  // below any score, and far enough from the limit to be subtracted from
  for (int64_t j = visible.all; j < visible.some; ++j)
    for (int64_t i = 0; i < S32::lanes && first_lane + i < j - visible.diagonal; ++i) scores[j * stride + i] = kNever;
  S32 largest = S32::load(scores);
  for (int64_t j = 1; j < visible.some; ++j) largest = max(largest, S32::load(scores + j * stride));

  const F32 c = F32::set1(exponent_scale);
  const F32 top = F32::set1(255.0f);
  const S32 ones = S32::set1(Tier::kOnes);
  S32 sum = S32::set1(0);
  const int64_t whole = visible.all / Tier::kDepth;
  for (int64_t g = 0; g < whole; ++g) {
    S32 p[Tier::kDepth];
#pragma GCC unroll 4
    for (int i = 0; i < Tier::kDepth; ++i)
      p[i] = to_s32(top * exp2(to_f32(S32::load(scores + (g * Tier::kDepth + i) * stride) - largest) * c));
    const S32 elements = Tier::pack(p);
    Tier::step(sum, elements, ones);
    elements.store(packed + g * stride);
  }
  const F32 lane = lane_numbers<F32>(first_lane);
  for (int64_t g = whole; g * Tier::kDepth < visible.some; ++g) {
    S32 p[Tier::kDepth];
    for (int i = 0; i < Tier::kDepth; ++i) {
      const int64_t j = g * Tier::kDepth + i;
      const int64_t first_query = j < visible.all ? 0 : j < visible.some ? j - visible.diagonal : kTokenPad;
      const F32 e = exp2(to_f32(S32::load(scores + j * stride) - largest) * c);
      p[i] = to_s32(top * where_less(lane, F32::set1(static_cast<float>(first_query)), F32::zero(), e));
    }
    const S32 elements = Tier::pack(p);
    Tier::step(sum, elements, ones);
    elements.store(packed + g * stride);
  }
  return sum;
}

template <class Tier, int kVectors>
void attend_u8(const AttentionArgs& args, const ScratchU8<Tier>& s, int64_t first) {
  using F32 = typename Tier::F32;
  using S32 = typename Tier::S32;
  constexpr int kLanes = kVectors * S32::lanes;
  const VisibleKeys visible = visible_keys(args, first, kLanes);
  product<Dot<Tier>, Tier::rows(kVectors), kVectors>(round_up(visible.some, 4), s.k, 1, s.keys,
                                                     args.head_dim / Tier::kDepth, s.q + first, s.queries, s.start,
                                                     s.scores);
  F32 factor[kVectors];
  for (int c = 0; c < kVectors; ++c)
    factor[c] =
        F32::set1(args.out_scale) / to_f32(softmax_u8<Tier>(s.scores + c * S32::lanes, s.p + c * S32::lanes, kLanes,
                                                            visible, args.exponent_scale, c * S32::lanes));
  product<Dot<Tier>, Tier::rows(kVectors), kVectors>(args.head_dim, s.v, s.keys / Tier::kDepth, 1,
                                                     round_up(visible.some, Tier::kDepth) / Tier::kDepth, s.p, kLanes,
                                                     nullptr, s.out);
  const F32 zero_point = F32::set1(args.out_zero_point);
  const F32 top = F32::set1(255.0f);
  for (int64_t d = 0; d < args.head_dim; ++d)
    for (int c = 0; c < kVectors; ++c) {
      const F32 y = to_f32(S32::load(s.out + d * kLanes + c * S32::lanes)) * factor[c];
      const int64_t at = d * s.queries + first + c * S32::lanes;
      if (args.out_u8) {
        min(max(y + zero_point, F32::zero()), top).store_u8(s.rows + at);
      } else {
        y.store(s.result + at);
      }
    }
}

template <class Tier>
size_t attention_u8_scratch_bytes(int64_t q_length, int64_t k_length, int head_dim) {
  ScratchArena arena{0};
  const ScratchU8<Tier> scratch(arena, q_length, k_length, head_dim);
  return arena.next;
}

template <class Tier>
void attention_u8_run(const AttentionArgs& args) {
  constexpr int kVectors = Tier::kVectors;
  constexpr int kLanes = Tier::S32::lanes;
  ScratchArena arena{reinterpret_cast<uintptr_t>(args.scratch)};
  const ScratchU8<Tier> s(arena, args.q.length, args.k.length, args.head_dim);
  relay_u8<Tier>(args, s);
  int64_t first = 0;
  for (; first + (kVectors - 1) * kLanes < args.q.length; first += kVectors * kLanes)
    attend_u8<Tier, kVectors>(args, s, first);
  if constexpr (kVectors > 2)
    for (; first + kLanes < args.q.length; first += 2 * kLanes) attend_u8<Tier, 2>(args, s, first);
  for (; first < args.q.length; first += kLanes) attend_u8<Tier, 1>(args, s, first);
  if (args.out_u8) {
    scatter_u8<Tier>(s.rows, s.queries, args.head_dim, args.out);
  } else {
    scatter_f32(s.result, s.queries, args.head_dim, args.out);
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
