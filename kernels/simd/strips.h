// Cuts the width of a tile into strips of at most four vectors: enough independent chains to hide the latency of an
// addition, few enough to keep two values per vector in registers. FASTCPU_ISA_NAME is the tier's namespace.
#pragma once
#include <cstdint>

#include "simd/quantize.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <int N>
struct Vectors {
  static constexpr int count = N;
};

// Calls body(Vectors<N>(), first) for the lanes [first, first + N * V::lanes) of each strip; width is 16, 32 or 64.
template <class V, class Body>
inline void for_each_strip(int width, Body body) {
  if (width % (4 * V::lanes) == 0) {
    for (int first = 0; first < width; first += 4 * V::lanes) body(Vectors<4>(), first);
  } else if (width % (2 * V::lanes) == 0) {
    for (int first = 0; first < width; first += 2 * V::lanes) body(Vectors<2>(), first);
  } else {
    for (int first = 0; first < width; first += V::lanes) body(Vectors<1>(), first);
  }
}

// Stores the N vectors of a strip as bytes; their values lie in [0, 255].
template <class V, int N>
inline void store_strip_u8(const V (&x)[N], uint8_t* p) {
  if constexpr (N == 4) {
    store_u8(x, p);
  } else {
    for (int i = 0; i < N; ++i) x[i].store_u8(p + i * V::lanes);
  }
}

// Stores quantize(x) of the N vectors of a strip. A tier may have a way of its own.
template <class V, int N>
inline void store_quantized(const V (&x)[N], V inv_scale, V zero_point, uint8_t* p) {
  V q[N];
  for (int i = 0; i < N; ++i) q[i] = quantize(x[i], inv_scale, zero_point);
  store_strip_u8(q, p);
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
