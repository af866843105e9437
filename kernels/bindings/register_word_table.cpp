// _core.WordTable: texts whose words are known, with special tokens around them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "text/sequences.h"
#include "text/word_table.h"

namespace py = pybind11;

namespace fastcpu::bindings {
namespace {

std::string_view utf8(PyObject* text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) throw py::error_already_set();
  return {data, static_cast<size_t>(size)};
}

py::array_t<int64_t> array_of(const std::vector<int64_t>& values) {
  return py::array_t<int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple encode(const WordTable& table, const py::list& given, const Frame& one, const Frame& two,
                 std::optional<size_t> most, size_t most_unknown) {
  if (one.texts() != 1 || two.texts() != 2)
    throw Error(Error::Kind::input, "WordTable: a frame for one text and one for two");
  constexpr size_t kMuch = 8192;  // bytes; less is done before another thread would have begun
  std::vector<Text> texts;
  texts.reserve(given.size());
  size_t bytes = 0;
  for (size_t index = 0; index < given.size(); ++index) {
    PyObject* const text = PyList_GET_ITEM(given.ptr(), static_cast<py::ssize_t>(index));
    if (PyTuple_Check(text) && PyTuple_GET_SIZE(text) == 2)
      texts.push_back({{utf8(PyTuple_GET_ITEM(text, 0)), utf8(PyTuple_GET_ITEM(text, 1))}, &two});
    else
      texts.push_back({{utf8(text), {}}, &one});
    bytes += texts.back().sides[0].size() + texts.back().sides[1].size();
  }
  Sequences found;
  {
    // The strings stay: `given` holds them, and only who called has it.
    std::optional<py::gil_scoped_release> release;
    if (bytes > kMuch) release.emplace();
    found.lengths.reserve(texts.size());
    for (const Text& text : texts) found.append(table, text, most.value_or(SIZE_MAX), most_unknown);
  }
  py::list unknown(found.unknown.size());
  for (size_t index = 0; index < found.unknown.size(); ++index)
    unknown[index] = py::str(found.unknown[index].data(), found.unknown[index].size());
  return py::make_tuple(array_of(found.ids), array_of(found.types), py::cast(found.lengths), unknown);
}

}  // namespace

void register_word_table(py::module_& module) {
  py::class_<Frame>(module, "Frame")
      .def(py::init<std::vector<std::vector<int64_t>>, std::vector<int64_t>>(), py::arg("special"),
           py::arg("segments"));
  py::class_<WordTable>(module, "WordTable")
      .def(py::init<size_t>(), py::arg("capacity"))
      .def("__len__", &WordTable::size)
      .def(
          "put",
          [](WordTable& self, const py::str& word, const std::vector<int64_t>& ids) {
            self.put(utf8(word.ptr()), ids);
          },
          py::arg("word"), py::arg("ids"), "Remembers a word, unless it is too long.")
      .def("encode", &encode, py::arg("texts"), py::arg("one"), py::arg("two"), py::arg("most"),
           py::arg("most_unknown"),
           "Token ids and segment ids of texts and pairs, one after the other; the length of each, -1 where it is left "
           "out because a word is not known; and up to `most_unknown` words that would have to be known.");
}

}  // namespace fastcpu::bindings
