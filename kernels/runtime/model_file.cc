#include "runtime/model_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <set>

#include "base/buffer.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "runtime/op.h"

namespace fastcpu {
namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 31;
constexpr int64_t kMaxChannels = 1 << 20;
constexpr int64_t kMaxReduction = 32768;  // docs/numerics.md, section 1

[[noreturn]] void fail(const std::string& what) { throw Error(Error::Kind::file, what); }

using Keys = std::initializer_list<std::string_view>;

// What nobody reads is refused: the model is all that its file says.
void expect_keys(const Json& json, Keys known) {
  for (const auto& [key, member] : json.object())
    if (std::find(known.begin(), known.end(), key) == known.end()) fail(json.path() + ": unknown key \"" + key + "\"");
}

void refuse_keys(const Json& json, Keys keys, const std::string& why) {
  for (const std::string_view key : keys)
    if (json.find(key) != nullptr) fail(json.path() + ": \"" + std::string(key) + "\" " + why);
}

// `otherwise` says what is wrong with any other name.
template <class Enum, size_t N>
Enum read_name(const Json& json, const Name<Enum> (&names)[N], const char* otherwise) {
  const auto value = parse_name(names, json.string());
  if (!value) fail(json.path() + ": " + otherwise + " \"" + json.string() + "\"");
  return *value;
}

DType read_dtype(const Json& json, std::initializer_list<DType> allowed, const char* otherwise) {
  const DType dtype = read_name(json, kDTypeNames, otherwise);
  if (std::find(allowed.begin(), allowed.end(), dtype) == allowed.end())
    fail(json.path() + ": " + otherwise + " \"" + json.string() + "\"");
  return dtype;
}

std::vector<int64_t> read_shape(const Json& json) {
  std::vector<int64_t> shape;
  for (const Json& item : json.array()) shape.push_back(item.integer(0, kMaxDimension));
  if (shape.size() > 4) fail(json.path() + ": more than 4 dimensions");
  return shape;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string checksum_text(const void* data, size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "crc32c:%08x", crc32c(data, bytes));
  return text;
}

bool is_pad(const std::string& name) { return name.rfind("_pad.", 0) == 0; }

bool all_finite(const float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!std::isfinite(x[i])) return false;
  return true;
}

void check_shape(const Entry& entry, const std::vector<int64_t>& shape, const std::string& what) {
  if (entry.shape != shape) fail(what + " has shape " + shape_text(entry.shape) + " instead of " + shape_text(shape));
}

// Every index of a block matrix is checked here, so that kernels can trust it.
void check_blocks(const TensorInfo& tensor, const std::string& where) {
  const auto* offsets = reinterpret_cast<const uint32_t*>(tensor.offsets->data);
  const auto* index = reinterpret_cast<const uint16_t*>(tensor.index->data);
  const int64_t blocks = tensor.index->elements();
  const int64_t groups = tensor.rows() / 4;
  if (offsets[0] != 0 || offsets[groups] != blocks) fail(where + ": block offsets do not cover the blocks");
  for (int64_t g = 0; g < groups; ++g) {
    if (offsets[g] > offsets[g + 1] || offsets[g + 1] > blocks)
      fail(where + ": block offsets of row group " + std::to_string(g) + " are out of order");
    for (uint32_t b = offsets[g]; b < offsets[g + 1]; ++b)
      if (index[b] >= tensor.columns() || (b > offsets[g] && index[b] <= index[b - 1]))
        fail(where + ": block " + std::to_string(b) + " has a bad input channel");
  }
}

// A Hugging Face directory is the likeliest thing to be taken for a model directory.
void expect_compiled(const std::string& directory) {
  const auto exists = [&](const char* name) { return ::access((directory + name).c_str(), F_OK) == 0; };
  if (exists("/config.json") && !exists("/graph.json") && errno == ENOENT)
    throw Error(Error::Kind::io, "cannot open " + directory + "/graph.json: " + std::strerror(ENOENT) + "; " +
                                     directory + " looks like a Hugging Face directory, of which `fastcpu compile " +
                                     directory + " -o OUT` makes a model directory");
}

}  // namespace

