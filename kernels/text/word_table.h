// Token ids of words, and of texts whose words are all known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <vector>

namespace fastcpu {

// Words, in UTF-8, and their token ids. A look-up touches one slot and one record, since between runs of a model
// nothing else is in the caches. Any number of threads may use one table.
class WordTable {
 public:
  static constexpr size_t most_words = size_t{1} << 24;
  static constexpr size_t longest_word = 64;    // bytes
  static constexpr size_t most_ids = 255;       // of one word: what a byte can count
  static constexpr size_t bytes_per_word = 48;  // of records, on average, that there is room for

  // Holds at most `capacity` words, fewer if they are long. Throws Error(input) unless that is 1 to `most_words`.
  explicit WordTable(size_t capacity);

  size_t size() const;

  // Remembers a word that is not there yet; all others are forgotten if there is no room. Ignores a word that is longer
  // than `longest_word`, has more ids than `most_ids`, or an id that is no int32.
  void put(std::string_view word, const std::vector<int64_t>& ids);

  enum class Found {
    all,   // the ids are there
    some,  // words are unknown
    none,  // there is a word that is never known: too long, or of a script that has no spaces between words
  };

  // Appends the ids of the words of `text`, which are between spaces, tabs and ends of lines, until there are `room`.
  // Unknown words are appended to `unknown`, and count as one id each; ids behind the first of them are not complete.
  Found find_all(std::string_view text, size_t room, std::vector<int64_t>* ids,
                 std::vector<std::string_view>* unknown) const;

 private:
  // Of the word's record in `records_`: a byte for its length, one for the number of ids, its bytes, its ids.
  struct Slot {
    uint32_t hash = 0;
    uint32_t record = 0;  // place of the record plus 1; 0: empty
  };

  uint32_t hash(std::string_view word) const;
  // The slot of the word, or the empty one where it would be.
  size_t slot_of(std::string_view word, uint32_t hash) const;

  size_t capacity_;
  size_t size_ = 0;
  uint64_t seed_;  // differs from table to table, and with it which words collide
  std::vector<Slot> slots_;
  std::vector<unsigned char> records_;
  mutable std::shared_mutex mutex_;
};

}  // namespace fastcpu
