#include <algorithm>

#include "base/error.h"
#include "base/manifest.h"
#include "pooling/pooling.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class L2Norm : public Op {
 public:
  L2Norm(const NodeInfo& node, const OpContext& context) : kernel_(select(pooling_manifest(), context.isa)) {
    expect_arity(node, 1, 1, 1, 1);
    expect_names(node, {});
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    const ValueInfo& x = context.value(input_);
    for (const int value : {input_, output_}) expect_value(node, context.value(value), DType::f32, x.space, x.channels);
    channels_ = static_cast<int>(x.channels);
  }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }

  void run_tile(const TileRun& run) const override {
    const int64_t stride = channel_stride(channels_) * 4;
    const auto* x = reinterpret_cast<const float*>(run.at(input_, stride));
    auto* out = reinterpret_cast<float*>(run.at(output_, stride));
    std::copy(x, x + channel_stride(channels_) * run.tile.width, out);
    kernel_.l2norm(out, channels_, run.tile.width);
  }

 private:
  const PoolingKernel& kernel_;
  int input_, output_, channels_;
};

}  // namespace

std::unique_ptr<Op> make_l2norm(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<L2Norm>(node, context);
}

}  // namespace fastcpu
