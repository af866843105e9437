// The weights of 4 rows are blocks of 4x1 without zeros: spmm_u8s8/sums_avx2.h says how they are multiplied and why
// that is faster than to take input channels in order. The last 1 to 8 tokens of a tile, where that leaves 16 lanes
// half empty, are few_tokens_avx2.h, with weights of their own.
//
// Packed weights: Header, PackedSums, weights for few tokens; each from a multiple of 64 bytes on.
//
// Scratch: slices of 32 tokens, which fit into L1 up to K = 1000: [slices][K][32 tokens]; perhaps a half slice of 16
// tokens, with its two runs of 8 in the lower half of either 128-bit lane; perhaps the few tokens.
#include <cstring>

#include "base/tile.h"
#include "gemm_u8s8/few_tokens_avx2.h"
#include "spmm_u8s8/sums_avx2.h"

namespace fastcpu {
namespace {

using avx2::ByteTable;
using avx2::Part;

constexpr int kSliceTokens = 32;
constexpr int kHalfTokens = 16;

struct alignas(64) Header {
  uint64_t few;  // where the weights for few tokens begin
};

// How the tokens of a tile are computed.
struct Cut {
  int slices;
  bool half;
  int few;  // 0, 1, 2, 4 or 8

  explicit Cut(int tokens) : slices(tokens / kSliceTokens), half(false), few(0) {
    int rest = tokens % kSliceTokens;
    if (rest > kHalfTokens + avx2::kFewTokens) {
      ++slices;
      rest = 0;
    } else if (rest > avx2::kFewTokens) {
      half = true;
      rest = rest > kHalfTokens ? rest - kHalfTokens : 0;
    }
    few = rest > 4 ? 8 : rest > 2 ? 4 : rest;
  }
  int first_few() const { return slices * kSliceTokens + (half ? kHalfTokens : 0); }
  // Where the few tokens begin in the scratch.
  int64_t few_at(int64_t k) const { return (slices + (half ? 1 : 0)) * k * kSliceTokens; }
};

template <int kTokens, int kGroups>
struct Few {
  static constexpr int tokens = kTokens;
  static constexpr int groups = kGroups;  // of rows, multiplied at once
};

// Calls body(Few) for a number of few tokens other than 0.
template <class Body>
void with_few(int few, Body body) {
  switch (few) {
    case 1:
      return body(Few<1, 4>());
    case 2:
      return body(Few<2, 4>());
    case 4:
      return body(Few<4, 2>());
    default:
      return body(Few<8, 1>());
  }
}

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
  avx2::pack_sums(static_cast<int>(channel_stride(n) / 4), k, avx2::kLongestSegment, each_block, [&](size_t bytes) {
    const size_t few = sizeof(Header) + (bytes + 63) / 64 * 64;
    char* packed = static_cast<char*>(take(few + avx2::few_bytes(n, k)));
    const Header header = {few};
    std::memcpy(packed, &header, sizeof header);
    avx2::pack_few(n, k, w, reinterpret_cast<int8_t*>(packed + few));
    return packed + sizeof(Header);
  });
}

size_t scratch_bytes(int k) {
  return static_cast<size_t>(k) * kTileWidth + static_cast<size_t>(avx2::pairs_of(k)) * avx2::kFewTokens * 4;
}

void prepare(const uint8_t* x, int k, int width, int tokens, void* scratch) {
  const Cut cut(tokens);
  uint8_t* out = static_cast<uint8_t*>(scratch);
  for (int t = 0; t < cut.slices * kSliceTokens; t += kSliceTokens)
    for (int i = 0; i < k; ++i, out += kSliceTokens)
      std::memcpy(out, x + static_cast<int64_t>(i) * width + t, kSliceTokens);
  if (cut.half) {
    const uint8_t* row = x + cut.slices * kSliceTokens;
    for (int i = 0; i < k; ++i, row += width, out += kSliceTokens) {
      std::memcpy(out, row, 8);
      std::memcpy(out + 16, row + 8, 8);
    }
  }
  if (cut.few > 0)
    with_few(cut.few, [&](auto few) { avx2::prepare_few<decltype(few)::tokens>(x, k, width, cut.first_few(), out); });
}

template <int kSet>
void run_slices(const GemmU8S8Args& args, const avx2::PackedSums& weights, const Cut& cut, const ByteTable* table) {
  const uint8_t* slice = static_cast<const uint8_t*>(args.scratch);
  avx2::SliceSums acc;
  int t = 0;
  for (; t < cut.slices * kSliceTokens; t += kSliceTokens, slice += static_cast<int64_t>(args.k) * kSliceTokens)
    for (int n = args.n_begin; n < args.n_end; n += 4) {
      avx2::sum_group<Part::first, kSliceTokens, kSet>(weights, n, slice, args.epilogue, acc);
      avx2::store_slice<16>(args.epilogue, table, n, t, args.width, acc, args.out);
      avx2::sum_group<Part::second, kSliceTokens, kSet>(weights, n, slice, args.epilogue, acc);
      avx2::store_slice<16>(args.epilogue, table, n, t + 8, args.width, acc, args.out);
    }
  if (!cut.half) return;
  for (int n = args.n_begin; n < args.n_end; n += 4) {
    avx2::sum_group<Part::first, kSliceTokens, kSet>(weights, n, slice, args.epilogue, acc);
    avx2::store_slice<8>(args.epilogue, table, n, t, args.width, acc, args.out);
  }
}

void run(const GemmU8S8Args& args) {
  const Cut cut(args.tokens);
  const char* packed = static_cast<const char*>(args.weights);
  avx2::with_table(args.epilogue, [&](const ByteTable* table) {
    if (cut.slices > 0 || cut.half) {
      const avx2::PackedSums weights(packed + sizeof(Header));
      avx2::with_set(weights, [&](auto set) { run_slices<decltype(set)::value>(args, weights, cut, table); });
    }
    if (cut.few == 0) return;
    Header header{};
    std::memcpy(&header, packed, sizeof header);
    const int8_t* weights = reinterpret_cast<const int8_t*>(packed + header.few);
    const uint8_t* x = static_cast<const uint8_t*>(args.scratch) + cut.few_at(args.k);
    with_few(cut.few, [&](auto few) {
      avx2::run_few<decltype(few)::tokens, decltype(few)::groups>(args, weights, x, table, cut.first_few());
    });
  });
}

}  // namespace

extern const GemmU8S8Kernel gemm_u8s8_avx2 = {
    "gemm_u8s8_avx2", Isa::avx2, {0.5, 0.26, 0.26, 0.022, 0.03, true}, pack, scratch_bytes, prepare, run};

}  // namespace fastcpu
