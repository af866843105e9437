// forward and transposed multiply pairs of rows, whose lanes are interleaved in registers: vpunpck* leaves tokens in
// the order 0-3 8-11 16-19 24-27 in one vector and 4-7 12-15 20-23 28-31 in the other, and sums stay so until the end.
// sampled multiplies pairs of neighboring tokens, as they lie.
#include "simd/avx512vnni.h"
#include "simd/panel.h"
#include "simd/partial.h"
#include "sparse_linear_bf16/sparse_linear_bf16.h"

namespace fastcpu {
namespace avx512bf16 {
namespace {

__m512i load_lanes(const uint16_t* p) { return _mm512_loadu_si512(p); }
__m512 dot(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
__m512i pair(uint32_t weights) { return _mm512_set1_epi32(static_cast<int>(weights)); }

// Tokens 0-15 and 16-31 of what two interleaved vectors hold.
__m512 first_half(__m512 low, __m512 high) {
  const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  return _mm512_permutex2var_ps(low, order, high);
}
__m512 second_half(__m512 low, __m512 high) {
  const __m512i order = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  return _mm512_permutex2var_ps(low, order, high);
}

// kPieces times 32 lanes of the rows of a group.
template <int kPieces>
void forward_strip(const PairedBlocks& pairs, const uint32_t* weights, const float* bias, Bf16Panel x, int lane,
                   int group, float* out, int64_t out_stride) {
  __m512 acc[4][2 * kPieces];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < 2 * kPieces; ++i) acc[r][i] = _mm512_setzero_ps();
  const int last = pairs.begin[group + 1];
  for (int p = pairs.begin[group]; p < last; ++p) {
    const int32_t* columns = pairs.columns + 2 * static_cast<int64_t>(p);
    const uint16_t* a = x.data + columns[0] * x.stride + lane;
    const uint16_t* b = x.data + columns[1] * x.stride + lane;
    __m512i token[2 * kPieces];
#pragma GCC unroll 2
    for (int i = 0; i < kPieces; ++i) {
      const __m512i first = load_lanes(a + 32 * i), second = load_lanes(b + 32 * i);
      token[2 * i] = _mm512_unpacklo_epi16(first, second);
      token[2 * i + 1] = _mm512_unpackhi_epi16(first, second);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const __m512i weight = pair(weights[4 * static_cast<int64_t>(p) + r]);
#pragma GCC unroll 4
      for (int i = 0; i < 2 * kPieces; ++i) acc[r][i] = dot(acc[r][i], weight, token[i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512 b = _mm512_set1_ps(bias[4 * group + r]);
#pragma GCC unroll 2
    for (int i = 0; i < kPieces; ++i) {
      const __m512 low = _mm512_add_ps(acc[r][2 * i], b), high = _mm512_add_ps(acc[r][2 * i + 1], b);
      _mm512_storeu_ps(out + r * out_stride + 32 * i, first_half(low, high));
      _mm512_storeu_ps(out + r * out_stride + 32 * i + 16, second_half(low, high));
    }
  }
}

void forward(const PairedBlocks& pairs, const uint32_t* weights, const float* bias, Bf16Panel x, int width, int first,
             int last, Panel out) {
  int lane = 0;
  for (; lane + 64 <= width; lane += 64)
    for (int group = first; group < last; ++group)
      forward_strip<2>(pairs, weights, bias, x, lane, group, out.data + 4 * (group - first) * out.stride + lane,
                       out.stride);
  if (lane < width)
    for (int group = first; group < last; ++group)
      forward_strip<1>(pairs, weights, bias, x, lane, group, out.data + 4 * (group - first) * out.stride + lane,
                       out.stride);
}

template <int kPieces>
void transposed_strip(const BlockPattern& pattern, const uint32_t* weights, Bf16Panel dy, int lane, Panel dx) {
  for (int c = 0; c < pattern.k; ++c)
    for (int i = 0; i < 2 * kPieces; ++i)
      _mm512_storeu_ps(dx.data + c * dx.stride + lane + 16 * i, _mm512_setzero_ps());
  for (int group = 0; group < pattern.n / 4; ++group) {
    __m512i rows[2][2 * kPieces];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
#pragma GCC unroll 2
      for (int i = 0; i < kPieces; ++i) {
        const uint16_t* row = dy.data + (4 * group + 2 * half) * dy.stride + lane + 32 * i;
        const __m512i first = load_lanes(row), second = load_lanes(row + dy.stride);
        rows[half][2 * i] = _mm512_unpacklo_epi16(first, second);
        rows[half][2 * i + 1] = _mm512_unpackhi_epi16(first, second);
      }
    for (int block = pattern.begin[group]; block < pattern.begin[group + 1]; ++block) {
      float* out = dx.data + pattern.column[block] * dx.stride + lane;
      const __m512i front = pair(weights[2 * static_cast<int64_t>(block)]);
      const __m512i back = pair(weights[2 * static_cast<int64_t>(block) + 1]);
#pragma GCC unroll 4
      for (int i = 0; i < 2 * kPieces; ++i) {
        const __m512 sum = dot(_mm512_loadu_ps(out + 16 * i), front, rows[0][i]);
        _mm512_storeu_ps(out + 16 * i, dot(sum, back, rows[1][i]));
      }
    }
  }
  for (int c = 0; c < pattern.k; ++c)
    for (int i = 0; i < kPieces; ++i) {
      float* out = dx.data + c * dx.stride + lane + 32 * i;
      const __m512 low = _mm512_loadu_ps(out), high = _mm512_loadu_ps(out + 16);
      _mm512_storeu_ps(out, first_half(low, high));
      _mm512_storeu_ps(out + 16, second_half(low, high));
    }
}

void transposed(const BlockPattern& pattern, const uint32_t* weights, Bf16Panel dy, int width, Panel dx) {
  int lane = 0;
  for (; lane + 64 <= width; lane += 64) transposed_strip<2>(pattern, weights, dy, lane, dx);
  if (lane < width) transposed_strip<1>(pattern, weights, dy, lane, dx);
}

void sampled(const int32_t* column, int blocks, Bf16Panel x, Bf16Panel dy, int width, int group, float* dw) {
  const uint16_t* const rows = dy.data + 4 * group * dy.stride;
  for (int b = 0; b < blocks; b += 4) {
    const uint16_t* columns[4];
    for (int i = 0; i < 4; ++i)  // past the last block it once more
      columns[i] = x.data + column[b + i < blocks ? b + i : blocks - 1] * x.stride;
    F32 acc[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) acc[i] = F32::zero();
    for (int t = 0; t < width; t += 32) {
      __m512i gradient[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) gradient[r] = load_lanes(rows + r * dy.stride + t);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m512i token = load_lanes(columns[i] + t);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) acc[4 * i + r].v = dot(acc[4 * i + r].v, token, gradient[r]);
      }
    }
    transpose(acc);
#pragma GCC unroll 4
    for (int half = 8; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int i = 0; i < half; ++i) acc[i] = acc[i] + acc[i + half];
    float* out = dw + 4 * b;
    const int count = 4 * (blocks - b < 4 ? blocks - b : 4);
    store_lanes(load_first<F32>(out, count) + acc[0], out, 0, count);
  }
}

template <class As>
void load(const typename As::Element* rows, int64_t pitch, int tokens, int channels, int width, Bf16Panel out) {
  for_each_channel<F32, As>(rows, pitch, tokens, channels, width,
                            [&](F32 x, int c, int t) { x.store_bf16(out.data + c * out.stride + t); });
}

}  // namespace
}  // namespace avx512bf16

extern const SparseLinearBf16Kernel sparse_linear_bf16_avx512bf16 = {
    "sparse_linear_bf16_avx512bf16",
    Isa::avx512bf16,
    avx512bf16::forward,
    avx512bf16::transposed,
    avx512bf16::sampled,
    avx512bf16::load<avx512bf16::AsF32<avx512bf16::F32>>,
    avx512bf16::load<avx512bf16::AsBf16<avx512bf16::F32>>,
};

}  // namespace fastcpu
