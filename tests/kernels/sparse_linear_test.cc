// sparse_linear: every variant bit for bit as its header says, and within the bound of a product in double; and the
// products of whole linears (training/sparse_product.h) on any number of threads.
#include "sparse_linear/sparse_linear.h"

#include <cmath>
#include <limits>
#include <vector>

#include "base/manifest.h"
#include "oracle.h"
#include "training/sparse_product.h"

namespace fastcpu {
namespace {

using test::Guarded;

// A weight [n, k] with about a share of its blocks; the first group has none and the last has all.
struct Weight {
  int n, k;
  std::vector<uint8_t> keep;
  std::vector<int32_t> begin, column;
  std::vector<float> dense, values, bias;
  BlockPattern pattern() const { return {n, k, begin.data(), column.data()}; }
};

Weight make_weight(int n, int k, double share, test::Random& random) {
  Weight w{n, k, std::vector<uint8_t>(static_cast<size_t>(n) * k), {}, {}, {}, {}, {}};
  w.dense.resize(w.keep.size());
  for (int group = 0; group < n / 4; ++group) {
    w.begin.push_back(static_cast<int32_t>(w.column.size()));
    for (int column = 0; column < k; ++column) {
      const bool last = n > 4 && group == n / 4 - 1;
      if (!last && (group == 0 ? n > 4 : random.real(0, 1) >= share)) continue;
      w.column.push_back(column);
      for (int r = 0; r < 4; ++r) {
        const size_t at = static_cast<size_t>(4 * group + r) * k + column;
        w.keep[at] = 1;
        w.dense[at] = random.real(-1, 1);
        w.values.push_back(w.dense[at]);
      }
    }
  }
  w.begin.push_back(static_cast<int32_t>(w.column.size()));
  for (int i = 0; i < n; ++i) w.bias.push_back(random.real(-1, 1));
  return w;
}

void fill(Guarded<float>& x, test::Random& random) {
  for (size_t i = 0; i < x.size(); ++i) x[i] = random.real(-2, 2);
}

// The sums of the header, in its order.
float forward_at(const Weight& w, const float* x, int64_t stride, int n, int t) {
  float acc = 0;
  for (int b = w.begin[n / 4]; b < w.begin[n / 4 + 1]; ++b)
    acc = std::fma(w.values[4 * static_cast<size_t>(b) + n % 4], x[w.column[b] * stride + t], acc);
  return acc + w.bias[n];
}

float transposed_at(const Weight& w, const float* dy, int64_t stride, int k, int t) {
  float acc = 0;
  for (int group = 0; group < w.n / 4; ++group)
    for (int b = w.begin[group]; b < w.begin[group + 1]; ++b)
      for (int r = 0; r < 4 && w.column[b] == k; ++r)
        acc = std::fma(w.values[4 * static_cast<size_t>(b) + r], dy[(4 * group + r) * stride + t], acc);
  return acc;
}

float sampled_at(const float* x, const float* dy, int width) {
  float sums[16] = {};
  for (int t = 0; t < width; ++t) sums[t % 16] = std::fma(x[t], dy[t], sums[t % 16]);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

void check_products(const SparseLinearKernel& kernel, const Weight& w, int width, uint64_t seed, test::Digest& digest,
                    test::Report& report) {
  test::Random random(seed);
  const int64_t stride = width + 16;
  Guarded<float> x(static_cast<size_t>(w.k * stride)), dy(static_cast<size_t>(w.n * stride));
  fill(x, random);
  fill(dy, random);
  const BlockPattern pattern = w.pattern();
  const int groups = w.n / 4;

  Guarded<float> out(static_cast<size_t>(w.n * stride));
  int wrong = 0;
  for (int first = 0; first < groups; first += 2)
    kernel.forward(pattern, w.values.data(), w.bias.data(), {x.data(), stride}, width, first,
                   first + 2 < groups ? first + 2 : groups, {out.data() + 4 * first * stride, stride});
  for (int n = 0; n < w.n; ++n) {
    wrong += !out.unwritten(static_cast<size_t>(n * stride + width), 16);
    for (int t = 0; t < width; ++t) {
      const float y = out[static_cast<size_t>(n * stride + t)];
      double exact = w.bias[n], magnitude = std::fabs(exact);
      for (int k = 0; k < w.k; ++k) {
        const double product = static_cast<double>(w.dense[static_cast<size_t>(n) * w.k + k]) * x[k * stride + t];
        exact += product;
        magnitude += std::fabs(product);
      }
      wrong += !test::same_bits(y, forward_at(w, x.data(), stride, n, t)) || !test::near_sum(y, exact, magnitude, w.k);
    }
  }
  report.check(wrong == 0 && out.intact(), "%s: forward: %d wrong, N %d K %d width %d", kernel.name, wrong, w.n, w.k,
               width);
  digest.add(out.data(), out.bytes());

  Guarded<float> dx(static_cast<size_t>(w.k * stride));
  kernel.transposed(pattern, w.values.data(), {dy.data(), stride}, width, {dx.data(), stride});
  wrong = 0;
  for (int k = 0; k < w.k; ++k) {
    wrong += !dx.unwritten(static_cast<size_t>(k * stride + width), 16);
    for (int t = 0; t < width; ++t) {
      const float d = dx[static_cast<size_t>(k * stride + t)];
      double exact = 0, magnitude = 0;
      for (int n = 0; n < w.n; ++n) {
        const double product = static_cast<double>(w.dense[static_cast<size_t>(n) * w.k + k]) * dy[n * stride + t];
        exact += product;
        magnitude += std::fabs(product);
      }
      wrong +=
          !test::same_bits(d, transposed_at(w, dy.data(), stride, k, t)) || !test::near_sum(d, exact, magnitude, w.n);
    }
  }
  report.check(wrong == 0 && dx.intact(), "%s: transposed: %d wrong, N %d K %d width %d", kernel.name, wrong, w.n, w.k,
               width);
  digest.add(dx.data(), dx.bytes());

  Guarded<float> dw(w.values.size());
  for (size_t i = 0; i < dw.size(); ++i) dw[i] = 1;
  wrong = 0;
  for (int group = 0; group < groups; ++group) {  // in two parts
    const int middle = (w.begin[group] + w.begin[group + 1]) / 2;
    kernel.sampled(pattern, {x.data(), stride}, {dy.data(), stride}, width, group, w.begin[group], middle, dw.data());
    kernel.sampled(pattern, {x.data(), stride}, {dy.data(), stride}, width, group, middle, w.begin[group + 1],
                   dw.data());
    for (int b = w.begin[group]; b < w.begin[group + 1]; ++b)
      for (int r = 0; r < 4; ++r) {
        const float* column = x.data() + w.column[b] * stride;
        const float* row = dy.data() + (4 * group + r) * stride;
        double exact = 1, magnitude = 1;
        for (int t = 0; t < width; ++t) {
          exact += static_cast<double>(column[t]) * row[t];
          magnitude += std::fabs(static_cast<double>(column[t]) * row[t]);
        }
        const float d = dw[4 * static_cast<size_t>(b) + r];
        wrong += !test::same_bits(d, 1 + sampled_at(column, row, width)) || !test::near_sum(d, exact, magnitude, width);
      }
  }
  report.check(wrong == 0 && dw.intact(), "%s: sampled: %d wrong, N %d K %d width %d", kernel.name, wrong, w.n, w.k,
               width);
  digest.add(dw.data(), dw.bytes());
}

// Rows to a panel and back, in both formats.
void check_panels(const SparseLinearKernel& kernel, int tokens, int channels, uint64_t seed, test::Report& report) {
  test::Random random(seed);
  const int width = (tokens + 15) / 16 * 16;
  const int64_t stride = width + 16, pitch = channels + 3;
  const auto elements = static_cast<size_t>(tokens * pitch);
  Guarded<float> rows(elements), panel(static_cast<size_t>(channels * stride)), back(elements);
  Guarded<uint16_t> half(elements), half_back(elements);
  fill(rows, random);
  rows[0] = std::numeric_limits<float>::quiet_NaN();
  rows[static_cast<size_t>(pitch * (tokens - 1))] = -std::numeric_limits<float>::infinity();
  if (channels > 1) rows[1] = test::of_bf16(0x3f80) + 0x1p-8f;  // a tie, which goes to the even one below
  for (size_t i = 0; i < elements; ++i) half[i] = static_cast<uint16_t>(random.next() >> 16);

  for (const bool bf16 : {false, true}) {
    panel.refill();
    if (bf16)
      kernel.load_bf16(half.data(), pitch, tokens, channels, width, {panel.data(), stride});
    else
      kernel.load_f32(rows.data(), pitch, tokens, channels, width, {panel.data(), stride});
    int wrong = !panel.intact();
    for (int c = 0; c < channels; ++c) {
      wrong += !panel.unwritten(static_cast<size_t>(c * stride + width), 16);
      for (int t = 0; t < width; ++t) {
        const auto at = static_cast<size_t>(t * pitch + c);
        const float value = panel[static_cast<size_t>(c * stride + t)];
        wrong += !test::same_bits(value, t >= tokens ? 0.0f : bf16 ? test::of_bf16(half[at]) : rows[at]);
      }
    }
    report.check(wrong == 0, "%s: load: %d wrong, %d x %d, bf16 %d", kernel.name, wrong, tokens, channels, bf16);
  }

  kernel.load_f32(rows.data(), pitch, tokens, channels, width, {panel.data(), stride});
  kernel.store_f32({panel.data(), stride}, tokens, channels, pitch, back.data());
  kernel.store_bf16({panel.data(), stride}, tokens, channels, pitch, half_back.data());
  int wrong = !back.intact() + !half_back.intact();
  for (int t = 0; t < tokens; ++t)
    for (int c = 0; c < pitch; ++c) {
      const auto at = static_cast<size_t>(t * pitch + c);
      if (c >= channels) {
        wrong += !back.unwritten(at, 1) + !half_back.unwritten(at, 1);
        continue;
      }
      wrong += !test::same_bits(back[at], rows[at]);
      const float stored = test::of_bf16(half_back[at]);
      if (std::isnan(rows[at])) {
        wrong += !std::isnan(stored);
      } else if (std::isinf(rows[at])) {
        wrong += !test::same_bits(stored, rows[at]);
      } else {
        const float below = test::of_bf16(static_cast<uint16_t>(half_back[at] - 1));
        const float above = test::of_bf16(static_cast<uint16_t>(half_back[at] + 1));
        const double error = std::fabs(static_cast<double>(stored) - rows[at]);
        const double other = std::fmin(std::fabs(static_cast<double>(below) - rows[at]),
                                       std::fabs(static_cast<double>(above) - rows[at]));
        wrong += error > other || (error == other && (half_back[at] & 1) != 0);
      }
    }
  report.check(wrong == 0, "%s: store: %d wrong, %d x %d", kernel.name, wrong, tokens, channels);
}

// A whole linear, its gradients and their independence of the number of threads.
void check_linear(int n, int k, int64_t tokens, uint64_t seed, test::Report& report) {
  test::Random random(seed);
  Weight w = make_weight(n, k, 0.3, random);
  const SparseProduct product(w.keep.data(), n, k);
  Guarded<float> x(static_cast<size_t>(tokens * k)), dy(static_cast<size_t>(tokens * n));
  fill(x, random);
  fill(dy, random);
  Guarded<float> values(w.values.size());
  Guarded<float> dv(w.values.size()), dw(w.dense.size()), weight(w.dense.size());
  Guarded<float> y(dy.size()), dx(x.size()), first_y(dy.size()), first_dx(x.size());
  for (const int threads : {1, 2, 5}) {
    product.gather({w.dense.data(), false}, values.data(), threads);
    product.forward(values.data(), w.bias.data(), {x.data(), false}, tokens, {y.data(), false}, threads);
    product.backward(values.data(), {x.data(), false}, {dy.data(), false}, tokens, {dx.data(), false}, dv.data(),
                     threads);
    product.scatter(dv.data(), {dw.data(), false}, threads);
    product.scatter(values.data(), {weight.data(), false}, threads);
    int wrong = !values.intact() + !y.intact() + !dx.intact() + !dv.intact() + !dw.intact() + !weight.intact();
    for (size_t i = 0; i < weight.size(); ++i) wrong += weight[i] != w.dense[i];
    for (size_t i = 0; i < values.size(); ++i) wrong += !test::same_bits(values[i], w.values[i]);
    for (int64_t t = 0; t < tokens; ++t)
      for (int i = 0; i < n; ++i) {
        double exact = w.bias[i], magnitude = std::fabs(exact);
        for (int c = 0; c < k; ++c) {
          exact += static_cast<double>(w.dense[static_cast<size_t>(i) * k + c]) * x[t * k + c];
          magnitude += std::fabs(static_cast<double>(w.dense[static_cast<size_t>(i) * k + c]) * x[t * k + c]);
        }
        wrong += !test::near_sum(y[t * n + i], exact, magnitude, k);
      }
    for (int64_t t = 0; t < tokens; ++t)
      for (int c = 0; c < k; ++c) {
        double exact = 0, magnitude = 0;
        for (int i = 0; i < n; ++i) {
          exact += static_cast<double>(w.dense[static_cast<size_t>(i) * k + c]) * dy[t * n + i];
          magnitude += std::fabs(static_cast<double>(w.dense[static_cast<size_t>(i) * k + c]) * dy[t * n + i]);
        }
        wrong += !test::near_sum(dx[t * k + c], exact, magnitude, n);
      }
    for (int i = 0; i < n; ++i)
      for (int c = 0; c < k; ++c) {
        double exact = 0, magnitude = 0;
        for (int64_t t = 0; t < tokens; ++t) {
          exact += static_cast<double>(dy[t * n + i]) * x[t * k + c];
          magnitude += std::fabs(static_cast<double>(dy[t * n + i]) * x[t * k + c]);
        }
        const size_t at = static_cast<size_t>(i) * k + c;
        wrong += w.keep[at] != 0 ? !test::near_sum(dw[at], exact, magnitude, static_cast<int>(tokens)) : dw[at] != 0;
      }
    if (threads == 1) {
      std::memcpy(first_y.data(), y.data(), y.bytes());
      std::memcpy(first_dx.data(), dx.data(), dx.bytes());
    }
    wrong += std::memcmp(first_y.data(), y.data(), y.bytes()) != 0;
    wrong += std::memcmp(first_dx.data(), dx.data(), dx.bytes()) != 0;
    report.check(wrong == 0, "product: %d wrong, N %d K %d, %d tokens, %d threads", wrong, n, k,
                 static_cast<int>(tokens), threads);
  }
}

}  // namespace
}  // namespace fastcpu

int main(int argc, char** argv) {
  using namespace fastcpu;
  const uint64_t seed = test::seed_from(argc, argv);
  test::Random random(seed);
  test::Report report(seed);
  const auto kernels = runnable(sparse_linear_manifest());
  std::vector<test::Digest> digests(kernels.size());
  for (const int n : {4, 8, 20, 36})
    for (const int k : {1, 5, 33, 64})
      for (const int width : {16, 48, 64, 80, 112, 256}) {
        const Weight w = make_weight(n, k, 0.3, random);
        const uint64_t inputs = random.next();
        for (size_t i = 0; i < kernels.size(); ++i) check_products(*kernels[i], w, width, inputs, digests[i], report);
      }
  for (const int tokens : {1, 4, 15, 16, 33, 70})
    for (const int channels : {1, 4, 15, 16, 40})
      for (const SparseLinearKernel* kernel : kernels) check_panels(*kernel, tokens, channels, random.next(), report);
  for (const int64_t tokens : {1, 31, 300, 1030}) {
    check_linear(36, 20, tokens, random.next(), report);
    check_linear(8, 700, tokens, random.next(), report);
  }
  test::check_digests(kernels, digests, report);
  return report.finish("sparse_linear_test");
}
