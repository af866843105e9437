// attention_u8, attention_f32: every variant bit for bit against a restatement of docs/numerics.md, the restatement
// against double, for sequences that start anywhere in the tiles of a longer value; no other byte of the output
// changes.
#include "attention/attention.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "base/manifest.h"
#include "base/tile.h"
#include "oracle.h"

#define FASTCPU_ISA_NAME scalar
#include "simd/math.h"
#include "simd/scalar.h"

namespace fastcpu {
namespace {

constexpr int kHeads = 3;   // the middle one is computed
constexpr int kAfter = 23;  // tokens of the value behind the sequence
std::map<std::string, test::Digest> digests;

// A value in the tile layout.
template <class T>
struct Value {
  int64_t tokens;
  int channels;
  mutable test::Guarded<T> data;

  Value(int64_t token_count, int channel_count)
      : tokens(token_count),
        channels(channel_count),
        data(static_cast<size_t>(padded_tokens(token_count) * channel_stride(channel_count))) {}
  T& at(int64_t channel, int64_t token) const {
    const Tile tile = tile_of(tokens, token);
    return data[static_cast<size_t>(tile.begin * channel_stride(channels) + channel * tile.width + token - tile.begin)];
  }
  TileSpan span(int head_dim, int64_t begin, int64_t length) const {
    return {data.data(), tokens, channels, head_dim, begin, length};
  }
};

struct Shape {
  int64_t q_length, k_length, begin;
  int head_dim;
  Mask mask;
  int64_t reach = -1;  // of a bias, or -1 for none
  bool holes = false;  // the tokens, queries and keys alike, are not neighbours
};

// A bias by distance with random entries.
struct Bias {
  std::vector<float> table;
  std::vector<int32_t> columns;

