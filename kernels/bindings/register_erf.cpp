// _core.erf: the error function of arrays, which NumPy lacks, for tables of GELU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>

#include "bindings/bindings.h"

namespace py = pybind11;

namespace fastcpu::bindings {

void register_erf(py::module_& module) {
  module.def("erf", py::vectorize([](double x) { return std::erf(x); }), py::arg("x"),
             "The error function of each element, in double precision.");
}

}  // namespace fastcpu::bindings
