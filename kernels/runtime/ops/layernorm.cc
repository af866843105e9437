#include "layernorm/layernorm.h"

#include <cmath>

#include "base/error.h"
#include "base/manifest.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class Layernorm : public Op {
 public:
  Layernorm(const NodeInfo& node, const OpContext& context) : kernel_(select(layernorm_manifest(), context.isa)) {
    expect_arity(node, 1, 2, 1, 3);
    expect_names(node, {"epsilon", "residual"}, {"gamma", "beta", "smooth"});
    if (node.attr_bool("residual", false) != (node.inputs.size() == 2))
      node.fail("a second input is the residual, and only that");
    const ValueInfo& a = context.value(node.inputs[0]);
    channels_ = a.channels;
    for (const int input : node.inputs) expect_value(node, context.value(input), DType::f32, a.space, channels_);
    a_ = node.inputs[0];
    if (node.inputs.size() > 1) b_ = node.inputs[1];
    const char* order = "the outputs are one f32, one u8 and one scale at most, in this order";
    for (const int output : node.outputs) {
      const ValueInfo& value = context.value(output);
      if (value.is_scale) {
        expect_scale(node, value, a.space);
        if (scale_ >= 0) node.fail(order);
        scale_ = output;
      } else if (value.dtype == DType::u8) {
        expect_value(node, value, DType::u8, a.space, channels_);
        if (u8_ >= 0 || scale_ >= 0) node.fail(order);
        u8_ = output;
        if (value.dynamic_scale < 0) {
          if (value.groups.size() != 1) node.fail("a u8 output has one scale");
          set_scales(node, value.groups[0]);
        }
      } else {
        expect_value(node, value, DType::f32, a.space, channels_);
        if (f32_ >= 0 || u8_ >= 0 || scale_ >= 0) node.fail(order);
        f32_ = output;
      }
    }
    if ((scale_ >= 0) != (u8_ >= 0 && context.value(u8_).dynamic_scale >= 0) ||
        (scale_ >= 0 && context.value(u8_).dynamic_scale != scale_))
      node.fail("a dynamic output needs its scale as an output, and only that");
    if (node.tensors.count("smooth") && inv_scale_.empty()) node.fail("smooth needs a static u8 output");
    gamma_ = expect_vector(node, "gamma", channels_);
    beta_ = expect_vector(node, "beta", channels_);
    epsilon_ = node.attr_f32("epsilon", NAN);
    if (!(epsilon_ > 0)) node.fail("epsilon must be positive");
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }
  size_t scratch_bytes(const Batch&) const override {
    return f32_ >= 0 ? 0 : static_cast<size_t>(channel_stride(channels_)) * kTileWidth * 4;
  }

  void run_tile(const TileRun& run) const override {
    const int64_t stride = channel_stride(channels_);
    LayernormArgs args = {};
    args.a = reinterpret_cast<const float*>(run.at(a_, stride * 4));
    args.b = b_ >= 0 ? reinterpret_cast<const float*>(run.at(b_, stride * 4)) : nullptr;
    args.channels = static_cast<int>(channels_);
    args.width = run.tile.width;
    args.gamma = gamma_;
    args.beta = beta_;
    args.epsilon = epsilon_;
    args.out = f32_ >= 0 ? reinterpret_cast<float*>(run.at(f32_, stride * 4)) : nullptr;
    args.out_u8 = u8_ >= 0 ? run.at(u8_, stride) : nullptr;
    args.inv_scale = inv_scale_.data();
    args.zero_point = zero_point_;
    args.dynamic_scale = scale_ >= 0 ? reinterpret_cast<float*>(run.at(scale_, 4)) : nullptr;
    args.scratch = reinterpret_cast<float*>(run.scratch);
    kernel_.run(args);
  }

 private:
  // Reciprocal steps of the channels: a step is the scale times the channel's factor of `smooth`, 1 without it.
  void set_scales(const NodeInfo& node, const QuantGroup& group) {
    const float* smooth = node.tensors.count("smooth") ? expect_vector(node, "smooth", channels_) : nullptr;
    inv_scale_.resize(static_cast<size_t>(channels_));
    for (size_t c = 0; c < inv_scale_.size(); ++c) {
      const double step = static_cast<double>(group.scale) * (smooth ? static_cast<double>(smooth[c]) : 1.0);
      if (!(step > 0) || !std::isnormal(static_cast<float>(step)))
        node.fail("smooth of channel " + std::to_string(c) + " times the scale is no positive normal f32");
      inv_scale_[c] = static_cast<float>(1.0 / step);
    }
    zero_point_ = static_cast<float>(group.zero_point);
  }

  const LayernormKernel& kernel_;
  int64_t channels_;
  int a_ = -1, b_ = -1, f32_ = -1, u8_ = -1, scale_ = -1;
  const float* gamma_;
  const float* beta_;
  float epsilon_, zero_point_ = 0;
  std::vector<float> inv_scale_;  // [C] of a static u8 output
};

}  // namespace

std::unique_ptr<Op> make_layernorm(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Layernorm>(node, context);
}

}  // namespace fastcpu
