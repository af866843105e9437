// _core.read_model: what a model directory holds, as plain dicts, after every check of the reader (model_file.h).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "runtime/op.h"

namespace py = pybind11;

namespace fastcpu::bindings {
namespace {

py::object to_python(const Json& json) {
  switch (json.type()) {
    case Json::Type::null:
      break;
    case Json::Type::boolean:
      return py::bool_(json.boolean());
    case Json::Type::number: {
      // Attributes that are whole numbers stay exact integers.
      const double number = json.number();
      if (number >= -9e15 && number <= 9e15 && number == static_cast<double>(static_cast<int64_t>(number)))
        return py::int_(static_cast<int64_t>(number));
      return py::float_(number);
    }
    case Json::Type::string:
      return py::str(json.string());
    case Json::Type::array: {
      py::list items;
      for (const Json& item : json.array()) items.append(to_python(item));
      return items;
    }
    case Json::Type::object: {
      py::dict members;
      for (const auto& [key, value] : json.object()) members[key.c_str()] = to_python(value);
      return members;
    }
  }
  return py::none();
}

py::array to_array(const Entry& entry) {
  return py::array(py::dtype(name_of(kNumpyNames, entry.dtype)),
                   std::vector<py::ssize_t>(entry.shape.begin(), entry.shape.end()), entry.data);
}

py::dict describe_tensor(const TensorInfo& tensor, bool data) {
  py::dict row;
  size_t bytes = 0;
  py::dict parts;
  const std::pair<const char*, const Entry*> entries[] = {
      {"values", tensor.values}, {"index", tensor.index}, {"offsets", tensor.offsets}};
  for (const auto& [part, entry] : entries) {
    if (entry == nullptr) continue;
    bytes += entry->bytes;
    if (data) parts[part] = to_array(*entry);
  }
  if (tensor.scale != nullptr) {
    bytes += static_cast<size_t>(tensor.rows()) * sizeof(float);
    if (data) parts["scale"] = py::array_t<float>(static_cast<py::ssize_t>(tensor.rows()), tensor.scale);
  }
  row["encoding"] = name_of(kEncodingNames, tensor.encoding);
  row["storage"] = name_of(kDTypeNames, tensor.storage);
  row["shape"] = py::tuple(py::cast(tensor.shape));
  row["blocks"] = tensor.nonzero_blocks();
  row["bytes"] = bytes;
  if (data) row["parts"] = parts;
  return row;
}

py::dict describe_value(const ModelFile& model, const ValueInfo& value) {
  py::dict row;
  row["dtype"] = name_of(kDTypeNames, value.dtype);
  row["space"] = name_of(kSpaceNames, value.space);
  row["channels"] = value.channels;
  py::list groups;
  if (value.dynamic_scale < 0)
    for (const QuantGroup& group : value.groups)
      groups.append(py::make_tuple(group.first_channel, group.scale, group.zero_point));
  row["groups"] = groups;
  row["dynamic"] = value.dynamic_scale < 0 ? py::object(py::none())
                                           : py::str(model.values()[static_cast<size_t>(value.dynamic_scale)].name);
  return row;
}

py::dict describe_node(const ModelFile& model, const NodeInfo& node) {
  const auto names = [&](const std::vector<int>& values) {
    py::list list;
    for (const int value : values) list.append(model.values()[static_cast<size_t>(value)].name);
    return list;
  };
  py::dict row, tensors;
  for (const auto& [role, tensor] : node.tensors) tensors[role.c_str()] = tensor->name;
  row["op"] = node.op;
  row["name"] = node.name;
  row["inputs"] = node.traits->graph_inputs ? py::list(py::cast(node.graph_inputs)) : names(node.inputs);
  row["outputs"] = names(node.outputs);
  row["tensors"] = tensors;
  row["attrs"] = node.attrs == nullptr ? py::object(py::dict()) : to_python(*node.attrs);
  return row;
}

py::dict read_model(const py::object& path_like, bool data) {
  std::unique_ptr<ModelFile> file;
  const std::string path = path_bytes(path_like);
  {
    const py::gil_scoped_release release;
    file = std::make_unique<ModelFile>(path);
  }
  const ModelFile& model = *file;
  py::list inputs, outputs, nodes;
  py::dict values, tensors;
  for (const InputInfo& input : model.inputs())
    inputs.append(py::make_tuple(input.name, name_of(kInputRoleNames, input.role), input.optional));
  for (const OutputInfo& output : model.outputs())
    outputs.append(py::make_tuple(output.name, model.values()[static_cast<size_t>(output.value)].name, output.dims));
  for (const ValueInfo& value : model.values()) values[value.name.c_str()] = describe_value(model, value);
  for (const auto& [name, tensor] : model.tensors()) tensors[name.c_str()] = describe_tensor(tensor, data);
  for (const NodeInfo& node : model.nodes()) nodes.append(describe_node(model, node));
  py::dict result;
  result["name"] = model.name();
  result["weight_bytes"] = model.weight_bytes();
  result["inputs"] = inputs;
  result["outputs"] = outputs;
  result["values"] = values;
  result["tensors"] = tensors;
  result["nodes"] = nodes;
  return result;
}

}  // namespace

void register_model(py::module_& module) {
  module.def("read_model", &read_model, py::arg("path"), py::kw_only(), py::arg("data") = false,
             "What a model directory holds, checked but not packed; with data=True also copies of the weights.");
}

}  // namespace fastcpu::bindings
