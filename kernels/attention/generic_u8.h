// The body of attention_u8 over a tier: blocks of up to kVectors vectors of queries.
//
// A product adds kDepth (4 or 2) channels or keys at once: they are the bytes or 16-bit halves of a 32-bit element, in
// memory [channels / kDepth][tokens] or [keys / kDepth][queries]. Tier has F32, S32 and
//   kDepth, kVectors
//   rows(vectors)         rows of a product block of that many vectors
//   Part                  the unsigned type of a part of an element
//   Leaf                  an F32, perhaps with cheaper powers of two
//   Group                 a tree of pairs of kDepth vectors Leaf, the keys of a group
//   IntegerGroup          the same of S32
//   kOnes                 an element of ones
//   step(acc, x, w)       acc += the products of unsigned x and signed w
//   pack(p)               an IntegerGroup of numbers 0..255 -> elements
//   copy(...)             see below
//   interleave<kSigned>(rows, channels, stride, out)   bytes [channels][stride] -> elements [channels / kDepth][stride]
//   widen(rows, count, out)                            signed bytes -> elements of 2 consecutive ones; if kDepth is 2
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

// Two vectors, or two pairs, that go through a function step by step together: one after the other, they would fill the
// scheduler of a core with operations that wait for each other.
template <class V>
struct Pair {
  V a, b;

  static Pair set1(float x) { return {V::set1(x), V::set1(x)}; }
  friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
  friend Pair operator-(Pair x, Pair y) { return {x.a - y.a, x.b - y.b}; }
  template <class Factor>
  friend Pair operator*(Pair x, Pair<Factor> y) {
    return {x.a * y.a, x.b * y.b};
  }
  friend Pair max(Pair x, Pair y) { return {max(x.a, y.a), max(x.b, y.b)}; }
  friend Pair rint(Pair x) { return {rint(x.a), rint(x.b)}; }
  friend auto pow2(Pair n) { return Pair<decltype(pow2(n.a))>{pow2(n.a), pow2(n.b)}; }
  friend auto to_s32(Pair x) { return Pair<decltype(to_s32(x.a))>{to_s32(x.a), to_s32(x.b)}; }
};

template <class Tier>
struct ScratchU8 {
  int64_t keys, queries;      // padded
  int32_t *q, *k, *v;         // elements: [D / kDepth][queries], [D / kDepth][keys], [D][keys / kDepth]
  int32_t* start;             // [keys] -q_zero_point * sum_d of the key
  int32_t *scores, *p, *out;  // [keys][lanes], [keys / kDepth][lanes], [D][lanes]
  uint8_t* rows;              // [D][keys or queries]
  float* result;              // [D][queries]; the bytes of a u8 output lie in rows
  SpreadBias bias;

  ScratchU8(ScratchArena& arena, int64_t q_length, int64_t k_length, int64_t head_dim)
      : keys(round_up(k_length, kTokenPad)), queries(round_up(q_length, kTokenPad)), bias(arena, q_length, k_length) {
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
  if constexpr (Tier::kDepth == 4) {
    gather_u8<Tier>(args.v, head_dim, kSignBit, reinterpret_cast<uint8_t*>(s.v), s.keys);
  } else {
    gather_u8<Tier>(args.v, head_dim, kSignBit, s.rows, s.keys);
    Tier::widen(s.rows, head_dim * s.keys, s.v);
  }
  const S32 ones = S32::set1(Tier::kOnes);
  for (int64_t j = 0; j < s.keys; j += S32::lanes) {
    S32 sum = S32::set1(0);
    for (int64_t d = 0; d < head_dim / Tier::kDepth; ++d) Tier::step(sum, ones, S32::load(s.k + d * s.keys + j));
    sum.store(s.start + j);
    for (int64_t i = j; i < j + S32::lanes; ++i) s.start[i] *= -args.q_zero_point;
  }
}

// The probabilities of one column vector of scores, packed, and their sum. scores: [keys][stride], packed:
// [keys / kDepth][stride]. With kBiased the scores become exponents, f32, before they become probabilities.
template <class Tier, bool kBiased>
struct Softmax {
  using F32 = typename Tier::F32;
  using S32 = typename Tier::S32;

