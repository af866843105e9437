// What a runtime op is. An op is one file in ops/ and one line in ops.inc; planning, threading and profiling read only
// the traits on that line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/isa.h"
#include "base/names.h"
#include "base/tile.h"
#include "runtime/model_file.h"

namespace fastcpu {

// One ragged batch: the real tokens of all sequences, one after the other.
struct Batch {
  int64_t sequences = 0;
  int64_t tokens = 0;
  int64_t columns = 0;           // length of the caller's sequence axis; padded outputs have this many columns
  int64_t longest = 0;           // tokens of the longest sequence
  int tile_width = kTileWidth;   // of whole tiles of tokens
  std::vector<int64_t> offsets;  // [sequences + 1] first token of each sequence
  // A value of the caller that no table can hold is -1 here, and the first such id and type are kept in decimal.
  std::vector<int32_t> ids, types;
  std::string wide_id, wide_type;
  std::vector<int32_t> positions;  // column of each token in the caller's array: its position id in most models
  // Where unpad has a padding id, the position id: the token's number, from 1, among those of its row that are not
  // padding; 0 for one that is.
  std::vector<int32_t> counted_positions;

  int64_t count(Space space) const { return space == Space::sequences ? sequences : tokens; }
  Tiling tiling(Space space) const { return {count(space), space == Space::tokens ? tile_width : kTileWidth}; }
  int64_t length(int64_t sequence) const {
    return offsets[static_cast<size_t>(sequence) + 1] - offsets[static_cast<size_t>(sequence)];
  }
};

// How weights with 4x1 blocks are executed; the result is the same. `dense` fills the gaps with zeros and multiplies
// everything; `sparse` runs the blocks alone, and `automatic` is the same as `sparse`.
enum class Execution : uint8_t { automatic, dense, sparse };
constexpr Name<Execution> kExecutionNames[] = {
    {Execution::automatic, "auto"}, {Execution::dense, "dense"}, {Execution::sparse, "sparse"}};

struct OpContext {
  const std::vector<ValueInfo>& values;
  Isa isa;
  Execution execution;
  const std::map<int, std::vector<int32_t> Batch::*>& token_arrays;  // outputs of ops with graph_inputs
  Arena& weights;                                                    // for what an op packs; lives as long as the op
  const ValueInfo& value(int index) const { return values[static_cast<size_t>(index)]; }
  std::vector<int32_t> Batch::* token_array(const NodeInfo& node,
                                            int index) const;  // Error(graph) when the value does not come from unpad
};

// Where values live during a run.
struct Memory {
  const Batch* batch = nullptr;
  std::vector<uint8_t*>
      base;  // shared values: first byte; token arrays of unpad: the batch's vectors; outputs: the caller's arrays
  std::vector<int64_t> local;  // values that live inside one tile group: offset into the tile's local buffer, or -1
};

// One token-wise op applied to one tile.
struct TileRun {
  const Memory& memory;
  Tile tile;
  int64_t tokens;    // columns of the space that the tile belongs to
  uint8_t* local;    // local buffer of this tile
  uint8_t* scratch;  // of this thread
  int part, parts;   // channel-parallel: this call computes part `part` of `parts`
  int64_t next;      // first token of the 64-wide tile that this thread probably takes after this one, or -1

