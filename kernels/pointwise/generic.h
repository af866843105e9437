// The element-wise kernels on the vectors of one tier (namespace FASTCPU_ISA_NAME).
#pragma once
#include "pointwise/activate.h"
#include "simd/quantize.h"
#include "simd/strips.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <class V>
void exp2_of_tile(const float* x, float* out, int64_t count) {
  map<V>(x, out, count, [](V v) { return exp2(v); });
}

template <class V>
void add(const float* a, const float* b, float* out, int64_t count) {
  for (int64_t i = 0; i < count; i += V::lanes) (V::load(a + i) + V::load(b + i)).store(out + i);
}

template <class V>
void quantize_tile(const float* x, float inv_scale, float zero_point, uint8_t* out, int64_t count) {
  const V inv = V::set1(inv_scale), zero = V::set1(zero_point);
  int64_t i = 0;
  for (; i + 4 * V::lanes <= count; i += 4 * V::lanes) {
    V q[4];
    for (int j = 0; j < 4; ++j) q[j] = quantize(V::load(x + i + j * V::lanes), inv, zero);
    store_u8(q, out + i);
  }
  for (; i < count; i += V::lanes) quantize(V::load(x + i), inv, zero).store_u8(out + i);
}

template <class V>
void quantize_dynamic_tile(const float* x, int channels, int width, uint8_t* out, float* scale) {
  for_each_strip<V>(width, [&](auto vectors, int first) {
    constexpr int N = decltype(vectors)::count;
    V maximum[N];
    for (V& m : maximum) m = V::zero();
    for (int c = 0; c < channels; ++c) {
      const float* row = x + static_cast<int64_t>(c) * width + first;
      for (int i = 0; i < N; ++i) maximum[i] = absolute_maximum(maximum[i], V::load(row + i * V::lanes));
    }
    V inverse[N];
    for (int i = 0; i < N; ++i) {
      dynamic_scale(maximum[i], inverse[i]).store(scale + first + i * V::lanes);
    }
    for (int c = 0; c < channels; ++c) {
      const int64_t row = static_cast<int64_t>(c) * width + first;
      V q[N];
      for (int i = 0; i < N; ++i) q[i] = quantize_dynamic(V::load(x + row + i * V::lanes), inverse[i]);
      store_strip_u8(q, out + row);
    }
  });
  clear_padding_rows(out, channels, width);
}

template <class V>
void fake_quant(const float* x, int channels, int width, float scale, float inv_scale, float zero_point,
                const float* bias, float* out) {
  const V step = V::set1(scale), inv = V::set1(inv_scale), zero = V::set1(zero_point);
  for (int c = 0; c < channels; ++c) {
    const int64_t row = static_cast<int64_t>(c) * width;
    for (int64_t i = row; i < row + width; i += V::lanes) {
      V y = (quantize(V::load(x + i), inv, zero) - zero) * step;
      if (bias) y = y + V::set1(bias[c]);
      y.store(out + i);
    }
  }
}

template <class V>
constexpr PointwiseKernel pointwise_kernel(const char* name, Isa isa) {
  return {name, isa, activate<V>, add<V>, quantize_tile<V>, quantize_dynamic_tile<V>, fake_quant<V>, exp2_of_tile<V>};
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
