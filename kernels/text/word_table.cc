#include "text/word_table.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "base/error.h"

namespace fastcpu {
namespace {

constexpr size_t kHead = 2;  // bytes of a record in front of its word
static_assert(WordTable::most_words * WordTable::bytes_per_word < UINT32_MAX, "a slot counts the bytes of records");

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Whether there are letters of Thai, Lao, kana or Chinese in UTF-8: what is between spaces is a phrase there.
bool has_no_spaces(std::string_view word) {
  for (size_t i = 0; i < word.size(); ++i) {
    const auto lead = static_cast<unsigned char>(word[i]);
    if (lead >= 0xE3 && lead <= 0xE9) return true;
    if (lead == 0xE0 && i + 1 < word.size() && static_cast<unsigned char>(word[i + 1]) >= 0xB8) return true;
  }
  return false;
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

size_t slots_for(size_t capacity) {
  if (capacity < 1 || capacity > WordTable::most_words)
    throw Error(Error::Kind::input, "WordTable: capacity must be 1 to " + std::to_string(WordTable::most_words) +
                                        ", not " + std::to_string(capacity));
  size_t slots = 16;
  while (slots < 2 * capacity) slots *= 2;
  return slots;
}

}  // namespace

WordTable::WordTable(size_t capacity) : capacity_(capacity), seed_(random_seed()), slots_(slots_for(capacity)) {}

size_t WordTable::size() const {
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  return size_;
}

uint32_t WordTable::hash(std::string_view word) const {
  constexpr uint64_t multiplier = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio
  uint64_t state = seed_ ^ (word.size() * multiplier);
  for (size_t start = 0; start < word.size(); start += 8) {
    uint64_t piece = 0;
    std::memcpy(&piece, word.data() + start, std::min<size_t>(8, word.size() - start));
    state = (state ^ piece) * multiplier;
    state ^= state >> 32;
    state *= multiplier;
    state ^= state >> 29;
  }
  return static_cast<uint32_t>((state * multiplier) >> 32);
}

size_t WordTable::slot_of(std::string_view word, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t place = hash & mask;
  for (; slots_[place].record != 0; place = (place + 1) & mask) {
    if (slots_[place].hash != hash) continue;
    const unsigned char* record = records_.data() + slots_[place].record - 1;
    if (record[0] == word.size() && std::memcmp(record + kHead, word.data(), word.size()) == 0) break;
  }
  return place;
}

void WordTable::put(std::string_view word, const std::vector<int64_t>& ids) {
  if (word.empty() || word.size() > longest_word || ids.size() > most_ids) return;
  for (const int64_t id : ids)
    if (id < INT32_MIN || id > INT32_MAX) return;
  const size_t bytes = kHead + word.size() + ids.size() * sizeof(int32_t);
  const size_t room = std::max(capacity_ * bytes_per_word, bytes);
  const uint32_t code = hash(word);
  const std::lock_guard<std::shared_mutex> lock(mutex_);
  if (slots_[slot_of(word, code)].record != 0) return;
  if (size_ == capacity_ || records_.size() + bytes > room) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    records_.clear();
    size_ = 0;
  }
  const size_t start = records_.size();
  records_.resize(start + bytes);
  unsigned char* record = records_.data() + start;
  record[0] = static_cast<unsigned char>(word.size());
  record[1] = static_cast<unsigned char>(ids.size());
  std::memcpy(record + kHead, word.data(), word.size());
  record += kHead + word.size();
  for (const int64_t wide : ids) {
    const auto id = static_cast<int32_t>(wide);
    std::memcpy(record, &id, sizeof id);
    record += sizeof id;
  }
  slots_[slot_of(word, code)] = {code, static_cast<uint32_t>(start + 1)};
  ++size_;
}

WordTable::Found WordTable::find_all(std::string_view text, size_t room, std::vector<int64_t>* ids,
                                     std::vector<std::string_view>* unknown) const {
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  const size_t first = ids->size();
  size_t missing = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (ids->size() - first + missing < room) {
    while (at < end && is_space(*at)) ++at;
    if (at == end) break;
    const char* const start = at;
    while (at < end && !is_space(*at)) ++at;
    const std::string_view word(start, static_cast<size_t>(at - start));
    if (word.size() > longest_word) return Found::none;
    const size_t slot = slot_of(word, hash(word));
    if (slots_[slot].record == 0) {
      if (has_no_spaces(word)) return Found::none;
      unknown->push_back(word);
      ++missing;
      continue;
    }
    const unsigned char* const record = records_.data() + slots_[slot].record - 1;
    const unsigned char* number = record + kHead + record[0];
    for (unsigned count = record[1]; count > 0; --count, number += sizeof(int32_t)) {
      int32_t id;
      std::memcpy(&id, number, sizeof id);
      ids->push_back(id);
    }
  }
  if (ids->size() - first > room) ids->resize(first + room);
  return missing == 0 ? Found::all : Found::some;
}

}  // namespace fastcpu