  int32_t *scores, *packed;
  int64_t stride;
  F32 exponent_scale;
  S32 largest, sum;
  F32 largest_exponent;

  F32 scaled(const int32_t* score) const { return to_f32(S32::load(score) - largest) * exponent_scale; }
  static float* as_floats(int32_t* score) { return reinterpret_cast<float*>(score); }

  template <class V>
  struct Tree {
    static constexpr int count = 1;
    static V exponents(const Softmax& s, int32_t* scores) {
      if constexpr (kBiased) return {(F32::load(as_floats(scores)) - s.largest_exponent).v};
      return {s.scaled(scores).v};
    }
  };
  template <class V>
  struct Tree<Pair<V>> {
    static constexpr int count = 2 * Tree<V>::count;
    static Pair<V> exponents(const Softmax& s, int32_t* scores) {
      return {Tree<V>::exponents(s, scores), Tree<V>::exponents(s, scores + count / 2 * s.stride)};
    }
  };

  // Adds a group of keys.
  void keys(int64_t g) {
    using Group = typename Tier::Group;
    const Group t = Tree<Group>::exponents(*this, scores + g * Tier::kDepth * stride);
    const S32 elements = Tier::pack(to_s32(Group::set1(255.0f) * exp2(t)));
    Tier::step(sum, elements, S32::set1(Tier::kOnes));
    elements.store(packed + g * stride);
  }

  // `largest` is that of keys [0, compared) before. Keys that a query does not see, or that do not exist, get 0.
  // bias_row(key) is the bias of these lanes.
  template <class F>
  void run(const VisibleKeys& visible, int64_t compared, int first_lane, F bias_row) {
    constexpr int32_t kNever = INT32_MIN / 2;  // below any score, and far enough from INT32_MIN to be subtracted from
    const auto unseen = [&](int64_t j) {       // lanes [0, unseen) do not see key j
      const int64_t count = j < visible.some ? j - visible.diagonal - first_lane : S32::lanes;
      return count < S32::lanes ? count : S32::lanes;
    };
    const int64_t groups = round_up(visible.some, Tier::kDepth) / Tier::kDepth;
    for (int64_t j = visible.all; j < groups * Tier::kDepth; ++j)
      for (int64_t i = 0; i < unseen(j); ++i) scores[j * stride + i] = kNever;
    for (int64_t j = compared; j < visible.some; ++j) largest = max(largest, S32::load(scores + j * stride));
    if constexpr (kBiased) {
      constexpr float kLowest = -0x1p126f;  // far enough from -inf to be subtracted from
      largest_exponent = F32::set1(kLowest);
      for (int64_t j = 0; j < groups * Tier::kDepth; ++j) {
        float* exponents = as_floats(scores + j * stride);
        (scaled(scores + j * stride) + F32::load(bias_row(j))).store(exponents);
        for (int64_t i = 0; j >= visible.all && i < unseen(j); ++i) exponents[i] = kLowest;
        largest_exponent = max(largest_exponent, F32::load(exponents));
      }
    }

    sum = S32::set1(0);
    int64_t g = 0;
    for (; (g + 1) * Tier::kDepth <= visible.all; ++g) keys(g);
    for (; g < groups; ++g) {
      const S32 before = sum;
      keys(g);
      typename Tier::Part* parts = reinterpret_cast<typename Tier::Part*>(packed + g * stride);
      for (int64_t part = 0; part < Tier::kDepth; ++part) {
        const int64_t j = g * Tier::kDepth + part;
        for (int64_t i = 0; j >= visible.all && i < unseen(j); ++i) parts[i * Tier::kDepth + part] = 0;
      }
      sum = before;
      Tier::step(sum, S32::load(packed + g * stride), S32::set1(Tier::kOnes));
    }
  }
};

template <class Tier, int kVectors, bool kBiased>
void attend_u8(const AttentionArgs& args, const ScratchU8<Tier>& s, int64_t first) {
  using F32 = typename Tier::F32;
  using S32 = typename Tier::S32;
  constexpr int kLanes = kVectors * S32::lanes;
  const VisibleKeys visible = visible_keys(args, first, kLanes);
  S32 largest[kVectors];
  for (int c = 0; c < kVectors; ++c) largest[c] = S32::set1(INT32_MIN);
  int64_t compared = 0;  // keys [0, compared) are in `largest`
  const auto compare = [&](int64_t row, int rows) {
    if (row + rows > visible.all) return;
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) {
      S32 m = largest[c];
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) m = max(m, S32::load(s.scores + (row + r) * kLanes + c * S32::lanes));
      largest[c] = m;
    }
    compared = row + rows;
  };
  product<Dot<Tier>, Tier::rows(kVectors), kVectors>(round_up(visible.some, 4), s.k, 1, s.keys,
                                                     args.head_dim / Tier::kDepth, s.q + first, s.queries, s.start,
                                                     s.scores, compare);
  F32 factor[kVectors];
  for (int c = 0; c < kVectors; ++c) {
    Softmax<Tier, kBiased> softmax{};
    softmax.scores = s.scores + c * S32::lanes;
    softmax.packed = s.p + c * S32::lanes;
    softmax.stride = kLanes;
    softmax.exponent_scale = F32::set1(args.exponent_scale);
    softmax.largest = largest[c];
    softmax.run(visible, compared, c * S32::lanes,
                [&](int64_t key) { return s.bias.row(args.bias, key, first + c * S32::lanes, S32::lanes); });
    factor[c] = F32::set1(args.out_scale) / to_f32(softmax.sum);
  }
  product<Dot<Tier>, Tier::rows(kVectors), kVectors>(args.head_dim, s.v, s.keys / Tier::kDepth, 1,
                                                     round_up(visible.some, Tier::kDepth) / Tier::kDepth, s.p, kLanes,
                                                     nullptr, s.out);
  const F32 zero_point = F32::set1(args.out_zero_point);
  const F32 top = F32::set1(255.0f);
  const int64_t stride = s.queries;
  const auto for_each_output = [&](auto f) {
    for (int64_t d = 0; d < args.head_dim; ++d)
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c)
        f(to_f32(S32::load(s.out + d * kLanes + c * S32::lanes)) * factor[c], d * stride + first + c * S32::lanes);
  };
  if (args.out_u8) {
    uint8_t* out = s.rows;
    for_each_output([=](F32 y, int64_t at) { min(max(y + zero_point, F32::zero()), top).store_u8(out + at); });
  } else {
    float* out = s.result;
    for_each_output([=](F32 y, int64_t at) { y.store(out + at); });
  }
}

