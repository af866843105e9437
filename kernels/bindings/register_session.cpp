// fastcpu._core.Session: a thin, typed door to runtime/session.h. fastcpu/runtime.py is the public class on top of it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <new>

#include "base/error.h"
#include "bindings/bindings.h"
#include "runtime/session.h"

namespace py = pybind11;

namespace fastcpu::bindings {
namespace {

struct Element {
  int bytes;
  bool is_unsigned;
};

// Integers of any width are read as they are; anything else is refused, never converted silently.
Element element(const py::array& array, const std::string& name, bool is_mask) {
  const char kind = array.dtype().kind();
  const char order = array.dtype().byteorder();
  const bool native = order == '=' || order == '|';
  if (native && (kind == 'i' || kind == 'u' || (kind == 'b' && is_mask)))
    return {static_cast<int>(array.itemsize()), kind != 'i'};
  throw Error(Error::Kind::input, "input '" + name + "' has dtype " + py::str(array.dtype()).cast<std::string>() +
                                      ", expected int8 to int64, uint8 to uint64" + (is_mask ? ", or bool" : "") +
                                      ", in native byte order");
}

py::array contiguous(const py::object& object, const std::string& name) {
  const int flags =
      py::detail::npy_api::NPY_ARRAY_ENSUREARRAY_ | py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  auto array = py::reinterpret_steal<py::array>(
      py::detail::npy_api::get().PyArray_FromAny_(object.ptr(), nullptr, 0, 0, flags, nullptr));
  if (array) return array;
  if (PyErr_ExceptionMatches(PyExc_MemoryError) != 0) throw py::error_already_set();
  PyErr_Clear();
  throw Error(Error::Kind::input, "input '" + name + "' cannot be read as an array");
}

// Text of the caller, such as a key of a dict; what cannot be encoded becomes '?', and so the name of nothing.
std::string key_text(const py::handle& key) {
  const py::str text(key);
  const auto bytes = py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "replace"));
  if (!bytes) throw py::error_already_set();
  return py::reinterpret_borrow<py::bytes>(bytes);
}

struct Feed {
  std::vector<py::array> arrays;  // kept alive while the batch is filled
};

std::vector<IntSpan> spans(const py::sequence& list, const std::string& name, Feed& feed) {
  std::vector<IntSpan> result;
  for (const auto& item : list) {
    py::array array = contiguous(py::reinterpret_borrow<py::object>(item), name);
    if (array.ndim() != 1)
      throw Error(Error::Kind::input, "input '" + name + "': sequence " + std::to_string(result.size()) + " has " +
                                          std::to_string(array.ndim()) + " dimensions, expected 1");
    if (array.size() == 0)
      throw Error(Error::Kind::input, "input '" + name + "': sequence " + std::to_string(result.size()) + " is empty");
    const auto [bytes, is_unsigned] = element(array, name, false);
    result.push_back({array.data(), bytes, static_cast<int64_t>(array.size()), is_unsigned});
    feed.arrays.push_back(std::move(array));
  }
  return result;
}

IntArray matrix(const py::object& object, const std::string& name, Feed& feed, bool is_mask = false) {
  py::array array = contiguous(object, name);
  const auto [bytes, is_unsigned] = element(array, name, is_mask);
  if (array.ndim() != 2)
    throw Error(Error::Kind::input, "input '" + name + "' has " + std::to_string(array.ndim()) +
                                        " dimensions, expected 2: [batch, sequence]");
  feed.arrays.push_back(array);
  return {array.data(), bytes, static_cast<int64_t>(array.shape(0)), static_cast<int64_t>(array.shape(1)), is_unsigned};
}

void check_same_shape(const IntArray& array, const std::string& name, const IntArray& ids,
                      const std::string& ids_name) {
  if (array.data != nullptr && (array.sequences != ids.sequences || array.columns != ids.columns))
    throw Error(Error::Kind::input, "input '" + name + "' has shape [" + std::to_string(array.sequences) + ", " +
                                        std::to_string(array.columns) + "], but '" + ids_name + "' has [" +
                                        std::to_string(ids.sequences) + ", " + std::to_string(ids.columns) + "]");
}

