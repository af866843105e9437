// sparse_linear_bf16: every variant within the bound of a product in double of the same bf16 numbers, and whole linears
// that use it.
#include "sparse_linear_bf16/sparse_linear_bf16.h"

#include <cmath>
#include <vector>

#include "base/manifest.h"
#include "oracle.h"
#include "training/sparse_product.h"

namespace fastcpu {
namespace {

using test::Guarded;

// A number of few bits, so that it is a bf16.
uint16_t number(test::Random& random) {
  const auto value = static_cast<float>(random.integer(-255, 255)) / 128;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);
}

struct Weight {
  int n, k;
  std::vector<uint8_t> keep;
  std::vector<uint16_t> dense;
  std::vector<float> wide, bias;
  std::vector<int32_t> begin, column, pair_begin, pair_columns;
  std::vector<uint32_t> pairs, rows;
};

Weight make_weight(int n, int k, test::Random& random) {
  Weight w{n, k, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  w.dense.resize(static_cast<size_t>(n) * k);
  for (int group = 0; group < n / 4; ++group) {
    w.begin.push_back(static_cast<int32_t>(w.column.size()));
    w.pair_begin.push_back(static_cast<int32_t>(w.pair_columns.size() / 2));
    std::vector<int> columns;
    for (int column = 0; column < k; ++column)
      if (random.below(3) == 0) columns.push_back(column);
    for (const int column : columns) {
      w.column.push_back(column);
      for (int r = 0; r < 4; ++r) w.dense[static_cast<size_t>(4 * group + r) * k + column] = number(random);
    }
    const auto bits = [&](int row, int column) { return uint32_t{w.dense[static_cast<size_t>(row) * k + column]}; };
    for (size_t i = 0; i < columns.size(); i += 2) {
      const bool alone = i + 1 == columns.size();
      const int second = alone ? columns[i] : columns[i + 1];
      w.pair_columns.insert(w.pair_columns.end(), {columns[i], second});
      for (int r = 4 * group; r < 4 * group + 4; ++r)
        w.pairs.push_back(bits(r, columns[i]) | (alone ? 0 : bits(r, second)) << 16);
    }
    for (const int column : columns)
      for (const int r : {4 * group, 4 * group + 2}) w.rows.push_back(bits(r, column) | bits(r + 1, column) << 16);
  }
  w.begin.push_back(static_cast<int32_t>(w.column.size()));
  w.pair_begin.push_back(static_cast<int32_t>(w.pair_columns.size() / 2));
  for (int i = 0; i < n; ++i) w.bias.push_back(random.real(-1, 1));
  for (const uint16_t bits : w.dense) w.wide.push_back(test::of_bf16(bits));
  w.keep.resize(w.dense.size());
  for (size_t i = 0; i < w.column.size(); ++i) {
    int group = 0;
    while (w.begin[group + 1] <= static_cast<int>(i)) ++group;
    for (int r = 0; r < 4; ++r) w.keep[static_cast<size_t>(4 * group + r) * k + w.column[i]] = 1;
  }
  return w;
}

// Sums over the columns of a row, over the rows of a column and over tokens, in double.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double a, double b) {
    value += a * b;
    magnitude += std::fabs(a * b);
  }
};

