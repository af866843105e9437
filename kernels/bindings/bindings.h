// The groups of Python bindings. A group is one file, register_<group>.cpp, one line here and one line in module.cpp.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "base/error.h"

namespace fastcpu::bindings {

// A path as the operating system takes it, from str, bytes or os.PathLike.
inline std::string path_bytes(const pybind11::object& path) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(path.ptr(), &bytes) == 0) {
    if (PyErr_ExceptionMatches(PyExc_ValueError) == 0) throw pybind11::error_already_set();
    PyErr_Clear();
    throw Error(Error::Kind::io, "NUL in the path of a model");
  }
  return pybind11::reinterpret_steal<pybind11::bytes>(bytes);
}

void register_attention_training(pybind11::module_& module);
void register_checksum(pybind11::module_& module);
void register_erf(pybind11::module_& module);
void register_errors(pybind11::module_& module);
void register_isa(pybind11::module_& module);
void register_model(pybind11::module_& module);
void register_peak(pybind11::module_& module);
void register_session(pybind11::module_& module);
void register_sparse_product(pybind11::module_& module);
void register_word_table(pybind11::module_& module);

}  // namespace fastcpu::bindings