void fill_batch(const Session& session, Context& context, const py::dict& feeds) {
  const std::vector<InputInfo>& inputs = session.model().inputs();
  std::string names;
  for (const InputInfo& input : inputs) names += (names.empty() ? "'" : ", '") + input.name + "'";
  py::object objects[3];  // by role
  std::string input_names[3];
  for (const InputInfo& input : inputs) input_names[static_cast<size_t>(input.role)] = input.name;
  for (const auto& [key, item] : feeds) {
    const std::string name = key_text(key);
    const auto it =
        std::find_if(inputs.begin(), inputs.end(), [&](const InputInfo& input) { return input.name == name; });
    if (it == inputs.end()) throw Error(Error::Kind::input, "no input is named '" + name + "'; the model has " + names);
    if (!item.is_none()) objects[static_cast<size_t>(it->role)] = py::reinterpret_borrow<py::object>(item);
  }
  const auto role = [](InputRole r) { return static_cast<size_t>(r); };
  const size_t ids_role = role(InputRole::ids), mask_role = role(InputRole::mask), types_role = role(InputRole::types);
  const auto is_list = [](const py::object& object) {
    return py::isinstance<py::list>(object) || py::isinstance<py::tuple>(object);
  };
  const bool ragged = objects[ids_role] && is_list(objects[ids_role]);
  for (const InputInfo& input : inputs)
    if (!input.optional && !objects[role(input.role)] && !(ragged && input.role == InputRole::mask))
      throw Error(Error::Kind::input, "input '" + input.name + "' is missing");
  Feed feed;
  if (ragged) {
    const std::vector<IntSpan> ids = spans(objects[ids_role], input_names[ids_role], feed);
    if (objects[mask_role])
      throw Error(Error::Kind::input, "input '" + input_names[mask_role] +
                                          "' is not used with a list of sequences: every token of a sequence is real");
    std::vector<IntSpan> types;
    if (objects[types_role]) {
      if (!is_list(objects[types_role]))
        throw Error(Error::Kind::input, "input '" + input_names[types_role] + "' must be a list of sequences like '" +
                                            input_names[ids_role] + "'");
      types = spans(objects[types_role], input_names[types_role], feed);
    }
    session.set_ragged(context, ids, types);
    return;
  }
  const IntArray ids = matrix(objects[ids_role], input_names[ids_role], feed);
  IntArray mask, types;
  if (objects[mask_role]) mask = matrix(objects[mask_role], input_names[mask_role], feed, true);
  if (objects[types_role]) types = matrix(objects[types_role], input_names[types_role], feed);
  check_same_shape(mask, input_names[mask_role], ids, input_names[ids_role]);
  check_same_shape(types, input_names[types_role], ids, input_names[ids_role]);
  session.set_padded(context, ids, mask, types);
}

bool overlap(const py::array_t<float>& a, const py::array_t<float>& b) {
  const std::less<const float*> before;
  return before(a.data(), b.data() + b.size()) && before(b.data(), a.data() + a.size());
}

py::array_t<float> new_output(const std::string& name, const std::vector<int64_t>& shape) {
  double bytes = sizeof(float);
  std::string sizes;
  for (const int64_t size : shape) {
    bytes *= static_cast<double>(size);
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  }
  if (bytes > 1e15)
    throw Error(Error::Kind::input, "output '" + name + "' of this batch would have " + std::to_string(bytes / 1e12) +
                                        " TB: sort sequences by length into smaller batches");
  try {
    return py::array_t<float>(std::vector<py::ssize_t>(shape.begin(), shape.end()));
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError)) throw;
    throw Error(Error::Kind::input, "not enough memory for output '" + name + "' of shape [" + sizes +
                                        "]: no room for " + std::to_string(static_cast<int64_t>(bytes)) + " bytes");
  }
}

