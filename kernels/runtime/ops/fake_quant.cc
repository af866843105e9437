#include <cmath>

#include "base/error.h"
#include "base/manifest.h"
#include "pointwise/pointwise.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class FakeQuant : public Op {
 public:
  FakeQuant(const NodeInfo& node, const OpContext& context) : kernel_(select(pointwise_manifest(), context.isa)) {
    expect_arity(node, 1, 1, 1, 1);
    expect_names(node, {"scale", "zero_point"}, {"bias"});
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    const ValueInfo& x = context.value(input_);
    for (const int value : {input_, output_}) expect_value(node, context.value(value), DType::f32, x.space, x.channels);
    channels_ = static_cast<int>(x.channels);
    scale_ = node.attr_f32("scale", 0);
    inv_scale_ = static_cast<float>(1.0 / static_cast<double>(scale_));
    if (!(scale_ > 0) || !std::isfinite(inv_scale_)) node.fail("scale must be positive and not too small");
    zero_point_ = static_cast<float>(node.attr_int("zero_point", -1, 0, 255));
    if (node.tensor("bias") != nullptr) bias_ = expect_vector(node, "bias", x.channels);
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }

  void run_tile(const TileRun& run) const override {
    const int64_t stride = channel_stride(channels_) * 4;
    kernel_.fake_quant(reinterpret_cast<const float*>(run.at(input_, stride)), channels_, run.tile.width, scale_,
                       inv_scale_, zero_point_, bias_, reinterpret_cast<float*>(run.at(output_, stride)));
  }

 private:
  const PointwiseKernel& kernel_;
  int input_, output_, channels_;
  float scale_, inv_scale_, zero_point_;
  const float* bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Op> make_fake_quant(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<FakeQuant>(node, context);
}

}  // namespace fastcpu
