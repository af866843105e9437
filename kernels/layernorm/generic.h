// LayerNorm on the vectors of one tier (namespace FASTCPU_ISA_NAME): sum, squared deviations and output are one pass
// each over a strip of lanes; the dynamic output is a fourth, since its scale needs all of y.
#pragma once
#include "layernorm/layernorm.h"
#include "simd/quantize.h"
#include "simd/strips.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <class V, int N>
inline void layernorm_strip(const LayernormArgs& args, int first) {
  constexpr int L = V::lanes;
  const int64_t width = args.width;
  const int64_t end = args.channels * width + first;
  const float* h = args.a;
  float* y = args.out ? args.out : args.scratch;

  V sum[N];
  for (V& s : sum) s = V::zero();
  if (args.b) {
    for (int64_t row = first; row < end; row += width) {
      for (int i = 0; i < N; ++i) {
        const V x = V::load(args.a + row + i * L) + V::load(args.b + row + i * L);
        x.store(y + row + i * L);
        sum[i] = sum[i] + x;
      }
    }
    h = y;
  } else {
    for (int64_t row = first; row < end; row += width) {
      for (int i = 0; i < N; ++i) sum[i] = sum[i] + V::load(h + row + i * L);
    }
  }

  const V channels = V::set1(static_cast<float>(args.channels));
  V mean[N], r[N];
  for (int i = 0; i < N; ++i) {
    mean[i] = sum[i] / channels;
    sum[i] = V::zero();
  }
  for (int64_t row = first; row < end; row += width) {
    for (int i = 0; i < N; ++i) {
      const V d = V::load(h + row + i * L) - mean[i];
      sum[i] = sum[i] + d * d;
    }
  }
  for (int i = 0; i < N; ++i) r[i] = V::set1(1.0f) / sqrt(sum[i] / channels + V::set1(args.epsilon));

  // Backwards, because the last rows are still in L1.
  const bool dynamic = args.dynamic_scale;
  const V zero_point = V::set1(args.zero_point);
  V maximum[N];
  for (V& m : maximum) m = V::zero();
  for (int c = args.channels - 1; c >= 0; --c) {
    const int64_t row = c * width + first;
    const V gamma = V::set1(args.gamma[c]), beta = V::set1(args.beta[c]);
    V x[N];
    for (int i = 0; i < N; ++i) {
      x[i] = ((V::load(h + row + i * L) - mean[i]) * r[i]) * gamma + beta;
      if (args.out || dynamic) x[i].store(y + row + i * L);
      if (dynamic) maximum[i] = absolute_maximum(maximum[i], x[i]);
    }
    if (args.out_u8 && !dynamic) {
      store_quantized(x, V::set1(args.inv_scale[c]), zero_point, args.out_u8 + row);
    }
  }
  if (!dynamic) return;

  V inverse[N];
  for (int i = 0; i < N; ++i) dynamic_scale(maximum[i], inverse[i]).store(args.dynamic_scale + first + i * L);
  for (int64_t row = first; row < end; row += width) {
    V x[N];
    for (int i = 0; i < N; ++i) x[i] = quantize_dynamic(V::load(y + row + i * L), inverse[i]);
    store_strip_u8(x, args.out_u8 + row);
  }
}

template <class V>
void layernorm(const LayernormArgs& args) {
  for_each_strip<V>(args.width,
                    [&](auto vectors, int first) { layernorm_strip<V, decltype(vectors)::count>(args, first); });
  if (args.out_u8) clear_padding_rows(args.out_u8, args.channels, args.width);
}

template <class V>
constexpr LayernormKernel layernorm_kernel(const char* name, Isa isa) {
  return {name, isa, layernorm<V>};
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
