#include "pooling/pooling.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const PoolingKernel*>& pooling_manifest() {
  using Kernel = PoolingKernel;
  static const std::vector<const Kernel*> manifest = {
#include "pooling/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
