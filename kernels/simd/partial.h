// Loads and stores of fewer values than a vector has lanes. FASTCPU_ISA_NAME is the tier's namespace.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastcpu::FASTCPU_ISA_NAME {

// The lanes past `count` are 0.
template <class V>
inline V load_first(const float* p, int count) {
  if (count >= V::lanes) return V::load(p);
  float lanes[V::lanes] = {};
  __builtin_memcpy(lanes, p, static_cast<size_t>(count) * sizeof(float));
  return V::load(lanes);
}

template <class V>
inline V load_first_s8(const int8_t* p, int count) {
  if (count >= V::lanes) return V::load_s8(p);
  int8_t lanes[V::lanes] = {};
  __builtin_memcpy(lanes, p, static_cast<size_t>(count));
  return V::load_s8(lanes);
}

// Stores lanes [first, last) of x to p[first..last).
template <class V>
inline void store_lanes(V x, float* p, int first, int last) {
  if (first == 0 && last == V::lanes) return x.store(p);
  float lanes[V::lanes];
  x.store(lanes);
  __builtin_memcpy(p + first, lanes + first, static_cast<size_t>(last - first) * sizeof(float));
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