  Bias(const Shape& s, test::Random& random) : table(s.reach < 0 ? 0 : static_cast<size_t>(2 * s.reach + 1)) {
    for (float& entry : table) entry = random.real(-3, 3);
    if (!s.holes) return;
    for (int64_t j = 0; j < s.k_length; ++j)
      columns.push_back(j == 0 ? 2 : columns.back() + 1 + static_cast<int32_t>(random.below(3)));
  }
  AttentionBias args(const Shape& s) const {
    if (s.reach < 0) return {};
    return {table.data(), s.reach, s.holes ? columns.data() : nullptr};
  }
  float at(const Shape& s, int64_t i, int64_t j) const {
    const int64_t distance = s.holes ? columns[j] - columns[i] : j - i;
    return table[static_cast<size_t>(s.reach + std::min(std::max(distance, -s.reach), s.reach))];
  }
};

bool takes_part(const Shape& s, int64_t i, int64_t j) {
  return s.mask == Mask::none || j - i <= s.k_length - s.q_length;
}

float exp2(float t) { return scalar::exp2(scalar::F32::set1(t)).v[0]; }

bool near_tie(double x) { return std::fabs(x - std::floor(x) - 0.5) < 1e-4; }

bool differs(double exact, int q) { return !near_tie(exact) && std::min(std::max(std::rint(exact), 0.0), 255.0) != q; }

void check_wrong(int64_t wrong, const char* what, const Shape& s, test::Report& report) {
  report.check(wrong == 0, "%s: %lld wrong, q_length %lld k_length %lld begin %lld head_dim %d mask %d reach %lld",
               what, static_cast<long long>(wrong), static_cast<long long>(s.q_length),
               static_cast<long long>(s.k_length), static_cast<long long>(s.begin), s.head_dim,
               static_cast<int>(s.mask), static_cast<long long>(s.reach));
}

// Runs a variant on a fresh output; compares all of it with `expected`, so that nothing else may change.
template <class T>
void check(const AttentionKernel& kernel, AttentionArgs args, const Shape& s, const Value<T>& expected,
           test::Report& report) {
  const Value<T> out(expected.tokens, expected.channels);
  test::Guarded<char> scratch(kernel.scratch_bytes(s.q_length, s.k_length, s.head_dim));
  args.out = out.span(s.head_dim, s.begin, s.q_length);
  args.scratch = scratch.data();
  kernel.run(args);
  int64_t wrong = !scratch.intact() + !out.data.intact();
  for (size_t i = 0; i < out.data.size(); ++i) wrong += std::memcmp(&out.data[i], &expected.data[i], sizeof(T)) != 0;
  digests[kernel.name].add(out.data.data(), out.data.bytes());
  check_wrong(wrong, kernel.name, s, report);
}

void test_u8(const Shape& s, test::Random& random, test::Report& report) {
  const int d_begin = s.head_dim;
  const Value<uint8_t> q(s.begin + s.q_length + kAfter, kHeads * s.head_dim);
  const Value<uint8_t> k(s.begin + s.k_length + kAfter, kHeads * s.head_dim);
  const Value<uint8_t> v(s.begin + s.k_length + kAfter, kHeads * s.head_dim);
  for (const auto* value : {&q, &k, &v})
    for (size_t i = 0; i < value->data.size(); ++i) value->data[i] = static_cast<uint8_t>(random.next());
  AttentionArgs args{};
  args.q = q.span(d_begin, s.begin, s.q_length);
  args.k = k.span(d_begin, s.begin, s.k_length);
  args.v = v.span(d_begin, s.begin, s.k_length);
  args.head_dim = s.head_dim;
  args.mask = s.mask;
  const float spread[] = {0.02f, 1.0f, 6.0f};  // standard deviation of the exponents: flat, usual, peaked
  args.exponent_scale = spread[random.below(3)] / (5500.0f * std::sqrt(static_cast<float>(s.head_dim)));
  const Bias bias(s, random);
  args.bias = bias.args(s);
  args.q_zero_point = random.integer(0, 255);
  args.out_scale = 1.7f;
  args.out_zero_point = static_cast<float>(random.integer(0, 255));

  const Value<uint8_t> out_u8(q.tokens, q.channels);
  const Value<float> out_f32(q.tokens, q.channels);
  std::vector<int32_t> scores(static_cast<size_t>(s.k_length)), p(scores.size());
  std::vector<float> exponents(scores.size());
  int64_t wrong = 0;
  for (int64_t i = 0; i < s.q_length; ++i) {
    int32_t largest = INT32_MIN;
    for (int64_t j = 0; j < s.k_length; ++j) {
      int32_t sum = 0, keys = 0;
      for (int d = 0; d < s.head_dim; ++d) {
        const int32_t key = k.at(d_begin + d, s.begin + j) - 128;
        sum += key * q.at(d_begin + d, s.begin + i);
        keys += key;
      }
      scores[j] = sum - args.q_zero_point * keys;
      if (takes_part(s, i, j)) largest = std::max(largest, scores[j]);
    }
    float top = s.reach < 0 ? 0.0f : -INFINITY;
    for (int64_t j = 0; j < s.k_length; ++j) {
      if (!takes_part(s, i, j)) continue;
      exponents[j] = static_cast<float>(scores[j] - largest) * args.exponent_scale;
      if (s.reach >= 0) exponents[j] = exponents[j] + bias.at(s, i, j);
      top = std::max(top, exponents[j]);
    }
    int32_t den = 0;
    for (int64_t j = 0; j < s.k_length; ++j) {
      p[j] = 0;
      if (!takes_part(s, i, j)) continue;
      const float exponent = exponents[j] - top;
      p[j] = static_cast<int32_t>(std::nearbyint(255.0f * exp2(exponent)));
      wrong += differs(255 * std::exp2(static_cast<double>(exponent)), p[j]);
      den += p[j];
    }
    const float r = args.out_scale / static_cast<float>(den);
    for (int d = 0; d < s.head_dim; ++d) {
      int32_t o = 0;
      for (int64_t j = 0; j < s.k_length; ++j) o += p[j] * (v.at(d_begin + d, s.begin + j) - 128);
      const float y = static_cast<float>(o) * r;
      const float shifted = std::min(std::max(y + args.out_zero_point, 0.0f), 255.0f);
      out_f32.at(d_begin + d, s.begin + i) = y;
      out_u8.at(d_begin + d, s.begin + i) = static_cast<uint8_t>(std::nearbyint(shifted));
      const double exact = static_cast<double>(o) / den * args.out_scale;
      wrong += differs(exact + args.out_zero_point, out_u8.at(d_begin + d, s.begin + i));
      wrong += std::fabs(y - exact) > 1e-6 * std::fabs(exact);
    }
  }
  check_wrong(wrong, "restatement of attention_u8", s, report);
  for (const AttentionKernel* kernel : runnable(attention_u8_manifest())) {
    args.out_u8 = true;
    check(*kernel, args, s, out_u8, report);
    args.out_u8 = false;
    check(*kernel, args, s, out_f32, report);
  }
}

void test_f32(const Shape& s, test::Random& random, test::Report& report) {
  const int d_begin = s.head_dim;
  const Value<float> q(s.begin + s.q_length + kAfter, kHeads * s.head_dim);
  const Value<float> k(s.begin + s.k_length + kAfter, kHeads * s.head_dim);
  const Value<float> v(s.begin + s.k_length + kAfter, kHeads * s.head_dim);
  for (const auto* value : {&q, &k, &v})
    for (size_t i = 0; i < value->data.size(); ++i) value->data[i] = random.real(-2, 2);
  AttentionArgs args{};
  args.q = q.span(d_begin, s.begin, s.q_length);
  args.k = k.span(d_begin, s.begin, s.k_length);
  args.v = v.span(d_begin, s.begin, s.k_length);
  args.head_dim = s.head_dim;
  args.mask = s.mask;
  args.exponent_scale = 1.44f / std::sqrt(static_cast<float>(s.head_dim));
  const Bias bias(s, random);
  args.bias = bias.args(s);

  const Value<float> out(q.tokens, q.channels);
  std::vector<float> scores(static_cast<size_t>(s.k_length));
  std::vector<double> exact_p(scores.size());
  int64_t wrong = 0;
  for (int64_t i = 0; i < s.q_length; ++i) {
    const int64_t keys = s.mask == Mask::none ? s.k_length : i + 1 + s.k_length - s.q_length;
    double exact_den = 0;
    for (int64_t j = 0; j < keys; ++j) {
      double exact = 0;
      scores[j] = 0;
      for (int d = 0; d < s.head_dim; ++d) {
        const float a = k.at(d_begin + d, s.begin + j), b = q.at(d_begin + d, s.begin + i);
        scores[j] = std::fma(a, b, scores[j]);
        exact += static_cast<double>(a) * b;
      }
      if (s.reach >= 0) scores[j] = scores[j] * args.exponent_scale + bias.at(s, i, j);
      exact_p[j] = std::exp2(exact * args.exponent_scale + (s.reach < 0 ? 0.0 : bias.at(s, i, j)));
      exact_den += exact_p[j];
    }
    const float largest = *std::max_element(scores.begin(), scores.begin() + keys);
    float den = 0;
    for (int64_t j = 0; j < keys; ++j) {
      scores[j] = exp2((scores[j] - largest) * (s.reach < 0 ? args.exponent_scale : 1.0f));
      den = den + scores[j];
    }
    const float r = 1 / den;
    for (int d = 0; d < s.head_dim; ++d) {
      float o = 0;
      double exact = 0;
      for (int64_t j = 0; j < keys; ++j) {
        o = std::fma(scores[j], v.at(d_begin + d, s.begin + j), o);
        exact += exact_p[j] * v.at(d_begin + d, s.begin + j);
      }
      out.at(d_begin + d, s.begin + i) = o * r;
      wrong += std::fabs(o * r - exact / exact_den) > 1e-5;
    }
  }
  check_wrong(wrong, "restatement of attention_f32", s, report);
  for (const AttentionKernel* kernel : runnable(attention_f32_manifest())) check(*kernel, args, s, out, report);
}

}  // namespace
}  // namespace fastcpu

