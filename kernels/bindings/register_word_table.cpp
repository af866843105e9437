// _core.WordTable: texts whose words are known, with special tokens around them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

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
    if (special.size() < 2 || special.size() > 3 || segments.size() != 2 * special.size() - 1)
      throw Error(Error::Kind::input,
                  "Frame: special tokens around each of one or two texts, a segment for each piece");
    for (const std::vector<int64_t>& each : special) tokens += each.size();
  }

  size_t texts() const { return special.size() - 1; }
};

struct Text {
  std::string_view sides[2];
  const Frame* frame;
};

std::string_view utf8(PyObject* text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) throw py::error_already_set();
  return {data, static_cast<size_t>(size)};
}

// Shortens two texts of a pair to `room` ids together as the tokenizers library does with its strategy longest_first:
// the longer one to the length of the shorter, or else both to a half.
void shorten(std::vector<int64_t>* first, std::vector<int64_t>* second, size_t room) {
  if (first->size() + second->size() <= room) return;
  std::vector<int64_t>* shorter = first->size() > second->size() ? second : first;
  std::vector<int64_t>* longer = shorter == first ? second : first;
  size_t few = shorter->size(), many = std::max(few, room - std::min(room, few));
  if (few + many > room) {
    few = room / 2;
    many = room - few;
  }
  shorter->resize(few);
  longer->resize(many);
}

struct Sequences {
  std::vector<int64_t> ids, types, lengths;
  std::vector<std::string_view> unknown;  // each once
  std::unordered_set<std::string_view> seen;
  std::vector<int64_t> sides[2];        // of one text or pair
  std::vector<std::string_view> words;  // of one text or pair that are unknown

  void append(const std::vector<int64_t>& piece, int64_t segment) {
    ids.insert(ids.end(), piece.begin(), piece.end());
    types.resize(ids.size(), segment);
  }

  // Looks up the texts, up to `enough` ids of each.
  WordTable::Found look_up(const WordTable& table, const Text& text, size_t enough) {
    WordTable::Found found = WordTable::Found::all;
    words.clear();
    for (size_t side = 0; side < text.frame->texts() && found != WordTable::Found::none; ++side) {
      sides[side].clear();
      const WordTable::Found here = table.find_all(text.sides[side], enough, &sides[side], &words);
      if (here != WordTable::Found::all) found = here;
    }
    return found;
  }

  // Appends a sequence and its length; only -1 if not all words are known.
  void append(const WordTable& table, const Text& text, size_t most, size_t most_unknown) {
    const Frame& frame = *text.frame;
    const size_t room = most - std::min(most, frame.tokens);
    WordTable::Found found;
    if (frame.texts() == 1 || room == SIZE_MAX) {
      found = look_up(table, text, room);
    } else {
      found = look_up(table, text, room + 1);
      // The longer of two long texts keeps an odd id, so that all of both has to be seen.
      if (found == WordTable::Found::all && room % 2 != 0 && std::min(sides[0].size(), sides[1].size()) > room)
        found = look_up(table, text, SIZE_MAX);
      if (found == WordTable::Found::all) shorten(&sides[0], &sides[1], room);
    }
    if (found == WordTable::Found::all) {
      const size_t start = ids.size();
      append(frame.special[0], frame.segments[0]);
      for (size_t side = 0; side < frame.texts(); ++side) {
        append(sides[side], frame.segments[2 * side + 1]);
        append(frame.special[side + 1], frame.segments[2 * side + 2]);
      }
      lengths.push_back(static_cast<int64_t>(ids.size() - start));
      return;
    }
    lengths.push_back(-1);
    if (found == WordTable::Found::none) return;  // knowing its words would not help
    for (const std::string_view word : words)
      if (unknown.size() < most_unknown && seen.insert(word).second) unknown.push_back(word);
  }
};

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
           "out because a word is not known; and up to `most_unknown` words that would "
           "have to be known.");
}

}  // namespace fastcpu::bindings
