#include "sparse_linear/sparse_linear.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const SparseLinearKernel*>& sparse_linear_manifest() {
  using Kernel = SparseLinearKernel;
  static const std::vector<const Kernel*> manifest = {
#include "sparse_linear/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
