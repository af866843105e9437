#include "attention/attention.h"

#include "base/manifest.h"

namespace fastcpu {

// The u8 or the f32 rows.
static std::vector<const AttentionKernel*> variants(bool u8) {
  using Kernel = AttentionKernel;
  std::vector<const Kernel*> result;
  for (const Kernel* kernel : {
#include "attention/kernels.inc"
       })
    if (kernel->u8 == u8) result.push_back(kernel);
  return result;
}

const std::vector<const AttentionKernel*>& attention_u8_manifest() {
  static const std::vector<const AttentionKernel*> manifest = variants(true);
  return manifest;
}

const std::vector<const AttentionKernel*>& attention_f32_manifest() {
  static const std::vector<const AttentionKernel*> manifest = variants(false);
  return manifest;
}

}  // namespace fastcpu
