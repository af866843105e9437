#include "attention_qdq/attention_qdq.h"

#include <cmath>

#include "base/error.h"
#include "base/manifest.h"
#include "runtime/op.h"
#include "runtime/position_bias.h"

namespace fastcpu {
namespace {

class AttentionQdq : public Op {
 public:
  AttentionQdq(const NodeInfo& node, const OpContext& context)
      : kernel_(select(attention_qdq_manifest(), context.isa)) {
    expect_arity(node, 3, 3, 1, 1);
    expect_names(node,
                 {"heads", "kv_heads", "head_dim", "q_offset", "k_offset", "v_offset", "scale", "q_factor", "k_factor",
                  "q_scale", "q_zero_point", "k_scale", "k_zero_point", "v_scale", "v_zero_point", "score_scale",
                  "score_zero_point", "probability_scale", "probability_zero_point"},
                 {"bias"});
    output_ = node.outputs[0];
    heads_ = static_cast<int>(node.attr_int("heads", 0, 1, 1024));
    if (node.attr_int("kv_heads", heads_, 1, 1024) != heads_) node.fail("kv_heads must be heads");
    args_.head_dim = static_cast<int>(node.attr_int("head_dim", 0, 1, 4096));
    const char* offsets[3] = {"q_offset", "k_offset", "v_offset"};
    TileSpan* spans[3] = {&args_.q, &args_.k, &args_.v};
    for (size_t i = 0; i < 3; ++i) {
      const ValueInfo& value = context.value(node.inputs[i]);
      expect_value(node, value, DType::f32, Space::tokens, value.channels);
      inputs_[i] = node.inputs[i];
      spans[i]->channels = static_cast<int>(value.channels);
      spans[i]->channel = static_cast<int>(node.attr_int(offsets[i], 0, 0, value.channels - 1));
      if (spans[i]->channel + static_cast<int64_t>(heads_) * args_.head_dim > value.channels)
        node.fail("the heads do not fit in value '" + value.name + "'");
    }
    args_.out.channels = heads_ * args_.head_dim;
    expect_value(node, context.value(output_), DType::f32, Space::tokens, args_.out.channels);
    args_.q_factor = node.attr_f32("q_factor", NAN);
    args_.k_factor = node.attr_f32("k_factor", NAN);
    args_.score_factor = node.attr_f32("scale", NAN);
    args_.q_point = point(node, "q");
    args_.k_point = point(node, "k");
    args_.v_point = point(node, "v");
    args_.score_point = point(node, "score");
    args_.probability_point = point(node, "probability");
    bias_ = PositionBias(node, heads_, 1);
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }
  void check(const Batch& batch) const override { check_attention_length(batch); }
  size_t scratch_bytes(const Batch& batch) const override {
    return kernel_.scratch_bytes(batch.longest, batch.longest, args_.head_dim);
  }
  int64_t units(const Batch& batch) const override { return batch.sequences * heads_; }
  double macs(const Batch& batch) const override { return attention_macs(batch, args_.out.channels); }

  void run_unit(const UnitRun& run) const override {
    const Batch& batch = *run.memory.batch;
    const int64_t sequence = run.unit / heads_;
    const int head = static_cast<int>(run.unit % heads_);
    const int64_t length = batch.length(sequence);
    if (length == 0) return;
    AttentionQdqArgs args = args_;
    const int values[4] = {inputs_[0], inputs_[1], inputs_[2], output_};
    TileSpan* spans[4] = {&args.q, &args.k, &args.v, &args.out};
    for (size_t i = 0; i < 4; ++i) {
      spans[i]->base = run.base(values[i]);
      spans[i]->tiling = batch.tiling(Space::tokens);
      spans[i]->channel += head * args.head_dim;
      spans[i]->begin = batch.offsets[static_cast<size_t>(sequence)];
      spans[i]->length = length;
    }
    args.bias = bias_.of(head, batch, sequence);
    args.scratch = run.scratch;
    kernel_.run(args);
  }

 private:
  static GridPoint point(const NodeInfo& node, const std::string& name) {
    if (node.attr(name + "_scale") == nullptr && node.attr(name + "_zero_point") == nullptr) return {false, 1, 1, 0};
    const float scale = node.attr_f32(name + "_scale", 0);
    const double inverse = 1.0 / static_cast<double>(scale);
    if (!(scale > 0) || !std::isfinite(static_cast<float>(inverse))) node.fail(name + "_scale must be positive");
    return {true, scale, static_cast<float>(inverse),
            static_cast<float>(node.attr_int(name + "_zero_point", -1, 0, 255))};
  }

  const AttentionQdqKernel& kernel_;
  AttentionQdqArgs args_ = {};
  PositionBias bias_;
  int inputs_[3] = {}, output_ = -1, heads_ = 1;
};

}  // namespace

std::unique_ptr<Op> make_attention_qdq(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<AttentionQdq>(node, context);
}

}  // namespace fastcpu
