// 24 accumulators in zmm0 .. zmm23. Written in assembly, so that no compiler spills or removes them.
#include <immintrin.h>

#include "peak/peak.h"

namespace fastcpu {
namespace {

#define ACCUMULATORS(each)                                                                                            \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11) each(12) each(13) \
      each(14) each(15) each(16) each(17) each(18) each(19) each(20) each(21) each(22) each(23)
#define CLOBBERS                                                                                                   \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23"
#define CLEAR(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
#define DOT(n) "vpdpbusd %2, %1, %%zmm" #n "\n"
#define FMA(n) "vfmadd231ps %2, %1, %%zmm" #n "\n"
#define LOAD(n) "vmovdqa64 64*" #n "(%0), %%zmm" #n "\n"

double int8(int64_t rounds) {
  int64_t left = rounds;
  const __m512i x = _mm512_set1_epi8(85), w = _mm512_set1_epi8(-51);
  asm volatile(ACCUMULATORS(CLEAR) "1:\n" ACCUMULATORS(DOT) "dec %0\njnz 1b\n"
               : "+r"(left)
               : "v"(x), "v"(w)
               : CLOBBERS);
  _mm256_zeroupper();
  return static_cast<double>(rounds) * 24 * 64 * 2;
}

double f32(int64_t rounds) {
  int64_t left = rounds;
  const __m512 x = _mm512_set1_ps(1.5f), w = _mm512_set1_ps(-0.75f);
  asm volatile(ACCUMULATORS(CLEAR) "1:\n" ACCUMULATORS(FMA) "dec %0\njnz 1b\n"
               : "+r"(left)
               : "v"(x), "v"(w)
               : CLOBBERS);
  _mm256_zeroupper();
  return static_cast<double>(rounds) * 24 * 16 * 2;
}

void read(const uint8_t* data, size_t bytes) {
  const uint8_t* end = data + bytes;
  asm volatile("1:\n" LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6)
                   LOAD(7) "add $512, %0\ncmp %1, %0\njb 1b\n"
               : "+r"(data)
               : "r"(end)
               : "memory", CLOBBERS);
  _mm256_zeroupper();
}

}  // namespace

extern const PeakKernel peak_avx512vnni = {
    "peak_avx512vnni", Isa::avx512vnni, "vpdpbusd", "vfmadd231ps", int8, f32, read};

}  // namespace fastcpu
