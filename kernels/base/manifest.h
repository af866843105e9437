// How kernels are found. A kernel folder has a manifest `kernels.inc` with one row per variant, best first:
//     FASTCPU_KERNEL(<kernel>_<isa>, <isa>)
// It is included to declare the variants, to build the list behind all_<kernel>() and, through that list, by tests and
// benchmarks: nobody keeps a second list. A variant is a constant object whose first members are `const char* name` and
// `Isa isa`; rows of tiers that are not built are left out by FASTCPU_IF_<isa>.
#pragma once
#include <vector>

#include "base/isa.h"

namespace fastcpu {

// The variants that this CPU can run, best first.
template <class Kernel>
std::vector<const Kernel*> runnable(const std::vector<const Kernel*>& manifest) {
  std::vector<const Kernel*> result;
  for (const Kernel* kernel : manifest)
    if (isa_supported(kernel->isa)) result.push_back(kernel);
  return result;
}

// The first variant at or below a tier; the manifest ends with a scalar variant, so there always is one.
template <class Kernel>
const Kernel& select(const std::vector<const Kernel*>& manifest, Isa isa) {
  for (const Kernel* kernel : manifest)
    if (kernel->isa <= isa && isa_supported(kernel->isa)) return *kernel;
  return *manifest.back();
}

}  // namespace fastcpu
