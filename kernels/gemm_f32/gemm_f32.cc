#include "gemm_f32/gemm_f32.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const GemmF32Kernel kernel;)
#include "gemm_f32/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const GemmF32Kernel*>& gemm_f32_manifest() {
  static const std::vector<const GemmF32Kernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "gemm_f32/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
