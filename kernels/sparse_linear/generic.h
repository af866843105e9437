// The bodies of sparse_linear, compiled once per ISA file in that tier's namespace over its vector type (simd/<isa>.h).
//
// forward keeps the sums of a group's four rows, kVectors vectors wide, in registers and reads a row of x per block;
// transposed keeps the four rows of dy and adds to a row of dx per block; sampled keeps the dot products of as many
// blocks as make a square of accumulators, which is then transposed, so that all sums end in one vector.
#pragma once
#include "simd/partial.h"
#include "sparse_linear/sparse_linear.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <class V, int kVectors>
void forward_strip(const BlockPattern& pattern, const float* values, const float* bias, const float* x, int64_t stride,
                   int group, float* out, int64_t out_stride) {
  V acc[4][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) acc[r][c] = V::zero();
  const int32_t* const columns = pattern.column;
  const int last = pattern.begin[group + 1];
  for (int b = pattern.begin[group]; b < last; ++b) {
    const float* row = x + columns[b] * stride;
    V token[kVectors];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) token[c] = V::load(row + c * V::lanes);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const V weight = V::set1(values[4 * b + r]);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) acc[r][c] = fma(weight, token[c], acc[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const V b = V::set1(bias == nullptr ? 0.0f : bias[4 * group + r]);
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) (acc[r][c] + b).store(out + r * out_stride + c * V::lanes);
  }
}

// dx: the strip of all columns.
template <class V, int kVectors>
void transposed_strip(const BlockPattern& pattern, const float* values, const float* dy, int64_t stride, int group,
                      float* dx, int64_t dx_stride) {
  V row[4][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) row[r][c] = V::load(dy + (4 * group + r) * stride + c * V::lanes);
  const int last = pattern.begin[group + 1];
  for (int b = pattern.begin[group]; b < last; ++b) {
    float* out = dx + pattern.column[b] * dx_stride;
    V acc[kVectors];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) acc[c] = V::load(out + c * V::lanes);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const V weight = V::set1(values[4 * b + r]);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) acc[c] = fma(weight, row[r][c], acc[c]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) acc[c].store(out + c * V::lanes);
  }
}

template <int N>
struct Strip {
  static constexpr int vectors = N;
};

// Calls body(Strip<N>(), first lane) so that strips of at most kMost vectors, about equally wide, cover `width` lanes.
template <class V, int kMost, class Body>
void for_each_strip_up_to(int width, Body body) {
  int first = 0;
  for (int left = width / V::lanes; left > 0;) {
    const int next = left >= 2 * kMost || left == kMost ? kMost : left > kMost ? (left + 1) / 2 : left;
    switch (next) {
      case 1:
        body(Strip<1>(), first);
        break;
      case 2:
        body(Strip<2>(), first);
        break;
      case 3:
        if constexpr (kMost >= 3) body(Strip<3>(), first);
        break;
      default:
        if constexpr (kMost >= 4) body(Strip<4>(), first);
    }
    first += next * V::lanes;
    left -= next;
  }
}

template <class V, int kMost>
void sparse_forward(const BlockPattern& pattern, const float* values, const float* bias, Panel x, int width, int first,
                    int last, Panel out) {
  for_each_strip_up_to<V, kMost>(width, [&](auto strip, int lane) {
    for (int group = first; group < last; ++group)
      forward_strip<V, decltype(strip)::vectors>(pattern, values, bias, x.data + lane, x.stride, group,
                                                 out.data + 4 * (group - first) * out.stride + lane, out.stride);
  });
}

template <class V, int kMost>
void sparse_transposed(const BlockPattern& pattern, const float* values, Panel dy, int width, Panel dx) {
  const int groups = pattern.n / 4;
  for_each_strip_up_to<V, kMost>(width, [&](auto strip, int lane) {
    for (int column = 0; column < pattern.k; ++column)
      for (int c = 0; c < decltype(strip)::vectors; ++c)
        V::zero().store(dx.data + column * dx.stride + lane + c * V::lanes);
    for (int group = 0; group < groups; ++group)
      transposed_strip<V, decltype(strip)::vectors>(pattern, values, dy.data + lane, dy.stride, group, dx.data + lane,
                                                    dx.stride);
  });
}

