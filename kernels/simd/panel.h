// Rows of tokens to panels (base/panel.h) and back, and loops over the lanes of a panel. FASTCPU_ISA_NAME is the tier's
// namespace.
#pragma once
#include <cstddef>

#include "base/panel.h"

namespace fastcpu::FASTCPU_ISA_NAME {

template <int N>
struct Strip {
  static constexpr int vectors = N;
};

// Calls body(Strip<N>(), first lane) so that strips of at most kMost vectors, about equally wide, cover `width` lanes.
template <class V, int kMost, class Body>
void for_each_strip_up_to(int width, Body body) {
  int first = 0;
  for (int left = width / V::lanes; left > 0;) {
    const int next = left >= 2 * kMost || left == kMost ? kMost : left > kMost ? (left + 1) / 2 : left;
    switch (next) {
      case 1:
        body(Strip<1>(), first);
        break;
      case 2:
        body(Strip<2>(), first);
        break;
      case 3:
        if constexpr (kMost >= 3) body(Strip<3>(), first);
        break;
      default:
        if constexpr (kMost >= 4) body(Strip<4>(), first);
    }
    first += next * V::lanes;
    left -= next;
  }
}

// How the elements of rows are read and written.
template <class V>
struct AsF32 {
  using Element = float;
  static V load(const float* p) { return V::load(p); }
  static void store(V x, float* p) { x.store(p); }
};

template <class V>
struct AsBf16 {
  using Element = uint16_t;
  static V load(const uint16_t* p) { return V::load_bf16(p); }
  static void store(V x, uint16_t* p) { x.store_bf16(p); }
};

// Rows [tokens][channels], `pitch` elements apart, to a panel of `width` lanes, those past the last token 0.
template <class V, class As>
void panel_load(const typename As::Element* rows, int64_t pitch, int tokens, int channels, int width, Panel out) {
  using Element = typename As::Element;
  for (int t = 0; t < width; t += V::lanes) {
    for (int c = 0; c < channels; c += V::lanes) {
      const int count = channels - c < V::lanes ? channels - c : V::lanes;
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i) {
        if (t + i >= tokens) {
          square[i] = V::zero();
        } else if (count == V::lanes) {
          square[i] = As::load(rows + (t + i) * pitch + c);
        } else {
          Element part[V::lanes] = {};
          __builtin_memcpy(part, rows + (t + i) * pitch + c, static_cast<size_t>(count) * sizeof(Element));
          square[i] = As::load(part);
        }
      }
      transpose(square);
      for (int i = 0; i < count; ++i) square[i].store(out.data + (c + i) * out.stride + t);
    }
  }
}

template <class V, class As>
void panel_store(Panel in, int tokens, int channels, int64_t pitch, typename As::Element* rows) {
  using Element = typename As::Element;
  for (int t = 0; t < tokens; t += V::lanes) {
    const int real = tokens - t < V::lanes ? tokens - t : V::lanes;
    for (int c = 0; c < channels; c += V::lanes) {
      const int count = channels - c < V::lanes ? channels - c : V::lanes;
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i) square[i] = i < count ? V::load(in.data + (c + i) * in.stride + t) : V::zero();
      transpose(square);
      for (int i = 0; i < real; ++i) {
        if (count == V::lanes) {
          As::store(square[i], rows + (t + i) * pitch + c);
        } else {
          Element part[V::lanes];
          As::store(square[i], part);
          __builtin_memcpy(rows + (t + i) * pitch + c, part, static_cast<size_t>(count) * sizeof(Element));
        }
      }
    }
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
