// Token tiles: the layout of every activation between ops.
//
// A value with C channels and T tokens (columns) is cut along tokens into tiles of width 64; the rest of 1..63 tokens
// becomes tiles of width 32 and 16 (48 = 32 + 16), so that a short query does not pay for 64 lanes. Tile i covers
// tokens [t0, t0 + width) and is stored channel-major: element (c, t) lies at
//     base[t0 * channel_stride(C) + c * width + (t - t0)].
// channel_stride(C) is C rounded up to a multiple of 4. The lanes past T and the channels past C exist and are written
// by kernels, but carry no meaning. Buffers are 64-byte aligned, hence so is every row
// of a 64-wide tile.
#pragma once
#include <cstdint>

namespace fastcpu {

constexpr int kTileWidth = 64;
constexpr int kMinTileWidth = 16;

struct Tile {
  int64_t begin;  // first token, a multiple of 16
  int width;      // 64, 32 or 16
};

constexpr int64_t padded_tokens(int64_t tokens) { return (tokens + 15) / 16 * 16; }
constexpr int64_t channel_stride(int64_t channels) { return (channels + 3) / 4 * 4; }

constexpr int64_t tile_count(int64_t tokens) {
  const int64_t rest = padded_tokens(tokens) % kTileWidth;
  return padded_tokens(tokens) / kTileWidth + (rest == 48 ? 2 : rest > 0 ? 1 : 0);
}

constexpr Tile tile_at(int64_t tokens, int64_t index) {
  const int64_t full = padded_tokens(tokens) / kTileWidth;
  if (index < full) return {index * kTileWidth, kTileWidth};
  const int64_t rest = padded_tokens(tokens) % kTileWidth;
  if (rest != 48) return {full * kTileWidth, static_cast<int>(rest)};
  return index == full ? Tile{full * kTileWidth, 32} : Tile{full * kTileWidth + 32, 16};
}

// The tile that holds a token.
constexpr Tile tile_of(int64_t tokens, int64_t token) {
  const int64_t full = padded_tokens(tokens) / kTileWidth;
  if (token < full * kTileWidth) return {token / kTileWidth * kTileWidth, kTileWidth};
  return tile_at(tokens, token - full * kTileWidth < 32 ? full : tile_count(tokens) - 1);
}

}  // namespace fastcpu
