// gemm_f32: every variant bit for bit against the fused multiply-adds of docs/numerics.md, and within its bound of a
// product in double.
#include "gemm_f32/gemm_f32.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/manifest.h"
#include "base/tile.h"
#include "oracle.h"

namespace fastcpu {
namespace {

using test::Guarded;

struct Case {
  int n, k, width;
  std::vector<float> w, bias;
  Guarded<float> x;
};

Case make_case(int n, int k, int width, test::Random& random) {
  Case c{n, k, width, {}, {}, Guarded<float>(static_cast<size_t>(channel_stride(k) * width))};
  c.w.resize(static_cast<size_t>(n) * static_cast<size_t>(k));
  for (float& v : c.w) v = random.real(-0.2f, 0.2f);
  c.bias.assign(static_cast<size_t>(channel_stride(n)), 0.0f);
  for (int i = 0; i < n; ++i) c.bias[i] = random.real(-1, 1);
  for (size_t i = 0; i < c.x.size(); ++i) c.x[i] = random.real(-2, 2);
  return c;
}

float expected(const Case& c, int n, int t) {
  float acc = 0;
  for (int k = 0; k < c.k; ++k) acc = std::fma(c.w[static_cast<size_t>(n) * c.k + k], c.x[k * c.width + t], acc);
  return acc + c.bias[n];
}

// |y - exact| in units of K ULP of the sum of absolute products.
double relative_error(const Case& c, int n, int t, float y) {
  double sum = c.bias[n];
  double magnitude = std::fabs(sum);
  for (int k = 0; k < c.k; ++k) {
    const double product = static_cast<double>(c.w[static_cast<size_t>(n) * c.k + k]) * c.x[k * c.width + t];
    sum += product;
    magnitude += std::fabs(product);
  }
  return std::fabs(y - sum) / (magnitude * (c.k + 1) * 0x1p-23);
}

double activate(Activation activation, double y) {
  switch (activation) {
    case Activation::relu:
      return std::max(y, 0.0);
    case Activation::gelu:
      return y / 2 * (1 + std::erf(y / std::sqrt(2.0)));
    case Activation::tanh:
      return std::tanh(y);
    default:
      return y;
  }
}

// Runs a variant on rows [n_begin, n_end) and returns the digest of all outputs.
uint64_t check(const GemmF32Kernel& kernel, const Case& c, int n_begin, int n_end, test::Report& report) {
  const int rows = static_cast<int>(channel_stride(c.n));
  Guarded<float> packed(kernel.packed_bytes(c.n, c.k) / sizeof(float));
  kernel.pack(c.n, c.k, c.w.data(), packed.data());
  report.check(packed.intact(), "%s: pack writes outside packed_bytes, N %d K %d", kernel.name, c.n, c.k);
  Guarded<float> out(static_cast<size_t>(rows) * c.width);
  test::Digest digest;
  for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu, Activation::tanh}) {
    out.refill();
    kernel.run({c.x.data(), c.k, c.width, packed.data(), c.bias.data(), n_begin, n_end, activation, out.data()});
    digest.add(out.data(), out.bytes());
    int wrong = !out.intact();
    for (int n = 0; n < rows; ++n)
      for (int t = 0; t < c.width; ++t) {
        const size_t at = static_cast<size_t>(n) * c.width + t;
        const float y = out[at];
        if (n < n_begin || n >= n_end) {
          wrong += !out.unwritten(at, 1);
        } else if (n >= c.n) {
          wrong += y != 0;
        } else if (activation == Activation::none || activation == Activation::relu) {
          const float linear = expected(c, n, t);
          wrong += !test::same_bits(y, activation == Activation::none ? linear : std::max(linear, 0.0f));
          wrong += activation == Activation::none && relative_error(c, n, t, y) > 1;
        } else {
          const double exact = activate(activation, expected(c, n, t));
          wrong += std::fabs(y - exact) > 2 * std::fabs(exact) * 0x1p-23 + 0x1p-22;
        }
      }
    report.check(wrong == 0, "%s: %d wrong, N %d K %d width %d rows %d..%d activation %d", kernel.name, wrong, c.n, c.k,
                 c.width, n_begin, n_end, static_cast<int>(activation));
  }
  return digest.value();
}

}  // namespace
}  // namespace fastcpu

int main(int argc, char** argv) {
  using namespace fastcpu;
  const uint64_t seed = test::seed_from(argc, argv);
  test::Random random(seed);
  test::Report report(seed);
  const auto kernels = runnable(gemm_f32_manifest());
  std::vector<test::Digest> digests(kernels.size());
  for (const int width : {16, 32, 64})
    for (const int k : {1, 3, 8, 65, 257})
      for (const int n : {1, 2, 4, 7, 8, 12, 13, 24, 33, 44}) {
        const Case c = make_case(n, k, width, random);
        const int rows = static_cast<int>(channel_stride(n));
        for (size_t i = 0; i < kernels.size(); ++i)
          for (const int margin : {0, 4}) {
            if (2 * margin >= rows) continue;
            const uint64_t digest = check(*kernels[i], c, margin, rows - margin, report);
            digests[i].add(&digest, sizeof digest);
          }
      }
  test::check_digests(kernels, digests, report);
  return report.finish("gemm_f32_test");
}
