#include "text/word_table.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace fastcpu {
namespace {

constexpr size_t kHead = 2;  // bytes of a record in front of its word

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

size_t slots_for(size_t capacity) {
  size_t slots = 16;
  while (slots < 2 * capacity) slots *= 2;
  return slots;
}

}  // namespace

WordTable::WordTable(size_t capacity)
    : capacity_(std::max<size_t>(capacity, 1)), seed_(random_seed()), slots_(slots_for(capacity_)) {}

uint32_t WordTable::hash(std::string_view word) const {
  constexpr uint64_t multiplier = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio
  uint64_t state = seed_ ^ (word.size() * multiplier);
  for (size_t start = 0; start < word.size(); start += 8) {
    uint64_t piece = 0;
    std::memcpy(&piece, word.data() + start, std::min<size_t>(8, word.size() - start));
    state = (state ^ piece) * multiplier;
    state ^= state >> 29;
  }
  state = (state ^ seed_) * multiplier;
  return static_cast<uint32_t>(state >> 32);
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

void WordTable::put(std::string_view word, const std::vector<int32_t>& ids) {
  if (word.empty() || word.size() > longest_word || ids.size() > most_ids) return;
  const uint32_t code = hash(word);
  if (slots_[slot_of(word, code)].record != 0) return;
  if (size_ == capacity_) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    records_.clear();
    size_ = 0;
  }
  slots_[slot_of(word, code)] = {code, static_cast<uint32_t>(records_.size() + 1)};
  records_.push_back(static_cast<unsigned char>(word.size()));
  records_.push_back(static_cast<unsigned char>(ids.size()));
  records_.insert(records_.end(), word.begin(), word.end());
  const auto* bytes = reinterpret_cast<const unsigned char*>(ids.data());
  records_.insert(records_.end(), bytes, bytes + ids.size() * sizeof(int32_t));
  ++size_;
}

bool WordTable::find_all(std::string_view text, size_t room, std::vector<int64_t>* ids,
                         std::vector<std::string_view>* unknown) const {
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
    if (word.size() > longest_word) return false;
    const size_t slot = slot_of(word, hash(word));
    if (slots_[slot].record == 0) {
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
  return missing == 0;
}

}  // namespace fastcpu
