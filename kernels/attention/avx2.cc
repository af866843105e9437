#include "simd/avx2.h"

#include "attention/generic_f32.h"
#include "attention/generic_u8.h"

namespace fastcpu {
namespace avx2 {
namespace {

// Bytes are widened to 16 bits, so that no product is ever added in 16 bits.
struct AttentionTier {
  using F32 = avx2::F32;
  using S32 = avx2::S32;
  using Part = uint16_t;
  using Leaf = F32;
  using Group = Pair<Leaf>;
  using IntegerGroup = Pair<S32>;
  static constexpr int kDepth = 2;
  static constexpr int kVectors = 2;
  static constexpr int rows(int) { return 4; }
  static constexpr int32_t kOnes = 0x00010001;

  static void step(S32& acc, S32 x, S32 w) { acc.v = _mm256_add_epi32(acc.v, _mm256_madd_epi16(x.v, w.v)); }

  static S32 pack(IntegerGroup p) { return {_mm256_or_si256(p.a.v, _mm256_slli_epi32(p.b.v, 16))}; }

  static void copy(const uint8_t* in, int64_t in_stride, uint8_t flip, uint8_t* out, int64_t out_stride, int rows,
                   int count) {
    for (int r = 0; r < rows; ++r, in += in_stride, out += out_stride) {
      int i = 0;
      for (; i + 32 <= count; i += 32) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                            _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(flip))));
      }
      for (; i + 8 <= count; i += 8) {
        uint64_t x = 0;
        __builtin_memcpy(&x, in + i, 8);
        x ^= flip * 0x0101010101010101u;
        __builtin_memcpy(out + i, &x, 8);
      }
      for (; i < count; ++i) out[i] = in[i] ^ flip;
    }
  }

  template <bool kSigned>
  static __m256i widen16(__m128i bytes) {
    return kSigned ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes);
  }

  template <bool kSigned>
  static void interleave(const uint8_t* rows, int channels, int64_t stride, int32_t* out) {
    for (int d = 0; d < channels; d += 2, rows += 2 * stride, out += stride)
      for (int64_t t = 0; t < stride; t += 16) {
        const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + t));
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + stride + t));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + t), widen16<kSigned>(_mm_unpacklo_epi8(a, b)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + t + 8), widen16<kSigned>(_mm_unpackhi_epi8(a, b)));
      }
  }

  static void widen(const uint8_t* rows, int64_t count, int32_t* out) {
    for (int64_t i = 0; i < count; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i / 2),
                          widen16<true>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + i))));
  }
};

}  // namespace
}  // namespace avx2

extern const AttentionKernel attention_u8_avx2 = {"attention_u8_avx2", Isa::avx2, true,
                                                  avx2::attention_u8_scratch_bytes<avx2::AttentionTier>,
                                                  avx2::attention_u8_run<avx2::AttentionTier>};

extern const AttentionKernel attention_f32_avx2 = {"attention_f32_avx2", Isa::avx2, false,
                                                   avx2::attention_f32_scratch_bytes<avx2::F32, 12, 1>,
                                                   avx2::attention_f32_run<avx2::F32, 12, 1>};

}  // namespace fastcpu
