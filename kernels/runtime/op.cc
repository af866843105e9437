#include "runtime/op.h"

#include <algorithm>

#include "base/error.h"

namespace fastcpu {

#define FASTCPU_OP(name, token_wise, ragged_ok, in_place, stateful, graph_inputs, writes_output) \
  std::unique_ptr<Op> make_##name(const NodeInfo& node, const OpContext& context);
#include "runtime/ops.inc"
#undef FASTCPU_OP

const std::vector<OpTraits>& op_table() {
  static const std::vector<OpTraits> table = {
#define FASTCPU_OP(name, token_wise, ragged_ok, in_place, stateful, graph_inputs, writes_output) \
  OpTraits{#name, token_wise, ragged_ok, in_place, stateful, graph_inputs, writes_output, make_##name},
#include "runtime/ops.inc"
#undef FASTCPU_OP
  };
  return table;
}

const OpTraits* find_op(const std::string& name) {
  for (const OpTraits& op : op_table())
    if (name == op.name) return &op;
  return nullptr;
}

std::vector<int32_t> Batch::* OpContext::token_array(const NodeInfo& node, int index) const {
  const auto it = token_arrays.find(index);
  if (it == token_arrays.end()) node.fail("value '" + value(index).name + "' does not come from unpad");
  return it->second;
}

void check_attention_length(const Batch& batch) {
  if (batch.longest > 65536)
    throw Error(Error::Kind::input, "a sequence of " + std::to_string(batch.longest) +
                                        " tokens is too long: attention takes at most 65536");
}

double attention_macs(const Batch& batch, int64_t channels) {
  double squares = 0;
  for (int64_t b = 0; b < batch.sequences; ++b)
    squares += static_cast<double>(batch.length(b)) * static_cast<double>(batch.length(b));
  return 2 * squares * static_cast<double>(channels);
}

void expect_arity(const NodeInfo& node, size_t min_inputs, size_t max_inputs, size_t min_outputs, size_t max_outputs) {
  if (node.inputs.size() < min_inputs || node.inputs.size() > max_inputs)
    node.fail("has " + std::to_string(node.inputs.size()) + " inputs");
  if (node.outputs.size() < min_outputs || node.outputs.size() > max_outputs)
    node.fail("has " + std::to_string(node.outputs.size()) + " outputs");
}

void expect_names(const NodeInfo& node, Names attrs, Names tensors) {
  const auto known = [](Names names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (node.attrs != nullptr)
    for (const auto& [name, value] : node.attrs->object())
      if (!known(attrs, name)) node.fail("unknown attribute \"" + name + "\"");
  for (const auto& [role, tensor] : node.tensors)
    if (!known(tensors, role)) node.fail("unknown tensor \"" + role + "\"");
}

void refuse_attrs(const NodeInfo& node, Names attrs, const std::string& why) {
  for (const std::string_view name : attrs)
    if (node.attrs != nullptr && node.attrs->find(name) != nullptr)
      node.fail("attribute \"" + std::string(name) + "\" " + why);
}

void expect_value(const NodeInfo& node, const ValueInfo& value, DType dtype, Space space, int64_t channels) {
  if (value.is_scale) node.fail("value '" + value.name + "' is a dynamic scale and cannot be used here");
  if (value.dtype != dtype)
    node.fail("value '" + value.name + "' is " + name_of(kDTypeNames, value.dtype) + ", expected " +
              name_of(kDTypeNames, dtype));
  if (value.space != space) node.fail("value '" + value.name + "' is in the wrong space");
  if (value.channels != channels)
    node.fail("value '" + value.name + "' has " + std::to_string(value.channels) + " channels, expected " +
              std::to_string(channels));
}

void expect_scale(const NodeInfo& node, const ValueInfo& value, Space space) {
  if (!value.is_scale || value.space != space)
    node.fail("value '" + value.name + "' is not a dynamic scale of the same space");
}

const float* expect_vector(const NodeInfo& node, std::string_view role, int64_t length) {
  const TensorInfo& tensor = node.tensor_at(role);
  if (tensor.storage != DType::f32 || tensor.encoding != Encoding::dense ||
      tensor.shape != std::vector<int64_t>{length})
    node.fail("tensor \"" + std::string(role) + "\" must be f32 with " + std::to_string(length) + " entries");
  return reinterpret_cast<const float*>(tensor.values->data);
}

}  // namespace fastcpu