void check_kernel(const SparseLinearBf16Kernel& kernel, const Weight& w, int width, uint64_t seed,
                  test::Report& report) {
  test::Random random(seed);
  const int64_t stride = width + 32;
  Guarded<uint16_t> x(static_cast<size_t>(w.k * stride)), dy(static_cast<size_t>(w.n * stride));
  for (size_t i = 0; i < x.size(); ++i) x[i] = number(random);
  for (size_t i = 0; i < dy.size(); ++i) dy[i] = number(random);
  const auto weight = [&](int n, int k) { return test::of_bf16(w.dense[static_cast<size_t>(n) * w.k + k]); };
  const Bf16Panel xs{x.data(), stride}, dys{dy.data(), stride};
  int wrong = 0;

  Guarded<float> out(static_cast<size_t>(w.n * stride)), dx(static_cast<size_t>(w.k * stride));
  const PairedBlocks pairs{w.n, w.k, w.pair_begin.data(), w.pair_columns.data()};
  for (int group = 0; group < w.n / 4; ++group)
    kernel.forward(pairs, w.pairs.data(), w.bias.data(), xs, width, group, group + 1,
                   {out.data() + 4 * group * stride, stride});
  kernel.transposed({w.n, w.k, w.begin.data(), w.column.data()}, w.rows.data(), dys, width, {dx.data(), stride});
  for (int n = 0; n < w.n; ++n) {
    wrong += !out.unwritten(static_cast<size_t>(n * stride + width), 32);
    for (int t = 0; t < width; ++t) {
      Sum sum;
      sum.add(w.bias[n], 1);
      for (int k = 0; k < w.k; ++k) sum.add(weight(n, k), test::of_bf16(x[static_cast<size_t>(k * stride + t)]));
      wrong += !test::near_sum(out[static_cast<size_t>(n * stride + t)], sum.value, sum.magnitude, w.k);
    }
  }
  report.check(wrong == 0 && out.intact(), "%s: forward: %d wrong, N %d K %d width %d", kernel.name, wrong, w.n, w.k,
               width);
  wrong = 0;
  for (int k = 0; k < w.k; ++k) {
    wrong += !dx.unwritten(static_cast<size_t>(k * stride + width), 32);
    for (int t = 0; t < width; ++t) {
      Sum sum;
      for (int n = 0; n < w.n; ++n) sum.add(weight(n, k), test::of_bf16(dy[static_cast<size_t>(n * stride + t)]));
      wrong += !test::near_sum(dx[static_cast<size_t>(k * stride + t)], sum.value, sum.magnitude, w.n);
    }
  }
  report.check(wrong == 0 && dx.intact(), "%s: transposed: %d wrong, N %d K %d width %d", kernel.name, wrong, w.n, w.k,
               width);

  wrong = 0;
  Guarded<float> dw(4 * w.column.size());
  for (size_t i = 0; i < dw.size(); ++i) dw[i] = 1;
  for (int group = 0; group < w.n / 4; ++group) {
    const int first = w.begin[group], count = w.begin[group + 1] - first;
    kernel.sampled(w.column.data() + first, count, xs, dys, width, group, dw.data() + 4 * static_cast<size_t>(first));
    for (int b = first; b < first + count; ++b)
      for (int r = 0; r < 4; ++r) {
        Sum sum;
        sum.add(1, 1);
        for (int t = 0; t < width; ++t)
          sum.add(test::of_bf16(x[static_cast<size_t>(w.column[b] * stride + t)]),
                  test::of_bf16(dy[static_cast<size_t>((4 * group + r) * stride + t)]));
        wrong += !test::near_sum(dw[4 * static_cast<size_t>(b) + r], sum.value, sum.magnitude, width);
      }
  }
  report.check(wrong == 0 && dw.intact(), "%s: sampled: %d wrong, N %d K %d width %d", kernel.name, wrong, w.n, w.k,
               width);
}

void check_load(const SparseLinearBf16Kernel& kernel, int tokens, int channels, uint64_t seed, test::Report& report) {
  test::Random random(seed);
  const int width = (tokens + 31) / 32 * 32;
  const int64_t stride = width + 32, pitch = channels + 3;
  const auto count = static_cast<size_t>(tokens * pitch);
  Guarded<uint16_t> rows(count), panel(static_cast<size_t>(channels * stride));
  Guarded<float> wide(count);
  for (size_t i = 0; i < count; ++i) {
    rows[i] = number(random);
    wide[i] = test::of_bf16(rows[i]) * (1 + random.real(0, 0x1p-9f));  // rounds to it
  }
  for (const bool bf16 : {false, true}) {
    panel.refill();
    if (bf16)
      kernel.load_bf16(rows.data(), pitch, tokens, channels, width, {panel.data(), stride});
    else
      kernel.load_f32(wide.data(), pitch, tokens, channels, width, {panel.data(), stride});
    int wrong = !panel.intact();
    for (int c = 0; c < channels; ++c) {
      wrong += !panel.unwritten(static_cast<size_t>(c * stride + width), 32);
      for (int t = 0; t < width; ++t)
        wrong +=
            panel[static_cast<size_t>(c * stride + t)] != (t < tokens ? rows[static_cast<size_t>(t * pitch + c)] : 0);
    }
    report.check(wrong == 0, "%s: load: %d wrong, %d x %d, bf16 %d", kernel.name, wrong, tokens, channels, bf16);
  }
}

