// repad: from tiles to the caller's array: [batch, sequence, channels] (or [batch, sequence]) for tokens, [batch,
// channels] for pooled values. Padding rows get the fill value.
#include "base/error.h"
#include "base/manifest.h"
#include "pooling/pooling.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class Repad : public Op {
 public:
  Repad(const NodeInfo& node, const OpContext& context) : kernel_(select(pooling_manifest(), context.isa)) {
    expect_arity(node, 1, 1, 1, 1);
    expect_names(node, {"begin", "end", "squeeze", "fill"});
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    const ValueInfo& x = context.value(input_);
    if (x.space == Space::output) node.fail("input must be a value of tokens or sequences");
    expect_value(node, x, DType::f32, x.space, x.channels);
    channels_ = static_cast<int>(x.channels);
    begin_ = static_cast<int>(node.attr_int("begin", 0, 0, channels_ - 1));
    count_ = static_cast<int>(node.attr_int("end", channels_, begin_ + 1, channels_)) - begin_;
    squeeze_ = node.attr_bool("squeeze", false);
    if (squeeze_ && count_ != 1) node.fail("squeeze needs one channel");
    fill_ = node.attr_f32("fill", 0);
    expect_value(node, context.value(output_), DType::f32, Space::output, count_);
    space_ = x.space;
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }
  int64_t units(const Batch& batch) const override {
    return space_ == Space::tokens ? batch.sequences : batch.sequences > 0 ? 1 : 0;
  }

  std::vector<int64_t> output_shape(const Batch& batch) const override {
    std::vector<int64_t> shape = {batch.sequences};
    if (space_ == Space::tokens) shape.push_back(batch.columns);
    if (!squeeze_) shape.push_back(count_);
    return shape;
  }

  void run_unit(const UnitRun& run) const override {
    const Batch& batch = *run.memory.batch;
    auto* out = reinterpret_cast<float*>(run.base(output_));
    if (space_ == Space::sequences) {
      kernel_.to_rows({run.base(input_), batch.sequences, channels_, begin_, 0, batch.sequences}, count_, out, count_);
      return;
    }
    out += run.unit * batch.columns * count_;
    int64_t t = batch.offsets[static_cast<size_t>(run.unit)];
    const int64_t end = batch.offsets[static_cast<size_t>(run.unit) + 1];
    int64_t column = 0;
    while (t < end) {
      const int64_t first = batch.positions[static_cast<size_t>(t)];
      int64_t last = t + 1;  // a run of neighbouring columns
      while (last < end && batch.positions[static_cast<size_t>(last)] == first + (last - t)) ++last;
      std::fill(out + column * count_, out + first * count_, fill_);
      kernel_.to_rows({run.base(input_), batch.tiling(Space::tokens), channels_, begin_, t, last - t}, count_,
                      out + first * count_, count_);
      column = first + (last - t);
      t = last;
    }
    std::fill(out + column * count_, out + batch.columns * count_, fill_);
  }

 private:
  const PoolingKernel& kernel_;
  int input_, output_, channels_, begin_, count_;
  float fill_;
  bool squeeze_ = false;
  Space space_;
};

}  // namespace

std::unique_ptr<Op> make_repad(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Repad>(node, context);
}

}  // namespace fastcpu
