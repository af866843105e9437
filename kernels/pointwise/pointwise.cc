#include "pointwise/pointwise.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const PointwiseKernel*>& pointwise_manifest() {
  using Kernel = PointwiseKernel;
  static const std::vector<const Kernel*> manifest = {
#include "pointwise/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
