// The groups of Python bindings. A group is one file, register_<group>.cpp, one line here and one line in module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fastcpu::bindings {

void register_checksum(pybind11::module_& module);
void register_errors(pybind11::module_& module);
void register_isa(pybind11::module_& module);
void register_model(pybind11::module_& module);
void register_peak(pybind11::module_& module);
void register_session(pybind11::module_& module);

}  // namespace fastcpu::bindings
