#include "embedding/embedding.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const EmbeddingKernel*>& embedding_manifest() {
  using Kernel = EmbeddingKernel;
  static const std::vector<const Kernel*> manifest = {
#include "embedding/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
