// The inner step and the epilogue of gemm_u8s8 and spmm_u8s8 in AVX2: four rows x 16 tokens at a time.
//
// vpmaddubsw would saturate, so inputs are widened to u16 and weights, when they are packed, to s16; vpmaddwd adds the
// two products of a pair of k in 32 bits. acc[r][c] holds tokens 8 c .. 8 c + 7 of row r.
#pragma once
#include <immintrin.h>

#include "gemm_u8s8/gemm_u8s8.h"

namespace fastcpu::avx2 {

constexpr int kSliceWidth = 16;

using SliceSums = __m256i[4][2];

inline void start_slice(const int32_t* init, SliceSums& acc) {
  for (int r = 0; r < 4; ++r) acc[r][0] = acc[r][1] = _mm256_set1_epi32(init[r]);
}

// A pair of input rows as 2 vectors of 8 tokens x 2 k.
inline void widen_pair(const uint8_t* row0, const uint8_t* row1, __m256i (&x)[2]) {
  const __m128i r0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row0));
  const __m128i r1 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row1));
  x[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(r0, r1));
  x[1] = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(r0, r1));
}

// In assembly because GCC 12 moves all multiplications of dot_pair() in front of the additions and then spills a sum.
inline void multiply_add(__m256i x, __m256i w, __m256i& acc) {
  __m256i products;
  asm("vpmaddwd %2, %3, %1\n\t"
      "vpaddd %1, %0, %0"
      : "+x"(acc), "=&x"(products)
      : "x"(x), "x"(w));
}

// w: [4 rows][2 k].
inline void dot_pair(const __m256i (&x)[2], const int16_t (&w)[4][2], SliceSums& acc) {
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m256i weight = _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(w[r])));
    multiply_add(x[0], weight, acc[r][0]);
    multiply_add(x[1], weight, acc[r][1]);
  }
}

inline __m256 scaled(__m256i acc, float mul) { return _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_set1_ps(mul)); }

inline __m256i quantized(__m256i acc, float mul, float add) {
  const __m256 y = _mm256_add_ps(scaled(acc, mul), _mm256_set1_ps(add));
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(y, _mm256_setzero_ps()), _mm256_set1_ps(255.0F)));
}

// Rows [n, n + 4), tokens [t, t + 16).
inline void store_slice(const QuantEpilogue& e, int n, int t, int width, const SliceSums& acc, void* out) {
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const float mul = e.mul[n + r];
    const float add = e.add[n + r];
    const int64_t first = static_cast<int64_t>(n + r) * width + t;
    if (e.store == Store::f32) {
      float* y = static_cast<float*>(out) + first;
      for (int c = 0; c < 2; ++c) {
        __m256 v = scaled(acc[r][c], mul);
        if (e.token_scale != nullptr) v = _mm256_mul_ps(v, _mm256_loadu_ps(e.token_scale + t + 8 * c));
        _mm256_storeu_ps(y + 8 * c, _mm256_add_ps(v, _mm256_set1_ps(add)));
      }
      continue;
    }
    uint8_t* y = static_cast<uint8_t*>(out) + first;
    const __m256i words = _mm256_packs_epi32(quantized(acc[r][0], mul, add), quantized(acc[r][1], mul, add));
    const __m256i bytes = _mm256_packus_epi16(_mm256_permute4x64_epi64(words, 0xD8), _mm256_setzero_si256());
    const __m256i row = _mm256_permute4x64_epi64(bytes, 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(row));
    if (e.store == Store::table)
      for (int i = 0; i < kSliceWidth; ++i) y[i] = e.table[y[i]];
  }
}

}  // namespace fastcpu::avx2
