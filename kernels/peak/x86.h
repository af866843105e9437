// The bodies of peak on x86, in assembly, so that no compiler spills or removes an accumulator. A tier defines, before
// it includes this file:
//   REGISTER            of one vector: "ymm"
//   VECTOR_BYTES        its size
//   ACCUMULATORS(each)  each(0) each(1) ...: the numbers of the registers that accumulate, at least 8
//   INT8_INPUT          the type that an int8 factor has in a register
//   DOT(n)              accumulator n += %[x] times %[w] in s32; may overwrite %[product]
#pragma once
#include <immintrin.h>

#include "peak/peak.h"

namespace fastcpu::FASTCPU_ISA_NAME {

#define ONE(n) +1
#define NAME(n) "xmm" #n,
#define CLEAR(n) "vxorps %%" REGISTER #n ", %%" REGISTER #n ", %%" REGISTER #n "\n"
#define FMA(n) "vfmadd231ps %[w], %[x], %%" REGISTER #n "\n"
#define LOAD(n) "vmovaps %c[bytes] * " #n "(%[data]), %%" REGISTER #n "\n"

constexpr int kAccumulators = ACCUMULATORS(ONE);

template <class Element>
struct PeakVector {
  using Type __attribute__((vector_size(VECTOR_BYTES))) = Element;
  static constexpr int lanes = VECTOR_BYTES / sizeof(Element);
};

inline double peak_int8(int64_t rounds) {
  using Input = PeakVector<INT8_INPUT>;
  const Input::Type x = Input::Type{} + 85, w = Input::Type{} - 51;
  Input::Type product;
  int64_t left = rounds;
  asm volatile(ACCUMULATORS(CLEAR) "1:\n" ACCUMULATORS(DOT) "dec %[left]\njnz 1b\n"
               : [left] "+r"(left), [product] "=&v"(product)
               : [x] "v"(x), [w] "v"(w)
               : ACCUMULATORS(NAME) "cc");
  _mm256_zeroupper();
  return static_cast<double>(rounds) * kAccumulators * Input::lanes * 2;
}

inline double peak_f32(int64_t rounds) {
  using Input = PeakVector<float>;
  const Input::Type x = Input::Type{} + 1.5f, w = Input::Type{} - 0.75f;
  int64_t left = rounds;
  asm volatile(ACCUMULATORS(CLEAR) "1:\n" ACCUMULATORS(FMA) "dec %[left]\njnz 1b\n"
               : [left] "+r"(left)
               : [x] "v"(x), [w] "v"(w)
               : ACCUMULATORS(NAME) "cc");
  _mm256_zeroupper();
  return static_cast<double>(rounds) * kAccumulators * Input::lanes * 2;
}

inline void peak_read(const uint8_t* data, size_t bytes) {
  const uint8_t* end = data + bytes;
  asm volatile("1:\n" LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6)
                   LOAD(7) "add $8 * %c[bytes], %[data]\ncmp %[end], %[data]\njb 1b\n"
               : [data] "+r"(data)
               : [end] "r"(end), [bytes] "i"(VECTOR_BYTES)
               : ACCUMULATORS(NAME) "memory", "cc");
  _mm256_zeroupper();
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
