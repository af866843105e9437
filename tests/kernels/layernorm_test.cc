// layernorm: every variant bit for bit against the plain loops of docs/numerics.md, and y against float64.
#include "layernorm/layernorm.h"

#include "elementwise_cases.h"

namespace fastcpu::test {
namespace {

struct Case {
  int channels, width;
  Values values;
  bool residual, out, in_place;
  enum { f32_only, u8, smoothed, dynamic } quantized;  // smoothed: u8 with a scale of its own for each channel
};

struct Inputs {
  Guarded<float> a, b, gamma, beta;

  Inputs(const Case& c, uint64_t seed)
      : a(static_cast<int64_t>(c.channels) * c.width), b(a.size()), gamma(c.channels), beta(c.channels) {
    Random random(seed + static_cast<uint64_t>(c.channels * 7 + c.width));
    fill(a, Values::normal, random);
    fill(b, Values::normal, random);
    fill(gamma, Values::normal, random);
    fill(beta, Values::normal, random);
    for (int i = 0; i < c.channels; ++i) {
      a[i * c.width + 1] = b[i * c.width + 1] = 0.0f;  // tokens without variance
      a[i * c.width + 2] = b[i * c.width + 2] = 3.0f;
      if (c.values == Values::special) {
        a[i * c.width + 3] *= 1e-42f;
        b[i * c.width + 3] *= 1e-42f;
        a[i * c.width + 4] *= 1e20f;  // the squares overflow
      }
    }
    if (c.values == Values::special) {
      const int i = c.channels / 2 * c.width;
      a[i + 5] = kNan;
      a[i + 6] = kInf;
      b[i + 7] = -kInf;
    }
  }
};

constexpr float kEpsilon = 1e-5f, kScale = 0.031f;

float zero_point_of(const Case& c) {
  constexpr float points[] = {117.0f, 0.0f, 255.0f};
  return points[c.channels % 3];
}

// Reciprocal scales [C]: the same for all channels, or of a scale times factors that span a million.
void fill_inverse_scales(const Case& c, Guarded<float>& inv_scale) {
  for (int i = 0; i < c.channels; ++i) {
    const float factor = c.quantized == Case::smoothed ? std::pow(10.0f, static_cast<float>(i % 7 - 3)) : 1.0f;
    inv_scale[i] = static_cast<float>(1 / (static_cast<double>(kScale) * static_cast<double>(factor)));
  }
}

uint8_t quantize32(float x, float inv_scale, float zero_point) {
  const float t = std::isnan(x) ? 0.0f : x * inv_scale;
  return static_cast<uint8_t>(std::nearbyintf(std::fmin(std::fmax(t, -zero_point), 255.0f - zero_point)) + zero_point);
}

// y of one token as docs/numerics.md writes it, and its distance to float64 against the bound: a sum of C terms is off
// by at most C half ULPs of the sum of their absolute values, and d loses what the mean is larger than the deviation.
void reference(const Case& c, Inputs& in, int t, std::vector<float>& y, Report& report) {
  const int n = c.channels;
  std::vector<float> h(static_cast<size_t>(n));
  float s = 0, v = 0;
  double s64 = 0, v64 = 0, absolute = 0;
  for (int i = 0; i < n; ++i) {
    h[i] = in.a[i * c.width + t];
    if (c.residual) h[i] = h[i] + in.b[i * c.width + t];
    s = s + h[i];
    s64 += static_cast<double>(h[i]);
    absolute += std::fabs(static_cast<double>(h[i]));
  }
  const float mean = s / static_cast<float>(n);
  const double mean64 = s64 / n;
  for (int i = 0; i < n; ++i) {
    const float d = h[i] - mean;
    v = v + d * d;
    v64 += (static_cast<double>(h[i]) - mean64) * (static_cast<double>(h[i]) - mean64);
  }
  const float r = 1.0f / std::sqrt(v / static_cast<float>(n) + kEpsilon);
  const double r64 = 1 / std::sqrt(v64 / n + static_cast<double>(kEpsilon));
  for (int i = 0; i < n; ++i) {
    y[i] = ((h[i] - mean) * r) * in.gamma[i] + in.beta[i];
    const double gamma = static_cast<double>(in.gamma[i]), beta = static_cast<double>(in.beta[i]);
    const double x64 = (static_cast<double>(h[i]) - mean64) * r64;
    const double bound =
        0x1p-24 * (n + 8) * (std::fabs(gamma) * (std::fabs(x64) + absolute / n * r64) + std::fabs(beta));
    const double y64 = x64 * gamma + beta;
    const double error = std::fabs(static_cast<double>(y[i]) - y64);
    report.check(!std::isfinite(y[i]) || !std::isfinite(v) || error <= bound,
                 "layernorm: %d channels, token %d, channel %d: %a, exactly %a", n, t, i, static_cast<double>(y[i]),
                 y64);
  }
}

void check(const LayernormKernel& kernel, const Case& c, Run& run) {
  Inputs in(c, run.seed);
  std::vector<float> expected(static_cast<size_t>(c.channels) * c.width), token(static_cast<size_t>(c.channels));
  for (int t = 0; t < c.width; ++t) {
    reference(c, in, t, token, run.report);
    for (int i = 0; i < c.channels; ++i) expected[static_cast<size_t>(i) * c.width + t] = token[i];
  }

  Guarded<float> out(in.a.size()), scratch(in.a.size()), scale(c.width);
  Guarded<uint8_t> q(channel_stride(c.channels) * c.width);
  Guarded<float>& y = !c.in_place ? out : c.residual ? in.b : in.a;
  Guarded<float> inv_scale(c.channels);
  fill_inverse_scales(c, inv_scale);
  LayernormArgs args = {};
  args.a = in.a.data();
  args.b = c.residual ? in.b.data() : nullptr;
  args.channels = c.channels;
  args.width = c.width;
  args.gamma = in.gamma.data();
  args.beta = in.beta.data();
  args.epsilon = kEpsilon;
  args.out = c.out ? y.data() : nullptr;
  args.out_u8 = c.quantized != Case::f32_only ? q.data() : nullptr;
  args.inv_scale = inv_scale.data();
  args.zero_point = zero_point_of(c);
  args.dynamic_scale = c.quantized == Case::dynamic ? scale.data() : nullptr;
  args.scratch = c.out ? nullptr : scratch.data();
  kernel.run(args);

  char what[160];
  std::snprintf(what, sizeof(what), "%s %dx%d%s%s%s%s", kernel.name, c.channels, c.width,
                c.values == Values::special ? " special" : "", c.residual ? " residual" : "",
                c.in_place ? " in place"
                : c.out    ? ""
                           : " without f32 output",
                c.quantized == Case::dynamic    ? " dynamic"
                : c.quantized == Case::u8       ? " u8"
                : c.quantized == Case::smoothed ? " smoothed"
                                                : "");
  for (int t = 0; t < c.width; ++t) {
    float a = 0;
    for (int i = 0; i < c.channels; ++i) {
      const float x = std::fabs(expected[static_cast<size_t>(i) * c.width + t]);
      a = x > a ? x : a;
    }
    const bool usable = a > 0 && std::isfinite(a);
    const float inverse = usable ? 127.0f / a : 1.0f;
    run.report.check(c.quantized != Case::dynamic || scale[t] == (usable ? a / 127.0f : 1.0f), "%s: scale of token %d",
                     what, t);
    for (int i = 0; i < c.channels; ++i) {
      const int64_t at = static_cast<int64_t>(i) * c.width + t;
      const float x = expected[static_cast<size_t>(at)];
      run.report.check(!c.out || same(y[at], x), "%s [%d, %d]: %a instead of %a", what, i, t,
                       static_cast<double>(y[at]), static_cast<double>(x));
      int byte = q[at];
      if (c.quantized == Case::u8 || c.quantized == Case::smoothed)
        byte = quantize32(x, inv_scale[i], zero_point_of(c));
      if (c.quantized == Case::dynamic) {
        const float scaled = x * inverse;
        byte = 128;
        if (!std::isnan(scaled))
          byte += static_cast<int>(std::nearbyintf(std::fmin(std::fmax(scaled, -127.0f), 127.0f)));
      }
      run.report.check(q[at] == byte, "%s [%d, %d]: byte %d instead of %d", what, i, t, q[at], byte);
    }
  }
  for (Guarded<float>* buffer : {&in.a, &in.b, &out, &scratch, &scale, &inv_scale}) {
    run.report.check(buffer->intact(), "%s writes outside a buffer", what);
  }
  run.report.check(q.intact(), "%s writes outside the u8 output", what);
  if (c.out) add(run.digest, y);
  if (c.quantized != Case::f32_only) add(run.digest, q);
  if (c.quantized == Case::dynamic) add(run.digest, scale);
}

int run_test(uint64_t seed) {
  return run_all("layernorm", seed, layernorm_manifest(), [](const LayernormKernel& kernel, Run& run) {
    for (const int channels : kChannels) {
      for (const int width : kWidths) {
        for (const Values values : {Values::normal, Values::special}) {
          for (const bool residual : {false, true}) {
            check(kernel, {channels, width, values, residual, true, false, Case::f32_only}, run);
            check(kernel, {channels, width, values, residual, true, true, Case::u8}, run);
            check(kernel, {channels, width, values, residual, false, false, Case::u8}, run);
            check(kernel, {channels, width, values, residual, true, true, Case::smoothed}, run);
            check(kernel, {channels, width, values, residual, false, false, Case::smoothed}, run);
            check(kernel, {channels, width, values, residual, true, true, Case::dynamic}, run);
            check(kernel, {channels, width, values, residual, false, false, Case::dynamic}, run);
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
