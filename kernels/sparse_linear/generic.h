// The bodies of sparse_linear, compiled once per ISA file in that tier's namespace over its vector type (simd/<isa>.h).
//
// forward keeps the sums of a group's four rows, kVectors vectors wide, in registers and reads a row of x per block;
// transposed keeps the four rows of dy and adds to a row of dx per block; sampled keeps the dot products of as many
// blocks as make a square of accumulators, which is then transposed, so that all sums end in one vector.
#pragma once
#include "simd/panel.h"
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
    const V b = V::set1(bias[4 * group + r]);
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

// The dot products of kBlocks columns with four rows, of the tokens at [part, part + V::lanes) of every 16: one vector
// of partial sums for each.
template <class V, int kBlocks>
void sampled_part(const float* const* columns, const float* rows, int64_t stride, int width, int part,
                  V (&acc)[4 * kBlocks]) {
#pragma GCC unroll 16
  for (int i = 0; i < 4 * kBlocks; ++i) acc[i] = V::zero();
  for (int t = part; t < width; t += 16) {
    V gradient[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) gradient[r] = V::load(rows + r * stride + t);
#pragma GCC unroll 4
    for (int i = 0; i < kBlocks; ++i) {
      const V token = V::load(columns[i] + t);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) acc[4 * i + r] = fma(token, gradient[r], acc[4 * i + r]);
    }
  }
}

template <class V>
void sparse_sampled(const BlockPattern& pattern, Panel x, Panel dy, int width, int group, int first, int last,
                    float* dw) {
  constexpr int kBlocks = V::lanes / 4;  // V::lanes sums at once: the registers hold one part of them
  constexpr int kParts = 16 / V::lanes;
  const float* const rows = dy.data + 4 * group * dy.stride;
  for (int b = first; b < last; b += kBlocks) {
    const float* columns[kBlocks];
    for (int i = 0; i < kBlocks; ++i)  // past the last block it once more
      columns[i] = x.data + pattern.column[b + i < last ? b + i : last - 1] * x.stride;
    V acc[kParts][V::lanes];
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) sampled_part<V, kBlocks>(columns, rows, dy.stride, width, p * V::lanes, acc[p]);
    V square[V::lanes];
#pragma GCC unroll 16
    for (int i = 0; i < V::lanes; ++i) {
#pragma GCC unroll 4
      for (int half = kParts / 2; half > 0; half /= 2)
#pragma GCC unroll 4
        for (int p = 0; p < half; ++p) acc[p][i] = acc[p][i] + acc[p + half][i];
      square[i] = acc[0][i];
    }
    transpose(square);
#pragma GCC unroll 4
    for (int half = V::lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int i = 0; i < half; ++i) square[i] = square[i] + square[i + half];
    float* out = dw + 4 * static_cast<int64_t>(b);
    if (last - b >= kBlocks) {
      (V::load(out) + square[0]).store(out);
    } else if constexpr (kBlocks > 1) {
      const int count = 4 * (last - b);
      store_lanes(load_first<V>(out, count) + square[0], out, 0, count);
    }
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
