#include "pointwise/pointwise.h"

#include "base/error.h"
#include "base/manifest.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class Pointwise : public Op {
 public:
  Pointwise(const NodeInfo& node, const OpContext& context) : kernel_(select(pointwise_manifest(), context.isa)) {
    expect_arity(node, 1, 1, 1, 1);
    expect_names(node, {"function"});
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    const ValueInfo& x = context.value(input_);
    expect_value(node, x, DType::f32, x.space, x.channels);
    expect_value(node, context.value(output_), DType::f32, x.space, x.channels);
    stride_ = channel_stride(x.channels);
    const std::string function = node.attr_string("function", "");
    const auto found = parse_name(kActivationNames, function);
    if (!found || *found == Activation::none) node.fail("unknown function \"" + function + "\"");
    activation_ = *found;
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }

  void run_tile(const TileRun& run) const override {
    kernel_.activate(activation_, reinterpret_cast<const float*>(run.at(input_, stride_ * 4)),
                     reinterpret_cast<float*>(run.at(output_, stride_ * 4)), stride_ * run.tile.width);
  }

 private:
  const PointwiseKernel& kernel_;
  int input_, output_;
  int64_t stride_;
  Activation activation_ = Activation::none;
};

}  // namespace

std::unique_ptr<Op> make_pointwise(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Pointwise>(node, context);
}

}  // namespace fastcpu
