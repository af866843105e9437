// 12 accumulators in ymm0 .. ymm11. AVX2 has no exact instruction for u8 x s8 into s32, so bytes are multiplied as s16
// pairs: vpmaddwd, then vpaddd.
#include <immintrin.h>

#include "peak/peak.h"

namespace fastcpu {
namespace {

#define ACCUMULATORS(each) \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11)
#define CLOBBERS                                                                                                   \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13"
#define CLEAR(n) "vpxor %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n"
#define DOT(n) "vpmaddwd %2, %1, %%ymm12\nvpaddd %%ymm12, %%ymm" #n ", %%ymm" #n "\n"
#define FMA(n) "vfmadd231ps %2, %1, %%ymm" #n "\n"
#define LOAD(n) "vmovdqa 32*" #n "(%0), %%ymm" #n "\n"

double int8(int64_t rounds) {
  int64_t left = rounds;
  const __m256i x = _mm256_set1_epi16(85), w = _mm256_set1_epi16(-51);
  asm volatile(ACCUMULATORS(CLEAR) "1:\n" ACCUMULATORS(DOT) "dec %0\njnz 1b\n"
               : "+r"(left)
               : "x"(x), "x"(w)
               : CLOBBERS);
  _mm256_zeroupper();
  return static_cast<double>(rounds) * 12 * 16 * 2;
}

double f32(int64_t rounds) {
  int64_t left = rounds;
  const __m256 x = _mm256_set1_ps(1.5f), w = _mm256_set1_ps(-0.75f);
  asm volatile(ACCUMULATORS(CLEAR) "1:\n" ACCUMULATORS(FMA) "dec %0\njnz 1b\n"
               : "+r"(left)
               : "x"(x), "x"(w)
               : CLOBBERS);
  _mm256_zeroupper();
  return static_cast<double>(rounds) * 12 * 8 * 2;
}

void read(const uint8_t* data, size_t bytes) {
  const uint8_t* end = data + bytes;
  asm volatile("1:\n" LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6)
                   LOAD(7) "add $256, %0\ncmp %1, %0\njb 1b\n"
               : "+r"(data)
               : "r"(end)
               : "memory", CLOBBERS);
  _mm256_zeroupper();
}

}  // namespace

extern const PeakKernel peak_avx2 = {"peak_avx2", Isa::avx2, "vpmaddwd + vpaddd", "vfmadd231ps", int8, f32, read};

}  // namespace fastcpu
