// A block is 64 rows x tokens of sums, whatever the width: 4 rows of 64, 8 of 32 or 16 of 16 tokens, 16 accumulators.
// Packed weights: [stride(N) / 4][ceil(K / 16)][4 rows][16 k]. Scratch: the tile as [stride(K) / 4][width][4 k], tokens
// in the kernel order of the epilogue. Up to 8 tokens are few_tokens_avx512vnni.h.
#include <cstring>

#include "base/tile.h"
#include "gemm_u8s8/few_tokens_avx512vnni.h"

namespace fastcpu {
namespace {

using avx512vnni::kStepBytes;
using avx512vnni::kStepChannels;

constexpr int kPrefetchQuads = 8;  // of the tile, which is larger than L1 from K = 768 on

size_t group_bytes(int k) { return static_cast<size_t>(avx512vnni::steps_of(k)) * kStepBytes; }

void pack(int n, int k, const int8_t* w, const TakeMemory& take) {
  const size_t bytes = static_cast<size_t>(channel_stride(n) / 4) * group_bytes(k);
  void* packed = take(bytes);
  std::memset(packed, 0, bytes);
  for (int r = 0; r < n; ++r) {
    int8_t* group = static_cast<int8_t*>(packed) + static_cast<size_t>(r / 4) * group_bytes(k);
    const int8_t* row = w + static_cast<int64_t>(r) * k;
    for (int i = 0; i < k; ++i)
      group[i / kStepChannels * kStepBytes + r % 4 * kStepChannels + i % kStepChannels] = row[i];
  }
}

size_t scratch_bytes(int k) { return static_cast<size_t>(channel_stride(k)) * kTileWidth; }

void interleave64(const uint8_t* x, uint8_t* out) {
  const __m512i r0 = _mm512_loadu_si512(x);
  const __m512i r1 = _mm512_loadu_si512(x + 64);
  const __m512i r2 = _mm512_loadu_si512(x + 128);
  const __m512i r3 = _mm512_loadu_si512(x + 192);
  const __m512i low01 = _mm512_unpacklo_epi8(r0, r1);
  const __m512i low23 = _mm512_unpacklo_epi8(r2, r3);
  const __m512i high01 = _mm512_unpackhi_epi8(r0, r1);
  const __m512i high23 = _mm512_unpackhi_epi8(r2, r3);
  _mm512_store_si512(out, _mm512_unpacklo_epi16(low01, low23));
  _mm512_store_si512(out + 64, _mm512_unpackhi_epi16(low01, low23));
  _mm512_store_si512(out + 128, _mm512_unpacklo_epi16(high01, high23));
  _mm512_store_si512(out + 192, _mm512_unpackhi_epi16(high01, high23));
}

void interleave32(const uint8_t* x, uint8_t* out) {
  const __m512i rows01 = _mm512_loadu_si512(x);
  const __m512i rows23 = _mm512_loadu_si512(x + 64);
  for (int c = 0; c < 2; ++c)
    _mm512_store_si512(out + 64 * c, _mm512_permutex2var_epi8(rows01, avx512vnni::kernel_order<32>(c), rows23));
}

void interleave16(const uint8_t* x, uint8_t* out) {
  _mm512_store_si512(out, _mm512_permutexvar_epi8(avx512vnni::kernel_order<16>(0), _mm512_loadu_si512(x)));
}

// The number of tokens that are computed where so many carry meaning: 1, 2, 4, 8, or the width.
int computed_tokens(int tokens, int width) {
  return width > 16 || tokens > avx512vnni::kFewTokens ? width : tokens > 4 ? 8 : tokens > 2 ? 4 : tokens;
}

void prepare(const uint8_t* x, int k, int width, int tokens, void* scratch) {
  uint8_t* out = static_cast<uint8_t*>(scratch);
  switch (computed_tokens(tokens, width)) {
    case 1:
      return avx512vnni::prepare_few<1>(x, k, out);
    case 2:
      return avx512vnni::prepare_few<2>(x, k, out);
    case 4:
      return avx512vnni::prepare_few<4>(x, k, out);
    case 8:
      return avx512vnni::prepare_few<8>(x, k, out);
    default:
      break;
  }
  const auto interleave = width == 64 ? interleave64 : width == 32 ? interleave32 : interleave16;
  for (int64_t i = 0; i < channel_stride(k) * width; i += 4 * width) interleave(x + i, out + i);
}

// One row of weights times 64, 32 or 16 tokens. In assembly because GCC 12 spills the accumulators of the intrinsic.
inline void dot_row(__m512i (&acc)[4], const __m512i (&x)[4], const int8_t* w) {
  __m512i weight;
  asm("vpbroadcastd %9, %4\n\t"
      "vpdpbusd %4, %5, %0\n\t"
      "vpdpbusd %4, %6, %1\n\t"
      "vpdpbusd %4, %7, %2\n\t"
      "vpdpbusd %4, %8, %3"
      : "+v"(acc[0]), "+v"(acc[1]), "+v"(acc[2]), "+v"(acc[3]), "=&v"(weight)
      : "v"(x[0]), "v"(x[1]), "v"(x[2]), "v"(x[3]), "m"(*reinterpret_cast<const int8_t (*)[4]>(w)));
}
inline void dot_row(__m512i (&acc)[2], const __m512i (&x)[2], const int8_t* w) {
  __m512i weight;
  asm("vpbroadcastd %5, %2\n\t"
      "vpdpbusd %2, %3, %0\n\t"
      "vpdpbusd %2, %4, %1"
      : "+v"(acc[0]), "+v"(acc[1]), "=&v"(weight)
      : "v"(x[0]), "v"(x[1]), "m"(*reinterpret_cast<const int8_t (*)[4]>(w)));
}
inline void dot_row(__m512i (&acc)[1], const __m512i (&x)[1], const int8_t* w) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc[0]) : "v"(x[0]), "m"(*reinterpret_cast<const int8_t (*)[4]>(w)));
}