size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::u8:
    case DType::s8:
      return 1;
    case DType::u16:
      return 2;
    default:
      return 4;
  }
}

int64_t Entry::elements() const {
  int64_t count = 1;
  for (const int64_t d : shape) count *= d;
  return count;
}

const QuantGroup& ValueInfo::group_of(int64_t channel) const {
  size_t i = groups.size() - 1;
  while (i > 0 && groups[i].first_channel > channel) --i;
  return groups[i];
}

const TensorInfo* NodeInfo::tensor(std::string_view role) const {
  const auto it = tensors.find(role);
  return it == tensors.end() ? nullptr : it->second;
}

const TensorInfo& NodeInfo::tensor_at(std::string_view role) const {
  const TensorInfo* info = tensor(role);
  if (info == nullptr) fail("needs a tensor \"" + std::string(role) + "\"");
  return *info;
}

void NodeInfo::fail(const std::string& what) const { throw Error(Error::Kind::graph, where() + ": " + what); }

const Json* NodeInfo::attr(std::string_view key) const { return attrs == nullptr ? nullptr : attrs->find(key); }

int64_t NodeInfo::attr_int(std::string_view key, int64_t fallback, int64_t low, int64_t high) const {
  const Json* json = attr(key);
  if (json != nullptr) return json->integer(low, high);
  if (fallback < low || fallback > high) fail("attribute \"" + std::string(key) + "\" is missing");
  return fallback;
}

float NodeInfo::attr_f32(std::string_view key, float fallback) const {
  const Json* json = attr(key);
  if (json == nullptr && std::isnan(fallback)) fail("attribute \"" + std::string(key) + "\" is missing");
  return json == nullptr ? fallback : json->f32();
}

bool NodeInfo::attr_bool(std::string_view key, bool fallback) const {
  const Json* json = attr(key);
  return json == nullptr ? fallback : json->boolean();
}

std::string NodeInfo::attr_string(std::string_view key, const std::string& fallback) const {
  const Json* json = attr(key);
  return json == nullptr ? fallback : json->string();
}

ModelFile::ModelFile(const std::string& directory) : directory_(directory) {
  if (directory.empty()) throw Error(Error::Kind::input, "the path of the model is empty");
  expect_compiled(directory);
  const std::string graph_path = directory + "/graph.json", weights_path = directory + "/weights.safetensors";
  std::string graph_checksum;
  {
    const MappedFile text(graph_path);
    graph_ = Json::parse({reinterpret_cast<const char*>(text.data()), text.size()}, graph_path);
    graph_checksum = checksum_text(text.data(), text.size());
  }
  const Json* format = graph_.type() == Json::Type::object ? graph_.find("format") : nullptr;
  if (format == nullptr || format->type() != Json::Type::string || format->string() != "fastcpu")
    fail(graph_path + ": not a fastcpu model (\"format\" is not \"fastcpu\")");
  const int64_t version = graph_.at("version").integer();
  if (version != 1)
    fail(graph_path + ": format version " + std::to_string(version) + " is not supported (this build reads version 1)");
  expect_keys(graph_, {"format", "version", "producer", "name", "inputs", "outputs", "tensors", "checksums", "values",
                       "nodes"});
  if (const Json* name = graph_.find("name")) name_ = name->string();

  weights_ = std::make_unique<MappedFile>(weights_path);
  read_entries(weights_path, graph_checksum);
  read_checksums(graph_);
  read_tensors(graph_);
  read_values(graph_);
  read_nodes(graph_);
  read_interface(graph_);
}

