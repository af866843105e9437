// The JSON reader: what it accepts, what it refuses and how it names the place.
#include "base/json.h"

#include <string>

#include "base/error.h"
#include "oracle.h"

namespace fastcpu::test {
namespace {

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
}

const std::string kGood[] = {"null",
                             " true ",
                             "\t\r\nfalse\n",
                             "0",
                             "-0",
                             "1.5",
                             "-1e+10",
                             "1E-3",
                             "123456789012345678901234567890",
                             "\"\"",
                             R"("a\"\\\/\b\f\n\r\t")",
                             R"("\u00e9\u20ac\ud83d\ude00")",
                             "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
                             "\"\xf4\x8f\xbf\xbf\xee\x80\x80\xef\xbf\xbf\"",
                             "\"\x7f\"",
                             "[]",
                             "[ ]",
                             "{}",
                             "{ }",
                             "[1, [2], {\"a\": [3]}]",
                             R"({"": 0})",
                             R"({"a": {"a": 1}, "b": [null]})",
                             nested(32)};

const std::string kBad[] = {"",
                            " ",
                            "nul",
                            "nullx",
                            "tru",
                            "TRUE",
                            "NaN",
                            "Infinity",
                            "-Infinity",
                            "-",
                            "+1",
                            ".5",
                            "1.",
                            "1e",
                            "1e+",
                            "01",
                            "0x10",
                            "1e400",
                            "-1e400",
                            "--1",
                            "1 2",
                            "[",
                            "]",
                            "[1",
                            "[1,",
                            "[1,]",
                            "[,1]",
                            "[1 2]",
                            "{",
                            "{\"a\"",
                            "{\"a\":",
                            "{\"a\":1",
                            "{\"a\":1,",
                            "{\"a\":1,}",
                            "{a:1}",
                            "{1:1}",
                            "{\"a\" 1}",
                            "{\"a\":1 \"b\":2}",
                            R"({"a":1,"a":2})",
                            R"({"\u0061":1,"a":2})",
                            "\"",
                            "\"\\",
                            "\"\\\"",
                            "\"a",
                            "\"\n\"",
                            "\"\x01\"",
                            R"("\x41")",
                            R"("\u12")",
                            R"("\u12)",
                            R"("\u12g4")",
                            R"("\ud800")",
                            R"("\ud800\n")",
                            R"("\ud800\ud800")",
                            R"("\udc00")",
                            R"("\u0000")",
                            "\"\x80\"",
                            "\"\xbf\"",
                            "\"\xc0\x80\"",
                            "\"\xc1\xbf\"",
                            "\"\xc3\"",
                            "\"\xc3(\"",
                            "\"\xe0\x80\x80\"",
                            "\"\xe0\x9f\xbf\"",
                            "\"\xe2\x82\"",
                            "\"\xed\xa0\x80\"",
                            "\"\xf0\x80\x80\x80\"",
                            "\"\xf0\x8f\xbf\xbf\"",
                            "\"\xf4\x90\x80\x80\"",
                            "\"\xf5\x80\x80\x80\"",
                            "\"\xff\"",
                            "\"\xf0\x9f\x98",
                            "\xef\xbb\xbf{}",
                            std::string("\0", 1),
                            std::string("1\0", 2),
                            "/* */ 1",
                            "// 1",
                            "'a'",
                            "[1]]",
                            "{}}",
                            nested(34),
                            std::string(100000, '['),
                            std::string(70, '9'),
                            "0." + std::string(70, '1')};

bool parses(const std::string& text, std::string& message) {
  try {
    Json::parse(text, "file");
    return true;
  } catch (const Error& error) {
    message = error.what();
    return false;
  }
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
    return "";
  } catch (const Error& error) {
    return error.kind() == Error::Kind::file ? error.what() : "another kind of error";
  }
}

int run_test(uint64_t seed) {
  Report report(seed);
  std::string message;
  for (const std::string& text : kGood) report.check(parses(text, message), "%s: %s", text.c_str(), message.c_str());
  for (const std::string& text : kBad) {
    message.clear();
    const bool parsed = parses(text, message);
    report.check(!parsed && message.rfind("file: invalid JSON at byte ", 0) == 0, "%.60s: %s", text.c_str(),
                 parsed ? "accepted" : message.c_str());
  }
  const std::string whole = R"({"a": [1, {"b": "x\n", "c": -2.5}], "d": true, "n": null, "big": 9007199254740994})";
  for (size_t size = 0; size < whole.size(); ++size)
    report.check(!parses(whole.substr(0, size), message), "accepted a document cut at %zu", size);

  const Json json = Json::parse(whole, "file");
  const Json& item = json.at("a").array()[1];
  report.check(item.at("b").string() == "x\n" && item.at("c").number() == -2.5 && json.at("d").boolean(), "values");
  report.check(json.at("n").type() == Json::Type::null && json.find("x") == nullptr, "null and absent");
  report.check(item.at("c").path() == "file: a[1].c", "%s", item.at("c").path().c_str());
  const std::pair<std::string, std::string> errors[] = {
      {error_of([&] { json.at("x"); }), "\"x\" is missing"},
      {error_of([&] { item.at("c").integer(); }), "file: a[1].c: expected an integer"},
      {error_of([&] { json.at("big").integer(); }), "file: big: expected an integer"},
      {error_of([&] { json.at("a").array()[0].integer(2, 5); }), "file: a[0]: expected an integer from 2 to 5, not 1"},
      {error_of([&] { item.at("b").number(); }), "file: a[1].b: expected a number"},
      {error_of([&] { json.at("d").string(); }), "file: d: expected a string"},
      {error_of([&] { json.at("n").boolean(); }), "file: n: expected true or false"},
      {error_of([&] { json.at("d").array(); }), "file: d: expected an array"},
      {error_of([&] { json.at("a").object(); }), "file: a: expected an object"},
      {error_of([&] { json.at("a").find("b"); }), "file: a: expected an object"},
      {error_of([&] { Json::parse("1e39", "file").f32(); }), "expected a number in the range of f32"}};
  for (const auto& [got, expected] : errors)
    report.check(got.find(expected) != std::string::npos, "'%s' instead of '%s'", got.c_str(), expected.c_str());

  // Time and memory stay linear: long keys above many values, and too many values.
  std::string long_key = "{\"" + std::string(100000, 'k') + "\": [";
  for (int i = 0; i < 100000; ++i) long_key += "0,";
  report.check(!parses(long_key + "}", message) && parses(long_key + "0]}", message), "a long key");
  const Json deep = Json::parse(long_key + "0]}", "file");
  report.check(deep.object()[0].second.array()[7].path().size() < 300, "a path is not bounded");
  std::string many = "[";
  for (int i = 0; i < (1 << 20); ++i) many += "1,";
  report.check(!parses(many + "1]", message) && message.find("too many values") != std::string::npos, "many values");

  // No sequence of bytes does harm.
  Random random(seed);
  const char alphabet[] = "{}[]:,\"\\0123456789.eE+-truefalsn \n\xc3\xa9\xff\x01u";
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (uint64_t n = random.below(24); n > 0; --n) text += alphabet[random.below(sizeof alphabet)];
    parses(text, message);
  }
  return report.finish("json");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
