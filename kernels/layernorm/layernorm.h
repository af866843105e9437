// Residual addition, LayerNorm and quantization of one token tile (docs/numerics.md, "layernorm").
//   h = a (+ b);  y = ((h - mean) * r) * gamma + beta;  outputs: f32 y, and u8 quantize(y), with a reciprocal scale for
//   each channel, or quantize_dynamic(y)
// The tile is read three times, a fourth time for the dynamic output. Rows C .. stride(C)-1 of the u8 output get 0.
#pragma once
#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace fastcpu {

struct LayernormArgs {
  const float* a;       // [C][width]
  const float* b;       // [C][width] or nullptr
  int channels, width;  // width 16, 32 or 64
  const float* gamma;   // [C]
  const float* beta;    // [C]
  float epsilon;
  float* out;              // [C][width] f32, or nullptr; may be a or b
  uint8_t* out_u8;         // [stride(C)][width] or nullptr
  const float* inv_scale;  // [C] of the static u8 output, or nullptr
  float zero_point;
  float* dynamic_scale;  // [width]: not nullptr selects the dynamic u8 output
  float* scratch;        // [C][width], needed when out is nullptr and b or dynamic_scale is given
};

struct LayernormKernel {
  const char* name;
  Isa isa;
  void (*run)(const LayernormArgs& args);
};

const std::vector<const LayernormKernel*>& layernorm_manifest();

}  // namespace fastcpu
