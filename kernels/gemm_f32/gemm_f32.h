// Dense f32 matrix product of one token tile (docs/numerics.md, "linear, f32 input"):
//   acc = 0; for k ascending: acc = fma(w[n, k], x[k, t], acc);   out[n, t] = activation(acc + bias[n])
// One accumulator per result and ascending k: the same bits on every ISA. Layouts as in gemm_u8s8.h, with f32 rows.
// Rows N .. stride(N)-1 of the output are written (as activation(0)).
#pragma once
#include <cstddef>
#include <vector>

#include "base/isa.h"
#include "base/tile.h"
#include "pointwise/pointwise.h"

namespace fastcpu {

struct GemmF32Args {
  const float* x;  // [stride(K)][width]
  int k, width;
  const void* weights;  // what pack() wrote
  const float* bias;    // [stride(N)]
  int n_begin, n_end;   // multiples of 4, n_end <= stride(N)
  Activation activation;
  float* out;  // row 0 of the tile
};

struct GemmF32Kernel {
  const char* name;
  Isa isa;
  TileCosts costs;
  size_t (*packed_bytes)(int n, int k);
  void (*pack)(int n, int k, const float* w, void* packed);  // w: row-major [N, K]; packed: 64-byte aligned
  void (*run)(const GemmF32Args& args);
};

const std::vector<const GemmF32Kernel*>& gemm_f32_manifest();

}  // namespace fastcpu
