#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const SpmmU8S8Kernel kernel;)
#include "spmm_u8s8/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const SpmmU8S8Kernel*>& spmm_u8s8_manifest() {
  static const std::vector<const SpmmU8S8Kernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "spmm_u8s8/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
