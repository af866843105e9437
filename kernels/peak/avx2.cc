// AVX2 has no exact instruction for u8 x s8 into s32, so bytes are multiplied as s16 pairs: vpmaddwd, then vpaddd.
#define REGISTER "ymm"
#define VECTOR_BYTES 32
#define ACCUMULATORS(each) \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11)
#define INT8_INPUT int16_t
#define DOT(n) "vpmaddwd %[w], %[x], %[product]\nvpaddd %[product], %%ymm" #n ", %%ymm" #n "\n"
#include "peak/x86.h"

namespace fastcpu {

extern const PeakKernel peak_avx2 = {"peak_avx2",     Isa::avx2,      "vpmaddwd + vpaddd", "vfmadd231ps",
                                     avx2::peak_int8, avx2::peak_f32, avx2::peak_read};

}  // namespace fastcpu
