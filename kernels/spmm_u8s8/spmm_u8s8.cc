#include "spmm_u8s8/spmm_u8s8.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const SpmmU8S8Kernel*>& spmm_u8s8_manifest() {
  using Kernel = SpmmU8S8Kernel;
  static const std::vector<const Kernel*> manifest = {
#include "spmm_u8s8/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
