// gemm_f32: every variant bit for bit against the fused multiply-adds of docs/numerics.md, and within its bound of a
// product in double.
#include "gemm_f32/gemm_f32.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "base/manifest.h"
#include "base/tile.h"

namespace fastcpu {
namespace {

constexpr uint32_t kSeed = 20261;
constexpr float kCanary = -12345.5F;
int failures = 0;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float[], Free>;

Buffer aligned_floats(size_t count) {
  return Buffer(static_cast<float*>(std::aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64)));
}

uint32_t bits(float x) {
  uint32_t u = 0;
  std::memcpy(&u, &x, sizeof u);
  return u;
}

struct Case {
  int n, k, width;
  std::vector<float> w, bias;
  Buffer x;
};

Case make_case(int n, int k, int width) {
  std::mt19937 random(kSeed + static_cast<uint32_t>(n * 7919 + k * 31 + width));
  std::normal_distribution<float> normal;
  Case c{n, k, width, {}, {}, aligned_floats(static_cast<size_t>(channel_stride(k) * width))};
  c.w.resize(static_cast<size_t>(n) * static_cast<size_t>(k));
  for (float& v : c.w) v = normal(random) * 0.1F;
  c.bias.assign(static_cast<size_t>(channel_stride(n)), 0.0F);
  for (int i = 0; i < n; ++i) c.bias[i] = normal(random);
  for (int64_t i = 0; i < channel_stride(k) * width; ++i) c.x[i] = normal(random);
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

void check(const GemmF32Kernel& kernel, const Case& c, int n_begin, int n_end) {
  const size_t rows = static_cast<size_t>(channel_stride(c.n));
  const Buffer packed = aligned_floats(kernel.packed_bytes(c.n, c.k) / sizeof(float));
  kernel.pack(c.n, c.k, c.w.data(), packed.get());
  const Buffer out = aligned_floats(rows * c.width);
  for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu, Activation::tanh}) {
    std::fill_n(out.get(), rows * c.width, kCanary);
    kernel.run({c.x.get(), c.k, c.width, packed.get(), c.bias.data(), n_begin, n_end, activation, out.get()});
    int wrong = 0;
    for (int n = 0; n < static_cast<int>(rows); ++n)
      for (int t = 0; t < c.width; ++t) {
        const float y = out[n * c.width + t];
        if (n < n_begin || n >= n_end) {
          wrong += y != kCanary;
        } else if (n >= c.n) {
          wrong += y != 0;
        } else if (activation == Activation::none || activation == Activation::relu) {
          const float linear = expected(c, n, t);
          wrong += bits(y) != bits(activation == Activation::none ? linear : std::max(linear, 0.0F));
          if (activation == Activation::none) wrong += relative_error(c, n, t, y) > 1;
        } else {
          const double exact = activate(activation, expected(c, n, t));
          wrong += std::fabs(y - exact) > 2 * std::fabs(exact) * 0x1p-23 + 0x1p-22;
        }
      }
    if (wrong == 0) continue;
    ++failures;
    std::printf("FAIL %s: %d wrong, N %d K %d width %d rows %d..%d activation %d seed %u\n", kernel.name, wrong, c.n,
                c.k, c.width, n_begin, n_end, static_cast<int>(activation), kSeed);
  }
}

// Digest of an output with an activation: the same for every variant.
uint64_t digest(const GemmF32Kernel& kernel, Activation activation) {
  const Case c = make_case(50, 131, 64);
  const Buffer packed = aligned_floats(kernel.packed_bytes(c.n, c.k) / sizeof(float));
  kernel.pack(c.n, c.k, c.w.data(), packed.get());
  const int rows = static_cast<int>(channel_stride(c.n));
  const Buffer out = aligned_floats(static_cast<size_t>(rows) * c.width);
  kernel.run({c.x.get(), c.k, c.width, packed.get(), c.bias.data(), 0, rows, activation, out.get()});
  uint64_t hash = 14695981039346656037U;
  for (int i = 0; i < rows * c.width; ++i) hash = (hash ^ bits(out[i])) * 1099511628211U;
  return hash;
}

}  // namespace
}  // namespace fastcpu

int main() {
  using namespace fastcpu;
  const auto kernels = runnable(gemm_f32_manifest());
  for (const int width : {16, 32, 64})
    for (const int k : {1, 3, 8, 65, 257})
      for (const int n : {1, 2, 4, 7, 8, 12, 13, 24, 33, 44}) {
        const Case c = make_case(n, k, width);
        const int rows = static_cast<int>(channel_stride(n));
        for (const GemmF32Kernel* kernel : kernels) {
          check(*kernel, c, 0, rows);
          if (rows > 8) check(*kernel, c, 4, rows - 4);
        }
      }
  for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu, Activation::tanh}) {
    const uint64_t first = digest(*kernels.front(), activation);
    for (const GemmF32Kernel* kernel : kernels) {
      const uint64_t hash = digest(*kernel, activation);
      std::printf("%-22s activation %d digest %016llx\n", kernel->name, static_cast<int>(activation),
                  static_cast<unsigned long long>(hash));
      if (hash != first) ++failures;
    }
  }
  std::printf(failures == 0 ? "PASS\n" : "FAIL: %d\n", failures);
  return failures == 0 ? 0 : 1;
}
