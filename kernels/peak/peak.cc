#include "peak/peak.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const PeakKernel kernel;)
#include "peak/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const PeakKernel*>& peak_manifest() {
  static const std::vector<const PeakKernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "peak/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
