// A strict JSON reader for untrusted files: bounded depth and size, no duplicate keys, valid UTF-8 without NUL, every
// error with its byte offset.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fastcpu {

class Json {
 public:
  enum class Type : uint8_t { null, boolean, number, string, array, object };

  // Throws Error(file) naming `where` and the byte offset.
  static Json parse(std::string_view text, const std::string& where);

  Type type() const { return type_; }
  const std::string& path() const { return path_; }  // e.g. graph.json: nodes[3].attrs, for error messages

  // Typed access; each throws Error(file) naming the path when the type or range is wrong.
  bool boolean() const;
  double number() const;
  float f32() const;  // finite
  int64_t integer() const;
  int64_t integer(int64_t low, int64_t high) const;
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::vector<std::pair<std::string, Json>>& object() const;

  // Object members.
  const Json* find(std::string_view key) const;  // nullptr when absent
  const Json& at(std::string_view key) const;

 private:
  friend class JsonParser;
  [[noreturn]] void fail(const std::string& expected) const;

  Type type_ = Type::null;
  bool boolean_ = false;
  double number_ = 0;
  std::string text_;  // a string, or the literal of a number
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
  std::string path_;
};

}  // namespace fastcpu
