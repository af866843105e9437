// How the values of an enum are spelled in files and in Python: one table beside the enum, read in both directions.
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace fastcpu {

template <class Enum>
struct Name {
  Enum value;
  const char* name;
};

template <class Enum, size_t N>
const char* name_of(const Name<Enum> (&names)[N], Enum value) {
  for (const Name<Enum>& each : names)
    if (each.value == value) return each.name;
  return "?";
}

// The value of that name, or nothing.
template <class Enum, size_t N>
std::optional<Enum> parse_name(const Name<Enum> (&names)[N], std::string_view name) {
  for (const Name<Enum>& each : names)
    if (name == each.name) return each.value;
  return std::nullopt;
}

}  // namespace fastcpu
