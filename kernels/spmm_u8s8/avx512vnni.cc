// Four blocks of a group at a time: their four input rows are interleaved byte-wise in registers, which gives vpdpbusd
// operands of 4 k x 16 tokens, and each of these serves the group's four rows.
//
// The inner loops are assembly because compilers lose a fifth of the speed here: GCC 12 spills or copies accumulators.
// On Zen 5, which finishes 2 vpdpbusd per cycle and runs the byte interleaving on pipes that they leave free:
// - 64-wide tiles: 8.1 cycles per quad of 16 vpdpbusd. A tile is as large as L1 from K = 768 on, so rows are prefetched
//   8 quads ahead; without that a quad takes 9.2 cycles at K = 3072. What remains is 35 to 40 cycles per group for the
//   epilogue and the unpredictable end of the loop, of which 8 are multiplications on the vpdpbusd pipes: a tenth of
//   the time at K = 768 and 80 % zeros. Deferring or interleaving the epilogue of the group before costs about as many
//   cycles, for storing 16 accumulators.
// - 32- and 16-wide tiles are bound by loads: 8 vectors per quad, 2 per cycle, for 8 or 4 vpdpbusd.
#include <immintrin.h>

#include "base/tile.h"
#include "gemm_u8s8/epilogue_avx512vnni.h"
#include "spmm_u8s8/packed.h"

