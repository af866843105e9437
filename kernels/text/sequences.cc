#include "text/sequences.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace fastcpu {
namespace {

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

}  // namespace

Frame::Frame(std::vector<std::vector<int64_t>> between, std::vector<int64_t> of)
    : special(std::move(between)), segments(std::move(of)) {
  if (special.size() < 2 || special.size() > 3 || segments.size() != 2 * special.size() - 1)
    throw Error(Error::Kind::input, "Frame: special tokens around each of one or two texts, a segment for each piece");
  for (const std::vector<int64_t>& each : special) tokens += each.size();
}

void Sequences::append_piece(const std::vector<int64_t>& piece, int64_t segment) {
  ids.insert(ids.end(), piece.begin(), piece.end());
  types.resize(ids.size(), segment);
}

// Looks up the texts, up to `enough` ids of each.
WordTable::Found Sequences::look_up(const WordTable& table, const Text& text, size_t enough) {
  WordTable::Found found = WordTable::Found::all;
  words_.clear();
  for (size_t side = 0; side < text.frame->texts() && found != WordTable::Found::none; ++side) {
    sides_[side].clear();
    const WordTable::Found here = table.find_all(text.sides[side], enough, &sides_[side], &words_);
    if (here != WordTable::Found::all) found = here;
  }
  return found;
}

void Sequences::append(const WordTable& table, const Text& text, size_t most, size_t most_unknown) {
  const Frame& frame = *text.frame;
  const size_t room = most - std::min(most, frame.tokens);
  WordTable::Found found;
  if (frame.texts() == 1 || room == SIZE_MAX) {
    found = look_up(table, text, room);
  } else {
    found = look_up(table, text, room + 1);
    // The longer of two long texts keeps an odd id, so that all of both has to be seen.
    if (found == WordTable::Found::all && room % 2 != 0 && std::min(sides_[0].size(), sides_[1].size()) > room)
      found = look_up(table, text, SIZE_MAX);
    if (found == WordTable::Found::all) shorten(&sides_[0], &sides_[1], room);
  }
  if (found == WordTable::Found::all) {
    const size_t start = ids.size();
    append_piece(frame.special[0], frame.segments[0]);
    for (size_t side = 0; side < frame.texts(); ++side) {
      append_piece(sides_[side], frame.segments[2 * side + 1]);
      append_piece(frame.special[side + 1], frame.segments[2 * side + 2]);
    }
    lengths.push_back(static_cast<int64_t>(ids.size() - start));
    return;
  }
  lengths.push_back(-1);
  if (found == WordTable::Found::none) return;  // knowing its words would not help
  for (const std::string_view word : words_)
    if (unknown.size() < most_unknown && seen_.insert(word).second) unknown.push_back(word);
}

}  // namespace fastcpu
