// _core.attention_forward and attention_backward: self-attention while training. Rows are [batch * sequence, heads *
// channels].
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "bindings/bindings.h"
#include "bindings/training_arrays.h"
#include "training/attention.h"

namespace py = pybind11;

namespace fastcpu::bindings {
namespace {

using Lengths = py::array_t<int64_t, py::array::c_style>;

// All of one format and shape, which is returned with the pointers of q, k and v.
AttentionBatch batch_of(const py::array& q, const py::array& k, const py::array& v, const Lengths& lengths, int heads,
                        float scale) {
  if (lengths.ndim() != 1 || lengths.shape(0) < 1) refuse("lengths", "a vector with at least one element");
  const int64_t batch = lengths.shape(0), rows = rows_of(q), columns = q.ndim() == 2 ? q.shape(1) : 0;
  if (heads < 1 || columns < 1 || columns % heads != 0 || columns > INT32_MAX)
    refuse("heads", "a divisor of the columns");
  if (rows % batch != 0 || rows / batch > INT32_MAX) refuse("q", "of equally many rows for each length");
  const Rows first = f32_or_bf16(q, "q", rows, columns, false);
  for (int64_t i = 0; i < batch; ++i)
    if (lengths.at(i) < 1 || lengths.at(i) > rows / batch)
      refuse("lengths", "from 1 to " + std::to_string(rows / batch));
  const Rows second = f32_or_bf16(k, "k", rows, columns, false), third = f32_or_bf16(v, "v", rows, columns, false);
  if (second.bf16 != first.bf16 || third.bf16 != first.bf16) refuse("k", "of the dtype of 'q', and so must be 'v'");
  return {batch,      rows / batch, heads,     static_cast<int>(columns / heads), scale, first.bf16, lengths.data(),
          first.data, second.data,  third.data};
}

// Another array of the batch's shape and format.
void* like(const AttentionBatch& batch, const py::array& array, const char* name, bool written) {
  const Rows rows =
      f32_or_bf16(array, name, batch.batch * batch.sequence, int64_t{batch.heads} * batch.channels, written);
  if (rows.bf16 != batch.bf16) refuse(name, "of the dtype of 'q'");
  return rows.data;
}

}  // namespace

void register_attention_training(py::module_& module) {
  module.def(
      "attention_forward",
      [](const py::array& q, const py::array& k, const py::array& v, const Lengths& lengths, int heads, float scale,
         const py::array& o, int threads) {
        const AttentionBatch batch = batch_of(q, k, v, lengths, heads, scale);
        void* out = like(batch, o, "o", true);
        check_threads(threads);
        const py::gil_scoped_release release;
        attention_forward(batch, out, threads);
      },
      py::arg("q"), py::arg("k"), py::arg("v"), py::arg("lengths"), py::arg("heads"), py::arg("scale"), py::arg("o"),
      py::arg("threads"));
  module.def(
      "attention_backward",
      [](const py::array& q, const py::array& k, const py::array& v, const Lengths& lengths, int heads, float scale,
         const py::array& gradient, const py::array& dq, const py::array& dk, const py::array& dv, int threads) {
        const AttentionBatch batch = batch_of(q, k, v, lengths, heads, scale);
        const void* in = like(batch, gradient, "gradient", false);
        void* const out[] = {like(batch, dq, "dq", true), like(batch, dk, "dk", true), like(batch, dv, "dv", true)};
        check_threads(threads);
        const py::gil_scoped_release release;
        attention_backward(batch, in, out[0], out[1], out[2], threads);
      },
      py::arg("q"), py::arg("k"), py::arg("v"), py::arg("lengths"), py::arg("heads"), py::arg("scale"),
      py::arg("gradient"), py::arg("dq"), py::arg("dk"), py::arg("dv"), py::arg("threads"));
}

}  // namespace fastcpu::bindings