void ModelFile::read_entries(const std::string& where, const std::string& graph_checksum) {
  const uint8_t* file = weights_->data();
  const size_t size = weights_->size();
  uint64_t header = 0;
  if (size < 8) fail(where + ": truncated: " + std::to_string(size) + " bytes");
  for (int i = 7; i >= 0; --i) header = header << 8 | file[i];
  if (header > size - 8)
    fail(where + ": truncated: a header of " + std::to_string(header) + " bytes in a file of " + std::to_string(size));
  if ((8 + header) % kAlignment != 0) fail(where + ": data is not aligned to 64 bytes");
  const uint8_t* data = file + 8 + header;
  const size_t data_size = size - 8 - header;
  const Json json = Json::parse({reinterpret_cast<const char*>(file) + 8, header}, where);
  const std::string& expected = json.at("__metadata__").at("graph").string();
  if (expected != graph_checksum)
    fail(directory_ + "/graph.json is damaged or belongs to other weights (checksum " + graph_checksum + ", expected " +
         expected + ")");

  std::vector<std::pair<size_t, size_t>> ranges;
  for (const auto& [name, item] : json.object()) {
    if (name == "__metadata__") continue;
    Entry entry;
    entry.dtype = read_name(item.at("dtype"), kSafetensorsNames, "unsupported dtype");
    entry.shape = read_shape(item.at("shape"));
    const auto& offsets = item.at("data_offsets").array();
    if (offsets.size() != 2) fail(where + ": tensor '" + name + "': data_offsets needs two numbers");
    const auto begin = static_cast<size_t>(offsets[0].integer(0, std::numeric_limits<int64_t>::max()));
    const auto end = static_cast<size_t>(offsets[1].integer(0, std::numeric_limits<int64_t>::max()));
    if (begin > end || end > data_size)
      fail(where + ": tensor '" + name + "' lies outside the file (bytes " + std::to_string(begin) + " to " +
           std::to_string(end) + " of " + std::to_string(data_size) + "): truncated?");
    if (begin % kAlignment != 0 && begin != end && !is_pad(name))
      fail(where + ": tensor '" + name + "' is not aligned to 64 bytes");
    size_t bytes = dtype_bytes(entry.dtype);
    for (const int64_t d : entry.shape) {
      if (d != 0 && bytes > (size_t{1} << 40) / static_cast<size_t>(d))
        fail(where + ": tensor '" + name + "' has an absurd shape " + shape_text(entry.shape));
      bytes *= static_cast<size_t>(d);
    }
    if (bytes != end - begin)
      fail(where + ": tensor '" + name + "' has " + std::to_string(end - begin) + " bytes, its shape needs " +
           std::to_string(bytes));
    entry.data = data + begin;
    entry.bytes = bytes;
    if (bytes > 0) ranges.emplace_back(begin, end);
    entries_.emplace(name, std::move(entry));
  }
  std::sort(ranges.begin(), ranges.end());
  size_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin < covered) fail(where + ": tensors overlap at byte " + std::to_string(begin));
    if (begin > covered) fail(where + ": no tensor covers byte " + std::to_string(covered));
    covered = end;
  }
  if (covered != data_size) fail(where + ": no tensor covers byte " + std::to_string(covered));
}

void ModelFile::read_checksums(const Json& graph) {
  size_t checked = 0;
  for (const auto& [name, expected] : graph.at("checksums").object()) {
    const auto it = entries_.find(name);
    if (it == entries_.end() || is_pad(name)) fail(expected.path() + ": no such tensor in weights.safetensors");
    const std::string actual = checksum_text(it->second.data, it->second.bytes);
    if (expected.string() != actual)
      fail(directory_ + "/weights.safetensors: tensor '" + name + "' is damaged (checksum " + actual + ", expected " +
           expected.string() + ")");
    ++checked;
  }
  for (const auto& [name, entry] : entries_) checked += is_pad(name) ? 1 : 0;
  if (checked == entries_.size()) return;
  for (const auto& [name, entry] : entries_)
    if (!is_pad(name) && graph.at("checksums").find(name) == nullptr)
      fail(directory_ + "/graph.json: tensor '" + name + "' has no checksum");
}

