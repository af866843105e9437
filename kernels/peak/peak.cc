#include "peak/peak.h"

#include "base/manifest.h"

namespace fastcpu {

const std::vector<const PeakKernel*>& peak_manifest() {
  using Kernel = PeakKernel;
  static const std::vector<const Kernel*> manifest = {
#include "peak/kernels.inc"
  };
  return manifest;
}

}  // namespace fastcpu
