// spmm_u8s8: every variant that runs here, bit for bit against exact sums and the epilogue of docs/numerics.md, and
// against the dense kernel on the same weights.
#include "spmm_u8s8/spmm_u8s8.h"

#include "base/manifest.h"
#include "linear_case.h"

namespace fastcpu::test {
namespace {

struct Shape {
  int n, k;
  double density;
  Fill fill;
};

constexpr Shape kShapes[] = {
    {4, 1, 1.0, Fill::random},      {4, 3, 1.0, Fill::random},     {8, 4, 0.5, Fill::random},
    {8, 5, 1.0, Fill::random},      {12, 64, 0.0, Fill::random},   {20, 64, 0.2, Fill::random},
    {64, 64, 0.3, Fill::random},    {400, 37, 0.2, Fill::random},  {16, 64, 1.0, Fill::random},
    {64, 768, 0.2, Fill::random},   {32, 768, 0.02, Fill::random}, {32, 3072, 0.2, Fill::random},
    {16, 3072, 1.0, Fill::extreme}, {8, 32768, 0.5, Fill::random}, {8, 32768, 1.0, Fill::extreme},
    {64, 768, 0.2, Fill::bell},     {12, 64, 1.0, Fill::bell},     {32, 3072, 0.5, Fill::bell},
    {64, 768, 0.3, Fill::limits},   {8, 20000, 0.5, Fill::bell},
};

// Kernels treat the first and the last blocks of a group in their own ways, and overlap a group with the next: counts
// of blocks around those limits, each followed by each.
constexpr int kBlockCounts[] = {0, 1, 4, 11, 12, 13, 60};
// Narrow tiles of more than 2304 channels are multiplied half by half. 9000: more than a segment of the packed weights.
constexpr int kUnevenK[] = {64, 768, 2304, 2308, 9000};

std::vector<int> uneven_block_counts() {
  std::vector<int> counts;
  for (const int first : kBlockCounts)
    for (const int second : kBlockCounts) counts.insert(counts.end(), {first, second});
  return counts;
}

void check_variant(const SpmmU8S8Kernel& kernel, const LinearCase& c, Report& report, Digest& digest) {
  PackedWeights packed;
  kernel.pack(c.blocks(), packed.take());
  report.check(packed.intact(), "%s, N %d, K %d: packed outside the weights", kernel.name, c.n, c.k);
  check_linear(c, kernel.name, report, digest, c.width, [&](GemmU8S8Args args) {
    args.weights = packed.data();
    kernel.run(args);
  });
  Digest hinted;
  check_linear(c, kernel.name, report, hinted, c.width, [&](GemmU8S8Args args) {
    args.weights = packed.data();
    args.next = c.x.data();
    kernel.run(args);
  });
}

Digest dense_digest(const GemmU8S8Kernel& kernel, const LinearCase& c, Report& report) {
  PackedWeights packed;
  Guarded<uint8_t> scratch(kernel.scratch_bytes(c.k));
  kernel.pack(c.n, c.k, c.weights.data(), packed.take());
  if (kernel.prepare != nullptr) kernel.prepare(c.x.data(), c.k, c.width, c.width, scratch.data());
  Digest digest;
  check_linear(c, kernel.name, report, digest, c.width, [&](GemmU8S8Args args) {
    args.weights = packed.data();
    args.scratch = scratch.data();
    kernel.run(args);
  });
  return digest;
}

int run_tests(uint64_t seed) {
  Report report(seed);
  const std::vector<const SpmmU8S8Kernel*> kernels = runnable(spmm_u8s8_manifest());
  const GemmU8S8Kernel& dense = *runnable(gemm_u8s8_manifest()).front();
  std::vector<Digest> digests(kernels.size());
  const auto check = [&](const LinearCase& c) {
    const Digest from_dense = dense_digest(dense, c, report);
    for (size_t i = 0; i < kernels.size(); ++i) {
      Digest digest;
      check_variant(*kernels[i], c, report, digest);
      report.check(digest.value() == from_dense.value(), "%s, N %d, K %d, width %d: differs from %s", kernels[i]->name,
                   c.n, c.k, c.width, dense.name);
      const uint64_t value = digest.value();
      digests[i].add(&value, sizeof value);
    }
  };
  const std::vector<int> uneven = uneven_block_counts();
  for (const Shape& shape : kShapes)
    for (const int width : {16, 32, 64}) check(make_linear(shape.n, shape.k, width, shape.density, shape.fill, seed));
  for (const int k : kUnevenK)
    for (const int width : {16, 32, 64})
      check(make_linear(4 * static_cast<int>(uneven.size()), k, width, 0, Fill::random, seed, uneven));
  test::check_digests(kernels, digests, report);
  report.check(kernels.back()->isa == Isa::scalar, "the manifest does not end with a scalar variant");
  return report.finish("spmm_u8s8_test");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_tests(fastcpu::test::seed_from(argc, argv)); }