const Entry& ModelFile::entry(const Json& name, DType dtype) const {
  const auto it = entries_.find(name.string());
  if (it == entries_.end() || is_pad(it->first))
    fail(name.path() + ": weights.safetensors has no tensor '" + name.string() + "'");
  if (it->second.dtype != dtype)
    fail(name.path() + ": tensor '" + name.string() + "' is not " + name_of(kDTypeNames, dtype));
  return it->second;
}

void ModelFile::read_tensors(const Json& graph) {
  for (const auto& [name, json] : graph.at("tensors").object()) {
    expect_keys(json, {"encoding", "shape", "storage", "parts", "block", "scale"});
    TensorInfo tensor;
    tensor.name = name;
    tensor.shape = read_shape(json.at("shape"));
    tensor.storage =
        read_dtype(json.at("storage"), {DType::f32, DType::u8, DType::s8, DType::s32}, "unsupported storage");
    const Json& parts = json.at("parts");
    tensor.encoding = read_name(json.at("encoding"), kEncodingNames, "unknown encoding");
    if (tensor.encoding == Encoding::dense) {
      tensor.values = &entry(parts.at("values"), tensor.storage);
      check_shape(*tensor.values, tensor.shape, json.path());
      refuse_keys(json, {"block"}, "belongs to block tensors");
      expect_keys(parts, {"values"});
    } else {
      expect_keys(parts, {"values", "index", "offsets"});
      const auto& block = json.at("block").array();
      if (block.size() != 2 || block[0].integer() != 4 || block[1].integer() != 1)
        fail(json.path() + ": only 4x1 blocks are supported");
      if (tensor.shape.size() != 2 || tensor.shape[0] % 4 != 0 || tensor.shape[1] > 65535 ||
          tensor.storage != DType::s8)
        fail(json.path() + ": a block tensor is an s8 matrix with rows in fours");
      tensor.values = &entry(parts.at("values"), DType::s8);
      tensor.index = &entry(parts.at("index"), DType::u16);
      tensor.offsets = &entry(parts.at("offsets"), DType::u32);
      check_shape(*tensor.offsets, {tensor.shape[0] / 4 + 1}, json.path() + ".parts.offsets");
      if (tensor.index->shape.size() != 1) fail(json.path() + ".parts.index: not a vector");
      check_shape(*tensor.values, {tensor.index->elements(), 4}, json.path() + ".parts.values");
      check_blocks(tensor, json.path());
    }
    if (tensor.storage == DType::s8) {
      const Entry& scale = entry(json.at("scale"), DType::f32);
      check_shape(scale, {tensor.rows()}, json.path() + ".scale");
      tensor.scale = reinterpret_cast<const float*>(scale.data);
      for (int64_t n = 0; n < tensor.rows(); ++n)
        if (!(tensor.scale[n] > 0) || !std::isfinite(tensor.scale[n]))
          fail(json.path() + ": the scale of row " + std::to_string(n) + " is not a positive number");
    } else {
      refuse_keys(json, {"scale"}, "belongs to s8 tensors");
    }
    if (tensor.storage == DType::f32 &&
        !all_finite(reinterpret_cast<const float*>(tensor.values->data), tensor.values->elements()))
      fail(json.path() + ": holds NaN or infinity");
    tensors_.emplace(name, std::move(tensor));
  }
}

