#include "pooling/pooling.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const PoolingKernel kernel;)
#include "pooling/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const PoolingKernel*>& pooling_manifest() {
  static const std::vector<const PoolingKernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "pooling/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
