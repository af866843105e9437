// Damaged and hostile model directories: seeded mutations of the golden models, with checksums made right, are refused
// with an Error or give one answer. Meant for the sanitizers: any stray read or write ends the test.
#include "runtime/model_file.h"

#include <map>

#include "base/error.h"
#include "tiny_model.h"

namespace fastcpu::test {
namespace {

constexpr int kTextCases = 700, kHeaderCases = 200, kDataCases = 150, kTruncations = 50, kFlips = 200;

const char* const kLiterals[] = {"null",
                                 "true",
                                 "false",
                                 "0",
                                 "1",
                                 "-1",
                                 "2",
                                 "3",
                                 "4",
                                 "16",
                                 "127",
                                 "128",
                                 "255",
                                 "256",
                                 "32768",
                                 "32769",
                                 "65535",
                                 "65536",
                                 "1048576",
                                 "2147483647",
                                 "2147483648",
                                 "4294967296",
                                 "9007199254740992",
                                 "1e300",
                                 "-0.0",
                                 "0.5",
                                 "1e-45",
                                 "3.4e38",
                                 "1e999",
                                 "NaN",
                                 "\"\"",
                                 "\"f32\"",
                                 "\"u8\"",
                                 "\"s32\"",
                                 "\"s8\"",
                                 "\"tokens\"",
                                 "\"sequences\"",
                                 "\"output\"",
                                 "\"table\"",
                                 "\"ids\"",
                                 "\"mask\"",
                                 "\"dense\"",
                                 "\"block\"",
                                 "[]",
                                 "{}",
                                 "[0]",
                                 "\"\\u0000\"",
                                 "\"\xff\"",
                                 "\"F32\"",
                                 "\"I8\"",
                                 "\"U16\"",
                                 "[0, 0]",
                                 "[2147483648, 2147483648]"};

// Numbers, strings and literals of a JSON text: [begin, end).
std::vector<std::pair<size_t, size_t>> tokens(const std::string& text) {
  std::vector<std::pair<size_t, size_t>> found;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    if (text[i] == '"') {
      ++i;
      while (i < text.size() && text[i] != '"') i += text[i] == '\\' ? 2 : 1;
      i = std::min(i + 1, text.size());
    } else {
      while (i < text.size() && std::strchr(" \n,:[]{}\"", text[i]) == nullptr) ++i;
    }
    if (i == begin)
      ++i;
    else
      found.emplace_back(begin, i);
  }
  return found;
}

// One random edit of a JSON text, by tokens or by bytes.
void edit(std::string& text, Random& random) {
  const auto all = tokens(text);
  if (all.empty()) return;
  const auto [begin, end] = all[random.below(all.size())];
  const auto [other_begin, other_end] = all[random.below(all.size())];
  const std::string other = text.substr(other_begin, other_end - other_begin);
  const size_t at = random.below(text.size());
  switch (random.below(8)) {
    case 0:
    case 1:
    case 2:
      text.replace(begin, end - begin, kLiterals[random.below(std::size(kLiterals))]);
      break;
    case 3:
    case 4:
      text.replace(begin, end - begin, other);
      break;
    case 5:
      text[at] = static_cast<char>(random.below(256));
      break;
    case 6:  // a stretch of lines or members twice, or not at all
      if (random.below(2) == 0)
        text.erase(begin, random.below(200));
      else
        text.insert(begin, text.substr(other_begin, random.below(200)));
      break;
    default:
      text.insert(at, 1, "{}[],:\"0-\\"[random.below(10)]);
  }
}

class Checker {
 public:
  explicit Checker(Report& report) : report_(report), batch_(3, 20, 1) {}