// Which outputs are asked for: all by default. `out` may only name such ones.
std::vector<bool> wanted_outputs(const std::vector<OutputInfo>& outputs, const py::object& names,
                                 const py::object& out) {
  const auto find = [&](const std::string& name) {
    size_t i = 0;
    while (i < outputs.size() && outputs[i].name != name) ++i;
    if (i == outputs.size()) throw Error(Error::Kind::input, "no output is named '" + name + "'");
    return i;
  };
  std::vector<bool> wanted(outputs.size(), names.is_none());
  if (!names.is_none())
    for (const auto& name : py::cast<py::list>(names)) wanted[find(key_text(name))] = true;
  if (std::find(wanted.begin(), wanted.end(), true) == wanted.end())
    throw Error(Error::Kind::input, "outputs names no output");
  if (!out.is_none())
    for (const auto& item : py::cast<py::dict>(out)) {
      const size_t i = find(key_text(item.first));
      if (!wanted[i])
        throw Error(Error::Kind::input, "out has an array for '" + outputs[i].name + "', which outputs does not name");
    }
  return wanted;
}

py::dict run(Session& session, const py::dict& feeds, const py::object& out, const py::object& names, py::dict* kept,
             const std::vector<std::string>& keep) {
  const Session::Lease context(session);
  fill_batch(session, *context, feeds);
  const auto& outputs = session.model().outputs();
  const std::vector<bool> wanted = wanted_outputs(outputs, names, out);
  py::dict result;
  std::vector<float*> pointers(outputs.size(), nullptr);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!wanted[i]) continue;
    const std::vector<int64_t> shape = session.output_shape(*context, i);
    py::array_t<float> array;
    if (!out.is_none() && py::cast<py::dict>(out).contains(outputs[i].name)) {
      const py::object given = py::cast<py::dict>(out)[outputs[i].name.c_str()];
      if (!py::isinstance<py::array_t<float, py::array::c_style>>(given))
        throw Error(Error::Kind::input, "out['" + outputs[i].name + "'] must be a C-contiguous float32 array");
      array = py::reinterpret_borrow<py::array_t<float>>(given);
      if (!array.writeable() || std::vector<int64_t>(array.shape(), array.shape() + array.ndim()) != shape ||
          (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0)
        throw Error(Error::Kind::input,
                    "out['" + outputs[i].name + "'] has the wrong shape, is read-only or is not aligned");
      for (const auto& [other, written] : result)
        if (overlap(array, py::reinterpret_borrow<py::array_t<float>>(written)))
          throw Error(Error::Kind::input, "out['" + outputs[i].name + "'] overlaps the array of '" +
                                              py::str(other).cast<std::string>() + "'");
    } else {
      array = new_output(outputs[i].name, shape);
    }
    pointers[i] = array.mutable_data();
    result[outputs[i].name.c_str()] = array;
  }
  {
    const py::gil_scoped_release release;
    session.run(*context, pointers.data());
  }
  if (kept != nullptr)
    for (const std::string& name : keep) {
      const std::vector<float> rows = session.kept(*context, name);
      int64_t channels = 1;
      for (const ValueInfo& value : session.model().values())
        if (value.name == name) channels = value.channels;
      const std::vector<py::ssize_t> shape = {static_cast<py::ssize_t>(static_cast<int64_t>(rows.size()) / channels),
                                              static_cast<py::ssize_t>(channels)};
      (*kept)[name.c_str()] = py::array_t<float>(shape, rows.data());
    }
  return result;
}

// What `call` returns; memory that it cannot have is an error of the caller's input, which asks for it.
template <class Call>
auto within_memory(const Call& call) {
  const std::string message = "not enough memory to run this batch";
  try {
    return call();
  } catch (const std::bad_alloc&) {
    throw Error(Error::Kind::input, message);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError)) throw;
    throw Error(Error::Kind::input, message + ": " + py::str(error.value()).cast<std::string>());
  }
}

// An index of Python; what is none, or is too large for any count of threads, is refused by its repr.
int thread_count(const py::object& threads) {
  if (PyIndex_Check(threads.ptr()) != 0) {
    const py::ssize_t count = PyNumber_AsSsize_t(threads.ptr(), nullptr);  // saturates
    if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
    PyErr_Clear();
    if (count >= 0 && count <= kMaxThreads) return static_cast<int>(count);
  }
  throw Error(Error::Kind::input, "threads must be an int from 0 (all CPUs available) to " +
                                      std::to_string(kMaxThreads) + ", not " + key_text(py::repr(threads)));
}

