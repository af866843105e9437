// What the compiler makes of plain loops for the baseline of the architecture.
#include "peak/peak.h"

namespace fastcpu {
namespace {

using Bytes = uint8_t __attribute__((vector_size(16)));
using Floats = float __attribute__((vector_size(16)));

constexpr int kLanes = 32, kDepth = 64;

// Makes the compiler believe that the memory was read and written.
void touch(void* data) { asm volatile("" : : "r"(data) : "memory"); }

double int8(int64_t rounds) {
  int32_t acc[kLanes] = {};
  uint8_t x[kDepth][kLanes];
  int8_t w[kDepth];
  for (int k = 0; k < kDepth; ++k) {
    w[k] = static_cast<int8_t>(k - 32);
    for (int t = 0; t < kLanes; ++t) x[k][t] = static_cast<uint8_t>(k + t);
  }
  touch(w);
  touch(x);
  for (int64_t i = 0; i < rounds; ++i) {
    int32_t sum[kLanes] = {};
    for (int k = 0; k < kDepth; ++k)
      for (int t = 0; t < kLanes; ++t) sum[t] += w[k] * x[k][t];
    for (int t = 0; t < kLanes; ++t) acc[t] = sum[t];
    touch(acc);
  }
  return static_cast<double>(rounds) * kDepth * kLanes * 2;
}

double f32(int64_t rounds) {
  Floats acc[12] = {}, factor = {0.5f, 0.5f, 0.5f, 0.5f}, term = {1.5f, 1.5f, 1.5f, 1.5f};
  touch(&factor);
  touch(&term);
  const Floats a = factor, b = term;
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (Floats& sum : acc) sum = sum * a + b;
  }
  touch(acc);
  return static_cast<double>(rounds) * 12 * 4 * 2;
}

void read(const uint8_t* data, size_t bytes) {
  Bytes any[4] = {};
  for (size_t i = 0; i < bytes; i += sizeof(any)) {
    Bytes part[4];
    __builtin_memcpy(part, data + i, sizeof(part));
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) any[v] |= part[v];
  }
  touch(any);
}

}  // namespace

extern const PeakKernel peak_scalar = {"peak_scalar", Isa::scalar, "compiled C++", "compiled C++", int8, f32, read};

}  // namespace fastcpu
