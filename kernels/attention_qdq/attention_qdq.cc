#include "attention_qdq/attention_qdq.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const AttentionQdqKernel kernel;)
#include "attention_qdq/kernels.inc"
#undef FASTCPU_KERNEL

const std::vector<const AttentionQdqKernel*>& attention_qdq_manifest() {
  static const std::vector<const AttentionQdqKernel*> manifest = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "attention_qdq/kernels.inc"
#undef FASTCPU_KERNEL
  };
  return manifest;
}

}  // namespace fastcpu
