// Token ids of texts and pairs of texts whose words are known, with special tokens around them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "text/word_table.h"

namespace fastcpu {

// What is around and between the texts of a sequence: special tokens, a text, special tokens, ...
struct Frame {
  std::vector<std::vector<int64_t>> special;
  std::vector<int64_t> segments;  // of each piece, texts included
  size_t tokens = 0;              // special ones

  // Throws Error(input) unless there are special tokens, perhaps none, around each of one or two texts, and a segment
  // for each piece.
  Frame(std::vector<std::vector<int64_t>> between, std::vector<int64_t> of);

  size_t texts() const { return special.size() - 1; }
};

struct Text {
  std::string_view sides[2];  // the second is that of a pair
  const Frame* frame;
};

class Sequences {
 public:
  std::vector<int64_t> ids, types;        // of all, one after the other
  std::vector<int64_t> lengths;           // -1 where not all words are known; nothing of it is in `ids` then
  std::vector<std::string_view> unknown;  // words that would have to be known, each once

  // Appends a sequence of at most `most` tokens, cut as the tokenizers library does with its strategy longest_first.
  // At most `most_unknown` unknown words are noted.
  void append(const WordTable& table, const Text& text, size_t most, size_t most_unknown);

 private:
  WordTable::Found look_up(const WordTable& table, const Text& text, size_t enough);
  void append_piece(const std::vector<int64_t>& piece, int64_t segment);

  std::unordered_set<std::string_view> seen_;
  std::vector<int64_t> sides_[2];        // of one text or pair
  std::vector<std::string_view> words_;  // of one text or pair that are unknown
};

}  // namespace fastcpu
