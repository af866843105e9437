// The epilogue of gemm_u8s8 and spmm_u8s8 in portable C++.
#pragma once
#include "gemm_u8s8/gemm_u8s8.h"

namespace fastcpu::scalar {

// Rounds 0 <= y <= 255 to nearest even: in the default rounding mode the sum has no bits for a fraction.
inline float round_u8(float y) {
  constexpr float shift = 12582912.0F;  // 1.5 * 2^23
  return (y + shift) - shift;
}

// acc: the finished sums of row n; out: row 0 of the tile.
inline void store_row(const QuantEpilogue& e, int n, int width, const int32_t* acc, void* out) {
  const float mul = e.mul[n];
  const float add = e.add[n];
  if (e.store == Store::f32) {
    float* y = static_cast<float*>(out) + static_cast<int64_t>(n) * width;
    for (int t = 0; t < width; ++t) {
      float v = static_cast<float>(acc[t]) * mul;
      if (e.token_scale != nullptr) v = v * e.token_scale[t];
      y[t] = v + add;
    }
    return;
  }
  uint8_t* y = static_cast<uint8_t*>(out) + static_cast<int64_t>(n) * width;
  for (int t = 0; t < width; ++t) {
    float v = static_cast<float>(acc[t]) * mul;
    v = v + add;
    v = v < 0.0F ? 0.0F : v;
    v = v > 255.0F ? 255.0F : v;
    y[t] = static_cast<uint8_t>(static_cast<int32_t>(round_u8(v)));
  }
  if (e.store == Store::table)
    for (int t = 0; t < width; ++t) y[t] = e.table[y[t]];
}

}  // namespace fastcpu::scalar