template <class Tier, bool kBiased>
void attend_all_u8(const AttentionArgs& args, const ScratchU8<Tier>& s) {
  constexpr int kVectors = Tier::kVectors;
  constexpr int kLanes = Tier::S32::lanes;
  int64_t first = 0;
  for (; first + (kVectors - 1) * kLanes < args.q.length; first += kVectors * kLanes)
    attend_u8<Tier, kVectors, kBiased>(args, s, first);
  if constexpr (kVectors > 2)
    for (; first + kLanes < args.q.length; first += 2 * kLanes) attend_u8<Tier, 2, kBiased>(args, s, first);
  for (; first < args.q.length; first += kLanes) attend_u8<Tier, 1, kBiased>(args, s, first);
}

template <class Tier>
size_t attention_u8_scratch_bytes(int64_t q_length, int64_t k_length, int head_dim) {
  ScratchArena arena{0};
  const ScratchU8<Tier> scratch(arena, q_length, k_length, head_dim);
  return arena.next;
}

template <class Tier>
void attention_u8_run(const AttentionArgs& args) {
  ScratchArena arena{reinterpret_cast<uintptr_t>(args.scratch)};
  const ScratchU8<Tier> s(arena, args.q.length, args.k.length, args.head_dim);
  relay_u8<Tier>(args, s);
  if (args.bias.table != nullptr) {
    s.bias.spread(args.bias);
    attend_all_u8<Tier, true>(args, s);
  } else {
    attend_all_u8<Tier, false>(args, s);
  }
  if (args.out_u8) {
    scatter_u8<Tier>(s.rows, s.queries, args.head_dim, args.out);
  } else {
    scatter_f32(s.result, s.queries, args.head_dim, args.out);
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
