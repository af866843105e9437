#include "runtime/planner.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/error.h"

namespace fastcpu {
namespace {

// What narrower tiles must save where every thread has a wide one, since a tile costs more than its products.
constexpr double kLeastGain = 0.04;

struct Lifetime {
  int defined = -1, last = -1;        // segment
  int defined_op = -1, last_op = -1;  // node
};

std::vector<Segment> make_segments(const ModelFile& model) {
  std::vector<Segment> segments;
  for (size_t i = 0; i < model.nodes().size(); ++i) {
    const NodeInfo& node = model.nodes()[i];
    const Space space = model.values()[static_cast<size_t>(node.outputs.at(0))].space;
    const bool joins =
        !segments.empty() && node.traits->token_wise && segments.back().token_wise && segments.back().space == space;
    if (!joins) segments.push_back({node.traits->token_wise, space, {}});
    segments.back().ops.push_back(static_cast<int>(i));
  }
  return segments;
}

// Local buffers of one token-wise segment, reused as soon as their value is dead.
int64_t place_locals(const ModelFile& model, const Segment& segment, const std::vector<Lifetime>& lifetimes,
                     std::vector<Place>& places) {
  struct Buffer {
    int64_t bytes;
    int last_op;
    int value;
  };
  std::vector<Buffer> buffers;
  std::vector<int> assigned(model.values().size(), -1);
  for (const int op : segment.ops) {
    const NodeInfo& node = model.nodes()[static_cast<size_t>(op)];
    bool took_input = false;
    for (const int output : node.outputs) {
      const auto v = static_cast<size_t>(output);
      if (places[v].kind != Place::Kind::local) continue;
      const ValueInfo& value = model.values()[v];
      const int64_t bytes = static_cast<int64_t>(align_up(static_cast<size_t>(column_bytes(value) * kTileWidth)));
      int best = -1;
      for (size_t b = 0; b < buffers.size(); ++b) {
        const bool dead = buffers[b].last_op < op;
        const bool overwritable =
            node.traits->in_place && !took_input && value.dtype == DType::f32 && !value.is_scale &&
            buffers[b].last_op == op && buffers[b].value != output &&
            model.values()[static_cast<size_t>(buffers[b].value)].dtype == DType::f32 &&
            std::find(node.inputs.begin(), node.inputs.end(), buffers[b].value) != node.inputs.end();
        if (buffers[b].bytes == bytes && (overwritable || dead) && (best < 0 || overwritable))
          best = static_cast<int>(b);
      }
      if (best < 0) {
        best = static_cast<int>(buffers.size());
        buffers.push_back({bytes, -1, -1});
      }
      Buffer& buffer = buffers[static_cast<size_t>(best)];
      took_input = took_input || buffer.last_op == op;
      buffer.last_op = lifetimes[v].last_op;
      buffer.value = output;
      assigned[v] = best;
    }
  }
  std::vector<int64_t> offsets(buffers.size() + 1);
  for (size_t b = 0; b < buffers.size(); ++b) offsets[b + 1] = offsets[b] + buffers[b].bytes;
  for (size_t v = 0; v < assigned.size(); ++v)
    if (assigned[v] >= 0) places[v].offset = offsets[static_cast<size_t>(assigned[v])];
  return offsets.back();
}

// Plan::serves.
std::vector<uint64_t> find_served(const ModelFile& model, const std::vector<bool>& keep) {
  std::vector<uint64_t> values(model.values().size()), ops(model.nodes().size());
  for (size_t v = 0; v < values.size(); ++v)
    if (keep[v]) values[v] = ~uint64_t{0};
  for (size_t o = 0; o < model.outputs().size(); ++o)
    values[static_cast<size_t>(model.outputs()[o].value)] |= output_bit(o);
  for (size_t op = ops.size(); op-- > 0;) {
    for (const int v : model.nodes()[op].outputs) ops[op] |= values[static_cast<size_t>(v)];
    for (const int v : model.nodes()[op].inputs) values[static_cast<size_t>(v)] |= ops[op];
  }
  return ops;
}

}  // namespace

Plan make_plan(const ModelFile& model, const std::map<int, std::vector<int32_t> Batch::*>& token_arrays,
               const std::vector<bool>& keep) {
  Plan plan;
  plan.segments = make_segments(model);
  plan.serves = find_served(model, keep);
  for (Segment& segment : plan.segments)
    for (const int op : segment.ops) segment.serves |= plan.serves[static_cast<size_t>(op)];
  plan.places.resize(model.values().size());
  std::vector<Lifetime> lifetimes(model.values().size());
  for (size_t s = 0; s < plan.segments.size(); ++s)
    for (const int op : plan.segments[s].ops) {
      const NodeInfo& node = model.nodes()[static_cast<size_t>(op)];
      for (const int v : node.outputs)
        lifetimes[static_cast<size_t>(v)] = {static_cast<int>(s), static_cast<int>(s), op, op};
      for (const int v : node.inputs) {
        if (model.values()[static_cast<size_t>(v)].space == Space::output)
          node.fail("reads '" + model.values()[static_cast<size_t>(v)].name + "', which is an output");
        lifetimes[static_cast<size_t>(v)].last = static_cast<int>(s);
        lifetimes[static_cast<size_t>(v)].last_op = op;
      }
    }

  for (size_t o = 0; o < model.outputs().size(); ++o) {
    const auto v = static_cast<size_t>(model.outputs()[o].value);
    Place& place = plan.places[v];
    if (place.kind == Place::Kind::output)
      throw Error(Error::Kind::graph, "two outputs share the value '" + model.values()[v].name + "'");
    const NodeInfo& node = model.nodes()[static_cast<size_t>(lifetimes[v].defined_op)];
    if (!node.traits->writes_output) node.fail("cannot write output '" + model.outputs()[o].name + "'");
    place.kind = Place::Kind::output;
    place.output = static_cast<int>(o);
  }
  for (size_t v = 0; v < model.values().size(); ++v) {
    const ValueInfo& value = model.values()[v];
    Place& place = plan.places[v];
    if (place.kind == Place::Kind::output) continue;
    if (value.space == Space::output)
      throw Error(Error::Kind::graph, "value '" + value.name + "' is in space \"output\" but no output names it");
    const auto array = token_arrays.find(static_cast<int>(v));
    if (array != token_arrays.end()) {
      place.kind = Place::Kind::batch;
      place.array = array->second;
    } else if (!keep[v] && lifetimes[v].defined == lifetimes[v].last &&
               plan.segments[static_cast<size_t>(lifetimes[v].defined)].token_wise) {
      place.kind = Place::Kind::local;
    } else {
      place.kind = Place::Kind::shared;
    }
  }
  for (const Segment& segment : plan.segments)
    if (segment.token_wise)
      plan.local_bytes = std::max(plan.local_bytes, place_locals(model, segment, lifetimes, plan.places));

  std::vector<int> slot_last;  // last segment that uses the slot
  for (const Segment& segment : plan.segments)
    for (const int op : segment.ops)
      for (const int output : model.nodes()[static_cast<size_t>(op)].outputs) {
        const auto v = static_cast<size_t>(output);
        if (plan.places[v].kind != Place::Kind::shared) continue;
        const ValueInfo& value = model.values()[v];
        const int64_t bytes = column_bytes(value);
        int best = -1;
        for (size_t s = 0; s < plan.slots.size(); ++s)
          if (plan.slots[s].space == value.space && slot_last[s] < lifetimes[v].defined &&
              plan.slots[s].column_bytes >= bytes &&
              (best < 0 || plan.slots[s].column_bytes < plan.slots[static_cast<size_t>(best)].column_bytes))
            best = static_cast<int>(s);
        if (best < 0) {
          best = static_cast<int>(plan.slots.size());
          plan.slots.push_back({value.space, bytes});
          slot_last.push_back(-1);
        }
        plan.places[v].slot = best;
        slot_last[static_cast<size_t>(best)] = keep[v] ? INT32_MAX : lifetimes[v].last;
      }
  return plan;
}

Sharing share_tiles(Tiling tiling, int threads, const TileCosts& costs) {
  const int64_t tiles = tile_count(tiling);
  const auto cost_of = [&](int64_t index) {
    const Tile tile = tile_at(tiling, index);
    return costs.of(tile.width, std::min<int64_t>(tile.width, tiling.tokens - tile.begin));
  };
  // Tiles come in falling widths; try to keep the last few for splitting. No more than one per thread: the tiles that
  // are split use the local buffers of the threads.
  Sharing best = {tiles, -1};
  double rest = 0;  // the time of the tiles that are split
  for (int64_t split = 0; split <= (threads == 1 ? 0 : std::min<int64_t>(tiles, threads)); ++split) {
    if (split > 0) rest += cost_of(tiles - split) / threads + costs.split;
    const int64_t whole = tiles - split, wide = std::min(whole, tiling.full());
    // The wide tiles go round; the one or two narrow tiles behind them go to the threads with the least work.
    const double each = wide > 0 ? cost_of(0) : 0, rounds = static_cast<double>(wide / threads) * each;
    const int64_t more = wide % threads;  // threads with one wide tile more than the others
    double longest = rounds + (more > 0 ? each : 0.0), narrow = 0;
    for (int64_t i = wide; i < whole; ++i) {
      const double cost = cost_of(i);
      narrow = threads - more > i - wide ? cost : narrow + cost;
      longest = std::max(longest, rounds + narrow);
    }
    if (best.cost < 0 || longest + rest < best.cost) best = {whole, longest + rest};
  }
  return best;
}

int best_tile_width(int64_t tokens, int threads, const TileCosts& costs) {
  int best = kTileWidth;
  const bool few = tokens <= int64_t{kTileWidth} * threads;
  if (threads == 1 || (!few && !costs.narrow)) return best;
  double least = share_tiles({tokens, best}, threads, costs).cost;
  for (int width = kTileWidth / 2; width >= kMinTileWidth; width /= 2) {
    const double cost = share_tiles({tokens, width}, threads, costs).cost;
    if (cost < (few ? 1 : 1 - kLeastGain) * least) {
      least = cost;
      best = width;
    }
  }
  return best;
}

}  // namespace fastcpu
