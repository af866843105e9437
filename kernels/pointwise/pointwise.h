// Element-wise work on f32 tiles (docs/numerics.md, sections 2 and 3). All functions treat a tile as `count` contiguous
// floats (a multiple of 16), except the dynamic quantization, which reduces along channels with lane = token.
#pragma once
#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/names.h"

namespace fastcpu {

// gelu is the exact one, x/2 (1 + erf(x / sqrt 2)); gelu_tanh its approximation, x/2 (1 + tanh(sqrt(2 / pi) (x +
// 0.044715 x^3))).
enum class Activation : int { none, relu, gelu, gelu_tanh, tanh };
constexpr Name<Activation> kActivationNames[] = {{Activation::none, "none"},
                                                 {Activation::relu, "relu"},
                                                 {Activation::gelu, "gelu"},
                                                 {Activation::gelu_tanh, "gelu_tanh"},
                                                 {Activation::tanh, "tanh"}};

struct PointwiseKernel {
  const char* name;
  Isa isa;
  void (*activate)(Activation activation, const float* x, float* out, int64_t count);  // in place is fine
  void (*add)(const float* a, const float* b, float* out, int64_t count);
  void (*quantize)(const float* x, float inv_scale, float zero_point, uint8_t* out, int64_t count);
  // x: [channels][width] -> out: [channel_stride(channels)][width] u8 with zero point 128, scale: [width].
  // Rows past `channels` get 0.
  void (*quantize_dynamic)(const float* x, int channels, int width, uint8_t* out, float* scale);
  // out[c, t] = (f32(quantize(x[c, t])) - zero_point) * scale, plus bias[c] if bias is given; [channels][width]
  void (*fake_quant)(const float* x, int channels, int width, float scale, float inv_scale, float zero_point,
                     const float* bias, float* out);
  void (*exp2)(const float* x, float* out, int64_t count);  // x <= 0; exposed for tests of the bound
};

const std::vector<const PointwiseKernel*>& pointwise_manifest();

}  // namespace fastcpu
