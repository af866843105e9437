// Four blocks of a group at a time: their four input rows are interleaved byte-wise in registers, which gives vpdpbusd
// operands of 4 k x 16 tokens, and each of these serves the group's four rows.
//
// The inner loops are assembly because compilers lose a fifth of the speed here: GCC 12 spills or copies accumulators.
// On Zen 5, which finishes 2 vpdpbusd per cycle and runs the byte interleaving on pipes that they leave free:
// - 64-wide tiles: 8.1 cycles per quad of 16 vpdpbusd. A tile is as large as L1 from K = 768 on, so rows are prefetched
//   8 quads ahead; without that a quad takes 9.2 cycles at K = 3072. Between two groups, the epilogue of one waits for
//   its last products, and its 120 instructions fill the schedulers, so that the products of the next group start late:
//   27 cycles per group. Therefore the first three quads of the next group are interleaved before the epilogue and
//   multiplied row by row within it. What remains is 15 to 20 cycles, of which 8 are multiplications on the vpdpbusd
//   pipes, and 10 for the end of the loop, unpredictable where groups have uneven numbers of blocks.
//   Deferring the epilogue through memory is slower: each store of a fresh accumulator costs two vpdpbusd slots.
//   A tile beyond L2 costs 10 % at K = 3072 (Zen 4), so the second half of the groups prefetches the next one into L2:
//   what the first half prefetched would be gone by then, since weights and tile pass through L2 as well.
// - 32- and 16-wide tiles are bound by loads: 8 vectors per quad, 2 per cycle, for 8 or 4 vpdpbusd.
// On Zen 4, which finishes 1 vpdpbusd per cycle on pipes that shuffles compete for, a quad takes 16.1 cycles of
// 64-wide, 8.8 of 32-wide and 5.3 of 16-wide tiles, and a group 18 to 40 more. In the 32-wide loop each unpack is
// followed by its permutation: both unpacks first cost one cycle more.
#include <immintrin.h>

#include <cstddef>

#include "gemm_u8s8/epilogue_avx512vnni.h"
#include "spmm_u8s8/packed.h"