  // Opens and runs what is in the directory. Returns whether it opened.
  bool check(const std::string& what) {
    try {
      SessionOptions options;
      options.threads = 2;
      Session session(directory_.path(), options);
      const TinyAnswers first = run(session, batch_);
      report_.check(same(first, run(session, batch_)), "%s: two answers", what.c_str());
      last_ = first;
      return true;
    } catch (const Error& error) {
      report_.check(error.kind() != Error::Kind::internal && error.what()[0] != '\0', "%s: %s", what.c_str(),
                    error.what());
    } catch (const std::exception& error) {
      report_.check(false, "%s: %s", what.c_str(), error.what());
    }
    return false;
  }
  const std::string& directory() const { return directory_.path(); }
  const TinyAnswers& last() const { return last_; }

 private:
  Report& report_;
  ScratchDirectory directory_;
  TinyBatch batch_;
  TinyAnswers last_;
};

void check_texts(const TinyModel& seed, Checker& checker, Random& random) {
  for (int i = 0; i < kTextCases; ++i) {
    TinyModel model = seed;
    for (uint64_t n = 1 + random.below(2); n > 0; --n) edit(model.graph, random);
    model.write(checker.directory());
    checker.check("graph.json, case " + std::to_string(i));
  }
  for (int i = 0; i < kHeaderCases; ++i) {
    TinyModel model = seed;
    edit(model.header, random);
    model.write(checker.directory());
    checker.check("header, case " + std::to_string(i));
  }
}

// Random bytes in one tensor, whose checksum in graph.json follows.
void check_data(const TinyModel& seed, Checker& checker, Random& random) {
  const Json header = Json::parse(seed.header, "header");
  for (int i = 0; i < kDataCases; ++i) {
    TinyModel model = seed;
    const auto& [name, entry] = header.object()[random.below(header.object().size())];
    if (name == "__metadata__" || name.rfind("_pad.", 0) == 0) continue;
    const auto begin = static_cast<size_t>(entry.at("data_offsets").array()[0].integer());
    const auto size = static_cast<size_t>(entry.at("data_offsets").array()[1].integer()) - begin;
    const std::string before = checksum(model.data.substr(begin, size));
    for (uint64_t n = 1 + random.below(3); n > 0; --n)
      model.data[begin + random.below(size)] = static_cast<char>(random.below(256));
    const size_t at = model.graph.find("\"" + name + "\": \"" + before);
    if (at == std::string::npos) continue;
    model.graph.replace(model.graph.find("crc32c:", at), before.size(), checksum(model.data.substr(begin, size)));
    model.write(checker.directory());
    checker.check("tensor " + name + ", case " + std::to_string(i));
  }
}

void check_files(const std::string& golden, const TinyAnswers& expected, Checker& checker, Random& random,
                 Report& report) {
  for (const char* name : {"/graph.json", "/weights.safetensors"}) {
    const std::string good = read_file(golden + name), path = checker.directory() + name;
    TinyModel::load(golden).write(checker.directory());
    for (size_t i = 0; i < kTruncations; ++i) {
      write_file(path, good.substr(0, good.size() * i / kTruncations));
      report.check(!checker.check(std::string(name) + " truncated"), "%s: opened truncated, %zu", name, i);
    }
    for (int i = 0; i < kFlips; ++i) {
      std::string flipped = good;
      const size_t at = random.below(good.size());
      flipped[at] = static_cast<char>(flipped[at] ^ (1 + static_cast<int>(random.below(255))));
      write_file(path, flipped);
      if (checker.check(std::string(name) + " flipped"))
        report.check(same(checker.last(), expected), "%s: byte %zu changed: wrong answer", name, at);
    }
    write_file(path, good);
  }
}

int run_test(uint64_t seed) {
  Report report(seed);
  Random random(seed);
  for (const char* golden : kGolden) {
    Checker checker(report);
    const TinyModel model = TinyModel::load(golden);
    model.write(checker.directory());
    report.check(checker.check("the golden model"), "%s does not open", golden);
    const TinyAnswers expected = checker.last();
    check_files(golden, expected, checker, random, report);
    check_texts(model, checker, random);
    check_data(model, checker, random);
  }
  return report.finish("model_file");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
