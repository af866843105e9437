// The golden model directories of tests/golden as C++ tests use them: copied, changed, opened and run.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "oracle.h"
#include "runtime/session.h"

namespace fastcpu::test {

inline const char* const kGolden[] = {"tests/golden/tiny-v1-f32", "tests/golden/tiny-v1-static",
                                      "tests/golden/tiny-v1-dynamic", "tests/golden/tiny-v1-ops"};

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) std::fprintf(stderr, "cannot read %s: run the test from the root of the repository\n", path.c_str());
  return text.str();
}

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// A directory that goes away with the object.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    path_ = (std::filesystem::temp_directory_path() / "fastcpu-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string checksum(const std::string& bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "crc32c:%08x", crc32c(bytes.data(), bytes.size()));
  return text;
}

// The three texts of a model directory.
struct TinyModel {
  std::string graph, header, data;

  static TinyModel load(const std::string& directory) {
    const std::string weights = read_file(directory + "/weights.safetensors");
    uint64_t length = 0;
    for (size_t i = 8; i > 0; --i) length = length << 8 | static_cast<uint8_t>(weights[i - 1]);
    return {read_file(directory + "/graph.json"), weights.substr(8, length), weights.substr(8 + length)};
  }

  // Writes the model, with the header's checksum of graph.json made right where it is still there.
  void write(const std::string& directory) const {
    std::string text = header;
    const std::string key = "\"graph\":\"";
    const std::string sum = checksum(graph);
    const size_t at = text.find(key);
    if (at != std::string::npos && at + key.size() + sum.size() < text.size())
      text.replace(at + key.size(), sum.size(), sum);
    text.resize((8 + text.size() + 63) / 64 * 64 - 8, ' ');
    std::string length;
    for (int i = 0; i < 8; ++i) length += static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i));
    write_file(directory + "/graph.json", graph);
    write_file(directory + "/weights.safetensors", length + text + data);
  }
};

// A padded batch for the golden models: lengths from 1 on, token ids below 50, positions below 24.
struct TinyBatch {
  std::vector<int64_t> ids, mask;
  int64_t rows, columns;

  TinyBatch(int64_t r, int64_t c, uint64_t seed) : rows(r), columns(c) {
    Random random(seed);
    for (int64_t b = 0; b < rows; ++b) {
      const int length = random.integer(1, static_cast<int>(columns));
      for (int64_t t = 0; t < columns; ++t) {
        ids.push_back(random.integer(0, 49));
        mask.push_back(t < length ? 1 : 0);
      }
    }
  }
};

using TinyAnswers = std::vector<std::vector<float>>;

inline TinyAnswers run(Session& session, const TinyBatch& batch) {
  const Session::Lease context(session);
  session.set_padded(*context, {batch.ids.data(), 8, batch.rows, batch.columns},
                     {batch.mask.data(), 8, batch.rows, batch.columns}, {});
  TinyAnswers answers;
  std::vector<float*> pointers;
  for (size_t i = 0; i < session.model().outputs().size(); ++i) {
    int64_t size = 1;
    for (const int64_t d : session.output_shape(*context, i)) size *= d;
    answers.emplace_back(static_cast<size_t>(size));
  }
  for (auto& answer : answers) pointers.push_back(answer.data());
  session.run(*context, pointers.data());
  return answers;
}

inline bool same(const TinyAnswers& a, const TinyAnswers& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].size() != b[i].size() || std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0)
      return false;
  return true;
}

}  // namespace fastcpu::test
