#include "simd/avx512vnni.h"

#include "attention/generic_f32.h"
#include "attention/generic_u8.h"

namespace fastcpu {
namespace avx512vnni {
namespace {

// An F32 on which exp2 takes few operations, in the order in which it is written: GCC would undo the pairs.
struct Exponent {
  struct PowerOfTwo {
    __m512 n;
  };
  __m512 v;

  static Exponent in_order(__m512 v) {
    asm volatile("" : "+v"(v));
    return {v};
  }
  static Exponent set1(float x) { return {_mm512_set1_ps(x)}; }
  friend Exponent operator+(Exponent a, Exponent b) { return in_order(_mm512_add_ps(a.v, b.v)); }
  friend Exponent operator-(Exponent a, Exponent b) { return in_order(_mm512_sub_ps(a.v, b.v)); }
  friend Exponent operator*(Exponent a, Exponent b) { return in_order(_mm512_mul_ps(a.v, b.v)); }
  friend Exponent operator*(Exponent a, PowerOfTwo p) { return in_order(_mm512_scalef_ps(a.v, p.n)); }
  friend Exponent max(Exponent a, Exponent b) { return in_order(_mm512_max_ps(a.v, b.v)); }
  friend Exponent rint(Exponent x) { return in_order(avx512vnni::rint(F32{x.v}).v); }
  friend PowerOfTwo pow2(Exponent n) { return {n.v}; }
  friend S32 to_s32(Exponent x) { return {_mm512_cvtps_epi32(x.v)}; }
};

struct AttentionTier {
  using F32 = avx512vnni::F32;
  using S32 = avx512vnni::S32;
  using Part = uint8_t;
  using Leaf = Exponent;
  using Group = Pair<Pair<Leaf>>;
  using IntegerGroup = Pair<Pair<S32>>;
  static constexpr int kDepth = 4;
  static constexpr int kVectors = 4;
  static constexpr int rows(int vectors) { return vectors == 4 ? 6 : 12; }
  static constexpr int32_t kOnes = 0x01010101;

  // GCC 12 spills the accumulators of the intrinsic.
  static void step(S32& acc, S32 x, S32 w) { asm("vpdpbusd %2, %1, %0" : "+v"(acc.v) : "v"(x.v), "v"(w.v)); }

  static S32 pack(IntegerGroup p) {
    constexpr int kOr = 0xFE;  // of three operands
    const __m512i low =
        _mm512_ternarylogic_epi32(p.a.a.v, _mm512_slli_epi32(p.a.b.v, 8), _mm512_slli_epi32(p.b.a.v, 16), kOr);
    return {_mm512_or_si512(low, _mm512_slli_epi32(p.b.b.v, 24))};
  }

  static void copy(const uint8_t* in, int64_t in_stride, uint8_t flip, uint8_t* out, int64_t out_stride, int rows,
                   int count) {
    const __m512i flips = _mm512_set1_epi8(static_cast<char>(flip));
    const __mmask64 mask = ~uint64_t{0} >> (64 - count);
    for (int r = 0; r < rows; ++r, in += in_stride, out += out_stride)
      _mm512_mask_storeu_epi8(out, mask, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, in), flips));
  }

  // Four rows of 64 tokens: dwords are moved first so that the two unpackings, which stay within 128 bits, end in
  // order.
  template <bool kSigned>
  static void interleave(const uint8_t* rows, int channels, int64_t stride, int32_t* out) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int d = 0; d < channels; d += 4, rows += 4 * stride, out += stride)
      for (int64_t t = 0; t < stride; t += 64) {
        __m512i row[4];
        for (int i = 0; i < 4; ++i) row[i] = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(rows + i * stride + t));
        const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]), high01 = _mm512_unpackhi_epi8(row[0], row[1]);
        const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]), high23 = _mm512_unpackhi_epi8(row[2], row[3]);
        _mm512_storeu_si512(out + t, _mm512_unpacklo_epi16(low01, low23));
        _mm512_storeu_si512(out + t + 16, _mm512_unpackhi_epi16(low01, low23));
        _mm512_storeu_si512(out + t + 32, _mm512_unpacklo_epi16(high01, high23));
        _mm512_storeu_si512(out + t + 48, _mm512_unpackhi_epi16(high01, high23));
      }
  }
};

}  // namespace
}  // namespace avx512vnni

extern const AttentionKernel attention_u8_avx512vnni = {
    "attention_u8_avx512vnni", Isa::avx512vnni, true, avx512vnni::attention_u8_scratch_bytes<avx512vnni::AttentionTier>,
    avx512vnni::attention_u8_run<avx512vnni::AttentionTier>};

extern const AttentionKernel attention_f32_avx512vnni = {
    "attention_f32_avx512vnni", Isa::avx512vnni, false, avx512vnni::attention_f32_scratch_bytes<avx512vnni::F32, 12, 2>,
    avx512vnni::attention_f32_run<avx512vnni::F32, 12, 2>};

}  // namespace fastcpu