// Rows [n, n + 4 kGroups).
template <int kWidth, int kGroups>
void run_block(const GemmU8S8Args& args, int n) {
  constexpr int kVectors = kWidth / 16;
  __m512i acc[kGroups][4][kVectors];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) acc[g][r][c] = _mm512_set1_epi32(args.epilogue.init[n + 4 * g + r]);

  const size_t stride = group_bytes(args.k);
  const int8_t* w = static_cast<const int8_t*>(args.weights) + static_cast<size_t>(n / 4) * stride;
  const uint8_t* tile = static_cast<const uint8_t*>(args.scratch);
  const uint8_t* const end = tile + channel_stride(args.k) * kWidth;
  const auto quad = [&](int offset) __attribute__((always_inline)) {
    __m512i x[kVectors];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) {
      x[c] = _mm512_load_si512(tile + 64 * c);
      _mm_prefetch(reinterpret_cast<const char*>(tile + kPrefetchQuads * 4 * kWidth + 64 * c), _MM_HINT_T0);
    }
    tile += 4 * kWidth;
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r)
        dot_row(acc[g][r], x, w + static_cast<size_t>(g) * stride + kStepChannels * r + offset);
  };
  // Unrolled, GCC puts the prefetches of four quads together, which costs 6 % of the speed on 16 tokens.
  for (; end - tile >= kStepChannels * kWidth; w += kStepBytes)
#pragma GCC unroll 1
    for (int q = 0; q < 4; ++q) quad(4 * q);
  for (; tile != end; w += 4) quad(0);
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) avx512vnni::store_group<kWidth>(args.epilogue, n + 4 * g, acc[g], args.out);
}

template <int kWidth>
void run_width(const GemmU8S8Args& args) {
  constexpr int kRows = 256 / kWidth;
  int n = args.n_begin;
  for (; n + kRows <= args.n_end; n += kRows) run_block<kWidth, kRows / 4>(args, n);
  for (; n < args.n_end; n += 4) run_block<kWidth, 1>(args, n);
}

// Few tokens: as many groups of rows at once as there are registers for, and loads to do besides.
void run(const GemmU8S8Args& args) {
  switch (computed_tokens(args.tokens, args.width)) {
    case 1:
      return avx512vnni::run_few<1, 4>(args);
    case 2:
      return avx512vnni::run_few<2, 4>(args);
    case 4:
      return avx512vnni::run_few<4, 4>(args);
    case 8:
      return avx512vnni::run_few<8, 2>(args);
    case 16:
      return run_width<16>(args);
    case 32:
      return run_width<32>(args);
    default:
      return run_width<64>(args);
  }
}

}  // namespace

extern const GemmU8S8Kernel gemm_u8s8_avx512vnni = {
    "gemm_u8s8_avx512vnni", Isa::avx512vnni, {0.55, 0.37, 0, 0, 0.1, false}, pack, scratch_bytes, prepare, run};

}  // namespace fastcpu