void ModelFile::read_values(const Json& graph) {
  std::vector<std::pair<int, const Json*>> dynamic;
  for (const auto& [name, json] : graph.at("values").object()) {
    expect_keys(json, {"dtype", "space", "channels", "scale", "zero_point", "groups", "dynamic"});
    ValueInfo value;
    value.name = name;
    value.dtype = read_dtype(json.at("dtype"), {DType::f32, DType::u8, DType::s32}, "unknown dtype");
    value.space = read_name(json.at("space"), kSpaceNames, "unknown space");
    value.channels = json.at("channels").integer(1, kMaxChannels);
    if (value.dtype == DType::u8) {
      const Json* scale = json.find("dynamic");
      if (scale != nullptr) {
        refuse_keys(json, {"scale", "zero_point", "groups"}, "contradicts \"dynamic\"");
        dynamic.emplace_back(static_cast<int>(values_.size()), scale);
      } else if (const Json* groups = json.find("groups")) {
        refuse_keys(json, {"scale", "zero_point"}, "contradicts \"groups\"");
        for (const Json& group : groups->array()) {
          const auto& items = group.array();
          if (items.size() != 3) fail(group.path() + ": expected [first_channel, scale, zero_point]");
          value.groups.push_back({items[0].integer(0, value.channels - 1), items[1].f32(),
                                  static_cast<int32_t>(items[2].integer(0, 255))});
          if (value.groups.size() > 1 &&
              value.groups.back().first_channel <= value.groups[value.groups.size() - 2].first_channel)
            fail(group.path() + ": groups are not ascending");
        }
        if (value.groups.empty() || value.groups[0].first_channel != 0)
          fail(json.path() + ": groups must begin at channel 0");
      } else {
        value.groups.push_back(
            {0, json.at("scale").f32(), static_cast<int32_t>(json.at("zero_point").integer(0, 255))});
      }
      for (const QuantGroup& group : value.groups)
        if (!(group.scale >= FLT_MIN)) fail(json.path() + ": a scale must be a positive normal f32");
    } else {
      refuse_keys(json, {"scale", "zero_point", "groups", "dynamic"}, "belongs to u8 values");
    }
    value_names_.emplace(name, static_cast<int>(values_.size()));
    values_.push_back(std::move(value));
  }
  for (const auto& [index, json] : dynamic) {
    const int scale = value_index(json->string(), json->path());
    ValueInfo& info = values_[static_cast<size_t>(scale)];
    if (info.dtype != DType::f32 || info.channels != 1)
      fail(json->path() + ": a dynamic scale is an f32 value with one channel");
    info.is_scale = true;
    values_[static_cast<size_t>(index)].dynamic_scale = scale;
  }
}

int ModelFile::value_index(const std::string& name, const std::string& where) const {
  const auto it = value_names_.find(name);
  if (it == value_names_.end()) fail(where + ": no value '" + name + "'");
  return it->second;
}

void ModelFile::read_nodes(const Json& graph) {
  std::set<int> written;
  std::set<std::string> names;
  for (const Json& json : graph.at("nodes").array()) {
    expect_keys(json, {"op", "name", "inputs", "outputs", "tensors", "attrs"});
    NodeInfo node;
    node.op = json.at("op").string();
    node.name = json.at("name").string();
    if (!names.insert(node.name).second) fail(json.path() + ": two nodes are named '" + node.name + "'");
    node.traits = find_op(node.op);
    if (node.traits == nullptr) node.fail("unknown op");
    for (const Json& item : json.at("inputs").array()) {
      if (node.traits->graph_inputs) {
        node.graph_inputs.push_back(item.string());
        continue;
      }
      node.inputs.push_back(value_index(item.string(), item.path()));
      if (written.count(node.inputs.back()) == 0)
        fail(item.path() + ": value '" + item.string() + "' is read before it is written");
    }
    for (const Json& item : json.at("outputs").array()) {
      node.outputs.push_back(value_index(item.string(), item.path()));
      if (!written.insert(node.outputs.back()).second)
        fail(item.path() + ": value '" + item.string() + "' is written twice");
    }
    if (const Json* roles = json.find("tensors"))
      for (const auto& [role, tensor] : roles->object()) {
        const auto it = tensors_.find(tensor.string());
        if (it == tensors_.end()) fail(tensor.path() + ": no tensor '" + tensor.string() + "'");
        if (it->second.columns() > kMaxReduction && it->second.shape.size() == 2)
          fail(tensor.path() + ": a matrix with more than 32768 columns");
        node.tensors.emplace(role, &it->second);
      }
    if (const Json* attrs = json.find("attrs")) {
      attrs->object();
      node.attrs = attrs;
    }
    nodes_.push_back(std::move(node));
  }
  for (const auto& [name, index] : value_names_)
    if (written.count(index) == 0) fail(directory_ + "/graph.json: value '" + name + "' is never written");
}

