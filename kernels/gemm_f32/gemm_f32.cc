#include "gemm_f32/gemm_f32.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const GemmF32Kernel*>& gemm_f32_manifest() {
  using Kernel = GemmF32Kernel;
  static const std::vector<const Kernel*> manifest = {
#include "gemm_f32/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
