#include "gemm_u8s8/gemm_u8s8.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const GemmU8S8Kernel*>& gemm_u8s8_manifest() {
  using Kernel = GemmU8S8Kernel;
  static const std::vector<const Kernel*> manifest = {
#include "gemm_u8s8/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
