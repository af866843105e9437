#include "base/json.h"

#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <set>

#include "base/error.h"

namespace fastcpu {

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Json document() {
    Json value = parse_value(where_ + ": ", 0);
    skip_space();
    if (at_ != text_.size()) fail("text after the document");
    return value;
  }

 private:
  // Far beyond any model; they bound memory and time of a hostile document, whose paths would grow with its square.
  static constexpr int kMaxDepth = 32;
  static constexpr int kMaxValues = 1 << 20;
  static constexpr size_t kMaxPath = 256;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Error::Kind::file, where_ + ": invalid JSON at byte " + std::to_string(at_) + ": " + what);
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }

  char peek() {
    skip_space();
    if (at_ >= text_.size()) fail("unexpected end");
    return text_[at_];
  }

  void expect(char c) {
    if (peek() != c) fail(std::string("expected '") + c + "'");
    ++at_;
  }

  void literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("unknown literal");
    at_ += word.size();
  }

  // The path of a member or item; a long one ends in "...".
  std::string child_path(const std::string& path, const std::string& part) const {
    const size_t limit = where_.size() + kMaxPath;
    if (path.size() >= limit) return path;
    std::string child = path + part;
    if (child.size() < limit) return child;
    size_t end = limit - 3;
    while ((static_cast<unsigned char>(child[end]) & 0xc0) == 0x80) --end;  // not inside a character
    child.resize(end);
    child.append("...").resize(limit, '.');
    return child;
  }

  Json parse_value(const std::string& path, int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    if (++values_ > kMaxValues) fail("too many values");
    Json json;
    json.path_ = path;
    switch (peek()) {
      case '{':
        parse_object(json, depth);
        break;
      case '[':
        parse_array(json, depth);
        break;
      case '"':
        json.type_ = Json::Type::string;
        json.text_ = parse_string();
        break;
      case 't':
        literal("true");
        json.type_ = Json::Type::boolean;
        json.boolean_ = true;
        break;
      case 'f':
        literal("false");
        json.type_ = Json::Type::boolean;
        break;
      case 'n':
        literal("null");
        break;
      default:
        parse_number(json);
    }
    return json;
  }

  void parse_object(Json& json, int depth) {
    json.type_ = Json::Type::object;
    ++at_;
    if (peek() == '}') {
      ++at_;
      return;
    }
    std::set<std::string> seen;
    while (true) {
      if (peek() != '"') fail("expected a key");
      std::string key = parse_string();
      if (!seen.insert(key).second) fail("duplicate key \"" + key + "\"");
      expect(':');
      const std::string path = child_path(json.path_, (depth == 0 ? "" : ".") + key);
      json.members_.emplace_back(std::move(key), parse_value(path, depth + 1));
      if (peek() == ',') {
        ++at_;
        continue;
      }
      expect('}');
      return;
    }
  }

  void parse_array(Json& json, int depth) {
    json.type_ = Json::Type::array;
    ++at_;
    if (peek() == ']') {
      ++at_;
      return;
    }
    while (true) {
      const std::string path = child_path(json.path_, "[" + std::to_string(json.items_.size()) + "]");
      json.items_.push_back(parse_value(path, depth + 1));
      if (peek() == ',') {
        ++at_;
        continue;
      }
      expect(']');
      return;
    }
  }

  unsigned hex4() {
    if (text_.size() - at_ < 4) fail("unexpected end in an escape");
    unsigned code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = text_[at_++];
      if (c >= '0' && c <= '9')
        code = code * 16 + static_cast<unsigned>(c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f')
        code = code * 16 + static_cast<unsigned>((c | 32) - 'a' + 10);
      else
        fail("bad \\u escape");
    }
    return code;
  }

  void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 63));
    } else if (code < 0x10000) {
      out += static_cast<char>(0xe0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 63));
      out += static_cast<char>(0x80 | (code & 63));
    } else {
      out += static_cast<char>(0xf0 | code >> 18);
      out += static_cast<char>(0x80 | (code >> 12 & 63));
      out += static_cast<char>(0x80 | (code >> 6 & 63));
      out += static_cast<char>(0x80 | (code & 63));
    }
  }

  // Length in bytes of the UTF-8 character at at_, which is not ASCII: shortest form, no surrogates, to U+10FFFF.
  size_t utf8_length() const {
    const auto byte = [&](size_t i) {
      return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u;
    };
    const unsigned first = byte(0), second = byte(1);
    const size_t length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : 4;
    const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first < 0xc2 || first > 0xf4 || second < low || second > high) fail("invalid UTF-8");
    for (size_t i = 2; i < length; ++i)
      if ((byte(i) & 0xc0) != 0x80) fail("invalid UTF-8");
    return length;
  }

  std::string parse_string() {
    std::string out;
    ++at_;
    while (true) {
      if (at_ >= text_.size()) fail("unterminated string");
      if (static_cast<unsigned char>(text_[at_]) >= 0x80) {
        const size_t length = utf8_length();
        out += text_.substr(at_, length);
        at_ += length;
        continue;
      }
      const char c = text_[at_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("control character in a string");
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at_ >= text_.size()) fail("unterminated string");
      switch (text_[at_++]) {
        case '"':
          out += '"';
          break;
        case '\\':
          out += '\\';
          break;
        case '/':
          out += '/';
          break;
        case 'b':
          out += '\b';
          break;
        case 'f':
          out += '\f';
          break;
        case 'n':
          out += '\n';
          break;
        case 'r':
          out += '\r';
          break;
        case 't':
          out += '\t';
          break;
        case 'u': {
          unsigned code = hex4();
          if (code >= 0xd800 && code < 0xdc00) {
            if (text_.substr(at_, 2) != "\\u") fail("lone surrogate");
            at_ += 2;
            const unsigned low = hex4();
            if (low < 0xdc00 || low > 0xdfff) fail("lone surrogate");
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          } else if (code >= 0xdc00 && code < 0xe000) {
            fail("lone surrogate");
          }
          if (code == 0) fail("NUL in a string");
          append_utf8(out, code);
          break;
        }
        default:
          fail("unknown escape");
      }
    }
  }

  bool digit() const { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; }

  void digits() {
    if (!digit()) fail("expected a value");
    while (digit()) ++at_;
  }

  void parse_number(Json& json) {
    const size_t begin = at_;
    if (text_[at_] == '-') ++at_;
    if (digit() && text_[at_] == '0')
      ++at_;
    else
      digits();
    if (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      digits();
    }
    if (at_ < text_.size() && (text_[at_] | 32) == 'e') {
      ++at_;
      if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
      digits();
    }
    if (at_ - begin > 64) fail("number is too long");
    json.type_ = Json::Type::number;
    json.text_ = std::string(text_.substr(begin, at_ - begin));
    static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
    json.number_ = strtod_l(json.text_.c_str(), nullptr, c_locale);
    if (!std::isfinite(json.number_)) fail("number out of range");
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
  int values_ = 0;
};

