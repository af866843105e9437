// Dense u8 x s8 matrix product of one token tile, with the epilogue of a quantized linear
// (docs/numerics.md, section 3).
//
//   acc[n, t] = init[n] + sum_k w[n, k] * x[k, t]                      s32, exact, 0 <= t < tokens
//   y = f32(acc) * mul[n];  if token_scale: y = y * token_scale[t];  y = y + add[n]
//   f32 store:   out[n, t] = y
//   u8 store:    out[n, t] = u8(rint(min(max(y, 0), 255)))
//   table store: out[n, t] = table[that]
//
// x and out are tiles (base/tile.h): row k starts at x + k * width; row n of the output at out + n * width elements.
// Both bases are 16-byte aligned, 64-byte aligned when width is 64. Weights are packed once per ISA variant. The caller
// owns memory and threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/isa.h"
#include "base/tile.h"

namespace fastcpu {

enum class Store : int { f32, u8, table };

// Shared by the dense and the block-sparse kernel.
struct QuantEpilogue {
  const int32_t* init;       // [stride(N)] start of the accumulators: zero-point correction plus an s32 bias
  const float* mul;          // [stride(N)] finite
  const float* add;          // [stride(N)] finite
  const float* token_scale;  // [width] scale per token of a dynamic input, or nullptr; only with Store::f32
  const uint8_t* table;      // [256], only with Store::table
  Store store;
};
// The arrays of an epilogue have stride(N) = N rounded up to a multiple of 4 entries, and so has the output: rows N ..
// stride(N)-1 are written too (their weights are zero).

struct GemmU8S8Args {
  const uint8_t* x;     // [stride(K)][width]; rows K .. stride(K)-1 may hold anything
  int k;                // K, at most 32768
  int width;            // 16, 32 or 64
  int tokens;           // the lanes 0 .. tokens-1 carry meaning, 1 <= tokens <= width; others of out become anything
  const void* weights;  // what pack() wrote
  int n_begin, n_end;   // rows to compute; multiples of 4, n_end <= stride(N)
  QuantEpilogue epilogue;
  void* out;      // f32 or u8, row 0 of the tile
  void* scratch;  // scratch_bytes(k), 64-byte aligned
  // The tile of the same shape that this thread probably multiplies next, or nullptr: a kernel may prefetch it. It is
  // not read, and the result is the same.
  const uint8_t* next;
};

// Gives memory of that many bytes, 64-byte aligned. A kernel asks for it once.
using TakeMemory = std::function<void*(size_t bytes)>;

struct GemmU8S8Kernel {
  const char* name;
  Isa isa;
  TileCosts costs;
  // Writes packed weights, self-contained (w is not needed afterwards). w: row-major [N, K], values -127..127.
  void (*pack)(int n, int k, const int8_t* w, const TakeMemory& take);
  size_t (*scratch_bytes)(int k);
  // Re-lays the tile for run(): once per (tile, thread), before any run() on that tile; nullptr if not needed.
  void (*prepare)(const uint8_t* x, int k, int width, int tokens, void* scratch);
  void (*run)(const GemmU8S8Args& args);
};

const std::vector<const GemmU8S8Kernel*>& gemm_u8s8_manifest();  // best first; see base/manifest.h

}  // namespace fastcpu
