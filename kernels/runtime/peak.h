// The measured peak of this CPU (peak/peak.h) with all threads of a run at work: what the times of ops are compared to.
#pragma once
#include "base/isa.h"
#include "peak/peak.h"

namespace fastcpu {

struct Peak {
  const PeakKernel* kernel;
  int threads;
  // Sums over the threads.
  double int8_ops;  // operations per second: two per multiply-accumulate
  double f32_ops;
  double l2_bytes;      // bytes read per second from each thread's L2
  double memory_bytes;  // and from memory
};

// Takes less than half a second: each figure is the sum of what every thread reached in its best of many short runs.
// threads = 0: all CPUs available to the process.
Peak measure_peak(Isa isa, int threads);

}  // namespace fastcpu
