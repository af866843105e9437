// unpad: hands the batch's token arrays (ids, positions, types) to the graph. The session has already dropped the
// padding, so nothing is left to compute.
#include "base/error.h"
#include "runtime/op.h"

namespace fastcpu {

std::unique_ptr<Op> make_unpad(const NodeInfo& node, const OpContext& context) {
  if (node.outputs.size() < 2 || node.outputs.size() > 3)
    node.fail("needs outputs ids, positions and optionally types");
  expect_names(node, {"padding_id"});
  if (node.attr("padding_id") != nullptr) node.attr_int("padding_id", 0, 0, INT32_MAX);
  for (const int output : node.outputs) expect_value(node, context.value(output), DType::s32, Space::tokens, 1);
  return std::make_unique<Op>();
}

}  // namespace fastcpu