namespace fastcpu {
namespace {

// The row of index i lies at i * width / 8, which is i * 8, i * 4 or i * 2: an x86 address.
constexpr int kSegment = 8192;
constexpr int kPrefetchQuads = 8;
constexpr int kFirstQuads = 3;
constexpr int kHalvesChannels = 2304, kHalvesGroups = 16;  // run_halves: from more channels on; groups at a time
using Quad = avx512vnni::Chunk<4, int8_t, kSegment, 8, kPrefetchQuads, kFirstQuads>;

static_assert(sizeof(Quad) == 24 && kPrefetchQuads * sizeof(Quad) == 192 && kFirstQuads == 3,
              "the assembly below knows the layout");
// What a run of groups reads through one register, of which there are no more.
struct Groups {
  const uint32_t* last;  // `begin` behind the last group
  const uint8_t* next;   // the line to prefetch, or nullptr
  int64_t lines;         // that each group but the first prefetches from there on
};
static_assert(offsetof(Groups, last) == 0 && offsetof(Groups, next) == 8 && offsetof(Groups, lines) == 16,
              "the assembly below knows the layout");
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

// ---- 64-wide tiles: row r of a group has its sums in zmm(4 r) .. zmm(4 r + 3) ----

#define EACH_ROW(step)              \
  step("0", "0", "1", "2", "3")     \
  step("1", "4", "5", "6", "7")     \
  step("2", "8", "9", "10", "11")   \
  step("3", "12", "13", "14", "15")

#define INIT_ROW(row, a, b, c, d)                     \
  "vpbroadcastd 4 * " row "(%[init]), %%zmm" a "\n\t" \
  "vmovdqa64 %%zmm" a ", %%zmm" b "\n\t"              \
  "vmovdqa64 %%zmm" a ", %%zmm" c "\n\t"              \
  "vmovdqa64 %%zmm" a ", %%zmm" d "\n\t"

// zmm(a) .. zmm(d) = the quad at `displacement`, 4 k x 64 tokens; p .. s are overwritten.
#define LOAD_QUAD(displacement, a, b, c, d, p, q, r, s) \
  ROW_INDICES(displacement)                             \
  "vmovdqu64 (%[x], %%r8, 8), %%zmm" a "\n\t"           \
  "vmovdqu64 (%[x], %%r9, 8), %%zmm" b "\n\t"           \
  "vmovdqu64 (%[x], %%r10, 8), %%zmm" c "\n\t"          \
  "vmovdqu64 (%[x], %%r11, 8), %%zmm" d "\n\t"          \
  "vpunpcklbw %%zmm" b ", %%zmm" a ", %%zmm" p "\n\t"   \
  "vpunpcklbw %%zmm" d ", %%zmm" c ", %%zmm" q "\n\t"   \
  "vpunpckhbw %%zmm" b ", %%zmm" a ", %%zmm" r "\n\t"   \
  "vpunpckhbw %%zmm" d ", %%zmm" c ", %%zmm" s "\n\t"   \
  "vpunpcklwd %%zmm" q ", %%zmm" p ", %%zmm" a "\n\t"   \
  "vpunpckhwd %%zmm" q ", %%zmm" p ", %%zmm" b "\n\t"   \
  "vpunpcklwd %%zmm" s ", %%zmm" r ", %%zmm" c "\n\t"   \
  "vpunpckhwd %%zmm" s ", %%zmm" r ", %%zmm" d "\n\t"   \
  ROW_INDICES(displacement " + " PREFETCH_BYTES)        \
  "prefetcht0 (%[x], %%r8, 8)\n\t"                      \
  "prefetcht0 (%[x], %%r9, 8)\n\t"                      \
  "prefetcht0 (%[x], %%r10, 8)\n\t"                     \
  "prefetcht0 (%[x], %%r11, 8)\n\t"

// Adds the products of the quad at `displacement`, whose inputs are zmm(i) .. zmm(l), with weights for one row.
#define DOT_ROW(displacement, row, a, b, c, d, i, j, k, l, weight)                       \
  "vpbroadcastd " displacement " + 8 + 4 * " row "(%[quad]), %%zmm" weight "\n\t"        \
  "vpdpbusd %%zmm" weight ", %%zmm" i ", %%zmm" a "\n\t"                                 \
  "vpdpbusd %%zmm" weight ", %%zmm" j ", %%zmm" b "\n\t"                                 \
  "vpdpbusd %%zmm" weight ", %%zmm" k ", %%zmm" c "\n\t"                                 \
  "vpdpbusd %%zmm" weight ", %%zmm" l ", %%zmm" d "\n\t"

#define DOT_ROW_OF_QUAD(row, a, b, c, d) DOT_ROW("0", row, a, b, c, d, "16", "17", "18", "19", "24")
#define QUAD_64                                                         \
  LOAD_QUAD("0", "16", "17", "18", "19", "20", "21", "22", "23")        \
  EACH_ROW(DOT_ROW_OF_QUAD)

#define LOAD_FIRST_QUADS                                                \
  LOAD_QUAD("0", "16", "17", "18", "19", "20", "21", "22", "23")        \
  LOAD_QUAD("24", "20", "21", "22", "23", "24", "25", "26", "27")       \
  LOAD_QUAD("48", "24", "25", "26", "27", "28", "29", "30", "31")

#define FIRST_QUADS_OF_ROW(row, a, b, c, d)                             \
  INIT_ROW(row, a, b, c, d)                                             \
  DOT_ROW("0", row, a, b, c, d, "16", "17", "18", "19", "28")           \
  DOT_ROW("24", row, a, b, c, d, "20", "21", "22", "23", "28")          \
  DOT_ROW("48", row, a, b, c, d, "24", "25", "26", "27", "28")

#define FOUR(op, a, b, c, d) op(a) op(b) op(c) op(d)
#define TO_F32(a) "vcvtdq2ps %%zmm" a ", %%zmm" a "\n\t"
#define TIMES_MUL(a) "vmulps %%zmm28, %%zmm" a ", %%zmm" a "\n\t"
#define PLUS_ADD(a) "vaddps %%zmm30, %%zmm" a ", %%zmm" a "\n\t"
#define CLAMPED(a) "vpminsd %%zmm29, %%zmm" a ", %%zmm" a "\n\t"
#define TO_S32(a) "vcvtps2dq %%zmm" a ", %%zmm" a "\n\t"
#define LOAD_MUL(row) "vpbroadcastd 4 * " row "(%[mul]), %%zmm28\n\t"
#define LOAD_ADD(row) "vpbroadcastd 4 * " row "(%[add]), %%zmm30\n\t"

// The stores of gemm_u8s8/epilogue_avx512vnni.h. zmm29 = 255.0f, of which a minimum as integers is one as floats; the
// operand `extra` is the table or the token scales.
#define QUANTIZE_ROW(row, a, b, c, d)                     \
  FOUR(TO_F32, a, b, c, d)                                \
  LOAD_MUL(row)                                           \
  LOAD_ADD(row)                                           \
  FOUR(TIMES_MUL, a, b, c, d)                             \
  FOUR(PLUS_ADD, a, b, c, d)                              \
  FOUR(CLAMPED, a, b, c, d)                               \
  FOUR(TO_S32, a, b, c, d)                                \
  "vpackssdw %%zmm" b ", %%zmm" a ", %%zmm" a "\n\t"      \
  "vpackssdw %%zmm" d ", %%zmm" c ", %%zmm" c "\n\t"      \
  "vpackuswb %%zmm" c ", %%zmm" a ", %%zmm" a "\n\t"

#define STORE_ROW_U8(row, a, b, c, d)                     \
  QUANTIZE_ROW(row, a, b, c, d)                           \
  "vmovdqu64 %%zmm" a ", 64 * " row "(%[out])\n\t"

#define STORE_ROW_TABLE(row, a, b, c, d)                  \
  QUANTIZE_ROW(row, a, b, c, d)                           \
  "vmovdqu64 (%[extra]), %%zmm" b "\n\t"                  \
  "vmovdqu64 128(%[extra]), %%zmm" c "\n\t"               \
  "vpmovb2m %%zmm" a ", %%k1\n\t"                         \
  "vpermt2b 64(%[extra]), %%zmm" a ", %%zmm" b "\n\t"     \
  "vpermt2b 192(%[extra]), %%zmm" a ", %%zmm" c "\n\t"    \
  "vmovdqu8 %%zmm" c ", %%zmm" b "%{%%k1%}\n\t"           \
  "vmovdqu64 %%zmm" b ", 64 * " row "(%[out])\n\t"

#define SCALE_ROW(row, a, b, c, d)                        \
  "vshufi64x2 $0x44, %%zmm" b ", %%zmm" a ", %%zmm28\n\t" \
  "vshufi64x2 $0x44, %%zmm" d ", %%zmm" c ", %%zmm29\n\t" \
  "vshufi64x2 $0xEE, %%zmm" b ", %%zmm" a ", %%zmm30\n\t" \
  "vshufi64x2 $0xEE, %%zmm" d ", %%zmm" c ", %%zmm31\n\t" \
  "vshufi64x2 $0x88, %%zmm29, %%zmm28, %%zmm" a "\n\t"    \
  "vshufi64x2 $0xDD, %%zmm29, %%zmm28, %%zmm" b "\n\t"    \
  "vshufi64x2 $0x88, %%zmm31, %%zmm30, %%zmm" c "\n\t"    \
  "vshufi64x2 $0xDD, %%zmm31, %%zmm30, %%zmm" d "\n\t"    \
  FOUR(TO_F32, a, b, c, d)                                \
  LOAD_MUL(row)                                           \
  LOAD_ADD(row)                                           \
  FOUR(TIMES_MUL, a, b, c, d)

#define ADD_AND_STORE_ROW(row, a, b, c, d)                \
  FOUR(PLUS_ADD, a, b, c, d)                              \
  "vmovups %%zmm" a ", 256 * " row "(%[out])\n\t"         \
  "vmovups %%zmm" b ", 256 * " row " + 64(%[out])\n\t"    \
  "vmovups %%zmm" c ", 256 * " row " + 128(%[out])\n\t"   \
  "vmovups %%zmm" d ", 256 * " row " + 192(%[out])\n\t"

#define STORE_ROW_F32(row, a, b, c, d)                    \
  SCALE_ROW(row, a, b, c, d)                              \
  ADD_AND_STORE_ROW(row, a, b, c, d)

#define STORE_ROW_DYNAMIC(row, a, b, c, d)                \
  SCALE_ROW(row, a, b, c, d)                              \
  "vmulps (%[extra]), %%zmm" a ", %%zmm" a "\n\t"         \
  "vmulps 64(%[extra]), %%zmm" b ", %%zmm" b "\n\t"       \
  "vmulps 128(%[extra]), %%zmm" c ", %%zmm" c "\n\t"      \
  "vmulps 192(%[extra]), %%zmm" d ", %%zmm" d "\n\t"      \
  ADD_AND_STORE_ROW(row, a, b, c, d)

// Prefetches a group's share of the next tile.
#define PREFETCH_NEXT             \
  "movq 16(%[groups]), %%r9\n\t"  \
  "testq %%r9, %%r9\n\t"          \
  "jz 5f\n\t"                     \
  "movq 8(%[groups]), %%r8\n"     \
  "4:\n\t"                        \
  "prefetcht1 (%%r8)\n\t"         \
  "addq $64, %%r8\n\t"            \
  "decq %%r9\n\t"                 \
  "jnz 4b\n\t"                    \
  "movq %%r8, 8(%[groups])\n"     \
  "5:\n\t"

#define LOAD_LIMIT "vpbroadcastd %[limit], %%zmm29\n\t"

// end = quad + the number of quads of the group. The hardware prefetches weights up to the end of a page, so the first
// lines of the page behind the group are prefetched here.
#define FIND_END                        \
  "movl 4(%[begin]), %%r8d\n\t"         \
  "subl (%[begin]), %%r8d\n\t"          \
  "leaq (%%r8, %%r8, 2), %%r8\n\t"      \
  "leaq (%[quad], %%r8, 8), %[end]\n\t" \
  "leaq 4095(%[end]), %%r8\n\t"         \
  "andq $-4096, %%r8\n\t"               \
  "prefetcht0 (%%r8)\n\t"               \
  "prefetcht0 64(%%r8)\n\t"             \
  "prefetcht0 128(%%r8)\n\t"            \
  "prefetcht0 192(%%r8)\n\t"

// Defines `name`: the groups whose chunks are begin[0] .. begin[1], and so on up to groups.last, all of one segment.
// Each but the first prefetches its share of the next tile.
#define DEFINE_RUN_64(name, STORE_ROW, group_bytes)                                                                  \
  void name(const uint8_t* x, const Quad* quad, const uint32_t* begin, Groups groups, const QuantEpilogue& e,        \
            int n, const void* extra, void* out) {                                                                   \
    static constexpr float limit = 255;                                                                              \
    const int32_t* init = e.init + n;                                                                                \
    const float* mul = e.mul + n;                                                                                    \
    const float* add = e.add + n;                                                                                    \
    const Quad* end;                                                                                                 \
    asm volatile(EACH_ROW(INIT_ROW)                                                                                  \
                 FIND_END                                                                                            \
                 "jmp 1f\n\t"                                                                                        \
                 "3:\n\t"                                                                                            \
                 LOAD_FIRST_QUADS                                                                                    \
                 PREFETCH_NEXT                                                                                       \
                 FIND_END                                                                                            \
                 "addq $16, %[init]\n\t"                                                                             \
                 LOAD_LIMIT                                                                                          \
                 STORE_ROW("0", "0", "1", "2", "3")                                                                  \
                 FIRST_QUADS_OF_ROW("0", "0", "1", "2", "3")                                                         \
                 STORE_ROW("1", "4", "5", "6", "7")                                                                  \
                 FIRST_QUADS_OF_ROW("1", "4", "5", "6", "7")                                                         \
                 STORE_ROW("2", "8", "9", "10", "11")                                                                \
                 FIRST_QUADS_OF_ROW("2", "8", "9", "10", "11")                                                       \
                 STORE_ROW("3", "12", "13", "14", "15")                                                              \
                 FIRST_QUADS_OF_ROW("3", "12", "13", "14", "15")                                                     \
                 "addq $3 * " QUAD_BYTES ", %[quad]\n\t"                                                             \
                 "addq $16, %[mul]\n\t"                                                                              \
                 "addq $16, %[add]\n\t"                                                                              \
                 "addq $" group_bytes ", %[out]\n\t"                                                                 \
                 "cmpq %[end], %[quad]\n\t"                                                                          \
                 "je 2f\n\t"                                                                                         \
                 ".p2align 5\n"                                                                                      \
                 "1:\n\t"                                                                                            \
                 QUAD_64                                                                                             \
                 "addq $" QUAD_BYTES ", %[quad]\n\t"                                                                 \
                 "cmpq %[end], %[quad]\n\t"                                                                          \
                 "jne 1b\n"                                                                                          \
                 "2:\n\t"                                                                                            \
                 "addq $4, %[begin]\n\t"                                                                             \
                 "cmpq %[begin], (%[groups])\n\t"                                                                    \
                 "jne 3b\n\t"                                                                                        \
                 LOAD_LIMIT                                                                                          \
                 EACH_ROW(STORE_ROW)                                                                                 \
                 : [quad] "+&r"(quad), [end] "=&r"(end), [begin] "+&r"(begin), [init] "+&r"(init), [mul] "+&r"(mul), \
                   [add] "+&r"(add), [out] "+&r"(out)                                                                \
                 : [x] "r"(x), [groups] "r"(&groups), [extra] "r"(extra), [limit] "m"(limit)                         \
                 : "r8", "r9", "r10", "r11", "k1", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",   \
                   "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",    \
                   "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26",         \
                   "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");                                                     \
  }
// clang-format on

DEFINE_RUN_64(run_u8, STORE_ROW_U8, "256")
DEFINE_RUN_64(run_table, STORE_ROW_TABLE, "256")
DEFINE_RUN_64(run_f32, STORE_ROW_F32, "1024")
DEFINE_RUN_64(run_dynamic, STORE_ROW_DYNAMIC, "1024")

// acc = init + the products of the quads [quad, end).
inline void accumulate(const uint8_t* x, const Quad* quad, const Quad* end, const int32_t* init, __m512i (&acc)[4][4]) {
#define SAVE_ROW(row, a, b, c, d)    \
  "vmovdqa64 %%zmm" a ", 256 * " row \
  "(%[acc])\n\t"                     \
  "vmovdqa64 %%zmm" b ", 256 * " row \
  " + 64(%[acc])\n\t"                \
  "vmovdqa64 %%zmm" c ", 256 * " row \
  " + 128(%[acc])\n\t"               \
  "vmovdqa64 %%zmm" d ", 256 * " row " + 192(%[acc])\n\t"
  asm volatile(EACH_ROW(INIT_ROW) LOOP_BEGIN QUAD_64 LOOP_END "\n\t" EACH_ROW(SAVE_ROW)
               : [quad] "+&r"(quad)
               : [x] "r"(x), [end] "r"(end), [init] "r"(init), [acc] "r"(acc)
               : "r8", "r9", "r10", "r11", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17",
                 "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24");
}

// ---- narrower tiles ----

inline void accumulate(const uint8_t* x, const Quad* quad, const Quad* end, const int32_t* init, __m512i (&acc)[4][2]) {
  // Words (row 0, row 1) of tokens 0 .. 7 and 16 .. 23, and then (row 2, row 3) of the same, to four k of each token.
  const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
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
      "vmovdqu (%[x], %%r9, 4), %%ymm13\n\t"
      "vinserti64x4 $1, (%[x], %%r10, 4), %%zmm12, %%zmm12\n\t"
      "vinserti64x4 $1, (%[x], %%r11, 4), %%zmm13, %%zmm13\n\t"
      "vpunpckhbw %%zmm13, %%zmm12, %%zmm14\n\t"
      "vpermw %%zmm14, %[pairs], %%zmm14\n\t"
      "vpunpcklbw %%zmm13, %%zmm12, %%zmm12\n\t"
      "vpermw %%zmm12, %[pairs], %%zmm12\n\t"
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
      : [x] "r"(x), [end] "r"(end), [init] "r"(init), [pairs] "v"(pairs)
      : "r8", "r9", "r10", "r11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

inline void accumulate(const uint8_t* x, const Quad* quad, const Quad* end, const int32_t* init, __m512i (&acc)[4][1]) {
  const __m512i index = avx512vnni::kernel_order<16>(0);
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

// Rows n .. n_end.
void run_groups(const GemmU8S8Args& args, const avx512vnni::PackedBlocks<Quad>& weights, int n, int n_end,
                const uint8_t* next, int lines) {
  const QuantEpilogue& e = args.epilogue;
  const uint32_t* begin = weights.begin + n / 4;
  const Groups groups = {weights.begin + n_end / 4, next, lines};
  if (begin == groups.last) return;
  const Quad* quad = weights.chunks + *begin;
  if (e.store == Store::f32) {
    float* out = static_cast<float*>(args.out) + int64_t{n} * 64;
    if (e.token_scale != nullptr) {
      run_dynamic(args.x, quad, begin, groups, e, n, e.token_scale, out);
    } else {
      run_f32(args.x, quad, begin, groups, e, n, nullptr, out);
    }
  } else {
    uint8_t* out = static_cast<uint8_t*>(args.out) + int64_t{n} * 64;
    if (e.store == Store::table) {
      run_table(args.x, quad, begin, groups, e, n, e.table, out);
    } else {
      run_u8(args.x, quad, begin, groups, e, n, nullptr, out);
    }
  }
}

void run_64(const GemmU8S8Args& args, const avx512vnni::PackedBlocks<Quad>& weights) {
  const int late = args.next == nullptr ? 0 : (args.n_end - args.n_begin) / 8;  // groups; the first prefetches nothing
  if (late < 2) {
    run_groups(args, weights, args.n_begin, args.n_end, nullptr, 0);
    return;
  }
  const int middle = args.n_end - 4 * late;
  run_groups(args, weights, args.n_begin, middle, nullptr, 0);
  run_groups(args, weights, middle, args.n_end, args.next, (args.k + late - 2) / (late - 1));
}

// A tile of 16 tokens that is larger than L1: its rows would come from L2 a quarter of a line at a time. So a run of
// groups multiplies the first half of the channels, and then the second.
void run_halves(const GemmU8S8Args& args, const avx512vnni::PackedBlocks<Quad>& weights) {
  constexpr int32_t zeros[4] = {};
  __m512i first[kHalvesGroups][4][1];
  for (int n = args.n_begin; n < args.n_end; n += 4 * kHalvesGroups) {
    const int left = (args.n_end - n) / 4, groups = left < kHalvesGroups ? left : kHalvesGroups;
    const uint32_t *begin = weights.begin + n / 4, *middle = weights.middle + n / 4;
    for (int g = 0; g < groups; ++g)
      accumulate(args.x, weights.chunks + begin[g], weights.chunks + middle[g], args.epilogue.init + n + 4 * g,
                 first[g]);
    for (int g = 0; g < groups; ++g) {
      __m512i acc[4][1];
      accumulate(args.x, weights.chunks + middle[g], weights.chunks + begin[g + 1], zeros, acc);
      for (int r = 0; r < 4; ++r) acc[r][0] = _mm512_add_epi32(acc[r][0], first[g][r][0]);
      avx512vnni::store_group<16>(args.epilogue, n + 4 * g, acc, args.out);
    }
  }
}

template <int kWidth>
void run_width(const GemmU8S8Args& args) {
  constexpr int32_t zeros[4] = {};
  const avx512vnni::PackedBlocks<Quad> weights(args.weights);
  if (weights.segments == 1) {
    if (kWidth == 64) return run_64(args, weights);
    if (kWidth == 16 && args.k > kHalvesChannels) return run_halves(args, weights);
  }
  const auto sum = [&](int n, __m512i(&acc)[4][kWidth / 16]) {
    const uint32_t* begin = weights.begin + static_cast<int64_t>(n / 4) * weights.segments;
    accumulate(args.x, weights.chunks + begin[0], weights.chunks + begin[1], args.epilogue.init + n, acc);
    for (int s = 1; s < weights.segments; ++s) {
      __m512i more[4][kWidth / 16];
      accumulate(args.x + static_cast<int64_t>(s) * kSegment * kWidth, weights.chunks + begin[s],
                 weights.chunks + begin[s + 1], zeros, more);
      for (int r = 0; r < 4; ++r)
        for (int c = 0; c < kWidth / 16; ++c) acc[r][c] = _mm512_add_epi32(acc[r][c], more[r][c]);
    }
  };
  const auto store = [&](int n, const __m512i(&acc)[4][kWidth / 16]) {
    avx512vnni::store_group<kWidth>(args.epilogue, n, acc, args.out);
  };
  // A group is stored after the sums of the next one, whose last products it would wait for otherwise.
  __m512i even[4][kWidth / 16], odd[4][kWidth / 16];
  int n = args.n_begin;
  if (n == args.n_end) return;
  sum(n, even);
  for (; n + 8 < args.n_end; n += 8) {
    sum(n + 4, odd);
    store(n, even);
    sum(n + 8, even);
    store(n + 4, odd);
  }
  if (n + 4 < args.n_end) sum(n + 4, odd);
  store(n, even);
  if (n + 4 < args.n_end) store(n + 4, odd);
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
    "spmm_u8s8_avx512vnni", Isa::avx512vnni, {0.55, 0.37, 0, 0, 0.1, false}, avx512vnni::pack_blocks<Quad>, run};

}  // namespace fastcpu
