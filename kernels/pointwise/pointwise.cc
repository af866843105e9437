#include "pointwise/pointwise.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const PointwiseKernel kernel;)
#include "pointwise/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const PointwiseKernel*>& pointwise_manifest() {
  static const std::vector<const PointwiseKernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "pointwise/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
