#include "attention_qdq/attention_qdq.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const AttentionQdqKernel*>& attention_qdq_manifest() {
  using Kernel = AttentionQdqKernel;
  static const std::vector<const Kernel*> manifest = {
#include "attention_qdq/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
