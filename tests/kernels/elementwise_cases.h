// What the tests of pointwise, layernorm, embedding and pooling share: shapes, inputs, tolerances, and the comparison
// of all variants that this CPU can run.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/manifest.h"
#include "base/tile.h"
#include "oracle.h"

namespace fastcpu::test {

constexpr int kWidths[] = {16, 32, 64};
constexpr int kChannels[] = {1, 3, 4, 384, 768, 770};
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

enum class Values { normal, special };  // special: NaN, infinities, zeros of both signs, subnormals, huge values

// Mean 0, variance 1.
inline float normal(Random& random) { return random.real(-1, 1) + random.real(-1, 1) + random.real(-1, 1); }

inline void fill(Guarded<float>& x, Values values, Random& random) {
  constexpr float kSpecial[] = {kNan, kInf, -kInf, 0.0f, -0.0f, 1e-40f, -1e-45f, 3e38f, -3e38f, 1e-20f};
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] =
        values == Values::special && random.below(8) == 0 ? kSpecial[random.below(10)] : 1.5f * normal(random) + 0.25f;
  }
}

inline bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Distance to the nearest value whose rounding is a tie.
inline double distance_to_tie(double x) { return std::fabs(x - std::floor(x) - 0.5); }

// One ULP of the float nearest to x.
inline double ulp(double x) {
  const float f = std::fabs(static_cast<float>(x));
  return static_cast<double>(std::nextafterf(f, kInf)) - static_cast<double>(f);
}

// Adds an output to a digest; all NaNs count as one value.
inline void add(Digest& digest, const Guarded<float>& x) {
  for (size_t i = 0; i < x.size(); ++i) {
    const float value = std::isnan(x[i]) ? kNan : x[i];
    digest.add(&value, sizeof(value));
  }
}
inline void add(Digest& digest, const Guarded<uint8_t>& x) { digest.add(x.data(), x.size()); }

// One variant under test.
struct Run {
  uint64_t seed;
  Report& report;
  Digest digest;
};

// Calls test(kernel, run) for every runnable variant; the digests must agree. Returns the exit status.
template <class Kernel, class Test>
int run_all(const char* name, uint64_t seed, const std::vector<const Kernel*>& manifest, Test test) {
  Report report(seed);
  const auto kernels = runnable(manifest);
  report.check(!kernels.empty() && kernels.back()->isa == Isa::scalar, "the last variant is not the scalar one");
  uint64_t expected = 0;
  for (const Kernel* kernel : kernels) {
    Run run{seed, report, {}};
    test(*kernel, run);
    const uint64_t digest = run.digest.value();
    std::printf("%-24s digest %016llx\n", kernel->name, static_cast<unsigned long long>(digest));
    if (kernel == kernels.front()) expected = digest;
    report.check(digest == expected, "%s and %s differ in bits", kernel->name, kernels.front()->name);
  }
  return report.finish(name);
}

}  // namespace fastcpu::test
