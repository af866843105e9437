#include "attention/attention.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/manifest.h"
#include "runtime/op.h"
#include "runtime/position_bias.h"

namespace fastcpu {
namespace {

constexpr double kLog2E = 1.4426950408889634074;

class Attention : public Op {
 public:
  Attention(const NodeInfo& node, const OpContext& context) {
    expect_arity(node, 3, 3, 1, 1);
    expect_names(node,
                 {"heads", "kv_heads", "head_dim", "q_offset", "k_offset", "v_offset", "scale", "causal", "q_scale",
                  "q_zero_point", "k_scale", "v_scale"},
                 {"bias"});
    output_ = node.outputs[0];
    const DType dtype = context.value(node.inputs[0]).dtype;
    heads_ = static_cast<int>(node.attr_int("heads", 0, 1, 1024));
    const int kv_heads = static_cast<int>(node.attr_int("kv_heads", heads_, 1, heads_));
    head_dim_ = static_cast<int>(node.attr_int("head_dim", 0, 1, 4096));
    if (heads_ % kv_heads != 0) node.fail("heads must be a multiple of kv_heads");
    share_ = heads_ / kv_heads;
    const char* names[3] = {"q_offset", "k_offset", "v_offset"};
    for (size_t i = 0; i < 3; ++i) {
      const ValueInfo& value = context.value(node.inputs[i]);
      if (value.dtype != dtype || (dtype != DType::u8 && dtype != DType::f32))
        node.fail("q, k and v must be all u8 or all f32");
      expect_value(node, value, dtype, Space::tokens, value.channels);
      inputs_[i] = node.inputs[i];
      channels_[i] = static_cast<int>(value.channels);
      offsets_[i] = static_cast<int>(node.attr_int(names[i], 0, 0, value.channels - 1));
      if (offsets_[i] + static_cast<int64_t>(i == 0 ? heads_ : kv_heads) * head_dim_ > value.channels)
        node.fail("the heads do not fit in value '" + value.name + "'");
    }
    const ValueInfo& y = context.value(output_);
    out_channels_ = heads_ * head_dim_;
    expect_value(node, y, y.dtype, Space::tokens, out_channels_);
    out_u8_ = y.dtype == DType::u8;
    causal_ = node.attr_bool("causal", false);
    const double softmax_scale = node.attr_f32("scale", NAN);
    if (!out_u8_ && y.dtype != DType::f32) node.fail("the output must be u8 or f32");
    if (dtype == DType::f32) {
      if (out_u8_) node.fail("f32 inputs give an f32 output");
      refuse_attrs(node, {"q_scale", "q_zero_point", "k_scale", "v_scale"}, "belongs to u8 inputs");
      kernel_ = &select(attention_f32_manifest(), context.isa);
      exponent_scale_ = static_cast<float>(softmax_scale * kLog2E);
    } else {
      if (head_dim_ % 4 != 0 || head_dim_ > 256)
        node.fail("u8 attention needs a head_dim that is a multiple of 4 and at most 256");
      kernel_ = &select(attention_u8_manifest(), context.isa);
      const QuantGroup* groups[3];
      const bool merged =
          std::any_of(inputs_, inputs_ + 3, [&](int input) { return context.value(input).groups.size() > 1; });
      for (size_t i = 0; i < 3; ++i) {
        const ValueInfo& value = context.value(inputs_[i]);
        if (value.dynamic_scale >= 0) node.fail("q, k and v need static quantization");
        groups[i] = &value.group_of(offsets_[i]);
        if (groups[i] != &value.group_of(offsets_[i] + (i == 0 ? heads_ : kv_heads) * head_dim_ - 1))
          node.fail("the heads lie in several groups of value '" + value.name + "'");
        const std::string scale = std::string(1, "qkv"[i]) + "_scale";
        if (node.attr_f32(scale, merged ? NAN : groups[i]->scale) != groups[i]->scale)
          node.fail(scale + " is not the scale of value '" + value.name + "'");
      }
      if (node.attr_int("q_zero_point", merged ? -1 : groups[0]->zero_point, 0, 255) != groups[0]->zero_point)
        node.fail("q_zero_point is not the zero point of the first input");
      if (groups[1]->zero_point != 128 || groups[2]->zero_point != 128) node.fail("k and v need zero point 128");
      q_zero_point_ = groups[0]->zero_point;
      exponent_scale_ =
          static_cast<float>(static_cast<double>(groups[0]->scale) * groups[1]->scale * softmax_scale * kLog2E);
      double out_scale = groups[2]->scale;
      if (out_u8_) {
        if (y.dynamic_scale >= 0 || y.groups.size() != 1) node.fail("a u8 output has one static scale");
        out_scale /= y.groups[0].scale;
        out_zero_point_ = static_cast<float>(y.groups[0].zero_point);
      }
      out_scale_ = static_cast<float>(out_scale);
    }
    if (!std::isfinite(exponent_scale_) || !std::isfinite(out_scale_)) node.fail("scales overflow f32");
    if (!(exponent_scale_ >= 0)) node.fail("scale must not be negative");
    bias_ = PositionBias(node, heads_, kLog2E);
  }

  OpInfo info() const override { return {kernel_->name, 0, 1, 0}; }
  void check(const Batch& batch) const override { check_attention_length(batch); }
  size_t scratch_bytes(const Batch& batch) const override {
    return kernel_->scratch_bytes(batch.longest, batch.longest, head_dim_);
  }
  int64_t units(const Batch& batch) const override { return batch.sequences * heads_; }

  double macs(const Batch& batch) const override { return attention_macs(batch, out_channels_); }

  void run_unit(const UnitRun& run) const override {
    const Batch& batch = *run.memory.batch;
    const int64_t sequence = run.unit / heads_;
    const int head = static_cast<int>(run.unit % heads_);
    const int64_t begin = batch.offsets[static_cast<size_t>(sequence)], length = batch.length(sequence);
    if (length == 0) return;
    AttentionArgs args = {};
    TileSpan* spans[3] = {&args.q, &args.k, &args.v};
    for (size_t i = 0; i < 3; ++i)
      *spans[i] = {run.base(inputs_[i]),
                   batch.tiling(Space::tokens),
                   channels_[i],
                   offsets_[i] + (i == 0 ? head : head / share_) * head_dim_,
                   begin,
                   length};
    args.out = {run.base(output_), batch.tiling(Space::tokens), out_channels_, head * head_dim_, begin, length};
    args.head_dim = head_dim_;
    args.mask = causal_ ? Mask::causal : Mask::none;
    args.exponent_scale = exponent_scale_;
    args.bias = bias_.of(head, batch, sequence);
    args.q_zero_point = q_zero_point_;
    args.out_scale = out_scale_;
    args.out_zero_point = out_zero_point_;
    args.out_u8 = out_u8_;
    args.scratch = run.scratch;
    kernel_->run(args);
  }

 private:
  const AttentionKernel* kernel_ = nullptr;
  int inputs_[3] = {}, channels_[3] = {}, offsets_[3] = {};
  int output_ = -1, out_channels_ = 0, heads_ = 1, share_ = 1, head_dim_ = 0;
  bool causal_ = false, out_u8_ = false;
  float exponent_scale_ = 1, out_scale_ = 1, out_zero_point_ = 0;
  int32_t q_zero_point_ = 0;
  PositionBias bias_;
};

}  // namespace

std::unique_ptr<Op> make_attention(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Attention>(node, context);
}

}  // namespace fastcpu
