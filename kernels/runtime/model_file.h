// The reader of a model directory (docs/format.md): maps the weights, checks every bound, type and checksum, and turns
// graph.json into plain structs. Nothing later re-reads the file.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/names.h"

namespace fastcpu {

// A read-only mapping of a whole file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // Error(io)
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  void drop_pages() const;  // the pages are not needed any more; they can be read back from the file

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

enum class DType : uint8_t { f32, u8, s8, u16, s32, u32 };
constexpr Name<DType> kDTypeNames[] = {{DType::f32, "f32"}, {DType::u8, "u8"},   {DType::s8, "s8"},
                                       {DType::u16, "u16"}, {DType::s32, "s32"}, {DType::u32, "u32"}};
constexpr Name<DType> kSafetensorsNames[] = {{DType::f32, "F32"}, {DType::u8, "U8"},   {DType::s8, "I8"},
                                             {DType::u16, "U16"}, {DType::s32, "I32"}, {DType::u32, "U32"}};
constexpr Name<DType> kNumpyNames[] = {{DType::f32, "f4"}, {DType::u8, "u1"},  {DType::s8, "i1"},
                                       {DType::u16, "u2"}, {DType::s32, "i4"}, {DType::u32, "u4"}};
size_t dtype_bytes(DType dtype);

// One entry of weights.safetensors.
struct Entry {
  DType dtype;
  std::vector<int64_t> shape;
  const uint8_t* data;
  size_t bytes;
  int64_t elements() const;
};

enum class Encoding : uint8_t { dense, block4x1 };
constexpr Name<Encoding> kEncodingNames[] = {{Encoding::dense, "dense"}, {Encoding::block4x1, "block"}};

// A constant of the graph, checked against its descriptor.
struct TensorInfo {
  std::string name;
  Encoding encoding;
  DType storage;
  std::vector<int64_t> shape;
  const Entry* values = nullptr;
  const Entry* index = nullptr;    // block4x1
  const Entry* offsets = nullptr;  // block4x1
  const float* scale = nullptr;    // s8: [shape[0]]
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const { return shape.size() < 2 ? 1 : shape[1]; }
  int64_t nonzero_blocks() const { return encoding == Encoding::block4x1 ? index->elements() : 0; }
};

enum class Space : uint8_t { tokens, sequences, output };
constexpr Name<Space> kSpaceNames[] = {
    {Space::tokens, "tokens"}, {Space::sequences, "sequences"}, {Space::output, "output"}};

struct QuantGroup {
  int64_t first_channel;
  float scale;
  int32_t zero_point;
};

// An edge of the graph.
struct ValueInfo {
  std::string name;
  DType dtype;
  Space space;
  int64_t channels;
  std::vector<QuantGroup> groups;  // u8 static: at least one, ascending, the first at channel 0
  int dynamic_scale = -1;          // u8 dynamic: the value with the scale per token
  bool is_scale = false;           // f32, one channel: named as somebody's dynamic scale, stored as a flat array
  const QuantGroup& group_of(int64_t channel) const;
};

struct OpTraits;  // runtime/op.h

struct NodeInfo {
  std::string op, name;
  const OpTraits* traits = nullptr;       // of the op; the reader refuses a node without
  std::vector<int> inputs;                // values; empty for an op with graph_inputs
  std::vector<std::string> graph_inputs;  // names of graph inputs
  std::vector<int> outputs;
  std::map<std::string, const TensorInfo*, std::less<>> tensors;
  const Json* attrs = nullptr;  // an object, or nullptr for none

  const TensorInfo* tensor(std::string_view role) const;  // nullptr when absent
  const TensorInfo& tensor_at(std::string_view role) const;
  std::string where() const { return "node '" + name + "' (" + op + ")"; }
  [[noreturn]] void fail(const std::string& what) const;  // Error(graph)

  const Json* attr(std::string_view key) const;  // nullptr when absent
  // Attributes with defaults; a wrong type is an Error(file). An integer without a default has a fallback outside its
  // range, a float without a default has NaN: then a missing attribute is an Error(graph).
  int64_t attr_int(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  float attr_f32(std::string_view key, float fallback) const;
  bool attr_bool(std::string_view key, bool fallback) const;
  std::string attr_string(std::string_view key, const std::string& fallback) const;
};

enum class InputRole : uint8_t { ids, mask, types };
constexpr Name<InputRole> kInputRoleNames[] = {
    {InputRole::ids, "ids"}, {InputRole::mask, "mask"}, {InputRole::types, "types"}};

struct InputInfo {
  std::string name;
  InputRole role;
  bool optional;
};

struct OutputInfo {
  std::string name;
  int value;
  std::vector<std::string> dims;  // symbolic names, or sizes in decimal
};

class ModelFile {
 public:
  explicit ModelFile(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::string& name() const { return name_; }
  const std::vector<InputInfo>& inputs() const { return inputs_; }
  const std::vector<OutputInfo>& outputs() const { return outputs_; }
  const std::vector<ValueInfo>& values() const { return values_; }
  const std::vector<NodeInfo>& nodes() const { return nodes_; }
  const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  size_t weight_bytes() const { return weights_->size(); }
  void drop_pages() const { weights_->drop_pages(); }

 private:
  void read_entries(const std::string& where, const std::string& graph_checksum);
  void read_checksums(const Json& graph);
  void read_tensors(const Json& graph);
  void read_values(const Json& graph);
  void read_nodes(const Json& graph);
  void read_interface(const Json& graph);
  void check_graph_inputs() const;
  const Entry& entry(const Json& name, DType dtype) const;
  int value_index(const std::string& name, const std::string& where) const;

  std::string directory_, name_;
  std::unique_ptr<MappedFile> weights_;
  std::map<std::string, Entry, std::less<>> entries_;
  Json graph_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  std::vector<ValueInfo> values_;
  std::map<std::string, int, std::less<>> value_names_;
  std::vector<NodeInfo> nodes_;
  std::vector<InputInfo> inputs_;
  std::vector<OutputInfo> outputs_;
};

}  // namespace fastcpu
