// The tensor "bias" of attention (docs/format.md): what is added to scores depending on the distance of query and key.
#pragma once
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "runtime/op.h"

namespace fastcpu {

class PositionBias {
 public:
  PositionBias() = default;
  // Every entry is multiplied by `factor` in double and rounded to f32. Error(graph) that names the node.
  PositionBias(const NodeInfo& node, int64_t heads, double factor);

  AttentionBias of(int head, const Batch& batch, int64_t sequence) const;

 private:
  std::vector<float> table_;  // [heads][2 reach + 1]; empty where the node has no bias
  int64_t reach_ = 0;
};

}  // namespace fastcpu
