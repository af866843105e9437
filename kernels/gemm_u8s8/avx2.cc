// The weights of 4 rows are blocks of 4x1 without zeros: spmm_u8s8/sums_avx2.h says how they are multiplied and why
// that is faster than to take input channels in order.
//
// Scratch: slices of up to 32 tokens, which fit into L1 up to K = 1000: [width / 32][K][32 tokens]. A tile of 16 tokens
// has its two runs of 8 in the lower half of either 128-bit lane.
#include <cstring>

#include "base/tile.h"
#include "spmm_u8s8/sums_avx2.h"

namespace fastcpu {
namespace {

using avx2::Part;

constexpr int kRowBytes = 32;

void pack(int n, int k, const int8_t* w, const TakeMemory& take) {
  const auto each_block = [&](int g, auto add) {
    const int rows = std::min(4, n - 4 * g);
    const int8_t* row = w + static_cast<int64_t>(4 * g) * k;
    for (int i = 0; i < k; ++i) {
      int8_t values[4] = {};
      for (int r = 0; r < rows; ++r) values[r] = row[static_cast<int64_t>(r) * k + i];
      add(i, values);
    }
  };
  avx2::pack_sums(static_cast<int>(channel_stride(n) / 4), k, avx2::kLongestSegment, each_block, take);
}

size_t scratch_bytes(int k) { return static_cast<size_t>(k) * kTileWidth; }

void prepare(const uint8_t* x, int k, int width, int /*tokens*/, void* scratch) {
  uint8_t* out = static_cast<uint8_t*>(scratch);
  if (width == 16) {
    for (int i = 0; i < k; ++i, x += width, out += kRowBytes) {
      std::memcpy(out, x, 8);
      std::memcpy(out + 16, x + 8, 8);
    }
    return;
  }
  for (int t = 0; t < width; t += kRowBytes)
    for (int i = 0; i < k; ++i, out += kRowBytes) std::memcpy(out, x + static_cast<int64_t>(i) * width + t, kRowBytes);
}

template <int kSet>
void run_set(const GemmU8S8Args& args, const avx2::PackedSums& weights) {
  const uint8_t* slice = static_cast<const uint8_t*>(args.scratch);
  avx2::with_table(args.epilogue, [&](const avx2::ByteTable* table) {
    for (int t = 0; t < args.width; t += kRowBytes, slice += static_cast<int64_t>(args.k) * kRowBytes) {
      for (int n = args.n_begin; n < args.n_end; n += 4) {
        avx2::SliceSums acc;
        avx2::sum_group<Part::first, kRowBytes, kSet>(weights, n, slice, args.epilogue, acc);
        if (args.width == 16) {
          avx2::store_slice<8>(args.epilogue, table, n, t, args.width, acc, args.out);
          continue;
        }
        avx2::store_slice<16>(args.epilogue, table, n, t, args.width, acc, args.out);
        avx2::sum_group<Part::second, kRowBytes, kSet>(weights, n, slice, args.epilogue, acc);
        avx2::store_slice<16>(args.epilogue, table, n, t + 8, args.width, acc, args.out);
      }
    }
  });
}

void run(const GemmU8S8Args& args) {
  const avx2::PackedSums weights(args.weights);
  avx2::with_set(weights, [&](auto set) { run_set<decltype(set)::value>(args, weights); });
}

}  // namespace

extern const GemmU8S8Kernel gemm_u8s8_avx2 = {"gemm_u8s8_avx2", Isa::avx2, pack, scratch_bytes, prepare, run};

}  // namespace fastcpu
