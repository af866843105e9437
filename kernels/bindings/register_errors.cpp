// Turns fastcpu::Error into the classes of fastcpu/errors.py.
#include <exception>
#include <string_view>

#include "base/error.h"
#include "bindings/bindings.h"

namespace fastcpu::bindings {
namespace {

namespace py = pybind11;

const char* python_class(Error::Kind kind) noexcept {
  switch (kind) {
    case Error::Kind::input:
      return "InputError";
    case Error::Kind::file:
      return "FileFormatError";
    case Error::Kind::graph:
      return "GraphError";
    case Error::Kind::isa:
      return "IsaError";
    case Error::Kind::io:
      return "ResourceError";
    case Error::Kind::internal:
      break;
  }
  return "FastcpuError";
}

void translate(std::exception_ptr raised) {
  if (!raised) return;
  try {
    std::rethrow_exception(raised);
  } catch (const Error& error) {
    // The classes are looked up when needed (the module is cached by then), so that no reference outlives the
    // interpreter.
    const py::object type = py::module_::import("fastcpu.errors").attr(python_class(error.kind()));
    // A message may quote a path of any bytes.
    const std::string_view what = error.what();
    const auto text = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(what.data(), static_cast<Py_ssize_t>(what.size()), "replace"));
    PyErr_SetObject(type.ptr(), text.ptr());
  }
}

}  // namespace

void register_errors(py::module_& /*module*/) {
  py::module_::import("fastcpu.errors");  // a broken installation fails here, not when the first error is thrown
  py::register_local_exception_translator(translate);
}

}  // namespace fastcpu::bindings
