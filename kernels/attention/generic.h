// What the u8 and f32 bodies of attention share, compiled once per ISA file in that tier's namespace: the way between
// tiles and rows in scratch, the matrix product, and which keys a block of queries sees.
#pragma once
#include "attention/attention.h"
#include "base/tile.h"

namespace fastcpu::FASTCPU_ISA_NAME {

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

template <int n>
struct Size {
  static constexpr int value = n;
};

// Hands out 64-byte aligned arrays, one after the other. What they take is next - start, from 0 if nobody reads them.
struct ScratchArena {
  uintptr_t next;

  template <class T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(next);
    next += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

// Calls f(first row's element, row stride, index of the token within the span, tokens) for each tile of a span.
template <class T, class F>
void for_each_tile(const TileSpan& span, F f) {
  for (int64_t done = 0; done < span.length;) {
    const int64_t token = span.begin + done;
    const Tile tile = tile_of(span.tiling, token);
    const int64_t lane = token - tile.begin;
    int64_t count = tile.width - lane;
    if (count > span.length - done) count = span.length - done;
    T* row = static_cast<T*>(span.base) + tile.begin * channel_stride(span.channels) +
             static_cast<int64_t>(span.channel) * tile.width + lane;
    f(row, tile.width, done, static_cast<int>(count));
    done += count;
  }
}

inline void gather_f32(const TileSpan& span, int rows, float* out, int64_t stride) {
  for_each_tile<const float>(span, [=](const float* x, int width, int64_t first, int count) {
    for (int r = 0; r < rows; ++r)
      __builtin_memcpy(out + r * stride + first, x + static_cast<int64_t>(r) * width,
                       static_cast<size_t>(count) * sizeof(float));
  });
}

inline void scatter_f32(const float* in, int64_t stride, int rows, const TileSpan& span) {
  for_each_tile<float>(span, [=](float* y, int width, int64_t first, int count) {
    for (int r = 0; r < rows; ++r)
      __builtin_memcpy(y + static_cast<int64_t>(r) * width, in + r * stride + first,
                       static_cast<size_t>(count) * sizeof(float));
  });
}

// A bias in the order in which queries lie in lanes.
class SpreadBias {
 public:
  SpreadBias(ScratchArena& arena, int64_t q_length, int64_t k_length)
      : queries_(q_length),
        keys_(k_length),
        padded_keys_(round_up(k_length, 4)),
        entries_(round_up(q_length, 64) + padded_keys_),
        spread_(arena.take<float>(entries_)) {}

  // Prepares row() for a bias; writes an entry per distance where tokens are neighbours.
  void spread(const AttentionBias& bias) const {
    if (bias.columns != nullptr) return;
    for (int64_t i = 0; i < entries_; ++i) spread_[i] = at(bias, padded_keys_ - 1 - i);
  }

  // The entries of a key, or of one that pads a block of keys, for the queries [first, first + lanes); lanes that pad
  // them have any.
  const float* row(const AttentionBias& bias, int64_t key, int64_t first, int64_t lanes) const {
    if (bias.columns == nullptr) return spread_ + padded_keys_ - 1 - key + first;
    for (int64_t i = 0; i < lanes; ++i)
      spread_[i] = key < keys_ && first + i < queries_ ? at(bias, bias.columns[key] - bias.columns[first + i]) : 0.0f;
    return spread_;
  }

 private:
  static float at(const AttentionBias& bias, int64_t distance) {
    return bias.table[bias.reach + (distance < -bias.reach  ? -bias.reach
                                    : distance > bias.reach ? bias.reach
                                                            : distance)];
  }

  int64_t queries_, keys_, padded_keys_, entries_;
  float* spread_;
};

// out[r][lane] = init[r] + sum over k of w[r * row_stride + k * depth_stride] * x[k * x_stride + lane], ascending in k,
// for kRows rows and kVectors vectors of lanes. Op: an Element, a Vector of them and a step, acc += x * w. init may be
// nullptr. Not inlined: inside product() GCC 12 keeps the accumulators of small blocks in memory.
template <class Op, int kRows, int kVectors>
__attribute__((noinline)) void product_block(const typename Op::Element* w, int64_t row_stride, int64_t depth_stride,
                                             int64_t depth, const typename Op::Element* x, int64_t x_stride,
                                             const typename Op::Element* init, typename Op::Element* out) {
  using Vector = typename Op::Vector;
  Vector acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) acc[r][c] = Vector::set1(init != nullptr ? init[r] : 0);
  for (int64_t k = 0; k < depth; ++k, w += depth_stride, x += x_stride) {
    Vector column[kVectors];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) column[c] = Vector::load(x + c * Vector::lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vector weight = Vector::set1(w[r * row_stride]);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) Op::step(acc[r][c], column[c], weight);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) acc[r][c].store(out + (r * kVectors + c) * Vector::lanes);
}

struct Nothing {
  void operator()(int64_t, int) const {}
};

// The same for any multiple of 4 rows. Calls after_block(first row, rows) while the rows of a block are still in L1.
template <class Op, int kRows, int kVectors, class F = Nothing>
void product(int64_t rows, const typename Op::Element* w, int64_t row_stride, int64_t depth_stride, int64_t depth,
             const typename Op::Element* x, int64_t x_stride, const typename Op::Element* init,
             typename Op::Element* out, F after_block = {}) {
  constexpr int kLanes = kVectors * Op::Vector::lanes;
  int64_t r = 0;
  const auto block = [&](auto size) {
    constexpr int kSize = decltype(size)::value;
    for (; r + kSize <= rows; r += kSize) {
      product_block<Op, kSize, kVectors>(w + r * row_stride, row_stride, depth_stride, depth, x, x_stride,
                                         init != nullptr ? init + r : nullptr, out + r * kLanes);
      after_block(r, kSize);
    }
  };
  block(Size<kRows>{});
  if constexpr (kRows > 8) block(Size<8>{});
  if constexpr (kRows > 4) block(Size<4>{});
  if constexpr (kRows == 6) block(Size<2>{});
}

// The number of each lane.
template <class V>
V lane_numbers(int first) {
  float lanes[V::lanes];
  for (int i = 0; i < V::lanes; ++i) lanes[i] = static_cast<float>(first + i);
  return V::load(lanes);
}

// The keys of the queries [first, first + count).
struct VisibleKeys {
  int64_t all;   // keys [0, all) take part for every query
  int64_t some;  // keys [all, some) for some of them: key j for query first + i if i >= j - diagonal
  int64_t diagonal;
};

inline VisibleKeys visible_keys(const AttentionArgs& args, int64_t first, int64_t count) {
  const int64_t keys = args.k.length;
  if (args.mask == Mask::none) return {keys, keys, keys};
  const int64_t diagonal = first + keys - args.q.length;
  const int64_t some = diagonal + count;
  return {diagonal + 1 < keys ? diagonal + 1 : keys, some < keys ? some : keys, diagonal};
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
