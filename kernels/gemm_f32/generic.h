// The body of gemm_f32, compiled once per ISA file in that tier's namespace over its vector type (simd/<isa>.h).
//
// Packed weights: [stride(N) / 4][K][4], zeros past N. A block is kGroups groups of 4 rows times kVectors vectors of
// tokens. Three groups times two AVX-512 vectors keep 24 accumulators, and a row of x is read for 12 rows at once, so
// that x, which does not fit into L1, may stream from L2 and the weights from L3.
#pragma once
#include "base/tile.h"
#include "gemm_f32/gemm_f32.h"
#include "pointwise/activate.h"

namespace fastcpu::FASTCPU_ISA_NAME {

inline size_t gemm_f32_packed_bytes(int n, int k) {
  return static_cast<size_t>(channel_stride(n)) * static_cast<size_t>(k) * sizeof(float);
}

inline void gemm_f32_pack(int n, int k, const float* w, void* packed) {
  float* out = static_cast<float*>(packed);
  for (int n0 = 0; n0 < n; n0 += 4)
    for (int i = 0; i < k; ++i)
      for (int r = n0; r < n0 + 4; ++r) *out++ = r < n ? w[static_cast<int64_t>(r) * k + i] : 0.0f;
}

// x, out: the first of kVectors vectors of the tile; w: the first group.
template <class V, int kGroups, int kVectors>
void gemm_f32_block(const float* x, int k, int width, const float* w, const float* bias, float* out) {
  constexpr int kRows = 4 * kGroups;
  const int64_t group = static_cast<int64_t>(k) * 4;
  V acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) acc[r][c] = V::zero();
  for (int i = 0; i < k; ++i, x += width, w += 4) {
    V column[kVectors];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) column[c] = V::load(x + c * V::lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V weight = V::set1(w[r / 4 * group + r % 4]);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) acc[r][c] = fma(weight, column[c], acc[r][c]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const V b = V::set1(bias[r]);
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) (acc[r][c] + b).store(out + r * width + c * V::lanes);
  }
}

template <class V, int kGroups, int kVectors>
void gemm_f32_rows(const GemmF32Args& args, int n) {
  const float* w = static_cast<const float*>(args.weights) + static_cast<int64_t>(n) * args.k;
  float* out = args.out + static_cast<int64_t>(n) * args.width;
  for (int t = 0; t < args.width; t += kVectors * V::lanes)
    gemm_f32_block<V, kGroups, kVectors>(args.x + t, args.k, args.width, w, args.bias + n, out + t);
  if (args.activation != Activation::none)  // these rows are still in L1
    activate<V>(args.activation, out, out, int64_t{4 * kGroups} * args.width);
}

template <class V, int kMaxGroups, int kVectors>
void gemm_f32_range(const GemmF32Args& args) {
  int n = args.n_begin;
  for (; n + 4 * kMaxGroups <= args.n_end; n += 4 * kMaxGroups) gemm_f32_rows<V, kMaxGroups, kVectors>(args, n);
  if constexpr (kMaxGroups > 2)
    for (; n + 8 <= args.n_end; n += 8) gemm_f32_rows<V, 2, kVectors>(args, n);
  for (; n < args.n_end; n += 4) gemm_f32_rows<V, 1, kVectors>(args, n);
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
