#include "base/error.h"
#include "base/manifest.h"
#include "pointwise/pointwise.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class Add : public Op {
 public:
  Add(const NodeInfo& node, const OpContext& context) : kernel_(select(pointwise_manifest(), context.isa)) {
    expect_arity(node, 2, 2, 1, 1);
    expect_names(node, {});
    a_ = node.inputs[0];
    b_ = node.inputs[1];
    output_ = node.outputs[0];
    const ValueInfo& a = context.value(a_);
    for (const int value : {a_, b_, output_}) expect_value(node, context.value(value), DType::f32, a.space, a.channels);
    stride_ = channel_stride(a.channels);
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }

  void run_tile(const TileRun& run) const override {
    kernel_.add(reinterpret_cast<const float*>(run.at(a_, stride_ * 4)),
                reinterpret_cast<const float*>(run.at(b_, stride_ * 4)),
                reinterpret_cast<float*>(run.at(output_, stride_ * 4)), stride_ * run.tile.width);
  }

 private:
  const PointwiseKernel& kernel_;
  int a_, b_, output_;
  int64_t stride_;
};

}  // namespace

std::unique_ptr<Op> make_add(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Add>(node, context);
}

}  // namespace fastcpu
