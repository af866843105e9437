#include "runtime/position_bias.h"

#include <cmath>

namespace fastcpu {

PositionBias::PositionBias(const NodeInfo& node, int64_t heads, double factor) {
  const TensorInfo* bias = node.tensor("bias");
  if (bias == nullptr) return;
  if (bias->storage != DType::f32 || bias->encoding != Encoding::dense || bias->shape.size() != 2 ||
      bias->rows() != heads || bias->columns() % 2 != 1)
    node.fail("bias must be an f32 matrix with a row per head and an odd number of columns");
  reach_ = bias->columns() / 2;
  const auto* values = reinterpret_cast<const float*>(bias->values->data);
  for (int64_t i = 0; i < heads * bias->columns(); ++i) {
    table_.push_back(static_cast<float>(values[i] * factor));
    if (!std::isfinite(table_.back())) node.fail("bias overflows f32");
  }
}

AttentionBias PositionBias::of(int head, const Batch& batch, int64_t sequence) const {
  if (table_.empty()) return {};
  const int32_t* columns = batch.positions.data() + batch.offsets[static_cast<size_t>(sequence)];
  const int64_t length = batch.length(sequence);
  const bool neighbours = columns[length - 1] - columns[0] == length - 1;
  return {table_.data() + head * (2 * reach_ + 1), reach_, neighbours ? nullptr : columns};
}

}  // namespace fastcpu
