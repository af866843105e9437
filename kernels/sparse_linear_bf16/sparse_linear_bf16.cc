#include "sparse_linear_bf16/sparse_linear_bf16.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const SparseLinearBf16Kernel*>& sparse_linear_bf16_manifest() {
  using Kernel = SparseLinearBf16Kernel;
  static const std::vector<const Kernel*> manifest = {
#include "sparse_linear_bf16/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
