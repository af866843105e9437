#include "attention/attention.h"

namespace fastcpu {

#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(extern const AttentionKernel kernel;)
#include "attention/kernels.inc"
#undef FASTCPU_KERNEL

namespace {

std::vector<const AttentionKernel*> variants(bool u8) {
  std::vector<const AttentionKernel*> all = {
#define FASTCPU_KERNEL(kernel, isa) FASTCPU_IF_##isa(&kernel, )
#include "attention/kernels.inc"
#undef FASTCPU_KERNEL
  };
  std::vector<const AttentionKernel*> result;
  for (const AttentionKernel* kernel : all)
    if (kernel->u8 == u8) result.push_back(kernel);
  return result;
}

}  // namespace

const std::vector<const AttentionKernel*>& attention_u8_manifest() {
  static const std::vector<const AttentionKernel*> manifest = variants(true);
  return manifest;
}

const std::vector<const AttentionKernel*>& attention_f32_manifest() {
  static const std::vector<const AttentionKernel*> manifest = variants(false);
  return manifest;
}

}  // namespace fastcpu
