#include <cstring>

#include "base/tile.h"
#include "gemm_u8s8/epilogue_scalar.h"

namespace fastcpu {
namespace {

// Packed: row-major [stride(N)][K], zeros past N.
void pack(int n, int k, const int8_t* w, const TakeMemory& take) {
  const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(k);
  const size_t packed_bytes = static_cast<size_t>(channel_stride(n)) * static_cast<size_t>(k);
  int8_t* packed = static_cast<int8_t*>(take(packed_bytes));
  std::memcpy(packed, w, bytes);
  std::memset(packed + bytes, 0, packed_bytes - bytes);
}

size_t scratch_bytes(int) { return 0; }

void run(const GemmU8S8Args& args) {
  for (int n = args.n_begin; n < args.n_end; ++n) {
    const int8_t* w = static_cast<const int8_t*>(args.weights) + static_cast<int64_t>(n) * args.k;
    int32_t acc[kTileWidth];
    for (int t = 0; t < args.width; ++t) acc[t] = args.epilogue.init[n];
    for (int k = 0; k < args.k; ++k) {
      const uint8_t* x = args.x + static_cast<int64_t>(k) * args.width;
      const int32_t weight = w[k];
      for (int t = 0; t < args.width; ++t) acc[t] += weight * x[t];
    }
    scalar::store_row(args.epilogue, n, args.width, acc, args.out);
  }
}

}  // namespace

extern const GemmU8S8Kernel gemm_u8s8_scalar = {
    "gemm_u8s8_scalar", Isa::scalar, {0.5, 0.25, 0, 0, 0.01, true}, pack, scratch_bytes, nullptr, run};

}  // namespace fastcpu
