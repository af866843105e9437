// pool: one vector per sequence; the vectors become the columns of a value with one column per sequence, in the tile
// layout.
#include "base/error.h"
#include "base/manifest.h"
#include "pooling/pooling.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class PoolOp : public Op {
 public:
  PoolOp(const NodeInfo& node, const OpContext& context) : kernel_(select(pooling_manifest(), context.isa)) {
    expect_arity(node, 1, 1, 1, 1);
    expect_names(node, {"mode"});
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    channels_ = static_cast<int>(context.value(input_).channels);
    expect_value(node, context.value(input_), DType::f32, Space::tokens, channels_);
    expect_value(node, context.value(output_), DType::f32, Space::sequences, channels_);
    const std::string mode = node.attr_string("mode", "");
    const auto found = parse_name(kPoolNames, mode);
    if (!found) node.fail("unknown mode \"" + mode + "\"");
    mode_ = *found;
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }
  size_t scratch_bytes(const Batch&) const override {
    return static_cast<size_t>(channel_stride(channels_)) * sizeof(float);
  }
  int64_t units(const Batch& batch) const override { return batch.sequences; }

  void run_unit(const UnitRun& run) const override {
    const Batch& batch = *run.memory.batch;
    auto* row = reinterpret_cast<float*>(run.scratch);
    const TileSpan x = {
        run.base(input_),      batch.tiling(Space::tokens), channels_, 0, batch.offsets[static_cast<size_t>(run.unit)],
        batch.length(run.unit)};
    kernel_.pool(mode_, x, channels_, row);
    kernel_.from_rows(row, channels_, channels_, {run.base(output_), batch.sequences, channels_, 0, run.unit, 1});
  }

 private:
  const PoolingKernel& kernel_;
  int input_, output_, channels_;
  Pool mode_ = Pool::cls;
};

}  // namespace

std::unique_ptr<Op> make_pool(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<PoolOp>(node, context);
}

}  // namespace fastcpu
