// Where attention_training keeps what in its scratch memory, in floats.
#pragma once
#include <cstdint>

#include "base/panel.h"

namespace fastcpu {

// Panels have a row per channel and a lane per token; tables have a row per token, with `row` floats. Rows come in
// multiples of 4, those past the last are 0.
struct HeadLayout {
  HeadLayout(int tokens, int channels)
      : width(panel_width(tokens)),
        row(panel_width(channels)),
        tokens4((tokens + 3) / 4 * 4),
        channels4((channels + 3) / 4 * 4) {
    for (int64_t* table : {&q, &k, &v, &gradient, &dk, &dv}) *table = take(tokens4 * row);
    for (int64_t* panel : {&q_panel, &gradient_panel, &out_panel}) *panel = take(channels4 * width);
    for (int64_t* square : {&p, &ds}) *square = take(tokens4 * width);
  }

  int64_t width, row, tokens4, channels4;
  int64_t q, k, v, gradient, dk, dv;
  int64_t q_panel, gradient_panel, out_panel;
  int64_t p, ds;  // [keys][lane = query]
  int64_t floats = 0;

 private:
  int64_t take(int64_t count) {
    const int64_t at = floats;
    floats += (count + 15) / 16 * 16;
    return at;
  }
};

}  // namespace fastcpu