namespace fastcpu {
namespace {

// The row of index i lies at i * width / 8, which is i * 8, i * 4 or i * 2: an x86 address.
constexpr int kSegment = 8192;
constexpr int kPrefetchQuads = 8;
using Quad = avx512vnni::Chunk<4, int8_t, kSegment, 8, kPrefetchQuads>;

static_assert(sizeof(Quad) == 24 && kPrefetchQuads * sizeof(Quad) == 192, "the assembly below knows the layout");
// clang-format off
#define QUAD_BYTES "24"
#define PREFETCH_BYTES "192"

// r8 .. r11 = indices of the four input rows of the quad at `displacement`, two per load: loads are what the loop has
// least to spare of.
#define ROW_INDICES(displacement)                    \
  "movl " displacement " + 0(%[quad]), %%r9d\n\t"  \
  "movl " displacement " + 4(%[quad]), %%r11d\n\t" \
  "movzwl %%r9w, %%r8d\n\t"                        \
  "movzwl %%r11w, %%r10d\n\t"                      \
  "shrl $16, %%r9d\n\t"                            \
  "shrl $16, %%r11d\n\t"

#define LOOP_BEGIN             \
  "cmpq %[end], %[quad]\n\t" \
  "je 2f\n\t"                \
  ".p2align 5\n"              \
  "1:\n\t"

#define LOOP_END                        \
  "addq $" QUAD_BYTES ", %[quad]\n\t" \
  "cmpq %[end], %[quad]\n\t"          \
  "jne 1b\n"                           \
  "2:"

#define INIT_ROW4(row, a, b, c, d)                  \
  "vpbroadcastd 4 * " row "(%[init]), %" a "\n\t" \
  "vmovdqa64 %" a ", %" b "\n\t"                  \
  "vmovdqa64 %" a ", %" c "\n\t"                  \
  "vmovdqa64 %" a ", %" d "\n\t"

#define DOT_ROW4(row, a, b, c, d)                          \
  "vpbroadcastd 8 + 4 * " row "(%[quad]), %%zmm24\n\t" \
  "vpdpbusd %%zmm24, %%zmm16, %" a "\n\t"              \
  "vpdpbusd %%zmm24, %%zmm17, %" b "\n\t"              \
  "vpdpbusd %%zmm24, %%zmm18, %" c "\n\t"              \
  "vpdpbusd %%zmm24, %%zmm19, %" d "\n\t"
// clang-format on

// acc = init + the products of the quads [quad, end).
inline void accumulate(const uint8_t* x, const Quad* quad, const Quad* end, const int32_t* init, __m512i (&acc)[4][4]) {
  asm(INIT_ROW4("0", "0", "1", "2", "3")
      INIT_ROW4("1", "4", "5", "6", "7")
      INIT_ROW4("2", "8", "9", "10", "11")
      INIT_ROW4("3", "12", "13", "14", "15")
      LOOP_BEGIN
      ROW_INDICES("0")
      "vmovdqu64 (%[x], %%r8, 8), %%zmm16\n\t"
      "vmovdqu64 (%[x], %%r9, 8), %%zmm17\n\t"
      "vmovdqu64 (%[x], %%r10, 8), %%zmm18\n\t"
      "vmovdqu64 (%[x], %%r11, 8), %%zmm19\n\t"
      "vpunpcklbw %%zmm17, %%zmm16, %%zmm20\n\t"
      "vpunpcklbw %%zmm19, %%zmm18, %%zmm21\n\t"
      "vpunpckhbw %%zmm17, %%zmm16, %%zmm22\n\t"
      "vpunpckhbw %%zmm19, %%zmm18, %%zmm23\n\t"
      "vpunpcklwd %%zmm21, %%zmm20, %%zmm16\n\t"
      "vpunpckhwd %%zmm21, %%zmm20, %%zmm17\n\t"
      "vpunpcklwd %%zmm23, %%zmm22, %%zmm18\n\t"
      "vpunpckhwd %%zmm23, %%zmm22, %%zmm19\n\t"
      ROW_INDICES(PREFETCH_BYTES)
      "prefetcht0 (%[x], %%r8, 8)\n\t"
      "prefetcht0 (%[x], %%r9, 8)\n\t"
      "prefetcht0 (%[x], %%r10, 8)\n\t"
      "prefetcht0 (%[x], %%r11, 8)\n\t"
      DOT_ROW4("0", "0", "1", "2", "3")
      DOT_ROW4("1", "4", "5", "6", "7")
      DOT_ROW4("2", "8", "9", "10", "11")
      DOT_ROW4("3", "12", "13", "14", "15")
      LOOP_END
      : "=&v"(acc[0][0]), "=&v"(acc[0][1]), "=&v"(acc[0][2]), "=&v"(acc[0][3]), "=&v"(acc[1][0]), "=&v"(acc[1][1]),
        "=&v"(acc[1][2]), "=&v"(acc[1][3]), "=&v"(acc[2][0]), "=&v"(acc[2][1]), "=&v"(acc[2][2]), "=&v"(acc[2][3]),
        "=&v"(acc[3][0]), "=&v"(acc[3][1]), "=&v"(acc[3][2]), "=&v"(acc[3][3]), [quad] "+&r"(quad)
      : [x] "r"(x), [end] "r"(end), [init] "r"(init)
      : "r8", "r9", "r10", "r11", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "cc",
        "memory");
}

inline void accumulate(const uint8_t* x, const Quad* quad, const Quad* end, const int32_t* init, __m512i (&acc)[4][2]) {
  // Byte i of a result is byte index[i] of 4 rows x 32 tokens.
  const __m512i token = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  const __m512i every_byte = _mm512_mullo_epi32(token, _mm512_set1_epi32(0x01010101));
  const __m512i first = _mm512_add_epi8(every_byte, _mm512_set1_epi32(0x60402000));
  const __m512i second = _mm512_add_epi8(first, _mm512_set1_epi8(4));
  asm("vpbroadcastd (%[init]), %0\n\t"
      "vpbroadcastd 4(%[init]), %2\n\t"
      "vpbroadcastd 8(%[init]), %4\n\t"
      "vpbroadcastd 12(%[init]), %6\n\t"
      "vmovdqa64 %0, %1\n\t"
      "vmovdqa64 %2, %3\n\t"
      "vmovdqa64 %4, %5\n\t"
      "vmovdqa64 %6, %7\n\t"
      LOOP_BEGIN
      ROW_INDICES("0")
      "vmovdqu (%[x], %%r8, 4), %%ymm12\n\t"
      "vmovdqu (%[x], %%r10, 4), %%ymm13\n\t"
      "vinserti64x4 $1, (%[x], %%r9, 4), %%zmm12, %%zmm12\n\t"
      "vinserti64x4 $1, (%[x], %%r11, 4), %%zmm13, %%zmm13\n\t"
      "vmovdqa64 %%zmm12, %%zmm14\n\t"
      "vpermt2b %%zmm13, %[first], %%zmm12\n\t"
      "vpermt2b %%zmm13, %[second], %%zmm14\n\t"
      "vpbroadcastd 8(%[quad]), %%zmm15\n\t"
      "vpdpbusd %%zmm15, %%zmm12, %0\n\t"
      "vpdpbusd %%zmm15, %%zmm14, %1\n\t"
      "vpbroadcastd 12(%[quad]), %%zmm15\n\t"
      "vpdpbusd %%zmm15, %%zmm12, %2\n\t"
      "vpdpbusd %%zmm15, %%zmm14, %3\n\t"
      "vpbroadcastd 16(%[quad]), %%zmm15\n\t"
      "vpdpbusd %%zmm15, %%zmm12, %4\n\t"
      "vpdpbusd %%zmm15, %%zmm14, %5\n\t"
      "vpbroadcastd 20(%[quad]), %%zmm15\n\t"
      "vpdpbusd %%zmm15, %%zmm12, %6\n\t"
      "vpdpbusd %%zmm15, %%zmm14, %7\n\t"
      LOOP_END
      : "=&v"(acc[0][0]), "=&v"(acc[0][1]), "=&v"(acc[1][0]), "=&v"(acc[1][1]), "=&v"(acc[2][0]), "=&v"(acc[2][1]),
        "=&v"(acc[3][0]), "=&v"(acc[3][1]), [quad] "+&r"(quad)
      : [x] "r"(x), [end] "r"(end), [init] "r"(init), [first] "v"(first), [second] "v"(second)
      : "r8", "r9", "r10", "r11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

inline void accumulate(const uint8_t* x, const Quad* quad, const Quad* end, const int32_t* init, __m512i (&acc)[4][1]) {
  const __m512i token = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i every_byte = _mm512_mullo_epi32(token, _mm512_set1_epi32(0x01010101));
  const __m512i index = _mm512_add_epi8(every_byte, _mm512_set1_epi32(0x30201000));  // into 4 rows x 16 tokens
  asm("vpbroadcastd (%[init]), %0\n\t"
      "vpbroadcastd 4(%[init]), %1\n\t"
      "vpbroadcastd 8(%[init]), %2\n\t"
      "vpbroadcastd 12(%[init]), %3\n\t"
      LOOP_BEGIN
      ROW_INDICES("0")
      "vmovdqu (%[x], %%r8, 2), %%xmm12\n\t"
      "vmovdqu (%[x], %%r10, 2), %%xmm13\n\t"
      "vinserti128 $1, (%[x], %%r9, 2), %%ymm12, %%ymm12\n\t"
      "vinserti128 $1, (%[x], %%r11, 2), %%ymm13, %%ymm13\n\t"
      "vinserti64x4 $1, %%ymm13, %%zmm12, %%zmm12\n\t"
      "vpermb %%zmm12, %[index], %%zmm12\n\t"
      "vpdpbusd 8(%[quad])%{1to16%}, %%zmm12, %0\n\t"
      "vpdpbusd 12(%[quad])%{1to16%}, %%zmm12, %1\n\t"
      "vpdpbusd 16(%[quad])%{1to16%}, %%zmm12, %2\n\t"
      "vpdpbusd 20(%[quad])%{1to16%}, %%zmm12, %3\n\t"
      LOOP_END
      : "=&v"(acc[0][0]), "=&v"(acc[1][0]), "=&v"(acc[2][0]), "=&v"(acc[3][0]), [quad] "+&r"(quad)
      : [x] "r"(x), [end] "r"(end), [init] "r"(init), [index] "v"(index)
      : "r8", "r9", "r10", "r11", "xmm12", "xmm13", "cc", "memory");
}

template <int kWidth>
void run_width(const GemmU8S8Args& args) {
  constexpr int32_t zeros[4] = {};
  constexpr int kManyRows = 256;
  // A tile that has left L2 comes back a sixth faster in order than gathered; one that is there costs a percent.
  if (args.n_end - args.n_begin >= kManyRows)
    for (int64_t i = 0; i < static_cast<int64_t>(args.k) * kWidth; i += 64)
      _mm_prefetch(reinterpret_cast<const char*>(args.x + i), _MM_HINT_T0);
  const avx512vnni::PackedBlocks<Quad> weights(args.weights);
  for (int n = args.n_begin; n < args.n_end; n += 4) {
    const uint32_t* begin = weights.begin + static_cast<int64_t>(n / 4) * weights.segments;
    __m512i acc[4][kWidth / 16];
    accumulate(args.x, weights.chunks + begin[0], weights.chunks + begin[1], args.epilogue.init + n, acc);
    for (int s = 1; s < weights.segments; ++s) {
      __m512i more[4][kWidth / 16];
      accumulate(args.x + static_cast<int64_t>(s) * kSegment * kWidth, weights.chunks + begin[s],
                 weights.chunks + begin[s + 1], zeros, more);
      for (int r = 0; r < 4; ++r)
        for (int c = 0; c < kWidth / 16; ++c) acc[r][c] = _mm512_add_epi32(acc[r][c], more[r][c]);
    }
    avx512vnni::store_group<kWidth>(args.epilogue, n, acc, args.out);
  }
}

void run(const GemmU8S8Args& args) {
  if (args.width == 64) {
    run_width<64>(args);
  } else if (args.width == 32) {
    run_width<32>(args);
  } else {
    run_width<16>(args);
  }
}

}  // namespace

extern const SpmmU8S8Kernel spmm_u8s8_avx512vnni = {
    "spmm_u8s8_avx512vnni", Isa::avx512vnni, avx512vnni::packed_blocks_bytes<Quad>, avx512vnni::pack_blocks<Quad>, run};

}  // namespace fastcpu
