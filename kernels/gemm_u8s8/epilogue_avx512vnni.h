// The epilogue of gemm_u8s8 and spmm_u8s8 in AVX-512: four finished rows of one tile at a time.
//
// acc[r][c] holds 16 tokens of row n + r in *kernel order*, which is what interleaving four input rows byte-wise gives
// and what the saturating packs undo: 128-bit lane L of vector c holds tokens
//     width 64: 16 L + 4 c .. + 3       width 32: 16 (L / 2) + 4 (L % 2) + 8 c .. + 3       width 16: 4 L .. + 3
#pragma once
#include <immintrin.h>

#include "gemm_u8s8/gemm_u8s8.h"

namespace fastcpu::avx512vnni {

template <int kWidth>
using GroupSums = __m512i[4][kWidth / 16];

// Tiles of 32 and 16 tokens get into kernel order by one permutation of bytes per vector: byte i of vector c is byte
// kernel_order<kWidth>(c)[i] of four input rows that lie one after the other. Tiles of 64 get there by unpacking.
template <int kWidth>
inline __m512i kernel_order(int c) {
  constexpr int kHalf = kWidth / 2;
  const __m512i token = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, kHalf, kHalf + 1, kHalf + 2, kHalf + 3, kHalf + 4,
                                          kHalf + 5, kHalf + 6, kHalf + 7);
  const __m512i every_byte = _mm512_mullo_epi32(token, _mm512_set1_epi32(0x01010101));
  return _mm512_add_epi8(every_byte, _mm512_set1_epi32(0x03020100 * kWidth + 0x08080808 * c));
}

inline __m512 scaled(__m512i acc, __m512 mul) { return _mm512_mul_ps(_mm512_cvtepi32_ps(acc), mul); }

// From kernel order to ascending tokens.
inline void to_token_order(__m512i (&a)[4]) {
  const __m512i lanes01_of_01 = _mm512_shuffle_i64x2(a[0], a[1], 0x44);
  const __m512i lanes01_of_23 = _mm512_shuffle_i64x2(a[2], a[3], 0x44);
  const __m512i lanes23_of_01 = _mm512_shuffle_i64x2(a[0], a[1], 0xEE);
  const __m512i lanes23_of_23 = _mm512_shuffle_i64x2(a[2], a[3], 0xEE);
  a[0] = _mm512_shuffle_i64x2(lanes01_of_01, lanes01_of_23, 0x88);
  a[1] = _mm512_shuffle_i64x2(lanes01_of_01, lanes01_of_23, 0xDD);
  a[2] = _mm512_shuffle_i64x2(lanes23_of_01, lanes23_of_23, 0x88);
  a[3] = _mm512_shuffle_i64x2(lanes23_of_01, lanes23_of_23, 0xDD);
}
inline void to_token_order(__m512i (&a)[2]) {
  const __m512i low = _mm512_shuffle_i64x2(a[0], a[1], 0x44);
  a[1] = _mm512_shuffle_i64x2(a[0], a[1], 0xEE);
  a[0] = low;
}
inline void to_token_order(__m512i (&)[1]) {}

template <int kWidth>
inline void store_group_f32(const QuantEpilogue& e, int n, const GroupSums<kWidth>& acc, float* out) {
  float* y = out + static_cast<int64_t>(n) * kWidth;
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r, y += kWidth) {
    __m512i sums[kWidth / 16];
#pragma GCC unroll 4
    for (int c = 0; c < kWidth / 16; ++c) sums[c] = acc[r][c];
    to_token_order(sums);
    const __m512 mul = _mm512_set1_ps(e.mul[n + r]);
    const __m512 add = _mm512_set1_ps(e.add[n + r]);
#pragma GCC unroll 4
    for (int c = 0; c < kWidth / 16; ++c) {
      __m512 v = scaled(sums[c], mul);
      if (e.token_scale != nullptr) v = _mm512_mul_ps(v, _mm512_loadu_ps(e.token_scale + 16 * c));
      _mm512_storeu_ps(y + 16 * c, _mm512_add_ps(v, add));
    }
  }
}

// The conversion turns what is below the s32 range into its smallest value, and the packs saturate that and everything
// else below 0 to 0; only the upper end has to be clamped before it. No y is a NaN, since mul and add are finite, so
// that a minimum of the bits as integers is one of the floats: it runs on every vector pipe of Zen 5.
inline __m512i quantized(__m512i acc, __m512 mul, __m512 add) {
  const __m512 y = _mm512_add_ps(scaled(acc, mul), add);
  const __m512i limit = _mm512_castps_si512(_mm512_set1_ps(255.0F));
  return _mm512_cvtps_epi32(_mm512_castsi512_ps(_mm512_min_epi32(_mm512_castps_si512(y), limit)));
}

inline __m512i looked_up(__m512i index, const uint8_t* table) {
  const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), index, _mm512_loadu_si512(table + 64));
  const __m512i high =
      _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), index, _mm512_loadu_si512(table + 192));
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
}

// kWidth / 16 vectors of 64 results, which lie one after the other in the output: rows of 64, pairs of rows of 32, or
// four rows of 16 tokens.
inline void pack_group(const __m512i (&q)[4][4], __m512i (&packed)[4]) {
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)
    packed[r] = _mm512_packus_epi16(_mm512_packs_epi32(q[r][0], q[r][1]), _mm512_packs_epi32(q[r][2], q[r][3]));
}
inline void pack_group(const __m512i (&q)[4][2], __m512i (&packed)[2]) {
  const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15);
#pragma GCC unroll 2
  for (int r = 0; r < 2; ++r) {
    const __m512i both = _mm512_packus_epi16(_mm512_packs_epi32(q[2 * r][0], q[2 * r][1]),
                                             _mm512_packs_epi32(q[2 * r + 1][0], q[2 * r + 1][1]));
    packed[r] = _mm512_permutexvar_epi32(order, both);
  }
}
inline void pack_group(const __m512i (&q)[4][1], __m512i (&packed)[1]) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i all = _mm512_packus_epi16(_mm512_packs_epi32(q[0][0], q[1][0]), _mm512_packs_epi32(q[2][0], q[3][0]));
  packed[0] = _mm512_permutexvar_epi32(order, all);
}

template <int kWidth>
inline void store_group_u8(const QuantEpilogue& e, int n, const GroupSums<kWidth>& acc, uint8_t* out) {
  __m512i q[4][kWidth / 16];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512 mul = _mm512_set1_ps(e.mul[n + r]);
    const __m512 add = _mm512_set1_ps(e.add[n + r]);
#pragma GCC unroll 4
    for (int c = 0; c < kWidth / 16; ++c) q[r][c] = quantized(acc[r][c], mul, add);
  }
  __m512i packed[kWidth / 16];
  pack_group(q, packed);
  uint8_t* y = out + static_cast<int64_t>(n) * kWidth;
#pragma GCC unroll 4
  for (int i = 0; i < kWidth / 16; ++i)
    _mm512_storeu_si512(y + 64 * i, e.store == Store::table ? looked_up(packed[i], e.table) : packed[i]);
}

template <int kWidth>
inline void store_group(const QuantEpilogue& e, int n, const GroupSums<kWidth>& acc, void* out) {
  if (e.store == Store::f32) {
    store_group_f32<kWidth>(e, n, acc, static_cast<float*>(out));
  } else {
    store_group_u8<kWidth>(e, n, acc, static_cast<uint8_t*>(out));
  }
}

}  // namespace fastcpu::avx512vnni
