// _core.WordTable: texts whose words are known, with special tokens around them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "base/error.h"
#include "bindings/bindings.h"
#include "text/word_table.h"

namespace py = pybind11;

namespace fastcpu::bindings {
namespace {

// What is around and between the texts of a sequence: special tokens, a text, special tokens, ...
struct Frame {
  std::vector<std::vector<int64_t>> special;
  std::vector<int64_t> segments;  // of each piece, texts included
  size_t tokens = 0;              // special ones

  Frame(std::vector<std::vector<int64_t>> between, std::vector<int64_t> of)
      : special(std::move(between)), segments(std::move(of)) {
    if (special.size() < 2 || segments.size() != 2 * special.size() - 1)
      throw Error(Error::Kind::input, "Frame: special tokens around each text, and a segment for each piece");
    for (const std::vector<int64_t>& each : special) tokens += each.size();
  }

  size_t texts() const { return special.size() - 1; }
};

std::string_view utf8(PyObject* text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) throw py::error_already_set();
  return {data, static_cast<size_t>(size)};
}

struct Sequences {
  std::vector<int64_t> ids, types;
  std::vector<std::string_view> unknown;

  void append(const std::vector<int64_t>& piece, int64_t segment) {
    ids.insert(ids.end(), piece.begin(), piece.end());
    types.resize(ids.size(), segment);
  }

  // Appends a sequence and gives its length; -1, and nothing is appended, if not all words are known or a pair is cut.
  int64_t append(const WordTable& table, const Frame& frame, const std::string_view* texts, size_t most) {
    const size_t start = ids.size();
    const size_t room = most - std::min(most, frame.tokens);
    const bool pair = frame.texts() > 1;
    bool whole = true;
    append(frame.special[0], frame.segments[0]);
    for (size_t side = 0; side < frame.texts(); ++side) {
      // One id more than there is room for says that a pair has to be cut.
      whole &= table.find_all(texts[side], pair && room != SIZE_MAX ? room + 1 : room, &ids, &unknown);
      types.resize(ids.size(), frame.segments[2 * side + 1]);
      append(frame.special[side + 1], frame.segments[2 * side + 2]);
    }
    if (whole && ids.size() - start - frame.tokens <= room) return static_cast<int64_t>(ids.size() - start);
    ids.resize(start);
    types.resize(start);
    return -1;
  }
};

py::array_t<int64_t> array_of(const std::vector<int64_t>& values) {
  return py::array_t<int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple encode(const WordTable& table, const py::list& texts, const Frame& one, const Frame& two,
                 std::optional<size_t> most) {
  Sequences found;
  py::list lengths(texts.size());
  for (size_t index = 0; index < texts.size(); ++index) {
    PyObject* const text = PyList_GET_ITEM(texts.ptr(), static_cast<py::ssize_t>(index));
    std::string_view sides[2];
    const bool pair = PyTuple_Check(text);
    if (pair && PyTuple_GET_SIZE(text) == 2) {
      for (py::ssize_t side = 0; side < 2; ++side) sides[side] = utf8(PyTuple_GET_ITEM(text, side));
    } else {
      sides[0] = utf8(text);
    }
    lengths[index] = found.append(table, pair ? two : one, sides, most.value_or(SIZE_MAX));
  }
  py::list unknown(found.unknown.size());
  for (size_t index = 0; index < found.unknown.size(); ++index)
    unknown[index] = py::str(found.unknown[index].data(), found.unknown[index].size());
  return py::make_tuple(array_of(found.ids), array_of(found.types), lengths, unknown);
}

}  // namespace

void register_word_table(py::module_& module) {
  py::class_<Frame>(module, "Frame")
      .def(py::init<std::vector<std::vector<int64_t>>, std::vector<int64_t>>(), py::arg("special"),
           py::arg("segments"));
  // Every call holds the GIL, so that threads take turns.
  py::class_<WordTable>(module, "WordTable")
      .def(py::init<size_t>(), py::arg("capacity"))
      .def("__len__", &WordTable::size)
      .def(
          "put",
          [](WordTable& self, const py::str& word, const std::vector<int32_t>& ids) {
            self.put(utf8(word.ptr()), ids);
          },
          py::arg("word"), py::arg("ids"), "Remembers a word, unless it is too long.")
      .def("encode", &encode, py::arg("texts"), py::arg("one"), py::arg("two"), py::arg("most"),
           "Token ids and segment ids of texts and pairs, one after the other; the length of each, -1 where it is left "
           "out because a word is not known or a pair would have to be cut; and the unknown words.");
}

}  // namespace fastcpu::bindings
