#include "embedding/embedding.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const EmbeddingKernel kernel;)
#include "embedding/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const EmbeddingKernel*>& embedding_manifest() {
  static const std::vector<const EmbeddingKernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "embedding/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