// A linear of bf16 activations; y and dx are rounded to bf16, dw is not.
void check_linear(int n, int k, int64_t tokens, uint64_t seed, test::Report& report) {
  test::Random random(seed);
  Weight w = make_weight(n, k, random);
  const SparseProduct product(w.keep.data(), n, k);
  Guarded<uint16_t> x(static_cast<size_t>(tokens * k)), dy(static_cast<size_t>(tokens * n)), y(dy.size()), dx(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = number(random);
  for (size_t i = 0; i < dy.size(); ++i) dy[i] = number(random);
  Guarded<float> values(4 * w.column.size()), dv(values.size()), dw(w.dense.size());
  Guarded<uint16_t> weight(w.dense.size());
  for (const int threads : {1, 3}) {
    product.gather({w.dense.data(), true}, values.data(), threads);
    product.scatter(values.data(), {weight.data(), true}, threads);
    product.forward(values.data(), w.bias.data(), {x.data(), true}, tokens, {y.data(), true}, threads);
    product.backward(values.data(), {x.data(), true}, {dy.data(), true}, tokens, {dx.data(), true}, dv.data(), threads);
    product.scatter(dv.data(), {dw.data(), false}, threads);
    int wrong = !y.intact() + !dx.intact() + !dv.intact() + !dw.intact() + !weight.intact();
    for (size_t i = 0; i < weight.size(); ++i) wrong += weight[i] != w.dense[i];
    const auto close = [](float found, const Sum& sum) {
      return std::fabs(found - sum.value) <= std::fabs(sum.value) * 0x1p-8 + sum.magnitude * 1e-4;
    };
    for (int64_t t = 0; t < tokens; ++t) {
      for (int i = 0; i < n; ++i) {
        Sum sum;
        sum.add(w.bias[i], 1);
        for (int c = 0; c < k; ++c) sum.add(w.wide[static_cast<size_t>(i) * k + c], test::of_bf16(x[t * k + c]));
        wrong += !close(test::of_bf16(y[t * n + i]), sum);
      }
      for (int c = 0; c < k; ++c) {
        Sum sum;
        for (int i = 0; i < n; ++i) sum.add(w.wide[static_cast<size_t>(i) * k + c], test::of_bf16(dy[t * n + i]));
        wrong += !close(test::of_bf16(dx[t * k + c]), sum);
      }
    }
    for (int i = 0; i < n; ++i)
      for (int c = 0; c < k; ++c) {
        const size_t at = static_cast<size_t>(i) * k + c;
        Sum sum;
        for (int64_t t = 0; t < tokens && w.keep[at] != 0; ++t)
          sum.add(test::of_bf16(dy[t * n + i]), test::of_bf16(x[t * k + c]));
        wrong += !test::near_sum(dw[at], sum.value, sum.magnitude, static_cast<int>(tokens));
      }
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
  const auto kernels = runnable(sparse_linear_bf16_manifest());
  for (const int n : {4, 8, 36})
    for (const int k : {1, 5, 33, 64})
      for (const int width : {32, 64, 96, 256}) {
        const Weight w = make_weight(n, k, random);
        for (const SparseLinearBf16Kernel* kernel : kernels) check_kernel(*kernel, w, width, random.next(), report);
      }
  for (const int tokens : {1, 15, 16, 33, 70})
    for (const int channels : {1, 4, 15, 16, 40})
      for (const SparseLinearBf16Kernel* kernel : kernels) check_load(*kernel, tokens, channels, random.next(), report);
  for (const int64_t tokens : {1, 33, 700}) {
    check_linear(36, 20, tokens, random.next(), report);
    check_linear(8, 300, tokens, random.next(), report);
  }
  return report.finish("sparse_linear_bf16_test");
}
