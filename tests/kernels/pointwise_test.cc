// pointwise: every variant against float64, with the bounds of docs/numerics.md, section 5; integers against
// section 2.
#include "pointwise/pointwise.h"

#include "elementwise_cases.h"

namespace fastcpu::test {
namespace {

double gelu_tanh64(double x) {
  const double u = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
  return x == -INFINITY ? 0.0 : x / (1 + std::exp(-2 * u));
}

double gelu64(double x) { return x == -INFINITY ? 0.0 : x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

struct Function {
  const char* name;
  double (*exact)(double);
  double ulps, absolute;  // the bound
  void (*run)(const PointwiseKernel& kernel, const float* x, float* out, int64_t count);
};

const Function kFunctions[] = {
    {"exp2", [](double x) { return std::exp2(std::fmax(x, -126.0)); }, 3, 0,
     [](const PointwiseKernel& k, const float* x, float* out, int64_t n) { k.exp2(x, out, n); }},
    {"relu", [](double x) { return std::fmax(x, 0.0); }, 0, 0,
     [](const PointwiseKernel& k, const float* x, float* out, int64_t n) { k.activate(Activation::relu, x, out, n); }},
    {"gelu", gelu64, 2, 0x1p-24,
     [](const PointwiseKernel& k, const float* x, float* out, int64_t n) { k.activate(Activation::gelu, x, out, n); }},
    {"gelu_tanh", gelu_tanh64, 3, 0x1p-23,
     [](const PointwiseKernel& k, const float* x, float* out, int64_t n) {
       k.activate(Activation::gelu_tanh, x, out, n);
     }},
    {"tanh", [](double x) { return std::tanh(x); }, 3, 0,
     [](const PointwiseKernel& k, const float* x, float* out, int64_t n) { k.activate(Activation::tanh, x, out, n); }},
    {"none", [](double x) { return x; }, 0, 0,
     [](const PointwiseKernel& k, const float* x, float* out, int64_t n) { k.activate(Activation::none, x, out, n); }},
};

void check_function(const PointwiseKernel& kernel, const Function& function, Guarded<float>& x, Run& run) {
  Guarded<float> out(x.size());
  function.run(kernel, x.data(), out.data(), x.size());
  run.report.check(out.intact(), "%s %s writes outside its output", kernel.name, function.name);
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::isnan(x[i]) ? static_cast<double>(kNan) : function.exact(static_cast<double>(x[i]));
    const double error = std::fabs(static_cast<double>(out[i]) - exact);
    const bool good = std::isfinite(exact) ? error <= function.ulps * ulp(exact) + function.absolute
                                           : same(out[i], static_cast<float>(exact));
    run.report.check(good, "%s %s(%a) = %a, exactly %a", kernel.name, function.name, static_cast<double>(x[i]),
                     static_cast<double>(out[i]), exact);
    if (error > largest) largest = error;
  }
  run.report.check(function.name != kFunctions[0].name || 255 * largest < 5e-5, "%s exp2: 255 times the error is %g",
                   kernel.name, 255 * largest);
  add(run.digest, out);
  function.run(kernel, x.data(), x.data(), x.size());
  run.report.check(std::memcmp(x.data(), out.data(), x.size() * sizeof(float)) == 0, "%s %s in place differs",
                   kernel.name, function.name);
}

void check_functions(const PointwiseKernel& kernel, Run& run) {
  for (const Function& function : kFunctions) {
    const bool negative = function.name == kFunctions[0].name;  // exp2 is for x <= 0
    const auto sign = [&](float x) { return negative ? -std::fabs(x) : x; };
    Guarded<float> dense(1 << 18);
    for (const float range : {1.0f, 16.0f, 140.0f}) {
      for (size_t i = 0; i < dense.size(); ++i) {
        dense[i] = sign(range * (static_cast<float>(i) / static_cast<float>(dense.size() / 2) - 1.0f));
      }
      check_function(kernel, function, dense, run);
    }
    Guarded<float> all(1 << 18);  // every exponent and both signs, NaN and infinities
    for (size_t i = 0; i < all.size(); ++i) {
      const uint32_t bits = static_cast<uint32_t>(i) << 14;
      std::memcpy(&all[i], &bits, sizeof(bits));
      all[i] = sign(all[i]);
    }
    check_function(kernel, function, all, run);
    Guarded<float> none(0);
    check_function(kernel, function, none, run);
  }
  float zeros[16] = {}, ones[16];
  kernel.exp2(zeros, ones, 16);
  for (const float one : ones) {
    run.report.check(one == 1.0f, "%s exp2(0) = %a", kernel.name, static_cast<double>(one));
  }
}

// quantize of docs/numerics.md before the rounding, in float64, without the zero point; `inv_scale` is the runtime's
// own.
double quantize64(float x, float inv_scale, float zero_point) {
  if (std::isnan(x)) return 0.0;
  const double t = static_cast<double>(x) * static_cast<double>(inv_scale), zero = static_cast<double>(zero_point);
  return std::fmin(std::fmax(t, -zero), 255.0 - zero);
}

// True if the integer q is the rounding of the exact value t, which is off the ties, or next to a t close to one.
bool rounds_to(double t, double q) { return std::fabs(q - t) <= (distance_to_tie(t) <= 1e-4 ? 0.5 + 1e-4 : 0.5); }

void check_quantize(const PointwiseKernel& kernel, int channels, int width, Values values, Run& run) {
  Random random(run.seed + static_cast<uint64_t>(channels * 100 + width));
  const int64_t count = static_cast<int64_t>(channels) * width;
  Guarded<float> x(count), fake(count), fake_bias(count), bias(channels);
  Guarded<uint8_t> q(count);
  fill(x, values, random);
  fill(bias, Values::normal, random);
  for (const float zero_point : {0.0f, 121.0f, 255.0f}) {
    const float scale = 0.0173f;
    const float inv_scale = static_cast<float>(1 / static_cast<double>(scale));
    kernel.quantize(x.data(), inv_scale, zero_point, q.data(), count);
    kernel.fake_quant(x.data(), channels, width, scale, inv_scale, zero_point, nullptr, fake.data());
    kernel.fake_quant(x.data(), channels, width, scale, inv_scale, zero_point, bias.data(), fake_bias.data());
    for (int64_t i = 0; i < count; ++i) {
      const double t = quantize64(x[i], inv_scale, zero_point);
      run.report.check(rounds_to(t, q[i] - static_cast<double>(zero_point)),
                       "%s quantize: %dx%d [%lld]: x = %a, exactly %f, got %d", kernel.name, channels, width,
                       static_cast<long long>(i), static_cast<double>(x[i]), t, q[i]);
      const float again = (static_cast<float>(q[i]) - zero_point) * scale;
      const float biased = again + bias[i / width];
      run.report.check(same(fake[i], again), "%s fake_quant: %dx%d", kernel.name, channels, width);
      run.report.check(same(fake_bias[i], biased), "%s fake_quant with bias: %dx%d", kernel.name, channels, width);
    }
    add(run.digest, q);
    add(run.digest, fake);
    add(run.digest, fake_bias);
  }
  run.report.check(q.intact() && fake.intact() && fake_bias.intact(), "%s quantize writes outside", kernel.name);
}

void check_quantize_dynamic(const PointwiseKernel& kernel, int channels, int width, Values values, Run& run) {
  Random random(run.seed + static_cast<uint64_t>(channels * 101 + width));
  Guarded<float> x(static_cast<int64_t>(channels) * width), scale(width);
  Guarded<uint8_t> q(channel_stride(channels) * width);
  fill(x, Values::normal, random);
  for (int c = 0; c < channels; ++c) {
    x[c * width] = 0.0f;                         // a token of zeros
    x[c * width + 1] = normal(random) * 1e-38f;  // an absolute maximum near the smallest normal number
    if (values == Values::special) {
      x[c * width + 2] = c % 3 == 0 ? kNan : x[c * width + 2];
      x[c * width + 3] = c == channels / 2 ? -kInf : c % 5 == 0 ? kNan : x[c * width + 3];
      x[c * width + 4] = kNan;
      x[c * width + 5] *= 1e-44f;
      x[c * width + 6] *= 1e37f;
    }
  }
  kernel.quantize_dynamic(x.data(), channels, width, q.data(), scale.data());
  for (int t = 0; t < width; ++t) {
    float a = 0;
    for (int c = 0; c < channels; ++c) a = std::fabs(x[c * width + t]) > a ? std::fabs(x[c * width + t]) : a;
    const bool usable = a > 0 && std::isfinite(a);
    const float expected_scale = usable ? a / 127.0f : 1.0f, inverse = usable ? 127.0f / a : 1.0f;
    run.report.check(scale[t] == expected_scale, "%s quantize_dynamic: %dx%d scale of token %d", kernel.name, channels,
                     width, t);
    for (int c = 0; c < channels; ++c) {
      float exact = x[c * width + t] * inverse;
      exact = std::isnan(exact) ? 0.0f : std::fmin(std::fmax(exact, -127.0f), 127.0f);
      run.report.check(q[c * width + t] == 128 + static_cast<int>(std::nearbyintf(exact)),
                       "%s quantize_dynamic: %dx%d [%d, %d]: x = %a, a = %a, got %d", kernel.name, channels, width, c,
                       t, static_cast<double>(x[c * width + t]), static_cast<double>(a), q[c * width + t]);
      const double back = (q[c * width + t] - 128) * static_cast<double>(scale[t]);  // error: half a step, and rounding
      const double error = std::fabs(back - static_cast<double>(x[c * width + t]));
      const bool bounded = usable && a > 1e-30f && !std::isnan(error);
      run.report.check(!bounded || error <= (0.5 + 1e-4) * static_cast<double>(scale[t]),
                       "%s quantize_dynamic: %dx%d [%d, %d] is off by more than half a step", kernel.name, channels,
                       width, c, t);
    }
  }
  run.report.check(q.intact() && scale.intact(), "%s quantize_dynamic writes outside", kernel.name);
  add(run.digest, q);
  add(run.digest, scale);
}

void check_add(const PointwiseKernel& kernel, int channels, int width, Run& run) {
  Random random(run.seed + static_cast<uint64_t>(channels * 102 + width));
  Guarded<float> a(static_cast<int64_t>(channels) * width), b(a.size()), out(a.size());
  fill(a, Values::special, random);
  fill(b, Values::special, random);
  kernel.add(a.data(), b.data(), out.data(), a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    run.report.check(same(out[i], a[i] + b[i]), "%s add: %dx%d [%zu]", kernel.name, channels, width, i);
  }
  run.report.check(out.intact(), "%s add writes outside", kernel.name);
  add(run.digest, out);
}

int run_test(uint64_t seed) {
  return run_all("pointwise", seed, pointwise_manifest(), [](const PointwiseKernel& kernel, Run& run) {
    check_functions(kernel, run);
    for (const int channels : kChannels) {
      for (const int width : kWidths) {
        check_add(kernel, channels, width, run);
        for (const Values values : {Values::normal, Values::special}) {
          check_quantize(kernel, channels, width, values, run);
          check_quantize_dynamic(kernel, channels, width, values, run);
        }
      }
    }
  });
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
