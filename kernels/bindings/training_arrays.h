// Arrays that products while training read and write in place: C order and, where written to, writeable. Arrays of
// uint16 are the bits of bf16.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "training/sparse_product.h"

namespace fastcpu::bindings {

[[noreturn]] inline void refuse(const char* name, const std::string& what) {
  throw Error(Error::Kind::input, std::string("'") + name + "' must be " + what);
}

inline void check_matrix(const pybind11::array& array, const char* name, int64_t rows, int64_t columns, bool written) {
  if (array.ndim() != 2 || array.shape(0) != rows || array.shape(1) != columns)
    refuse(name, "of shape [" + std::to_string(rows) + ", " + std::to_string(columns) + "]");
  if ((array.flags() & pybind11::array::c_style) == 0) refuse(name, "contiguous, in C order");
  if (written && !array.writeable()) refuse(name, "writeable");
}

inline float* floats(const pybind11::array& array, const char* name, int64_t rows, int64_t columns, bool written) {
  if (!array.dtype().is(pybind11::dtype::of<float>())) refuse(name, "float32");
  check_matrix(array, name, rows, columns, written);
  return static_cast<float*>(const_cast<void*>(array.data()));
}

inline Rows f32_or_bf16(const pybind11::array& array, const char* name, int64_t rows, int64_t columns, bool written) {
  const bool bf16 = array.dtype().is(pybind11::dtype::of<uint16_t>());
  if (!bf16 && !array.dtype().is(pybind11::dtype::of<float>())) refuse(name, "float32, or uint16 that holds bf16");
  check_matrix(array, name, rows, columns, written);
  return {const_cast<void*>(array.data()), bf16};
}

inline void check_threads(int threads) {
  if (threads < 1) refuse("threads", "at least 1");
}

inline int64_t rows_of(const pybind11::array& x) { return x.ndim() > 0 ? x.shape(0) : 0; }

}  // namespace fastcpu::bindings
