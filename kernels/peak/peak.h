// What one thread of this CPU can do at best with the instructions of a tier: the yardstick for the speed of kernels.
// The arithmetic runs on registers with independent accumulators, enough of them to hide the latency; no real kernel
// is faster. Reads are sequential and their results are thrown away.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace fastcpu {

struct PeakKernel {
  const char* name;
  Isa isa;
  const char* int8_instruction;
  const char* f32_instruction;
  // Does `rounds` (at least 1) rounds of multiply-accumulates and returns how many operations that were, a multiply and
  // an add counting as two. int8 products accumulate in s32 without saturation.
  double (*int8)(int64_t rounds);
  double (*f32)(int64_t rounds);
  // Reads all of `data`: 64-byte aligned; bytes is a multiple of 512, at least 512.
  void (*read)(const uint8_t* data, size_t bytes);
};

const std::vector<const PeakKernel*>& peak_manifest();

}  // namespace fastcpu
