// The vectors of the portable tier, and the definition of what a vector type of any tier offers.
//
// Every tier <isa> has a header simd/<isa>.h with the types F32 and S32 in namespace fastcpu::<isa>; code written on
// them (simd/math.h, the generic.h of a kernel) gives the same bits on every tier. The meaning of the operations:
//   - `+ - * / sqrt fma`: IEEE 754, each rounds once, to nearest even.
//   - `min(a, b)`, `max(a, b)`: a < b ? a : b and a > b ? a : b, as minps and maxps of x86; so they give the second
//     operand if one of the two is NaN or if both are zeros.
//   - `rint`: to the nearest integer, ties to even; keeps the sign of zero, infinities and NaN.
//   - `where_nan(a, x, y)`: x where a is NaN, else y.
//   - `where_less(a, b, x, y)`: x where a < b, else y.
//   - `pow2(n)`: 2^n of an integer n in [-126, 127]; anything for other values.
//   - `to_s32`, `store_u8`: round like rint; the value must lie in the range of the target.
//   - `store_u8(x, p)` of four vectors: their values one after another.
//   - `load_s8`: `lanes` bytes, converted exactly.
//   - `load_bf16`, `store_bf16`: `lanes` upper halves of f32; stored ones are rounded to nearest even, NaN stays NaN.
// NaN results carry no particular sign or payload. Loads and stores need no alignment.
// Here a vector is four lanes in the vector extension of GCC and Clang, which any CPU can execute.
#pragma once
#include <cstdint>

namespace fastcpu::scalar {

struct S32 {
  static constexpr int lanes = 4;
  using Vector = int32_t __attribute__((vector_size(16)));
  Vector v;

  static S32 load(const int32_t* p) {
    S32 r;
    __builtin_memcpy(&r.v, p, sizeof(r.v));
    return r;
  }
  static S32 set1(int32_t x) { return {Vector{x, x, x, x}}; }
  void store(int32_t* p) const { __builtin_memcpy(p, &v, sizeof(v)); }
};

inline S32 operator-(S32 a, S32 b) { return {a.v - b.v}; }
inline S32 max(S32 a, S32 b) { return {a.v > b.v ? a.v : b.v}; }

struct F32 {
  static constexpr int lanes = 4;
  using Vector = float __attribute__((vector_size(16)));
  Vector v;

  static F32 load(const float* p) {
    F32 r;
    __builtin_memcpy(&r.v, p, sizeof(r.v));
    return r;
  }
  static F32 load_s8(const int8_t* p) {
    return {
        Vector{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])}};
  }
  static F32 load_bf16(const uint16_t* p);
  static F32 set1(float x) { return {Vector{x, x, x, x}}; }
  static F32 zero() { return set1(0.0f); }
  void store(float* p) const { __builtin_memcpy(p, &v, sizeof(v)); }
  void store_u8(uint8_t* p) const;
  void store_bf16(uint16_t* p) const;
};

inline F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
inline F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
inline F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }
inline F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
inline F32 fma(F32 a, F32 b, F32 c) {
  for (int i = 0; i < F32::lanes; ++i) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}
inline F32 sqrt(F32 x) {
  for (int i = 0; i < F32::lanes; ++i) x.v[i] = __builtin_sqrtf(x.v[i]);
  return x;
}
inline F32 min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
inline F32 max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
inline S32::Vector bits_of(F32 x) { return reinterpret_cast<S32::Vector>(x.v); }
inline F32 of_bits(S32::Vector bits) { return {reinterpret_cast<F32::Vector>(bits)}; }
inline F32 abs(F32 x) { return of_bits(bits_of(x) & INT32_MAX); }
inline F32 copysign(F32 x, F32 sign) { return of_bits((bits_of(x) & INT32_MAX) | (bits_of(sign) & INT32_MIN)); }
inline F32 where_nan(F32 a, F32 x, F32 y) { return {a.v != a.v ? x.v : y.v}; }
inline F32 where_less(F32 a, F32 b, F32 x, F32 y) { return {a.v < b.v ? x.v : y.v}; }
inline F32 rint(F32 x) {  // adding 2^23 leaves no fraction bits; a larger x has none to begin with
  const F32 limit = F32::set1(0x1p23f);
  return where_less(abs(x), limit, copysign((abs(x) + limit) - limit, x), x);
}
inline F32 pow2(F32 n) {  // n + 1.5 * 2^23 holds n in its low bits
  const auto bits = reinterpret_cast<uint32_t __attribute__((vector_size(16)))>((n + F32::set1(0x1.8p23f)).v);
  return {reinterpret_cast<F32::Vector>((bits << 23) + (127u << 23))};
}
inline F32 to_f32(S32 x) { return {__builtin_convertvector(x.v, F32::Vector)}; }
inline S32 to_s32(F32 x) { return {__builtin_convertvector(rint(x).v, S32::Vector)}; }
inline void F32::store_u8(uint8_t* p) const {  // x + 1.5 * 2^23 holds the rounded x in its low bits
  using Bytes = uint8_t __attribute__((vector_size(4)));
  const auto bytes = __builtin_convertvector(bits_of(*this + set1(0x1.8p23f)) & 255, Bytes);
  __builtin_memcpy(p, &bytes, sizeof(bytes));
}
inline void store_u8(const F32 (&x)[4], uint8_t* p) {
  for (int i = 0; i < 4; ++i) x[i].store_u8(p + i * F32::lanes);
}

inline F32 F32::load_bf16(const uint16_t* p) {
  return of_bits(S32::Vector{p[0] << 16, p[1] << 16, p[2] << 16, p[3] << 16});
}
inline void F32::store_bf16(uint16_t* p) const {
  for (int i = 0; i < lanes; ++i) {
    const auto bits = static_cast<uint32_t>(bits_of(*this)[i]);
    const uint32_t rounded = v[i] != v[i] ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u);
    p[i] = static_cast<uint16_t>(rounded >> 16);
  }
}

// Row i of m becomes column i.
inline void transpose(F32 (&m)[4]) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = m[i].v[j];
      m[i].v[j] = m[j].v[i];
      m[j].v[i] = x;
    }
  }
}

}  // namespace fastcpu::scalar
