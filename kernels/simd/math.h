// Functions of f32 vectors, written once for the F32 of every tier (simd/scalar.h). FASTCPU_ISA_NAME is the tier's
// namespace. Every step is a separate multiplication or addition, never a fused one, so that all tiers give the same
// bits. The error bounds are in docs/numerics.md, section 5.
#pragma once

namespace fastcpu::FASTCPU_ISA_NAME {

// 2^t for t <= 0, at least 2^-126; NaN gives NaN, 0 gives exactly 1.
template <class V>
inline V exp2(V t) {
  t = max(V::set1(-126.0f), t);
  const V n = rint(t);
  const V f = t - n;
  V y = V::set1(0x1.5bda58p-10f);
  y = y * f + V::set1(0x1.3ce8aep-7f);
  y = y * f + V::set1(0x1.c6b6d8p-5f);
  y = y * f + V::set1(0x1.ebf9c2p-3f);
  y = y * f + V::set1(0x1.62e42ap-1f);
  y = y * f + V::set1(1.0f);
  return y * pow2(n);
}

// max(x, 0); NaN stays NaN.
template <class V>
inline V relu(V x) {
  return max(V::zero(), x);
}

// x Phi(x) = x/2 (1 + erf(x / sqrt 2)) = max(x, 0) - z Q(z) with z = |x| and the upper tail Q(z) = 2^(-z^2 log2(e) / 2)
// R(z). R is a polynomial in s = 1 / (1 + 0.3 z). Past z = 13 the tail is below 2^-121 and is held there, which keeps
// infinities and subnormals out of the product.
template <class V>
inline V gelu(V x) {
  const V z = min(abs(x), V::set1(13.0f));
  const V s = V::set1(1.0f) / (V::set1(1.0f) + z * V::set1(0.3f));
  V r = V::set1(0x1.2ffd62p-5f);
  r = r * s + V::set1(-0x1.4de056p-3f);
  r = r * s + V::set1(0x1.ba86e2p-3f);
  r = r * s + V::set1(-0x1.fe40b2p-5f);
  r = r * s + V::set1(0x1.10256p-3f);
  r = r * s + V::set1(0x1.943e02p-4f);
  r = r * s + V::set1(0x1.ef56p-4f);
  r = r * s + V::set1(0x1.e9f5d4p-4f);
  const V tail = exp2((z * z) * V::set1(-0.72134752f)) * (r * s);
  return relu(x) - z * tail;
}

// x/2 (1 + tanh(u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), which is max(x, 0) - z e / (1 + e) with z = |x| and
// e = 2^(-2 |u| log2(e)). Past z = 13 the tail is below 2^-121.
template <class V>
inline V gelu_tanh(V x) {
  const V z = min(abs(x), V::set1(13.0f));
  const V e = exp2(z * (V::set1(-2.3022082f) + (z * z) * V::set1(-0.10294324f)));
  return relu(x) - z * (e / (V::set1(1.0f) + e));
}

// (1 - e) / (1 + e) with e = 2^(-2 |x| log2(e)); below 5/8 the odd polynomial x + x^3 P(x^2), which keeps the relative
// precision of small x.
template <class V>
inline V tanh(V x) {
  const V z = abs(x);
  const V e = exp2(z * V::set1(-2.8853901f));
  const V one = V::set1(1.0f);
  const V large = (one - e) / (one + e);
  const V u = x * x;
  V p = V::set1(-0x1.76922ap-8f);
  p = p * u + V::set1(0x1.52509ep-6f);
  p = p * u + V::set1(-0x1.b8434p-5f);
  p = p * u + V::set1(0x1.11076p-3f);
  p = p * u + V::set1(-0x1.555534p-2f);
  const V small = x + (x * u) * p;
  return where_less(z, V::set1(0.625f), small, copysign(large, x));
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
