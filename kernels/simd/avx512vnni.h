// The vectors of the AVX-512 VNNI tier: 16 lanes. The operations and their meaning are those of simd/scalar.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fastcpu::avx512vnni {

struct S32 {
  static constexpr int lanes = 16;
  __m512i v;

  static S32 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static S32 set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
  void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
};

inline S32 operator+(S32 a, S32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline S32 operator-(S32 a, S32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline S32 max(S32 a, S32 b) { return {_mm512_max_epi32(a.v, b.v)}; }

struct F32 {
  static constexpr int lanes = 16;
  __m512 v;

  static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F32 load_u8(const uint8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))}; }
  static F32 load_s8(const int8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))}; }
  static F32 set1(float x) { return {_mm512_set1_ps(x)}; }
  static F32 zero() { return {_mm512_setzero_ps()}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_u8(uint8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))); }
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
inline F32 copysign(F32 x, F32 sign) { return {_mm512_or_ps(_mm512_abs_ps(x.v), _mm512_and_ps(sign.v, _mm512_set1_ps(-0.0f)))}; }
inline F32 rint(F32 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 replace_nan(F32 x, F32 other) { return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), x.v, other.v)}; }
inline F32 where_less(F32 a, F32 b, F32 x, F32 y) { return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)}; }
inline F32 pow2(F32 n) {
  const __m512i bits = _mm512_castps_si512(_mm512_add_ps(n.v, _mm512_set1_ps(0x1.8p23f)));
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(bits, 23), _mm512_set1_epi32(127 << 23)))};
}
inline F32 to_f32(S32 x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline S32 to_s32(F32 x) { return {_mm512_cvtps_epi32(x.v)}; }

}  // namespace fastcpu::avx512vnni