template <class V>
void sparse_sampled(const BlockPattern& pattern, Panel x, Panel dy, int width, int group, int first, int last,
                    float* dw) {
  constexpr int kBlocks = V::lanes / 4;  // V::lanes sums at once
  constexpr int kParts = 16 / V::lanes;
  const float* const rows = dy.data + 4 * group * dy.stride;
  for (int b = first; b < last; b += kBlocks) {
    const float* columns[kBlocks];
    for (int i = 0; i < kBlocks; ++i)  // past the last block it once more
      columns[i] = x.data + pattern.column[b + i < last ? b + i : last - 1] * x.stride;
    V acc[V::lanes][kParts];
#pragma GCC unroll 16
    for (int i = 0; i < V::lanes; ++i)
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) acc[i][p] = V::zero();
    for (int t = 0; t < width; t += 16)
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const int at = t + p * V::lanes;
        V gradient[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) gradient[r] = V::load(rows + r * dy.stride + at);
#pragma GCC unroll 4
        for (int i = 0; i < kBlocks; ++i) {
          const V token = V::load(columns[i] + at);
#pragma GCC unroll 4
          for (int r = 0; r < 4; ++r) acc[4 * i + r][p] = fma(token, gradient[r], acc[4 * i + r][p]);
        }
      }
    V square[V::lanes];
#pragma GCC unroll 16
    for (int i = 0; i < V::lanes; ++i) {
#pragma GCC unroll 4
      for (int half = kParts / 2; half > 0; half /= 2)
#pragma GCC unroll 4
        for (int p = 0; p < half; ++p) acc[i][p] = acc[i][p] + acc[i][p + half];
      square[i] = acc[i][0];
    }
    transpose(square);
#pragma GCC unroll 4
    for (int half = V::lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int i = 0; i < half; ++i) square[i] = square[i] + square[i + half];
    float* out = dw + 4 * static_cast<int64_t>(b);
    const int count = 4 * (last - b < kBlocks ? last - b : kBlocks);
    store_lanes(load_first<V>(out, count) + square[0], out, 0, count);
  }
}

// How the elements of rows are read and written.
template <class V>
struct AsF32 {
  using Element = float;
  static V load(const float* p) { return V::load(p); }
  static void store(V x, float* p) { x.store(p); }
};

template <class V>
struct AsBf16 {
  using Element = uint16_t;
  static V load(const uint16_t* p) { return V::load_bf16(p); }
  static void store(V x, uint16_t* p) { x.store_bf16(p); }
};

template <class V, class As>
void panel_load(const typename As::Element* rows, int64_t pitch, int tokens, int channels, int width, Panel out) {
  using Element = typename As::Element;
  for (int t = 0; t < width; t += V::lanes) {
    for (int c = 0; c < channels; c += V::lanes) {
      const int count = channels - c < V::lanes ? channels - c : V::lanes;
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i) {
        if (t + i >= tokens) {
          square[i] = V::zero();
        } else if (count == V::lanes) {
          square[i] = As::load(rows + (t + i) * pitch + c);
        } else {
          Element part[V::lanes] = {};
          __builtin_memcpy(part, rows + (t + i) * pitch + c, static_cast<size_t>(count) * sizeof(Element));
          square[i] = As::load(part);
        }
      }
      transpose(square);
      for (int i = 0; i < count; ++i) square[i].store(out.data + (c + i) * out.stride + t);
    }
  }
}

template <class V, class As>
void panel_store(Panel in, int tokens, int channels, int64_t pitch, typename As::Element* rows) {
  using Element = typename As::Element;
  for (int t = 0; t < tokens; t += V::lanes) {
    const int real = tokens - t < V::lanes ? tokens - t : V::lanes;
    for (int c = 0; c < channels; c += V::lanes) {
      const int count = channels - c < V::lanes ? channels - c : V::lanes;
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i) square[i] = i < count ? V::load(in.data + (c + i) * in.stride + t) : V::zero();
      transpose(square);
      for (int i = 0; i < real; ++i) {
        if (count == V::lanes) {
          As::store(square[i], rows + (t + i) * pitch + c);
        } else {
          Element part[V::lanes];
          As::store(square[i], part);
          __builtin_memcpy(rows + (t + i) * pitch + c, part, static_cast<size_t>(count) * sizeof(Element));
        }
      }
    }
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
