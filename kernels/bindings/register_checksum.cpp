// _core.crc32c: the checksum of the model format, for the writer.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "base/crc32c.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace fastcpu::bindings {

void register_checksum(py::module_& module) {
  module.def(
      "crc32c",
      [](const py::array& array) {
        const py::array bytes = py::array::ensure(array, py::array::c_style);
        const py::gil_scoped_release release;
        return crc32c(bytes.data(), static_cast<size_t>(bytes.nbytes()));
      },
      py::arg("array"), "CRC32C of the bytes of an array in C order.");
}

}  // namespace fastcpu::bindings
