#include "layernorm/layernorm.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const LayernormKernel*>& layernorm_manifest() {
  using Kernel = LayernormKernel;
  static const std::vector<const Kernel*> manifest = {
#include "layernorm/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
