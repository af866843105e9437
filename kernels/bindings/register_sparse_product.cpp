// _core.SparseProduct: products with a pruned weight while training. Arrays of uint16 are the bits of bf16.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "bindings/bindings.h"
#include "bindings/training_arrays.h"
#include "training/sparse_product.h"

namespace py = pybind11;

namespace fastcpu::bindings {
void register_sparse_product(py::module_& module) {
  py::class_<SparseProduct>(module, "SparseProduct")
      .def(py::init([](const py::array_t<bool, py::array::c_style>& keep) {
             if (keep.ndim() != 2 || keep.shape(0) > INT32_MAX || keep.shape(1) > INT32_MAX / 4)
               throw Error(Error::Kind::input, "SparseProduct: 'keep' must be a matrix");
             return SparseProduct(static_cast<const uint8_t*>(static_cast<const void*>(keep.data())),
                                  static_cast<int>(keep.shape(0)), static_cast<int>(keep.shape(1)));
           }),
           py::arg("keep"))
      .def_property_readonly("blocks", &SparseProduct::blocks)
      .def(
          "gather",
          [](const SparseProduct& self, const py::array& weight, const py::array& values, int threads) {
            const Rows w = f32_or_bf16(weight, "weight", self.n(), self.k(), false);
            float* v = floats(values, "values", self.blocks(), 4, true);
            check_threads(threads);
            const py::gil_scoped_release release;
            self.gather(w, v, threads);
          },
          py::arg("weight"), py::arg("values"), py::arg("threads"))
      .def(
          "scatter",
          [](const SparseProduct& self, const py::array& values, const py::array& weight, int threads) {
            const float* v = floats(values, "values", self.blocks(), 4, false);
            const Rows w = f32_or_bf16(weight, "weight", self.n(), self.k(), true);
            check_threads(threads);
            const py::gil_scoped_release release;
            self.scatter(v, w, threads);
          },
          py::arg("values"), py::arg("weight"), py::arg("threads"))
      .def(
          "forward",
          [](const SparseProduct& self, const py::array& values, const py::array& bias, const py::array& x,
             const py::array& y, int threads) {
            const int64_t tokens = rows_of(x);
            const float* v = floats(values, "values", self.blocks(), 4, false);
            const float* b = floats(bias, "bias", 1, self.n(), false);
            const Rows in = f32_or_bf16(x, "x", tokens, self.k(), false);
            const Rows out = f32_or_bf16(y, "y", tokens, self.n(), true);
            check_threads(threads);
            const py::gil_scoped_release release;
            self.forward(v, b, in, tokens, out, threads);
          },
          py::arg("values"), py::arg("bias"), py::arg("x"), py::arg("y"), py::arg("threads"))
      .def(
          "backward",
          [](const SparseProduct& self, const py::array& values, const py::array& x, const py::array& dy,
             const py::array& dx, const py::array& dvalues, int threads) {
            const int64_t tokens = rows_of(x);
            const float* v = floats(values, "values", self.blocks(), 4, false);
            const Rows in = f32_or_bf16(x, "x", tokens, self.k(), false);
            const Rows gradient = f32_or_bf16(dy, "dy", tokens, self.n(), false);
            const Rows out = f32_or_bf16(dx, "dx", tokens, self.k(), true);
            float* dv = floats(dvalues, "dvalues", self.blocks(), 4, true);
            check_threads(threads);
            const py::gil_scoped_release release;
            self.backward(v, in, gradient, tokens, out, dv, threads);
          },
          py::arg("values"), py::arg("x"), py::arg("dy"), py::arg("dx"), py::arg("dvalues"), py::arg("threads"));
}

}  // namespace fastcpu::bindings