int main(int argc, char** argv) {
  using namespace fastcpu;
  const uint64_t seed = test::seed_from(argc, argv);
  test::Random random(seed);
  test::Report report(seed);
  for (const int64_t length : {1, 3, 15, 16, 17, 64, 65, 100, 130, 200})
    for (const int64_t begin : {0, 5, 16, 61, 64})
      for (const int head_dim : {4, 32, 64, 80})
        for (const Mask mask : {Mask::none, Mask::causal}) {
          if (length > 100 && (begin + head_dim) % 3 == 0) continue;  // saves time, keeps every start and head_dim
          Shape shape{length, length, begin, head_dim, mask};
          test_u8(shape, random, report);
          if (length < 130) test_f32(shape, random, report);
          if (head_dim != 32) continue;
          shape.reach = static_cast<int64_t>(random.below(2)) * random.integer(0, 90);
          shape.holes = random.below(2) == 1;
          test_u8(shape, random, report);
          if (length < 130) test_f32(shape, random, report);
        }
  for (const Mask mask : {Mask::none, Mask::causal})
    for (const int head_dim : {8, 44, 96, 128, 256})
      for (const int64_t begin : {0, 21}) {
        test_u8({1, 77, begin, head_dim, mask}, random, report);
        test_u8({70, 259, begin, head_dim, mask}, random, report);
        test_f32({1, 77, begin, head_dim + 1, mask}, random, report);
        test_f32({35, 70, begin, head_dim + 1, mask}, random, report);
        if (mask == Mask::none) test_u8({90, 6, begin, head_dim, mask}, random, report);
        if (mask == Mask::none) test_f32({90, 6, begin, head_dim + 1, mask}, random, report);
      }
  for (const auto* manifest : {&attention_u8_manifest(), &attention_f32_manifest()}) {
    const auto kernels = runnable(*manifest);
    for (const AttentionKernel* kernel : kernels) {
      const uint64_t digest = digests[kernel->name].value();
      std::printf("%-26s digest %016llx\n", kernel->name, static_cast<unsigned long long>(digest));
      report.check(digest == digests[kernels[0]->name].value(), "%s and %s differ", kernel->name, kernels[0]->name);
    }
  }
  return report.finish("attention_test");
}