  // The tile of a value with `stride` bytes per column.
  uint8_t* at(int value, int64_t stride) const {
    const int64_t offset = memory.local[static_cast<size_t>(value)];
    return offset >= 0 ? local + offset : memory.base[static_cast<size_t>(value)] + tile.begin * stride;
  }
  // The same of the next tile, to be prefetched and not read: it may not be computed yet. nullptr if there is none.
  const uint8_t* next_at(int value, int64_t stride) const {
    if (next < 0 || memory.local[static_cast<size_t>(value)] >= 0) return nullptr;
    return memory.base[static_cast<size_t>(value)] + next * stride;
  }
};

// One unit of an op that is not token-wise.
struct UnitRun {
  const Memory& memory;
  uint8_t* scratch;  // of this thread
  int64_t unit;
  uint8_t* base(int value) const { return memory.base[static_cast<size_t>(value)]; }
};

// For doctor: what an op did, beyond its time.
struct OpInfo {
  std::string kernel;         // e.g. spmm_u8s8_avx512vnni; empty when there is nothing to choose
  double macs_per_token = 0;  // multiply-accumulates of nonzero weights per column
  double density = 1;         // stored blocks / all blocks
  int64_t weights = 0;        // elements of the weight, zeros included
  size_t packed_bytes = 0;
  size_t read_bytes = 0;  // of these, at least, by a pass over the weights: a kernel may keep them in two forms
  TileCosts costs = {};   // of the kernel
};

class Op {
 public:
  virtual ~Op() = default;
  virtual OpInfo info() const { return {}; }
  // Before a run, on the caller's thread: throws Error(input) for ids out of range and the like.
  virtual void check(const Batch&) const {}
  virtual size_t scratch_bytes(const Batch&) const { return 0; }
  // Multiply-accumulates that depend on the lengths (attention).
  virtual double macs(const Batch&) const { return 0; }

  // Token-wise ops.
  virtual bool splits() const { return false; }  // can compute a part of a tile's channels
  virtual void run_tile(const TileRun&) const {}

  // Other ops.
  virtual int64_t units(const Batch&) const { return 0; }
  virtual void run_unit(const UnitRun&) const {}
  // Ops that write a graph output: its shape.
  virtual std::vector<int64_t> output_shape(const Batch&) const { return {}; }
};

struct OpTraits {
  const char* name;
  // Output column t depends on input column t alone: may run tile by tile, in a group with its neighbours.
  bool token_wise;
  bool ragged_ok;  // needs no padding: a sequence gets the same answer alone and in any batch (tests/conformance)
  bool in_place;   // may write its first f32 output over an f32 input that is not needed any more
  bool stateful;  // keeps state between runs, in the context; others answer a batch alike each time (tests/conformance)
  bool graph_inputs;   // reads inputs of the graph instead of values; its outputs are the token arrays of the batch
  bool writes_output;  // its output is an array of the caller
  std::unique_ptr<Op> (*make)(const NodeInfo& node, const OpContext& context);
};

const std::vector<OpTraits>& op_table();
const OpTraits* find_op(const std::string& name);  // nullptr when unknown

// Bytes per column of a value in a buffer; flat arrays (token ids, dynamic scales) have no channel padding.
inline int64_t column_bytes(const ValueInfo& value) {
  if (value.is_scale || value.dtype == DType::s32) return 4;
  return channel_stride(value.channels) * static_cast<int64_t>(dtype_bytes(value.dtype));
}

// Multiply-accumulates of self-attention: Q K^T and P V, `channels` = heads x head_dim.
double attention_macs(const Batch& batch, int64_t channels);
// The kernels take up to 65,536 tokens per sequence: Error(input).
void check_attention_length(const Batch& batch);

// Checks shared by ops: each throws Error(graph) naming the node.
using Names = std::initializer_list<std::string_view>;
void expect_names(const NodeInfo& node, Names attrs, Names tensors = {});  // nothing that the op would ignore
void refuse_attrs(const NodeInfo& node, Names attrs, const std::string& why);
void expect_arity(const NodeInfo& node, size_t min_inputs, size_t max_inputs, size_t min_outputs, size_t max_outputs);
void expect_value(const NodeInfo& node, const ValueInfo& value, DType dtype, Space space, int64_t channels);
void expect_scale(const NodeInfo& node, const ValueInfo& value, Space space);  // of a dynamic u8 value
const float* expect_vector(const NodeInfo& node, std::string_view role, int64_t length);

}  // namespace fastcpu
