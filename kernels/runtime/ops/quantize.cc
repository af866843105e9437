#include "base/error.h"
#include "base/manifest.h"
#include "pointwise/pointwise.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class Quantize : public Op {
 public:
  Quantize(const NodeInfo& node, const OpContext& context) : kernel_(select(pointwise_manifest(), context.isa)) {
    expect_arity(node, 1, 1, 1, 2);
    expect_names(node, {});
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    const ValueInfo& x = context.value(input_);
    const ValueInfo& y = context.value(output_);
    expect_value(node, x, DType::f32, x.space, x.channels);
    expect_value(node, y, DType::u8, x.space, x.channels);
    channels_ = static_cast<int>(x.channels);
    if (y.dynamic_scale >= 0) {
      if (node.outputs.size() != 2 || node.outputs[1] != y.dynamic_scale)
        node.fail("a dynamic output needs its scale as second output");
      expect_scale(node, context.value(y.dynamic_scale), x.space);
      scale_ = y.dynamic_scale;
    } else {
      if (node.outputs.size() != 1 || y.groups.size() != 1) node.fail("a static output has one scale");
      inv_scale_ = static_cast<float>(1.0 / static_cast<double>(y.groups[0].scale));
      zero_point_ = static_cast<float>(y.groups[0].zero_point);
    }
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }

  void run_tile(const TileRun& run) const override {
    const int64_t stride = channel_stride(channels_);
    const auto* x = reinterpret_cast<const float*>(run.at(input_, stride * 4));
    uint8_t* out = run.at(output_, stride);
    if (scale_ >= 0)
      kernel_.quantize_dynamic(x, channels_, run.tile.width, out, reinterpret_cast<float*>(run.at(scale_, 4)));
    else
      kernel_.quantize(x, inv_scale_, zero_point_, out, stride * run.tile.width);
  }

 private:
  const PointwiseKernel& kernel_;
  int input_, output_, channels_, scale_ = -1;
  float inv_scale_ = 1, zero_point_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_quantize(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Quantize>(node, context);
}

}  // namespace fastcpu
