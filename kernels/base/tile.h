// Token tiles: the layout of every activation between ops.
//
// A value with C channels and T tokens (columns) is cut along tokens into tiles of width 64; the rest of 1..63 tokens
// becomes tiles of width 32 and 16 (48 = 32 + 16), so that a short query does not pay for 64 lanes. Where few tokens
// are shared by several threads, all tiles may be narrower (Tiling). Tile i covers tokens [t0, t0 + width) and is
// stored channel-major: element (c, t) lies at
//     base[t0 * channel_stride(C) + c * width + (t - t0)].
// channel_stride(C) is C rounded up to a multiple of 4. The lanes past T and the channels past C exist, and kernels may
// read and write them, but they carry no meaning. Buffers are 64-byte aligned, hence so is every row
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

// What tiles cost a kernel, with a 64-wide one as 1 (docs/decisions/0014). All but `narrow` may be averaged.
struct TileCosts {
  double w32, w16;   // narrower ones
  double few, each;  // what is saved where the last 16 lanes have 1 to 8 tokens, and what each of these costs then
  double split;      // what several threads lose that share the channels of a tile, waiting for each other
  bool narrow;       // each of them may as well read all weights for narrow tiles of its own
  // Of a tile with so many tokens and up to 15 lanes to spare.
  constexpr double of(int width, int64_t tokens) const {
    const double all = width == kTileWidth ? 1 : width == 32 ? w32 : w16;
    const int64_t rest = tokens % 16;
    return rest == 0 || rest > 8 ? all : all - few + static_cast<double>(rest) * each;
  }
};

// How the tokens of a value are cut: tiles of `width` (64, 32 or 16), and the rest.
struct Tiling {
  int64_t tokens;
  int width;
  constexpr Tiling(int64_t tokens = 0, int width = kTileWidth) : tokens(tokens), width(width) {}
  constexpr int64_t full() const { return padded_tokens(tokens) / width; }  // tiles of that width
  constexpr int64_t rest() const { return padded_tokens(tokens) % width; }
};

constexpr int64_t tile_count(Tiling tiling) {
  return tiling.full() + (tiling.rest() == 48 ? 2 : tiling.rest() > 0 ? 1 : 0);
}

constexpr Tile tile_at(Tiling tiling, int64_t index) {
  const int64_t full = tiling.full(), begin = full * tiling.width;
  if (index < full) return {index * tiling.width, tiling.width};
  if (tiling.rest() != 48) return {begin, static_cast<int>(tiling.rest())};
  return index == full ? Tile{begin, 32} : Tile{begin + 32, 16};
}

// The tile that holds a token.
constexpr Tile tile_of(Tiling tiling, int64_t token) {
  const int64_t full = tiling.full(), begin = full * tiling.width;
  if (token < begin) return {token / tiling.width * tiling.width, tiling.width};
  return tile_at(tiling, token - begin < 32 ? full : tile_count(tiling) - 1);
}

}  // namespace fastcpu
