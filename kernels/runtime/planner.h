// From a list of nodes to a plan: segments (what runs between two barriers) and a place for every value, with sizes
// linear in the number of columns.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/op.h"

namespace fastcpu {

// A maximal run of token-wise ops of one space executes tile by tile: a thread takes a tile through all of them without
// a barrier, and values that live inside stay in its cache. Any other op is a segment of its own.
struct Segment {
  bool token_wise;
  Space space;
  std::vector<int> ops;
  uint64_t serves = 0;  // what any of its ops serves
};

struct Place {
  enum class Kind : uint8_t { none, batch, shared, local, output } kind = Kind::none;
  int slot = -1;                                  // shared: index into Plan::slots
  int64_t offset = 0;                             // local: bytes from the tile's local buffer
  std::vector<int32_t> Batch::* array = nullptr;  // batch
  int output = -1;                                // output: index of the graph output
};

struct Slot {
  Space space;
  int64_t column_bytes;
};

struct Plan {
  std::vector<Segment> segments;
  std::vector<Place> places;  // per value
  std::vector<Slot> slots;
  int64_t local_bytes = 0;       // per tile
  std::vector<uint64_t> serves;  // per op: output_bit() of each output that needs it; all for a value that is kept
};

// The bit of an output of the graph in sets of outputs. Those after the 64th share bits, so that more may be computed
// than is needed.
inline uint64_t output_bit(size_t output) { return uint64_t{1} << (output % 64); }

// `keep` marks values that must be readable after a run (per value).
Plan make_plan(const ModelFile& model, const std::map<int, std::vector<int32_t> Batch::*>& token_arrays,
               const std::vector<bool>& keep);

// How a token-wise segment is shared by threads: the first `whole` tiles one per thread at a time (tile-parallel), the
// others split by channels with a barrier after each op (channel-parallel).
struct Sharing {
  int64_t whole;
  double cost;  // the time that it takes, with that of a 64-wide tile on one thread as 1
};
Sharing share_tiles(Tiling tiling, int threads, const TileCosts& costs);

// The width of tiles with which `threads` threads are done with `tokens` tokens first, if every thread can read all
// weights at little cost: 64 unless narrower ones are shared more evenly.
int best_tile_width(int64_t tokens, int threads, const TileCosts& costs);

}  // namespace fastcpu
