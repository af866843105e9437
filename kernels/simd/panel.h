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

// The first `count` of V::lanes elements, any number below or above; the other lanes are 0.
template <class V, class As>
V load_elements(const typename As::Element* p, int64_t count) {
  if (count >= V::lanes) return As::load(p);
  typename As::Element part[V::lanes] = {};
  if (count > 0) __builtin_memcpy(part, p, static_cast<size_t>(count) * sizeof(part[0]));
  return As::load(part);
}

template <class V, class As>
void store_elements(V x, typename As::Element* p, int64_t count) {
  if (count >= V::lanes) return As::store(x, p);
  typename As::Element part[V::lanes];
  As::store(x, part);
  if (count > 0) __builtin_memcpy(p, part, static_cast<size_t>(count) * sizeof(part[0]));
}

// Calls body(x, channel, lane) with V::lanes lanes of a channel of rows [tokens][channels], `pitch` elements apart,
// until `width` lanes of all channels are through; lanes past the last token are 0.
template <class V, class As, class Body>
void for_each_channel(const typename As::Element* rows, int64_t pitch, int tokens, int channels, int width, Body body) {
  for (int t = 0; t < width; t += V::lanes)
    for (int c = 0; c < channels; c += V::lanes) {
      const int count = channels - c < V::lanes ? channels - c : V::lanes;
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i)
        square[i] = t + i < tokens ? load_elements<V, As>(rows + (t + i) * pitch + c, count) : V::zero();
      transpose(square);
      for (int i = 0; i < count; ++i) body(square[i], c + i, t);
    }
}

// Rows [tokens][channels], `pitch` elements apart, to a panel of `width` lanes, and back.
template <class V, class As>
void panel_load(const typename As::Element* rows, int64_t pitch, int tokens, int channels, int width, Panel out) {
  for_each_channel<V, As>(rows, pitch, tokens, channels, width,
                          [&](V x, int c, int t) { x.store(out.data + c * out.stride + t); });
}

template <class V, class As>
void panel_store(Panel in, int tokens, int channels, int64_t pitch, typename As::Element* rows) {
  for (int t = 0; t < tokens; t += V::lanes) {
    const int real = tokens - t < V::lanes ? tokens - t : V::lanes;
    for (int c = 0; c < channels; c += V::lanes) {
      const int count = channels - c < V::lanes ? channels - c : V::lanes;
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i) square[i] = i < count ? V::load(in.data + (c + i) * in.stride + t) : V::zero();
      transpose(square);
      for (int i = 0; i < real; ++i) store_elements<V, As>(square[i], rows + (t + i) * pitch + c, count);
    }
  }
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
