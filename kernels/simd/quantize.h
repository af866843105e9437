// quantize and quantize_dynamic of docs/numerics.md on the F32 of a tier. FASTCPU_ISA_NAME is the tier's namespace.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/tile.h"

namespace fastcpu::FASTCPU_ISA_NAME {

// quantize(x) as a whole f32, ready for store_u8.
template <class V>
inline V quantize(V x, V inv_scale, V zero_point) {
  V t = x * inv_scale;
  t = where_nan(t, V::zero(), t);
  t = min(max(t, V::zero() - zero_point), V::set1(255.0f) - zero_point);
  return rint(t) + zero_point;
}

// The running maximum of abs(x) that starts at 0; a NaN element is skipped.
template <class V>
inline V absolute_maximum(V maximum, V x) {
  return max(abs(x), maximum);
}

// The scale of a dynamic quantization and its inverse, from the absolute maximum.
template <class V>
inline V dynamic_scale(V maximum, V& inverse) {
  const V one = V::set1(1.0f), steps = V::set1(127.0f), largest = V::set1(0x1.fffffep127f);
  const V divisor =
      where_less(largest, maximum, V::zero(), maximum);  // 0: neither a scale of 0 nor one that is infinite
  inverse = where_less(V::zero(), divisor, steps / divisor, one);
  return where_less(V::zero(), divisor, divisor / steps, one);
}

// quantize_dynamic(x) short of its last rounding, ready for store_u8.
template <class V>
inline V quantize_dynamic(V x, V inverse) {
  V t = x * inverse;
  t = where_nan(t, V::zero(), t);
  t = min(max(t, V::set1(-127.0f)), V::set1(127.0f));
  return rint(t) + V::set1(128.0f);
}

// Rows [channels, channel_stride(channels)) of a u8 tile: no kernel reads a meaning from them, so they get a fixed
// value.
inline void clear_padding_rows(uint8_t* tile, int channels, int width) {
  __builtin_memset(tile + static_cast<int64_t>(channels) * width, 0,
                   static_cast<size_t>((channel_stride(channels) - channels) * width));
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