Execution execution_mode(const py::object& execution) {
  if (py::isinstance<py::str>(execution)) {
    const auto found = parse_name(kExecutionNames, key_text(execution));
    if (found) return *found;
  }
  throw Error(Error::Kind::input,
              "execution must be 'auto', 'dense' or 'sparse', not " + key_text(py::repr(execution)));
}

py::list op_table_rows() {
  py::list rows;
  for (const OpTraits& op : op_table()) {
    py::dict row;
    row["name"] = op.name;
    row["token_wise"] = op.token_wise;
    row["ragged_ok"] = op.ragged_ok;
    row["in_place"] = op.in_place;
    row["stateful"] = op.stateful;
    row["graph_inputs"] = op.graph_inputs;
    row["writes_output"] = op.writes_output;
    rows.append(row);
  }
  return rows;
}

py::list describe_ops(const Session& session) {
  const std::vector<OpInfo> infos = session.op_infos();
  const std::vector<OpProfile> profile = session.profile();
  py::list rows;
  for (size_t i = 0; i < infos.size(); ++i) {
    const NodeInfo& node = session.model().nodes()[i];
    py::dict row;
    row["op"] = node.op;
    row["name"] = node.name;
    row["kernel"] = infos[i].kernel;
    row["density"] = infos[i].density;
    row["macs_per_token"] = infos[i].macs_per_token;
    row["packed_bytes"] = infos[i].packed_bytes;
    row["read_bytes"] = infos[i].read_bytes;
    row["seconds"] = profile[i].seconds;
    row["macs"] = profile[i].macs;
    rows.append(row);
  }
  return rows;
}

}  // namespace

void register_session(py::module_& module) {
  module.def("op_table", &op_table_rows, "The runtime ops and their traits, one dict per op.");
  module.def("available_cpus", &available_cpus, "CPUs that this process may use (affinity and cgroup quota).");
  py::class_<Session>(module, "Session")
      .def(py::init([](const py::object& path_like, const py::object& threads, const py::object& execution,
                       const std::vector<std::string>& keep, bool profile) {
             const std::string path = path_bytes(path_like);
             SessionOptions options;
             options.threads = thread_count(threads);
             options.keep = keep;
             options.profile = profile;
             options.execution = execution_mode(execution);
             const py::gil_scoped_release release;
             return std::make_unique<Session>(path, options);
           }),
           py::arg("path"), py::kw_only(), py::arg("threads") = 0, py::arg("execution") = "auto",
           py::arg("keep") = std::vector<std::string>(), py::arg("profile") = false)
      .def(
          "run",
          [](Session& session, const py::dict& feeds, const py::object& out, const py::object& outputs) {
            return within_memory([&] { return run(session, feeds, out, outputs, nullptr, {}); });
          },
          py::arg("feeds"), py::arg("out") = py::none(), py::arg("outputs") = py::none())
      .def(
          "run_kept",
          [](Session& session, const py::dict& feeds, const std::vector<std::string>& names) {
            return within_memory([&] {
              py::dict kept;
              py::dict outputs = run(session, feeds, py::none(), py::none(), &kept, names);
              return py::make_tuple(outputs, kept);
            });
          },
          py::arg("feeds"), py::arg("names"))
      .def_property_readonly("threads", &Session::threads)
      .def_property_readonly("isa", [](const Session& session) { return isa_name(session.isa()); })
      .def_property_readonly(
          "inputs",
          [](const Session& session) {
            py::list rows;
            for (const InputInfo& input : session.model().inputs())
              rows.append(py::make_tuple(input.name, name_of(kInputRoleNames, input.role), input.optional));
            return rows;
          })
      .def_property_readonly("outputs",
                             [](const Session& session) {
                               py::list rows;
                               for (const OutputInfo& output : session.model().outputs())
                                 rows.append(py::make_tuple(output.name, output.dims));
                               return rows;
                             })
      .def("ops", &describe_ops, "One dict per op (fastcpu.Session.ops).")
      .def("reset_profile", &Session::reset_profile);
}

}  // namespace fastcpu::bindings
