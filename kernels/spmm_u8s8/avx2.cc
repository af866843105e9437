#include "spmm_u8s8/spmm_u8s8.h"

#include "spmm_u8s8/sums_avx2.h"

namespace fastcpu {
namespace {

using avx2::Part;

// What the four passes over a tile of 64 tokens read again lies in L1: 20 of 32 KB.
constexpr int kBlocksInL1 = 320;

int segment_length(const Blocks4x1& w) {
  const int64_t blocks = w.offsets[w.n / 4], in_l1 = static_cast<int64_t>(w.n / 4) * kBlocksInL1;
  const int64_t segments = std::max((blocks + in_l1 - 1) / in_l1, int64_t{1});
  return static_cast<int>(std::min<int64_t>((w.k + segments - 1) / segments, avx2::kLongestSegment));
}

void pack(const Blocks4x1& w, const TakeMemory& take) {
  const auto each_block = [&](int g, auto add) {
    for (uint32_t b = w.offsets[g]; b < w.offsets[g + 1]; ++b) add(w.index[b], w.values + size_t{b} * 4);
  };
  avx2::pack_sums(w.n / 4, w.k, segment_length(w), each_block, take);
}

template <int kWidth, int kSet>
void run_width(const GemmU8S8Args& args, const avx2::PackedSums& weights) {
  constexpr Part kFirst = kWidth == 16 ? Part::both : Part::first;
  constexpr int kParts = kWidth / 16, kSplit = kWidth == 16 ? 8 : 16;
  avx2::with_table(args.epilogue, [&](const avx2::ByteTable* table) {
    for (int n = args.n_begin; n < args.n_end; n += 4) {
      avx2::SliceSums acc[kParts];
      for (int s = 0; s < weights.segments; ++s) {
#pragma GCC unroll 4
        for (int p = 0; p < kParts; ++p) {
          const uint8_t* x = args.x + p / 2 * 32;
          if (s == 0) avx2::start_slice(args.epilogue.init + n, acc[p]);
          if (p % 2 == 0) {
            avx2::add_segment<kFirst, kWidth, kSet>(weights, n, s, x, acc[p]);
          } else {
            avx2::add_segment<Part::second, kWidth, kSet>(weights, n, s, x, acc[p]);
          }
          if (s == weights.segments - 1)
            avx2::store_slice<kSplit>(args.epilogue, table, n, p / 2 * 32 + p % 2 * 8, kWidth, acc[p], args.out);
        }
      }
    }
  });
}

template <int kSet>
void run_set(const GemmU8S8Args& args, const avx2::PackedSums& weights) {
  if (args.width == 64) {
    run_width<64, kSet>(args, weights);
  } else if (args.width == 32) {
    run_width<32, kSet>(args, weights);
  } else {
    run_width<16, kSet>(args, weights);
  }
}

void run(const GemmU8S8Args& args) {
  const avx2::PackedSums weights(args.weights);
  avx2::with_set(weights, [&](auto set) { run_set<decltype(set)::value>(args, weights); });
}

}  // namespace

extern const SpmmU8S8Kernel spmm_u8s8_avx2 = {"spmm_u8s8_avx2", Isa::avx2, {0.5, 0.27, 0, 0, 0.1, true}, pack, run};

}  // namespace fastcpu