Json Json::parse(std::string_view text, const std::string& where) { return JsonParser(text, where).document(); }

void Json::fail(const std::string& expected) const { throw Error(Error::Kind::file, path_ + ": expected " + expected); }

bool Json::boolean() const {
  if (type_ != Type::boolean) fail("true or false");
  return boolean_;
}

double Json::number() const {
  if (type_ != Type::number) fail("a number");
  return number_;
}

float Json::f32() const {
  const double value = number();
  if (!(std::fabs(value) <= 3.4028234663852886e38)) fail("a number in the range of f32");
  return static_cast<float>(value);
}

int64_t Json::integer() const {
  const double value = number();
  if (value != std::floor(value) || std::fabs(value) > 9007199254740992.0) fail("an integer");
  return static_cast<int64_t>(value);
}

int64_t Json::integer(int64_t low, int64_t high) const {
  const int64_t value = integer();
  if (value < low || value > high)
    fail("an integer from " + std::to_string(low) + " to " + std::to_string(high) + ", not " + std::to_string(value));
  return value;
}

const std::string& Json::string() const {
  if (type_ != Type::string) fail("a string");
  return text_;
}

const std::vector<Json>& Json::array() const {
  if (type_ != Type::array) fail("an array");
  return items_;
}

const std::vector<std::pair<std::string, Json>>& Json::object() const {
  if (type_ != Type::object) fail("an object");
  return members_;
}

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : object())
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) throw Error(Error::Kind::file, path_ + ": \"" + std::string(key) + "\" is missing");
  return *value;
}

}  // namespace fastcpu