void ModelFile::read_interface(const Json& graph) {
  const auto check_dtype = [](const Json& json, const char* expected) {
    const Json& dtype = json.at("dtype");
    if (dtype.string() != expected) fail(dtype.path() + ": \"" + dtype.string() + "\" is not supported");
  };
  for (const Json& json : graph.at("inputs").array()) {
    expect_keys(json, {"name", "dtype", "dims", "role", "optional"});
    check_dtype(json, "int64");
    const Json& dims = json.at("dims");
    if (dims.array().size() != 2) fail(dims.path() + ": expected two names, of the batch and of the sequence axis");
    for (const Json& dim : dims.array()) dim.string();
    InputInfo input;
    input.name = json.at("name").string();
    input.role = read_name(json.at("role"), kInputRoleNames, "unknown role");
    const Json* optional = json.find("optional");
    input.optional = optional != nullptr && optional->boolean();
    for (const InputInfo& other : inputs_)
      if (other.role == input.role || other.name == input.name)
        fail(json.path() + ": two inputs with the same name or role");
    inputs_.push_back(std::move(input));
  }
  if (inputs_.empty() ||
      std::none_of(inputs_.begin(), inputs_.end(), [](const InputInfo& i) { return i.role == InputRole::ids; }))
    fail(directory_ + "/graph.json: no input with role \"ids\"");
  check_graph_inputs();
  std::set<std::string> names;
  for (const Json& json : graph.at("outputs").array()) {
    expect_keys(json, {"name", "dtype", "dims", "value"});
    check_dtype(json, "float32");
    OutputInfo output;
    output.name = json.at("name").string();
    if (!names.insert(output.name).second) fail(json.path() + ": two outputs are named '" + output.name + "'");
    output.value = value_index(json.at("value").string(), json.path());
    for (const Json& dim : json.at("dims").array())
      output.dims.push_back(dim.type() == Json::Type::string ? dim.string()
                                                             : std::to_string(dim.integer(0, kMaxDimension)));
    if (values_[static_cast<size_t>(output.value)].space != Space::output)
      fail(json.path() + ": value is not in space \"output\"");
    outputs_.push_back(std::move(output));
  }
  if (outputs_.empty()) fail(directory_ + "/graph.json: no outputs");
}

// Graph inputs are read together: those with the roles ids, mask and types, in this order; each output needs its input.
void ModelFile::check_graph_inputs() const {
  for (const NodeInfo& node : nodes_) {
    if (!node.traits->graph_inputs) continue;
    for (size_t i = 0; i < node.graph_inputs.size(); ++i) {
      const auto it = std::find_if(inputs_.begin(), inputs_.end(),
                                   [&](const InputInfo& input) { return input.name == node.graph_inputs[i]; });
      if (it == inputs_.end()) node.fail("no input is named '" + node.graph_inputs[i] + "'");
      if (static_cast<size_t>(it->role) != i) node.fail("input '" + it->name + "' has the wrong role");
    }
    if (node.graph_inputs.size() < 2 || node.graph_inputs.size() != inputs_.size() ||
        node.outputs.size() != node.graph_inputs.size())
      node.fail("needs the inputs ids, mask and, with an output for them, types");
  }
}

}  // namespace fastcpu
