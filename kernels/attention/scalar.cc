#include "simd/scalar.h"

#include "attention/generic_f32.h"
#include "attention/generic_u8.h"

namespace fastcpu {
namespace scalar {
namespace {

struct AttentionTier {
  using F32 = scalar::F32;
  using S32 = scalar::S32;
  using Part = uint16_t;
  using Leaf = F32;
  using Group = Pair<Leaf>;
  using IntegerGroup = Pair<S32>;
  static constexpr int kDepth = 2;
  static constexpr int kVectors = 1;
  static constexpr int rows(int) { return 4; }
  static constexpr int32_t kOnes = 0x00010001;

  static void step(S32& acc, S32 x, S32 w) {  // halves: x unsigned, w signed
    acc.v += (x.v & 0xFFFF) * ((w.v << 16) >> 16) + (x.v >> 16) * (w.v >> 16);
  }
  static S32 pack(IntegerGroup p) { return {p.a.v | p.b.v << 16}; }

  static void copy(const uint8_t* in, int64_t in_stride, uint8_t flip, uint8_t* out, int64_t out_stride, int rows,
                   int count) {
    for (int r = 0; r < rows; ++r, in += in_stride, out += out_stride)
      for (int i = 0; i < count; ++i) out[i] = in[i] ^ flip;
  }

  static int32_t pair(int32_t low, int32_t high) {
    return static_cast<int32_t>(static_cast<uint32_t>(high) << 16 | (static_cast<uint32_t>(low) & 0xFFFFu));
  }

  template <bool kSigned>
  static int32_t value(uint8_t byte) {
    return kSigned ? static_cast<int8_t>(byte) : byte;
  }

  template <bool kSigned>
  static void interleave(const uint8_t* rows, int channels, int64_t stride, int32_t* out) {
    for (int d = 0; d < channels; d += 2, rows += 2 * stride, out += stride)
      for (int64_t t = 0; t < stride; ++t) out[t] = pair(value<kSigned>(rows[t]), value<kSigned>(rows[stride + t]));
  }

  static void widen(const uint8_t* rows, int64_t count, int32_t* out) {
    for (int64_t i = 0; i < count; i += 2) out[i / 2] = pair(value<true>(rows[i]), value<true>(rows[i + 1]));
  }
};

}  // namespace
}  // namespace scalar

extern const AttentionKernel attention_u8_scalar = {"attention_u8_scalar", Isa::scalar, true,
                                                    scalar::attention_u8_scratch_bytes<scalar::AttentionTier>,
                                                    scalar::attention_u8_run<scalar::AttentionTier>};

extern const AttentionKernel attention_f32_scalar = {"attention_f32_scalar", Isa::scalar, false,
                                                     scalar::attention_f32_scratch_bytes<scalar::F32, 4, 2>,
                                                     scalar::attention_f32_run<scalar::F32, 4, 2>};

}  // namespace fastcpu
