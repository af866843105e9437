#define REGISTER "zmm"
#define VECTOR_BYTES 64
#define ACCUMULATORS(each)                                                                                            \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11) each(12) each(13) \
      each(14) each(15) each(16) each(17) each(18) each(19) each(20) each(21) each(22) each(23)
#define INT8_INPUT int8_t
#define DOT(n) "vpdpbusd %[w], %[x], %%zmm" #n "\n"
#include "peak/x86.h"

namespace fastcpu {

extern const PeakKernel peak_avx512vnni = {"peak_avx512vnni",    Isa::avx512vnni,       "vpdpbusd",
                                           "vfmadd231ps",        avx512vnni::peak_int8, avx512vnni::peak_f32,
                                           avx512vnni::peak_read};

}  // namespace fastcpu
