// The vectors of the AVX2 tier: 8 lanes. The operations and their meaning are those of simd/scalar.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fastcpu::avx2 {

struct S32 {
  static constexpr int lanes = 8;
  __m256i v;

  static S32 load(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
  static S32 set1(int32_t x) { return {_mm256_set1_epi32(x)}; }
  void store(int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};

inline S32 operator-(S32 a, S32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
inline S32 max(S32 a, S32 b) { return {_mm256_max_epi32(a.v, b.v)}; }

struct F32 {
  static constexpr int lanes = 8;
  __m256 v;

  static F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F32 load_s8(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static F32 load_bf16(const uint16_t* p) {
    const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16))};
  }
  static F32 set1(float x) { return {_mm256_set1_ps(x)}; }
  static F32 zero() { return {_mm256_setzero_ps()}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_u8(uint8_t* p) const {
    const __m256i q = _mm256_cvtps_epi32(v);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  void store_bf16(uint16_t* p) const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i result = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words);
  }
};

inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 sqrt(F32 x) { return {_mm256_sqrt_ps(x.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F32 abs(F32 x) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v)}; }
inline F32 copysign(F32 x, F32 sign) { return {_mm256_or_ps(abs(x).v, _mm256_and_ps(sign.v, _mm256_set1_ps(-0.0f)))}; }
inline F32 rint(F32 x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 where_nan(F32 a, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q))};
}
inline F32 where_less(F32 a, F32 b, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
inline F32 pow2(F32 n) {
  const __m256i bits = _mm256_castps_si256(_mm256_add_ps(n.v, _mm256_set1_ps(0x1.8p23f)));
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(bits, 23), _mm256_set1_epi32(127 << 23)))};
}
inline F32 to_f32(S32 x) { return {_mm256_cvtepi32_ps(x.v)}; }
inline S32 to_s32(F32 x) { return {_mm256_cvtps_epi32(x.v)}; }

inline void store_u8(const F32 (&x)[4], uint8_t* p) {
  const __m256i low = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0].v), _mm256_cvtps_epi32(x[1].v));
  const __m256i high = _mm256_packs_epi32(_mm256_cvtps_epi32(x[2].v), _mm256_cvtps_epi32(x[3].v));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
}

// Row i of m becomes column i.
inline void transpose(F32 (&m)[8]) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {  // pairs of rows
    a[i] = _mm256_unpacklo_ps(m[i].v, m[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(m[i].v, m[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {  // groups of four rows: 4 x 4 blocks are transposed within each 128-bit lane
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], _MM_SHUFFLE(1, 0, 1, 0));
      b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], _MM_SHUFFLE(3, 2, 3, 2));
    }
  }
  for (int i = 0; i < 4; ++i) {  // the 2 x 2 matrix of 128-bit lanes
    m[i].v = _mm256_permute2f128_ps(b[i], b[4 + i], 0x20);
    m[4 + i].v = _mm256_permute2f128_ps(b[i], b[4 + i], 0x31);
  }
}

}  // namespace fastcpu::avx2
