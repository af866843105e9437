#include "layernorm/layernorm.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const LayernormKernel kernel;)
#include "layernorm/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const LayernormKernel*>& layernorm_manifest() {
  static const std::vector<const LayernormKernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "layernorm/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
