#include "gemm_u8s8/gemm_u8s8.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const GemmU8S8Kernel kernel;)
#include "gemm_u8s8/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const GemmU8S8Kernel*>& gemm_u8s8_manifest() {
  static const std::vector<const GemmU8S8Kernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "gemm_u8s8/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
