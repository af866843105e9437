// Pooling, normalization and re-layout on the vectors of one tier (namespace FASTCPU_ISA_NAME). Tiles have lane =
// token, rows have lane = channel: squares of V::lanes tokens and channels are transposed in registers.
#pragma once
#include "base/tile.h"
#include "pooling/pooling.h"
#include "simd/partial.h"
#include "simd/strips.h"

namespace fastcpu::FASTCPU_ISA_NAME {

// V::lanes neighbouring columns of one tile, of which [first, last) belong to a span; lane `first` is its token number
// `token`.
struct Columns {
  float* rows;  // the first lane of the span's first channel
  int64_t stride;
  int first, last;
  int64_t token;
};

// Calls body(columns) for all tokens of a span, in order. The span may cross tiles of different widths.
template <class V, class Body>
inline void for_each_columns(const TileSpan& span, Body body) {
  const int64_t end = span.begin + span.length;
  for (int64_t t = span.begin; t < end;) {
    const Tile tile = tile_of(span.tiling, t);
    const int64_t block = t / V::lanes * V::lanes;
    float* rows = static_cast<float*>(span.base) + tile.begin * channel_stride(span.channels) +
                  static_cast<int64_t>(span.channel) * tile.width + (block - tile.begin);
    const int first = static_cast<int>(t - block);
    const int last = end - block < V::lanes ? static_cast<int>(end - block) : V::lanes;
    body(Columns{rows, tile.width, first, last, t - span.begin});
    t = block + last;
  }
}

// Channels [c, c + V::lanes) of the columns; the last of `count` channels stands in for those past it.
template <class V>
inline void load_square(const Columns& columns, int c, int count, V (&square)[V::lanes]) {
  for (int i = 0; i < V::lanes; ++i) {
    const int channel = c + i < count ? c + i : count - 1;
    square[i] = V::load(columns.rows + channel * columns.stride);
  }
}

template <class V>
void pool(Pool mode, const TileSpan& x, int count, float* out) {
  for (int c = 0; c < count; c += V::lanes) {
    V result = V::zero(), nan = V::zero();  // nan: the last NaN, if there is one
    for_each_columns<V>(x, [&](const Columns& columns) {
      if (mode == Pool::cls && columns.token > 0) return;
      V square[V::lanes];
      load_square(columns, c, count, square);
      transpose(square);
      if (mode != Pool::mean && columns.token == 0) result = square[columns.first];
      if (mode == Pool::mean) {
        for (int t = columns.first; t < columns.last; ++t) result = result + square[t];
      } else if (mode == Pool::max) {
        for (int t = columns.first; t < columns.last; ++t) {
          result = max(result, square[t]);
          nan = where_nan(square[t], square[t], nan);
        }
      }
    });
    if (mode == Pool::mean && x.length > 0) result = result / V::set1(static_cast<float>(x.length));
    store_lanes(where_nan(nan, nan, result), out + c, 0, count - c < V::lanes ? count - c : V::lanes);
  }
}

template <class V>
void l2norm(float* x, int channels, int width) {
  for_each_strip<V>(width, [&](auto vectors, int first) {
    constexpr int N = decltype(vectors)::count;
    float* const end = x + static_cast<int64_t>(channels) * width + first;
    V norm[N];
    for (V& n : norm) n = V::zero();
    for (const float* row = x + first; row < end; row += width) {
      for (int i = 0; i < N; ++i) {
        const V v = V::load(row + i * V::lanes);
        norm[i] = norm[i] + v * v;
      }
    }
    for (V& n : norm) n = max(V::set1(1e-12f), sqrt(n));
    for (float* row = x + first; row < end; row += width) {
      for (int i = 0; i < N; ++i) (V::load(row + i * V::lanes) / norm[i]).store(row + i * V::lanes);
    }
  });
}

template <class V>
void to_rows(const TileSpan& x, int count, float* out, int64_t row_stride) {
  for_each_columns<V>(x, [&](const Columns& columns) {
    for (int c = 0; c < count; c += V::lanes) {
      V square[V::lanes];
      load_square(columns, c, count, square);
      transpose(square);
      float* row = out + columns.token * row_stride + c;
      for (int t = columns.first; t < columns.last; ++t, row += row_stride) {
        store_lanes(square[t], row, 0, count - c < V::lanes ? count - c : V::lanes);
      }
    }
  });
}

template <class V>
void from_rows(const float* rows, int64_t row_stride, int count, const TileSpan& out) {
  if (out.length == 0) return;
  TileSpan span = out;
  const int64_t tokens = span.tiling.tokens;
  if (span.begin + span.length == tokens) span.length = padded_tokens(tokens) - span.begin;
  for_each_columns<V>(span, [&](const Columns& columns) {
    for (int c = 0; c < count; c += V::lanes) {
      V square[V::lanes];
      for (int i = 0; i < V::lanes; ++i) {
        const int64_t token = columns.token + (i < columns.first ? 0 : i - columns.first);
        square[i] = load_first<V>(rows + (token < out.length ? token : out.length - 1) * row_stride + c, count - c);
      }
      transpose(square);
      const int channels = count - c < V::lanes ? count - c : V::lanes;
      for (int i = 0; i < channels; ++i) {
        store_lanes(square[i], columns.rows + (c + i) * columns.stride, columns.first, columns.last);
      }
    }
  });
}

template <class V>
constexpr PoolingKernel pooling_kernel(const char* name, Isa isa) {
  return {name, isa, pool<V>, l2norm<V>, to_rows<V>, from_rows<V>};
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
