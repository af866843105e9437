// gemm_u8s8: every variant that runs here, bit for bit against exact sums and the epilogue of docs/numerics.md.
#include "gemm_u8s8/gemm_u8s8.h"

#include "base/manifest.h"
#include "linear_case.h"

namespace fastcpu::test {
namespace {

struct Shape {
  int n, k;
  Fill fill;
};

// Around the block boundaries of all variants: 1, 2 and 4 groups of 4 rows, quads and pairs of k.
constexpr Shape kShapes[] = {
    {1, 1, Fill::random},     {3, 3, Fill::random},      {4, 4, Fill::random},       {5, 5, Fill::random},
    {8, 64, Fill::random},    {12, 7, Fill::random},     {13, 6, Fill::random},      {16, 64, Fill::random},
    {17, 65, Fill::random},   {20, 2, Fill::random},     {36, 130, Fill::random},    {768, 48, Fill::random},
    {16, 768, Fill::random},  {22, 768, Fill::random},   {24, 3072, Fill::random},   {17, 3072, Fill::extreme},
    {6, 32768, Fill::random}, {8, 32768, Fill::extreme}, {16, 32767, Fill::extreme}, {9, 5, Fill::bell},
    {64, 768, Fill::bell},    {20, 3000, Fill::bell},    {8, 20000, Fill::bell},     {32, 768, Fill::limits},
    {8, 9000, Fill::limits},
};

// Of tiles of 16: every number that has code of its own, and those beside them.
const std::vector<int> kFew = {1, 2, 3, 4, 5, 7, 8, 9, 16};
// The same of the last 16 of wider tiles, and numbers that leave halves of them empty.
std::vector<int> wider(int width) {
  const int half = width / 2;
  return {half - 10, half - 4, half + 4, half + 12, width - 15, width - 14, width - 12, width - 8, width - 7, width};
}

void check_variant(const GemmU8S8Kernel& kernel, const LinearCase& c, int tokens, Report& report, Digest& digest) {
  PackedWeights packed;
  Guarded<uint8_t> scratch(kernel.scratch_bytes(c.k));
  kernel.pack(c.n, c.k, c.weights.data(), packed.take());
  if (kernel.prepare != nullptr) kernel.prepare(c.x.data(), c.k, c.width, tokens, scratch.data());
  check_linear(c, kernel.name, report, digest, tokens, [&](GemmU8S8Args args) {
    args.weights = packed.data();
    args.scratch = scratch.data();
    kernel.run(args);
  });
  report.check(packed.intact() && scratch.intact(),
               "%s, N %d, K %d, width %d, %d tokens: wrote outside the weights or the scratch", kernel.name, c.n, c.k,
               c.width, tokens);
}

int run_tests(uint64_t seed) {
  Report report(seed);
  const std::vector<const GemmU8S8Kernel*> kernels = runnable(gemm_u8s8_manifest());
  std::vector<Digest> digests(kernels.size());
  for (const Shape& shape : kShapes) {
    for (const int width : {16, 32, 64}) {
      const LinearCase c = make_linear(shape.n, shape.k, width, 1.0, shape.fill, seed);
      for (const int tokens : width == 16 ? kFew : wider(width))
        for (size_t i = 0; i < kernels.size(); ++i) check_variant(*kernels[i], c, tokens, report, digests[i]);
    }
  }
  test::check_digests(kernels, digests, report);
  report.check(kernels.back()->isa == Isa::scalar, "the manifest does not end with a scalar variant");
  return report.finish("gemm_u8s8_test");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_tests(fastcpu::test::seed_from(argc, argv)); }
