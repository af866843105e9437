// embedding: every variant bit for bit against the left-to-right sum of docs/numerics.md.
#include "embedding/embedding.h"

#include "elementwise_cases.h"

namespace fastcpu::test {
namespace {

constexpr int kRows = 37;

struct Table {
  Guarded<int8_t> s8;
  Guarded<float> f32, scale;
  Guarded<int32_t> rows;
  bool quantized;

  Table(int channels, int tokens, bool use_s8, Values values, Random& random)
      : s8(kRows * channels), f32(s8.size()), scale(kRows), rows(tokens), quantized(use_s8) {
    for (size_t i = 0; i < s8.size(); ++i) s8[i] = static_cast<int8_t>(random.integer(-127, 127));
    fill(f32, values, random);
    fill(scale, values, random);
    for (int t = 0; t < tokens; ++t) rows[t] = random.integer(0, kRows - 1);
    rows[0] = kRows - 1;  // its last channels are the end of the table
  }
  EmbeddingTable view() {
    return {quantized ? s8.data() : nullptr, quantized ? nullptr : f32.data(), quantized ? scale.data() : nullptr,
            rows.data()};
  }
  float entry(int token, int64_t channel, int64_t channels) {
    const int64_t row = token < static_cast<int>(rows.size()) ? rows[token] : 0;
    const int64_t at = row * channels + channel;
    return quantized ? static_cast<float>(s8[at]) * scale[row] : f32[at];
  }
};

void check(const EmbeddingKernel& kernel, int channels, int width, int tokens, int count, Values values, Run& run) {
  Random random(run.seed + static_cast<uint64_t>(channels * 11 + width + tokens * 5 + count));
  std::vector<Table> tables;
  std::vector<EmbeddingTable> views;
  for (int i = 0; i < count; ++i) tables.emplace_back(channels, tokens, (i + tokens) % 2 == 0, values, random);
  for (Table& table : tables) views.push_back(table.view());
  Guarded<float> out(static_cast<int64_t>(channels) * width);
  kernel.run({views.data(), count, channels, width, tokens, out.data()});
  for (int t = 0; t < width; ++t) {
    for (int c = 0; c < channels; ++c) {
      float expected = tables[0].entry(t, c, channels);
      double exact = static_cast<double>(expected), absolute = std::fabs(exact);
      for (int i = 1; i < count; ++i) {
        const float e = tables[static_cast<size_t>(i)].entry(t, c, channels);
        expected = expected + e;
        exact += static_cast<double>(e);
        absolute += std::fabs(static_cast<double>(e));
      }
      const float got = out[static_cast<int64_t>(c) * width + t];
      const bool near =
          !std::isfinite(expected) || std::fabs(static_cast<double>(got) - exact) <= count * 0x1p-24 * absolute;
      run.report.check(same(got, expected) && near,
                       "%s: %d channels, width %d, %d tokens, %d tables: [%d, %d] = %a instead of %a", kernel.name,
                       channels, width, tokens, count, c, t, static_cast<double>(got), static_cast<double>(expected));
    }
  }
  run.report.check(out.intact(), "%s: %d channels, width %d writes outside", kernel.name, channels, width);
  add(run.digest, out);
}

int run_test(uint64_t seed) {
  return run_all("embedding", seed, embedding_manifest(), [](const EmbeddingKernel& kernel, Run& run) {
    for (const int channels : kChannels) {
      for (const int width : kWidths) {
        for (const int tokens : {1, width - 5, width}) {
          for (int count = 1; count <= 4; ++count) {
            check(kernel, channels, width, tokens, count, Values::normal, run);
            check(kernel, channels, width, tokens, count, Values::special, run);
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
