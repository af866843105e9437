// The activations on the vectors of one tier (namespace FASTCPU_ISA_NAME).
#pragma once
#include "pointwise/pointwise.h"
#include "simd/math.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <class V, class Function>
inline void map(const float* x, float* out, int64_t count, Function function) {
  for (int64_t i = 0; i < count; i += V::lanes) function(V::load(x + i)).store(out + i);
}

// In place is fine.
template <class V>
void activate(Activation activation, const float* x, float* out, int64_t count) {
  switch (activation) {
    case Activation::none:
      return map<V>(x, out, count, [](V v) { return v; });
    case Activation::relu:
      return map<V>(x, out, count, [](V v) { return relu(v); });
    case Activation::gelu:
      return map<V>(x, out, count, [](V v) { return gelu(v); });
    case Activation::gelu_tanh:
      return map<V>(x, out, count, [](V v) { return gelu_tanh(v); });
    case Activation::tanh:
      return map<V>(x, out, count, [](V v) { return tanh(v); });
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
