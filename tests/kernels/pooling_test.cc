// pooling: every variant bit for bit against plain loops over the tile layout (docs/numerics.md, "pool", "l2norm").
#include "pooling/pooling.h"

#include "elementwise_cases.h"

namespace fastcpu::test {
namespace {

// A value in the tile layout.
struct Value {
  int64_t tokens;
  int channels;
  Guarded<float> data;

  Value(int64_t token_count, int channel_count, Values values, Random& random)
      : tokens(token_count), channels(channel_count), data(padded_tokens(token_count) * channel_stride(channel_count)) {
    fill(data, values, random);
  }
  float& at(int64_t channel, int64_t token) {
    const Tile tile = tile_of(tokens, token);
    return data[tile.begin * channel_stride(channels) + channel * tile.width + (token - tile.begin)];
  }
  TileSpan span(int channel, int64_t begin, int64_t length) {
    return {data.data(), tokens, channels, channel, begin, length};
  }
};

struct Part {  // of a value: channels [channel, channel + count) of the tokens [begin, begin + length)
  int64_t tokens, begin, length;
  int channels, channel, count;
};

float pooled(Pool mode, Value& x, const Part& p, int64_t channel) {
  if (p.length == 0) return 0.0f;
  float result = mode == Pool::mean ? 0.0f : x.at(channel, p.begin);
  for (int64_t t = p.begin; t < p.begin + p.length; ++t) {
    const float e = x.at(channel, t);
    if (mode == Pool::mean) result = result + e;
    if (mode == Pool::max && !std::isnan(result) && !(e <= result)) result = e;  // the first NaN stays
  }
  return mode == Pool::mean ? result / static_cast<float>(p.length) : result;
}

void check_pool(const PoolingKernel& kernel, Value& x, const Part& p, Run& run) {
  for (const Pool mode : {Pool::cls, Pool::mean, Pool::max}) {
    Guarded<float> out(p.count);
    kernel.pool(mode, x.span(p.channel, p.begin, p.length), p.count, out.data());
    for (int c = 0; c < p.count; ++c) {
      const float expected = pooled(mode, x, p, p.channel + c);
      double exact = 0, absolute = 0;
      for (int64_t t = p.begin; t < p.begin + p.length; ++t) {
        exact += static_cast<double>(x.at(p.channel + c, t)) / static_cast<double>(p.length);
        absolute += std::fabs(static_cast<double>(x.at(p.channel + c, t)));
      }
      const bool near = mode != Pool::mean || !std::isfinite(expected) ||
                        std::fabs(static_cast<double>(expected) - exact) <= 0x1p-23 * absolute;
      run.report.check(same(out[c], expected) && near,
                       "%s pool %d: tokens %lld + %lld of %lld, channel %d + %d of %d: %a instead of %a", kernel.name,
                       static_cast<int>(mode), static_cast<long long>(p.begin), static_cast<long long>(p.length),
                       static_cast<long long>(p.tokens), p.channel, c, p.channels, static_cast<double>(out[c]),
                       static_cast<double>(expected));
    }
    run.report.check(out.intact(), "%s pool writes outside", kernel.name);
    add(run.digest, out);
  }
}

void check_rows(const PoolingKernel& kernel, Value& x, const Part& p, Random& random, Run& run) {
  const int64_t row_stride = p.count + 3;
  constexpr float kUntouched = -77.0f;
  Guarded<float> rows(p.length * row_stride);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = kUntouched;
  kernel.to_rows(x.span(p.channel, p.begin, p.length), p.count, rows.data(), row_stride);
  for (int64_t t = 0; t < p.length; ++t) {
    for (int64_t c = 0; c < row_stride; ++c) {
      const float expected = c < p.count ? x.at(p.channel + c, p.begin + t) : kUntouched;
      run.report.check(same(rows[t * row_stride + c], expected), "%s to_rows: token %lld", kernel.name,
                       static_cast<long long>(t));
    }
  }
  run.report.check(rows.intact(), "%s to_rows writes outside", kernel.name);
  add(run.digest, rows);

  fill(rows, Values::special, random);
  Value y(p.tokens, p.channels, Values::normal, random);
  const std::vector<float> before(y.data.data(), y.data.data() + y.data.size());
  kernel.from_rows(rows.data(), row_stride, p.count, y.span(p.channel, p.begin, p.length));
  const bool to_end = p.length > 0 && p.begin + p.length == p.tokens;
  for (int64_t t = 0; t < padded_tokens(p.tokens); ++t) {
    for (int c = 0; c < p.channels; ++c) {
      const bool inside = t >= p.begin && t < p.begin + p.length && c >= p.channel && c < p.channel + p.count;
      if (to_end && t >= p.tokens) continue;  // lanes past the last token
      const float old = before[static_cast<size_t>(&y.at(c, t) - y.data.data())];
      const float expected = inside ? rows[(t - p.begin) * row_stride + (c - p.channel)] : old;
      run.report.check(same(y.at(c, t), expected), "%s from_rows: token %lld, channel %d", kernel.name,
                       static_cast<long long>(t), c);
    }
  }
  run.report.check(y.data.intact(), "%s from_rows writes outside", kernel.name);
  add(run.digest, y.data);
}

void check_l2norm(const PoolingKernel& kernel, int channels, int width, Values values, Run& run) {
  Random random(run.seed + static_cast<uint64_t>(channels * 13 + width));
  Guarded<float> x(static_cast<int64_t>(channels) * width);
  fill(x, Values::normal, random);
  for (int c = 0; c < channels; ++c) {
    x[c * width] = 0.0f;
    if (values == Values::special) x[c * width + 1] *= 1e-40f;
  }
  if (values == Values::special) {
    x[2] = kNan;
    x[3] = kInf;
  }
  const std::vector<float> before(x.data(), x.data() + x.size());
  kernel.l2norm(x.data(), channels, width);
  for (int t = 0; t < width; ++t) {
    float s = 0;
    double s64 = 0;
    for (int c = 0; c < channels; ++c) {
      const float e = before[static_cast<size_t>(c) * width + t];
      s = s + e * e;
      s64 += static_cast<double>(e) * static_cast<double>(e);
    }
    const float root = std::sqrt(s);
    const float norm = root <= 1e-12f ? 1e-12f : root;
    const double norm64 = std::fmax(std::sqrt(s64), 1e-12);
    for (int c = 0; c < channels; ++c) {
      const float e = before[static_cast<size_t>(c) * width + t], got = x[c * width + t];
      const double exact = static_cast<double>(e) / norm64;
      const bool near = !std::isfinite(s) || s < 1e-30f ||
                        std::fabs(static_cast<double>(got) - exact) <= (channels + 4) * 0x1p-24 * std::fabs(exact);
      run.report.check(same(got, e / norm) && near, "%s l2norm: %dx%d [%d, %d]", kernel.name, channels, width, c, t);
    }
  }
  run.report.check(x.intact(), "%s l2norm writes outside", kernel.name);
  add(run.digest, x);
}

int run_test(uint64_t seed) {
  return run_all("pooling", seed, pooling_manifest(), [](const PoolingKernel& kernel, Run& run) {
    Random random(run.seed);
    for (const int channels : kChannels) {
      for (const int width : kWidths) {
        check_l2norm(kernel, channels, width, Values::normal, run);
        check_l2norm(kernel, channels, width, Values::special, run);
      }
      for (const int64_t tokens : {1, 64, 112, 177}) {  // 112 and 177: tiles of 64, 32 and 16 tokens
        for (const Values values : {Values::normal, Values::special}) {
          Value x(tokens, channels, values, random);
          const int64_t middle = random.integer(0, static_cast<int>(tokens) - 1);
          const int64_t spans[][2] = {
              {0, tokens}, {0, 0}, {tokens, 0}, {middle, tokens - middle}, {middle / 2, middle - middle / 2}};
          for (const auto& span : spans) {
            const int channel = random.integer(0, channels - 1);
            for (const auto& [first, count] : {std::pair(0, channels), std::pair(channel, 1),
                                               std::pair(channel, random.integer(1, channels - channel))}) {
              const Part part = {tokens, span[0], span[1], channels, first, count};
              check_pool(kernel, x, part, run);
              check_rows(kernel, x, part, random, run);
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
