// The vectors of the AVX-512 tiers: 16 lanes. The operations and their meaning are those of simd/scalar.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fastcpu::FASTCPU_ISA_NAME {

struct S32 {
  static constexpr int lanes = 16;
  __m512i v;

  static S32 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static S32 set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
  void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
};

inline S32 operator-(S32 a, S32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline S32 max(S32 a, S32 b) { return {_mm512_max_epi32(a.v, b.v)}; }

struct F32 {
  static constexpr int lanes = 16;
  __m512 v;

  static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F32 load_s8(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static F32 load_bf16(const uint16_t* p) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(low, 16))};
  }
  static F32 set1(float x) { return {_mm512_set1_ps(x)}; }
  static F32 zero() { return {_mm512_setzero_ps()}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_u8(uint8_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  void store_bf16(uint16_t* p) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i result = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), rounded, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16)));
  }
};

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 sqrt(F32 x) { return {_mm512_sqrt_ps(x.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 abs(F32 x) { return {_mm512_abs_ps(x.v)}; }
inline F32 copysign(F32 x, F32 sign) {
  return {_mm512_or_ps(_mm512_abs_ps(x.v), _mm512_and_ps(sign.v, _mm512_set1_ps(-0.0f)))};
}
inline F32 rint(F32 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 where_nan(F32 a, F32 x, F32 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), y.v, x.v)};
}
inline F32 where_less(F32 a, F32 b, F32 x, F32 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
inline F32 pow2(F32 n) {
  const __m512i bits = _mm512_castps_si512(_mm512_add_ps(n.v, _mm512_set1_ps(0x1.8p23f)));
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(bits, 23), _mm512_set1_epi32(127 << 23)))};
}
inline F32 to_f32(S32 x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline S32 to_s32(F32 x) { return {_mm512_cvtps_epi32(x.v)}; }

// Four vectors of integers as bytes, saturated.
inline __m512i to_u8(const __m512i (&x)[4]) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order,
                                  _mm512_packus_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3])));
}

inline void store_u8(const F32 (&x)[4], uint8_t* p) {
  _mm512_storeu_si512(p, to_u8({_mm512_cvtps_epi32(x[0].v), _mm512_cvtps_epi32(x[1].v), _mm512_cvtps_epi32(x[2].v),
                                _mm512_cvtps_epi32(x[3].v)}));
}

// quantize() of simd/quantize.h short of saturation. The upper end is clamped first, since the conversion turns what is
// outside s32 into the smallest integer; as integers, since more pipes do that, and the limit is not negative.
inline __m512i quantized_s32(F32 x, F32 inv_scale, F32 zero_point) {
  constexpr int kNanToZero = 0x88;  // by class, 4 bits each: NaNs become 0, others stay
  __m512 t = _mm512_mul_ps(x.v, inv_scale.v);
  t = _mm512_fixupimm_ps(t, t, _mm512_set1_epi32(kNanToZero), 0);
  const __m512 limit = _mm512_sub_ps(_mm512_set1_ps(255.0f), zero_point.v);
  t = _mm512_castsi512_ps(_mm512_min_epi32(_mm512_castps_si512(t), _mm512_castps_si512(limit)));
  return _mm512_add_epi32(_mm512_cvtps_epi32(t), _mm512_cvtps_epi32(zero_point.v));
}

// That of simd/strips.h.
template <int N>
inline void store_quantized(const F32 (&x)[N], F32 inv_scale, F32 zero_point, uint8_t* p) {
  __m512i q[N];
  for (int i = 0; i < N; ++i) q[i] = quantized_s32(x[i], inv_scale, zero_point);
  if constexpr (N == 4) {
    _mm512_storeu_si512(p, to_u8(q));
  } else {
    for (int i = 0; i < N; ++i)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p + i * F32::lanes),
                       _mm512_cvtusepi32_epi8(_mm512_max_epi32(q[i], _mm512_setzero_si512())));
  }
}

// Row i of m becomes column i.
inline void transpose(F32 (&m)[16]) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {  // pairs of rows
    a[i] = _mm512_unpacklo_ps(m[i].v, m[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(m[i].v, m[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {  // groups of four rows: 4 x 4 blocks are transposed within each 128-bit lane
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm512_shuffle_ps(a[i + j], a[i + 2 + j], _MM_SHUFFLE(1, 0, 1, 0));
      b[i + 2 * j + 1] = _mm512_shuffle_ps(a[i + j], a[i + 2 + j], _MM_SHUFFLE(3, 2, 3, 2));
    }
  }
  for (int i = 0; i < 4; ++i) {  // the 4 x 4 matrix of 128-bit lanes
    const __m512 even_low = _mm512_shuffle_f32x4(b[i], b[4 + i], _MM_SHUFFLE(2, 0, 2, 0));
    const __m512 odd_low = _mm512_shuffle_f32x4(b[i], b[4 + i], _MM_SHUFFLE(3, 1, 3, 1));
    const __m512 even_high = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], _MM_SHUFFLE(2, 0, 2, 0));
    const __m512 odd_high = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], _MM_SHUFFLE(3, 1, 3, 1));
    m[i].v = _mm512_shuffle_f32x4(even_low, even_high, _MM_SHUFFLE(2, 0, 2, 0));
    m[4 + i].v = _mm512_shuffle_f32x4(odd_low, odd_high, _MM_SHUFFLE(2, 0, 2, 0));
    m[8 + i].v = _mm512_shuffle_f32x4(even_low, even_high, _MM_SHUFFLE(3, 1, 3, 1));
    m[12 + i].v = _mm512_shuffle_f32x4(odd_low, odd_high, _MM_SHUFFLE(3, 1, 3, 1));
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
