// WordTable: against a map of words, with lengths at every bound, and when it forgets.
#include "text/word_table.h"

#include <map>
#include <string>

#include "oracle.h"

namespace fastcpu::test {
namespace {

using Ids = std::vector<int64_t>;
using Found = WordTable::Found;

std::string random_word(Random& random, size_t size) {
  std::string word;
  while (word.size() < size) {
    const char letter = static_cast<char>(random.below(256));
    // No bytes that could begin letters of scripts without spaces.
    if (static_cast<unsigned char>(letter) >= 0xE0) continue;
    if (letter != ' ' && letter != '\t' && letter != '\n' && letter != '\r') word += letter;
  }
  return word;
}

// What a table of enough room gives for a text, from a map.
struct Expected {
  std::vector<int64_t> ids;
  std::vector<std::string> unknown;
  Found found = Found::all;

  Expected(const std::map<std::string, Ids>& known, const std::vector<std::string>& words, size_t room) {
    size_t missing = 0;
    for (const std::string& word : words) {
      if (ids.size() + missing >= room) break;
      if (word.size() > WordTable::longest_word) {
        found = Found::none;
        return;
      }
      const auto found = known.find(word);
      if (found == known.end()) {
        unknown.push_back(word);
        ++missing;
      } else {
        ids.insert(ids.end(), found->second.begin(), found->second.end());
      }
    }
    if (missing > 0) found = Found::some;
    if (ids.size() > room) ids.resize(room);
  }
};

void check_texts(Report& report, Random& random) {
  WordTable table(4000);
  std::map<std::string, Ids> known;
  std::vector<std::string> words;
  for (int count = 0; count < 3000; ++count) {
    words.push_back(random_word(random, 1 + random.below(WordTable::longest_word + 2)));
    Ids ids(random.below(count % 50 == 0 ? WordTable::most_ids + 1 : 4));
    for (int64_t& id : ids) id = random.integer(0, 1 << 30);
    if (count % 4 == 0) continue;  // stays unknown
    table.put(words.back(), ids);
    if (words.back().size() <= WordTable::longest_word) known.emplace(words.back(), ids);
  }
  report.check(table.size() == known.size(), "%zu words instead of %zu", table.size(), known.size());
  const char spaces[] = {' ', '\t', '\n', '\r'};
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> text_words(random.below(20));
    std::string text;
    for (std::string& word : text_words) {
      word = words[random.below(round % 2 == 0 ? words.size() : 20)];
      for (uint64_t count = random.below(3); count > 0; --count) text += spaces[random.below(4)];
      text += word + spaces[random.below(4)];
    }
    const size_t room = round % 3 == 0 ? SIZE_MAX : random.below(30);
    const Expected expected(known, text_words, room);
    std::vector<int64_t> ids = {-7};
    std::vector<std::string_view> unknown;
    const Found found = table.find_all(text, room, &ids, &unknown);
    bool same = found == expected.found && ids.size() >= 1 && ids[0] == -7;
    if (found != Found::none) same = same && std::vector<int64_t>(ids.begin() + 1, ids.end()) == expected.ids;
    same = same && std::vector<std::string>(unknown.begin(), unknown.end()) == expected.unknown;
    report.check(same, "text %d of %zu words, room %zu", round, text_words.size(), room);
  }
}

void check_forgetting(Report& report) {
  WordTable table(3);
  for (const char* word : {"a", "b", "b", "c"}) table.put(word, {1});
  report.check(table.size() == 3, "%zu words instead of 3", table.size());
  table.put("d", {4, 5});
  report.check(table.size() == 1, "%zu words instead of 1", table.size());
  std::vector<int64_t> ids;
  std::vector<std::string_view> unknown;
  report.check(
      table.find_all("d  d", SIZE_MAX, &ids, &unknown) == Found::all && ids == std::vector<int64_t>{4, 5, 4, 5}, "d");
  report.check(table.find_all("a", SIZE_MAX, &ids, &unknown) == Found::some && unknown.size() == 1, "a is still there");
}

void check_what_is_not_remembered(Report& report) {
  WordTable table(3);
  table.put("", {1});
  table.put(std::string(WordTable::longest_word + 1, 'a'), {1});
  table.put("b", Ids(WordTable::most_ids + 1));
  report.check(table.size() == 0, "%zu words instead of none", table.size());
}

int run_test(uint64_t seed) {
  Report report(seed);
  Random random(seed);
  check_texts(report, random);
  check_forgetting(report);
  check_what_is_not_remembered(report);
  return report.finish("word_table");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
