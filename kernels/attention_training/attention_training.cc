#include "attention_training/attention_training.h"

#include "attention_training/layout.h"
#include "base/manifest.h"

namespace fastcpu {

size_t attention_training_scratch(int tokens, int channels) {
  return static_cast<size_t>(HeadLayout(tokens, channels).floats);
}

const std::vector<const AttentionTrainingKernel*>& attention_training_manifest() {
  using Kernel = AttentionTrainingKernel;
  static const std::vector<const Kernel*> manifest = {
#include "attention_training/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
