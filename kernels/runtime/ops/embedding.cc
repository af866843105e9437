#include "embedding/embedding.h"

#include "base/error.h"
#include "base/manifest.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

class Embedding : public Op {
 public:
  Embedding(const NodeInfo& node, const OpContext& context)
      : kernel_(select(embedding_manifest(), context.isa)), output_(node.outputs.at(0)), inputs_(node.inputs) {
    expect_arity(node, 1, 4, 1, 1);
    expect_names(node, {}, {"table0", "table1", "table2", "table3"});
    if (node.tensors.size() != inputs_.size()) node.fail("needs one table per input");
    channels_ = context.value(output_).channels;
    expect_value(node, context.value(output_), DType::f32, Space::tokens, channels_);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      expect_value(node, context.value(inputs_[i]), DType::s32, Space::tokens, 1);
      const TensorInfo& table = node.tensor_at("table" + std::to_string(i));
      if (table.encoding != Encoding::dense || table.shape.size() != 2 || table.columns() != channels_ ||
          table.rows() < 1 || table.rows() > INT32_MAX || (table.storage != DType::s8 && table.storage != DType::f32))
        node.fail("table" + std::to_string(i) + " must be a dense s8 or f32 matrix with " + std::to_string(channels_) +
                  " columns");
      EmbeddingTable& entry = tables_[i];
      entry.s8 = table.storage == DType::s8 ? reinterpret_cast<const int8_t*>(table.values->data) : nullptr;
      entry.f32 = table.storage == DType::f32 ? reinterpret_cast<const float*>(table.values->data) : nullptr;
      entry.scale = table.scale;
      rows_[i] = table.rows();
    }
  }

  // A row index is checked against the table in check() through the array that unpad bound to this input.
  void bind(size_t input, std::vector<int32_t> Batch::* array) { arrays_[input] = array; }

  OpInfo info() const override { return {kernel_.name, 0, 1, 0}; }

  void check(const Batch& batch) const override {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const std::vector<int32_t>& rows = batch.*arrays_[i];
      const bool counted = arrays_[i] == &Batch::counted_positions;
      const bool positions = counted || arrays_[i] == &Batch::positions;
      uint32_t largest = 0;  // negative indices are large when unsigned
      for (int64_t t = 0; t < batch.tokens; ++t)
        largest = std::max(largest, static_cast<uint32_t>(rows[static_cast<size_t>(t)]));
      if (static_cast<int64_t>(largest) < rows_[i]) continue;
      if (positions)  // row 0 of counted positions is that of padding
        throw Error(Error::Kind::input, "a sequence of length " + std::to_string(counted ? largest : largest + 1) +
                                            " is too long: the model has " +
                                            std::to_string(counted ? rows_[i] - 1 : rows_[i]) + " positions");
      for (int64_t b = 0; b < batch.sequences; ++b)
        for (int64_t t = batch.offsets[static_cast<size_t>(b)]; t < batch.offsets[static_cast<size_t>(b) + 1]; ++t) {
          const int32_t row = rows[static_cast<size_t>(t)];
          if (row >= 0 && row < rows_[i]) continue;
          const bool is_id = arrays_[i] == &Batch::ids;
          const std::string& wide = is_id ? batch.wide_id : batch.wide_type;
          throw Error(Error::Kind::input, (is_id ? "token id " : "token type ") +
                                              (row < 0 ? wide : std::to_string(row)) + " at row " + std::to_string(b) +
                                              ", column " + std::to_string(batch.positions[static_cast<size_t>(t)]) +
                                              " is outside the table of " + std::to_string(rows_[i]) + " entries");
        }
    }
  }

  void run_tile(const TileRun& run) const override {
    EmbeddingTable tables[4];
    for (size_t i = 0; i < inputs_.size(); ++i) {
      tables[i] = tables_[i];
      tables[i].rows =
          reinterpret_cast<const int32_t*>(run.memory.base[static_cast<size_t>(inputs_[i])]) + run.tile.begin;
    }
    EmbeddingArgs args;
    args.tables = tables;
    args.table_count = static_cast<int>(inputs_.size());
    args.channels = static_cast<int>(channels_);
    args.width = run.tile.width;
    args.tokens = static_cast<int>(std::min<int64_t>(run.tile.width, run.tokens - run.tile.begin));
    args.out = reinterpret_cast<float*>(run.at(output_, channel_stride(channels_) * 4));
    kernel_.run(args);
  }

 private:
  const EmbeddingKernel& kernel_;
  int output_;
  std::vector<int> inputs_;
  int64_t channels_ = 0;
  EmbeddingTable tables_[4] = {};
  int64_t rows_[4] = {};
  std::vector<int32_t> Batch::* arrays_[4] = {&Batch::ids, &Batch::ids, &Batch::ids, &Batch::ids};
};

}  // namespace

std::unique_ptr<Op> make_embedding(const NodeInfo& node, const OpContext& context) {
  auto op = std::make_unique<Embedding>(node, context);
  for (size_t i = 0; i < node.inputs.size(); ++i) op->bind(i, context.token_array(node, node.inputs[i]));
  return op;
}

}  // namespace fastcpu
