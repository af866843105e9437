// Panels: activations of a number of tokens, channel-major: element (c, t) lies at data[c * stride + t].
//
// The width of a panel, a multiple of 16, is at least its number of tokens; the lanes past the last token are there.
#pragma once
#include <cstdint>

namespace fastcpu {

struct Panel {
  float* data;
  int64_t stride;
};

constexpr int64_t panel_width(int64_t tokens) { return (tokens + 15) / 16 * 16; }

}  // namespace fastcpu
