// How kernels are found. A kernel folder has a manifest `kernels.inc` with one row per variant, best first:
//     FASTCPU_KERNEL(<kernel>_<isa>, <isa>)
// <kernel>.cc makes the list behind <kernel>_manifest() of it; dispatch, tests and benchmarks read that list, and
// nobody keeps a second one. A variant is a constant object in namespace fastcpu whose first members are `const char*
// name` and `Isa isa`. scripts/check_manifests.py compares the rows with the files of the folder.
#pragma once
#include <vector>

#include "base/isa.h"

// A row as an element of an initializer list, inside a function of namespace fastcpu (an unnamed namespace would keep
// the declaration to itself) that calls the type of its variants Kernel. Nothing if the tier is not built.
#define FASTCPU_KERNEL(kernel, isa) \
  FASTCPU_IF_##isa([] {             \
    extern const Kernel kernel;     \
    return &kernel;                 \
  }(), )

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
