#include "runtime/session.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>

#include "base/error.h"

namespace fastcpu {
namespace {

// Guards the free contexts and the profiles of all sessions, for a few instructions at a time. A fork waits for it, so
// that the child of a process with other threads never inherits it locked.
std::mutex sessions_mutex;
[[maybe_unused]] const int at_fork =
    pthread_atfork([] { sessions_mutex.lock(); }, [] { sessions_mutex.unlock(); }, [] { sessions_mutex.unlock(); });

// Calls read(elements), a pointer to the elements of `array` in their own type.
template <class Array, class Read>
void read_as(const Array& array, const Read& read) {
  switch (array.bytes) {
    case 8:
      return array.is_unsigned ? read(static_cast<const uint64_t*>(array.data))
                               : read(static_cast<const int64_t*>(array.data));
    case 4:
      return array.is_unsigned ? read(static_cast<const uint32_t*>(array.data))
                               : read(static_cast<const int32_t*>(array.data));
    case 2:
      return array.is_unsigned ? read(static_cast<const uint16_t*>(array.data))
                               : read(static_cast<const int16_t*>(array.data));
    default:
      return array.is_unsigned ? read(static_cast<const uint8_t*>(array.data))
                               : read(static_cast<const int8_t*>(array.data));
  }
}

// Appends the elements at `columns` to `out`. Ops check indices against their tables; here a value that no table can
// hold must not wrap around into one that some table holds.
template <class T>
void append(const T* elements, const int32_t* columns, int64_t count, std::vector<int32_t>& out, std::string& wide) {
  for (int64_t i = 0; i < count; ++i) {
    const T value = elements[columns[i]];
    const auto narrow = static_cast<int32_t>(value);
    const bool fits = narrow >= 0 && static_cast<T>(narrow) == value;
    out.push_back(fits ? narrow : -1);
    if (!fits && wide.empty()) wide = std::to_string(value);
  }
}

// Appends the position ids of the tokens at `columns`, which ascend, of a row of `length` ids.
template <class T>
void append_counted(const T* ids, int64_t length, int64_t padding_id, const int32_t* columns, int64_t count,
                    std::vector<int32_t>& out) {
  int32_t number = 0;
  for (int64_t c = 0, i = 0; c < length && i < count; ++c) {
    const bool padding = static_cast<int64_t>(ids[c]) == padding_id;
    if (!padding) ++number;
    if (columns[i] != c) continue;
    out.push_back(padding ? 0 : number);
    ++i;
  }
}

[[noreturn]] void fail_memory(int64_t sequences, int64_t tokens, size_t bytes) {
  throw Error(Error::Kind::input, "not enough memory for a batch of " + std::to_string(sequences) + " sequences with " +
                                      std::to_string(tokens) + " tokens: no room for " + std::to_string(bytes) +
                                      " bytes");
}

// An empty batch with room for `tokens` tokens.
void start_batch(Batch& batch, int64_t sequences, int64_t tokens) {
  batch.sequences = sequences;
  batch.longest = 0;
  batch.offsets.clear();
  batch.wide_id.clear();
  batch.wide_type.clear();
  try {
    batch.offsets.reserve(static_cast<size_t>(sequences) + 1);
    for (std::vector<int32_t>* array : {&batch.ids, &batch.types, &batch.positions, &batch.counted_positions}) {
      array->clear();
      array->reserve(static_cast<size_t>(tokens));
    }
  } catch (const std::bad_alloc&) {
    fail_memory(
        sequences, tokens,
        static_cast<size_t>(sequences + 1) * sizeof(int64_t) + static_cast<size_t>(tokens) * 4 * sizeof(int32_t));
  }
  batch.offsets.push_back(0);
}

// part = sequences begin .. end of a batch. Its arrays have room for all sequences, so that no later part allocates.
void take_sequences(const Batch& batch, int64_t begin, int64_t end, Batch& part) {
  const int64_t first = batch.offsets[static_cast<size_t>(begin)], last = batch.offsets[static_cast<size_t>(end)];
  start_batch(part, batch.sequences, batch.tokens);
  part.sequences = end - begin;
  part.tokens = last - first;
  part.columns = batch.columns;
  for (int64_t b = begin; b < end; ++b) {
    part.offsets.push_back(batch.offsets[static_cast<size_t>(b) + 1] - first);
    part.longest = std::max(part.longest, batch.length(b));
  }
  for (const auto array : {&Batch::ids, &Batch::types, &Batch::positions, &Batch::counted_positions})
    if (!(batch.*array).empty()) (part.*array).assign((batch.*array).begin() + first, (batch.*array).begin() + last);
}

// The end of the part that begins with a sequence, of a batch that is cut into about so many: the first sequence from
// which on the tokens belong to the next part. Empty sequences at the end of the batch are no part of their own.
int64_t part_end(const Batch& batch, int64_t begin, int64_t parts) {
  const auto offset = [&](int64_t sequence) { return batch.offsets[static_cast<size_t>(sequence)]; };
  const int64_t limit = (offset(begin) * parts / batch.tokens + 1) * batch.tokens / parts;
  int64_t end = begin + 1;
  while (end < batch.sequences && (offset(end) < limit || offset(end) == batch.tokens)) ++end;
  return end;
}

void check_batch_size(int64_t sequences, int64_t columns) {
  if (columns > INT32_MAX / sequences)
    throw Error(Error::Kind::input, "the batch is too large: shape [" + std::to_string(sequences) + ", " +
                                        std::to_string(columns) + "], at most 2^31 - 1 tokens");
}

class OpTimer {
 public:
  explicit OpTimer(double* seconds) : seconds_(seconds) {
    if (seconds_ != nullptr) begin_ = std::chrono::steady_clock::now();
  }
  ~OpTimer() {
    if (seconds_ != nullptr)
      *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  double* seconds_;
  std::chrono::steady_clock::time_point begin_;
};

// A batch of twice as many tokens or more is run in parts of about so many: from 512 to 1024 on, two threads have work
// enough and the activations between ops fit into caches (docs/performance.md).
constexpr int64_t kPartTokens = 1024;

}  // namespace

Session::Session(const std::string& directory, const SessionOptions& options)
    : model_(std::make_unique<ModelFile>(directory)),
      threads_(options.threads > 0 ? options.threads : available_cpus()),
      isa_(selected_isa()),
      profile_(options.profile) {
  if (options.threads < 0 || options.threads > kMaxThreads)
    throw Error(Error::Kind::input, "threads must be from 0 to " + std::to_string(kMaxThreads) + ", not " +
                                        std::to_string(options.threads));
  keep_.assign(model_->values().size(), false);
  for (const std::string& name : options.keep) {
    bool found = name == "*";
    for (size_t v = 0; v < keep_.size(); ++v)
      if (name == "*" || model_->values()[v].name == name) {
        keep_[v] = true;
        found = true;
      }
    if (!found) throw Error(Error::Kind::input, "no value '" + name + "' to keep");
    keeps_ = true;
  }

  std::map<int, std::vector<int32_t> Batch::*> token_arrays;
  for (const NodeInfo& node : model_->nodes()) {
    if (node.outputs.empty()) node.fail("has no outputs");
    if (!node.traits->graph_inputs) continue;
    if (node.attr("padding_id") != nullptr) padding_id_ = node.attr_int("padding_id", 0, 0, INT32_MAX);
    const auto positions = padding_id_ < 0 ? &Batch::positions : &Batch::counted_positions;
    for (size_t i = 0; i < node.outputs.size(); ++i)
      token_arrays[node.outputs[i]] = i == 0 ? &Batch::ids : i == 1 ? positions : &Batch::types;
  }
  const OpContext op_context = {model_->values(), isa_, options.execution, token_arrays, weights_};
  for (const NodeInfo& node : model_->nodes()) ops_.push_back(node.traits->make(node, op_context));
  plan_ = make_plan(*model_, token_arrays, keep_);
  costs_ = tile_costs();
  narrows_ = costs_.narrow || has_light_weights();
  set_output_sizes();
  profile_data_.resize(ops_.size());
  model_->drop_pages();  // what is packed is not needed any more
}

std::vector<OpInfo> Session::op_infos() const {
  std::vector<OpInfo> infos;
  for (const auto& op : ops_) infos.push_back(op->info());
  return infos;
}

// True if the weights take half of the bytes or less that they would take in dense s8: then each thread may read all of
// them for few tokens of its own. Dense ones it had better share with others, since memory is what takes time.
bool Session::has_light_weights() const {
  double read = 0, dense = 0;
  for (const OpInfo& info : op_infos()) {
    read += static_cast<double>(info.read_bytes);
    dense += static_cast<double>(info.weights);
  }
  return read <= dense / 2;
}

// What tiles of tokens cost: the mean over their linears, by multiply-accumulates.
TileCosts Session::tile_costs() const {
  TileCosts total = {0, 0, 0, 0, 0, true};
  constexpr double TileCosts::* kParts[] = {&TileCosts::w32, &TileCosts::w16, &TileCosts::few, &TileCosts::each,
                                            &TileCosts::split};
  double macs = 0;
  for (size_t op = 0; op < ops_.size(); ++op) {
    const OpInfo info = ops_[op]->info();
    const bool of_tokens = model_->values()[static_cast<size_t>(model_->nodes()[op].outputs[0])].space == Space::tokens;
    if (info.macs_per_token <= 0 || !of_tokens) continue;
    macs += info.macs_per_token;
    for (const auto part : kParts) total.*part += info.costs.*part * info.macs_per_token;
    total.narrow = total.narrow && info.costs.narrow;
  }
  if (macs <= 0) return {0.5, 0.25, 0, 0, 0, true};
  for (const auto part : kParts) total.*part /= macs;
  return total;
}

// What the file says about the shape of each output is what a run will give: the batch, perhaps the sequence, and
// sizes.
void Session::set_output_sizes() {
  Context context;
  context.batch.sequences = context.batch.columns = -1;  // stands for a symbolic size
  for (size_t i = 0; i < model_->outputs().size(); ++i) {
    const OutputInfo& output = model_->outputs()[i];
    const std::vector<int64_t> shape = output_shape(context, i);
    bool equal = shape.size() == output.dims.size();
    for (size_t d = 0; equal && d < shape.size(); ++d) {
      const bool symbolic = output.dims[d].find_first_not_of("0123456789") != std::string::npos;
      equal = shape[d] < 0 ? symbolic : output.dims[d] == std::to_string(shape[d]);
    }
    if (!equal) throw Error(Error::Kind::graph, "output '" + output.name + "' has wrong dims");
    OutputSize size = {1, shape.size() > 1 && shape[1] < 0};
    bool known = !shape.empty() && shape[0] < 0;
    for (size_t d = size.per_column ? 2 : 1; d < shape.size(); ++d) {
      known = known && shape[d] >= 0;
      size.elements *= shape[d];
    }
    if (!known)
      throw Error(Error::Kind::graph, "output '" + output.name + "' is not [batch, ...] or [batch, sequence, ...]");
    output_sizes_.push_back(size);
  }
}

std::unique_ptr<Context> Session::take() {
  {
    const std::lock_guard<std::mutex> lock(sessions_mutex);
    if (!free_.empty()) {
      std::unique_ptr<Context> context = std::move(free_.back());
      free_.pop_back();
      return context;
    }
    free_.reserve(++contexts_);  // give() cannot fail
  }
  auto context = std::make_unique<Context>();
  context->threads.resize(static_cast<size_t>(threads_));
  const size_t local_bytes = align_up(static_cast<size_t>(plan_.local_bytes));
  context->locals = AlignedBuffer(local_bytes * context->threads.size());
  for (size_t i = 0; i < context->threads.size(); ++i) {
    Context::Thread& thread = context->threads[i];
    thread.local = context->locals.data() + i * local_bytes;
    if (profile_) thread.seconds.assign(ops_.size(), 0.0);
  }
  context->counters = std::vector<Context::Counter>(plan_.segments.size());
  context->barrier = std::make_unique<SpinBarrier>(threads_);
  context->memory.base.resize(model_->values().size());
  context->memory.local.assign(model_->values().size(), -1);
  for (size_t v = 0; v < plan_.places.size(); ++v)
    if (plan_.places[v].kind == Place::Kind::local) context->memory.local[v] = plan_.places[v].offset;
  return context;
}

void Session::give(std::unique_ptr<Context> context) {
  const std::lock_guard<std::mutex> lock(sessions_mutex);
  free_.push_back(std::move(context));
}

Session::Lease::Lease(Session& session) : session_(session), context_(session.take()) {}
Session::Lease::~Lease() { session_.give(std::move(context_)); }

void Session::set_padded(Context& context, const IntArray& ids, const IntArray& mask, const IntArray& types) const {
  Batch& batch = context.batch;
  if (ids.sequences < 1 || ids.columns < 1)
    throw Error(Error::Kind::input, "the batch is empty: shape [" + std::to_string(ids.sequences) + ", " +
                                        std::to_string(ids.columns) + "]");
  check_batch_size(ids.sequences, ids.columns);
  start_batch(batch, ids.sequences, ids.sequences * ids.columns);
  batch.columns = ids.columns;
  for (int64_t b = 0; b < ids.sequences; ++b) {
    const auto begin = static_cast<size_t>(batch.offsets.back());
    if (mask.data == nullptr) {
      for (int64_t c = 0; c < ids.columns; ++c) batch.positions.push_back(static_cast<int32_t>(c));
    } else {
      read_as(mask, [&](const auto* elements) {
        elements += b * ids.columns;
        for (int64_t c = 0; c < ids.columns; ++c) {
          if (elements[c] == 0) continue;
          if (elements[c] != 1)
            throw Error(Error::Kind::input, "attention mask value " + std::to_string(elements[c]) + " at row " +
                                                std::to_string(b) + ", column " + std::to_string(c) +
                                                " is neither 0 nor 1");
          batch.positions.push_back(static_cast<int32_t>(c));
        }
      });
    }
    const int32_t* columns = batch.positions.data() + begin;
    const auto count = static_cast<int64_t>(batch.positions.size() - begin);
    read_as(ids, [&](const auto* elements) {
      elements += b * ids.columns;
      append(elements, columns, count, batch.ids, batch.wide_id);
      if (padding_id_ >= 0) append_counted(elements, ids.columns, padding_id_, columns, count, batch.counted_positions);
    });
    if (types.data != nullptr)
      read_as(types, [&](const auto* elements) {
        append(elements + b * ids.columns, columns, count, batch.types, batch.wide_type);
      });
    batch.offsets.push_back(static_cast<int64_t>(batch.ids.size()));
    batch.longest = std::max(batch.longest, count);
  }
  batch.tokens = batch.offsets.back();
  if (types.data == nullptr) batch.types.assign(batch.ids.size(), 0);
}

void Session::set_ragged(Context& context, const std::vector<IntSpan>& ids, const std::vector<IntSpan>& types) const {
  Batch& batch = context.batch;
  if (ids.empty()) throw Error(Error::Kind::input, "the batch is empty");
  if (!types.empty() && types.size() != ids.size())
    throw Error(Error::Kind::input, "token types for " + std::to_string(types.size()) + " sequences, ids for " +
                                        std::to_string(ids.size()));
  int64_t tokens = 0;
  for (size_t b = 0; b < ids.size(); ++b) {
    if (ids[b].length < 1) throw Error(Error::Kind::input, "sequence " + std::to_string(b) + " is empty");
    if (!types.empty() && types[b].length != ids[b].length)
      throw Error(Error::Kind::input, "sequence " + std::to_string(b) + " has " + std::to_string(ids[b].length) +
                                          " ids but " + std::to_string(types[b].length) + " token types");
    check_batch_size(1, ids[b].length);
    tokens += ids[b].length;
    check_batch_size(1, tokens);
  }
  start_batch(batch, static_cast<int64_t>(ids.size()), tokens);
  for (size_t b = 0; b < ids.size(); ++b) {
    const auto begin = static_cast<size_t>(batch.offsets.back());
    const int64_t count = ids[b].length;
    for (int64_t c = 0; c < count; ++c) batch.positions.push_back(static_cast<int32_t>(c));
    const int32_t* columns = batch.positions.data() + begin;
    read_as(ids[b], [&](const auto* elements) {
      append(elements, columns, count, batch.ids, batch.wide_id);
      if (padding_id_ >= 0) append_counted(elements, count, padding_id_, columns, count, batch.counted_positions);
    });
    if (!types.empty())
      read_as(types[b], [&](const auto* elements) { append(elements, columns, count, batch.types, batch.wide_type); });
    batch.offsets.push_back(static_cast<int64_t>(batch.ids.size()));
    batch.longest = std::max(batch.longest, count);
  }
  batch.columns = batch.longest;
  batch.tokens = tokens;
  if (types.empty()) batch.types.assign(batch.ids.size(), 0);
}

std::vector<int64_t> Session::output_shape(const Context& context, size_t output) const {
  for (size_t op = 0; op < ops_.size(); ++op)
    if (model_->nodes()[op].outputs[0] == model_->outputs()[output].value) return ops_[op]->output_shape(context.batch);
  return {};
}

// Makes room for parts of a batch with up to so many tokens.
void Session::reserve(Context& context, const Batch& batch, int64_t tokens) const {
  size_t bytes = 0;
  for (const Slot& slot : plan_.slots) {
    const int64_t columns = slot.space == Space::sequences ? batch.sequences : tokens;
    bytes += align_up(static_cast<size_t>(slot.column_bytes * padded_tokens(columns)));
  }
  size_t scratch = 0;
  for (const auto& op : ops_) scratch = std::max(scratch, op->scratch_bytes(batch));
  try {
    context.arena.reserve(bytes);
    for (Context::Thread& thread : context.threads) thread.scratch.reserve(scratch);
  } catch (const std::bad_alloc&) {
    fail_memory(batch.sequences, batch.tokens, bytes + scratch * context.threads.size());
  }
}

void Session::prepare(Context& context, const Batch& batch, float* const* outputs) const {
  Memory& memory = context.memory;
  memory.batch = &batch;
  size_t bytes = 0;
  std::vector<size_t>& begins = context.slot_begins;
  begins.clear();
  for (const Slot& slot : plan_.slots) {
    begins.push_back(bytes);
    bytes += align_up(static_cast<size_t>(slot.column_bytes * padded_tokens(batch.count(slot.space))));
  }
  for (size_t v = 0; v < plan_.places.size(); ++v) {
    const Place& place = plan_.places[v];
    switch (place.kind) {
      case Place::Kind::shared:
        memory.base[v] = context.arena.data() + begins[static_cast<size_t>(place.slot)];
        break;
      case Place::Kind::batch:
        memory.base[v] = reinterpret_cast<uint8_t*>(const_cast<int32_t*>((batch.*place.array).data()));
        break;
      case Place::Kind::output:
        memory.base[v] = reinterpret_cast<uint8_t*>(outputs[place.output]);
        break;
      case Place::Kind::local:
      case Place::Kind::none:
        break;
    }
  }
  context.wanted = 0;
  for (size_t o = 0; o < model_->outputs().size(); ++o)
    if (outputs[o] != nullptr) context.wanted |= output_bit(o);
  context.whole[0] = share_tiles(batch.tiling(Space::tokens), threads_, costs_).whole;
  context.whole[1] = share_tiles(batch.tiling(Space::sequences), threads_, costs_).whole;
  for (Context::Counter& counter : context.counters) counter.next.store(0, std::memory_order_relaxed);
}

// False for an op that the wanted outputs do not need, and for one that would write an output which is not among them.
bool Session::wants(const Context& context, size_t op) const {
  const auto first = static_cast<size_t>(model_->nodes()[op].outputs[0]);
  if (plan_.places[first].kind == Place::Kind::output) return context.memory.base[first] != nullptr;
  return (plan_.serves[op] & context.wanted) != 0;
}

void Session::run_tiles(Context& context, const Segment& segment, size_t index, int thread, int threads) const {
  const Tiling tiling = context.memory.batch->tiling(segment.space);
  const int64_t columns = tiling.tokens, tiles = tile_count(tiling),
                whole = context.whole[segment.space == Space::sequences ? 1 : 0];
  Context::Thread& own = context.threads[static_cast<size_t>(thread)];
  const auto run_op = [&](int op, Tile tile, uint8_t* local, int part, int parts, int64_t next) {
    if (!wants(context, static_cast<size_t>(op))) return;
    const OpTimer timer(profile_ ? &own.seconds[static_cast<size_t>(op)] : nullptr);
    ops_[static_cast<size_t>(op)]->run_tile(
        {context.memory, tile, columns, local, own.scratch.data(), part, parts, next});
  };
  while (true) {
    const int64_t i = context.counters[index].next.fetch_add(1, std::memory_order_relaxed);
    if (i >= whole) break;
    const bool wide = tiling.width == kTileWidth && (i + threads + 1) * kTileWidth <= columns && i + threads < whole;
    const int64_t next = wide ? (i + threads) * kTileWidth : -1;
    for (const int op : segment.ops) run_op(op, tile_at(tiling, i), own.local, 0, 1, next);
  }
  if (whole == tiles) return;
  context.barrier->wait();  // the local buffers of other threads are used from here on
  for (const int op : segment.ops) {
    const bool splits = ops_[static_cast<size_t>(op)]->splits();
    for (int64_t i = whole; i < tiles; ++i) {
      uint8_t* local = context.threads[static_cast<size_t>((i - whole) % threads)].local;
      if (splits)
        run_op(op, tile_at(tiling, i), local, thread, threads, -1);
      else if ((i - whole) % threads == thread)
        run_op(op, tile_at(tiling, i), local, 0, 1, -1);
    }
    if (op != segment.ops.back()) context.barrier->wait();
  }
}

void Session::run_thread(Context& context, int thread, int threads) const {
  bool first = true;
  for (size_t s = 0; s < plan_.segments.size(); ++s) {
    const Segment& segment = plan_.segments[s];
    if ((segment.serves & context.wanted) == 0) continue;
    if (!first && threads > 1) context.barrier->wait();
    first = false;
    if (segment.token_wise) {
      run_tiles(context, segment, s, thread, threads);
      continue;
    }
    const auto op = static_cast<size_t>(segment.ops[0]);
    if (!wants(context, op)) continue;
    Context::Thread& own = context.threads[static_cast<size_t>(thread)];
    const OpTimer timer(profile_ ? &own.seconds[op] : nullptr);
    const int64_t units = ops_[op]->units(*context.memory.batch);
    while (true) {
      const int64_t unit = context.counters[s].next.fetch_add(1, std::memory_order_relaxed);
      if (unit >= units) break;
      ops_[op]->run_unit({context.memory, own.scratch.data(), unit});
    }
  }
}

void Session::run(Context& context, float* const* outputs) {
  const Batch& batch = context.batch;
  for (const auto& op : ops_) op->check(batch);
  const int64_t parts = keeps_ ? 1 : std::min(batch.tokens / kPartTokens, batch.sequences);
  if (parts <= 1) {
    reserve(context, batch, batch.tokens);
    run_batch(context, context.batch, outputs);
    return;
  }
  // No part is run before there is memory for all of them, and for a smaller batch that is not cut.
  int64_t most = 2 * kPartTokens - 1;
  for (int64_t begin = 0; begin < batch.sequences;) {
    const int64_t end = part_end(batch, begin, parts);
    most = std::max(most, batch.offsets[static_cast<size_t>(end)] - batch.offsets[static_cast<size_t>(begin)]);
    begin = end;
  }
  reserve(context, batch, most);
  context.part_outputs.resize(model_->outputs().size());
  for (int64_t begin = 0; begin < batch.sequences;) {
    const int64_t end = part_end(batch, begin, parts);
    take_sequences(batch, begin, end, context.part);
    for (size_t o = 0; o < context.part_outputs.size(); ++o) {
      const OutputSize& size = output_sizes_[o];
      const int64_t elements = size.elements * (size.per_column ? batch.columns : 1);
      context.part_outputs[o] = outputs[o] == nullptr ? nullptr : outputs[o] + elements * begin;
    }
    run_batch(context, context.part, context.part_outputs.data());
    begin = end;
  }
}

void Session::run_batch(Context& context, Batch& batch, float* const* outputs) {
  batch.tile_width = narrows_ ? best_tile_width(batch.tokens, threads_, costs_) : kTileWidth;
  prepare(context, batch, outputs);
  ThreadPool::process().run(threads_, [&](int thread) { run_thread(context, thread, threads_); });
  if (profile_) add_profile(context);
}

std::vector<float> Session::kept(const Context& context, const std::string& name) const {
  size_t v = 0;
  while (v < model_->values().size() && model_->values()[v].name != name) ++v;
  if (v == model_->values().size() || !keep_[v] || plan_.places[v].kind != Place::Kind::shared)
    throw Error(Error::Kind::input, "value '" + name + "' was not kept");
  const ValueInfo& value = model_->values()[v];
  const Tiling tiling = context.memory.batch->tiling(value.space);
  const int64_t columns = tiling.tokens, channels = value.channels;
  const uint8_t* base = context.memory.base[v];
  std::vector<float> rows(static_cast<size_t>(columns * channels));
  for (int64_t i = 0; i < tile_count(tiling); ++i) {
    const Tile tile = tile_at(tiling, i);
    const int64_t stride = value.is_scale ? 1 : channel_stride(channels);
    for (int64_t t = tile.begin; t < std::min(columns, tile.begin + tile.width); ++t)
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t element = tile.begin * stride + c * tile.width + (t - tile.begin);
        rows[static_cast<size_t>(t * channels + c)] = value.dtype == DType::u8
                                                          ? static_cast<float>(base[element])
                                                          : reinterpret_cast<const float*>(base)[element];
      }
  }
  return rows;
}

void Session::add_profile(Context& context) {
  const std::lock_guard<std::mutex> lock(sessions_mutex);
  for (size_t op = 0; op < ops_.size(); ++op) {
    for (Context::Thread& thread : context.threads) {
      profile_data_[op].seconds += thread.seconds[op];
      thread.seconds[op] = 0;
    }
    const Space space = model_->values()[static_cast<size_t>(model_->nodes()[op].outputs[0])].space;
    if (!wants(context, op)) continue;
    const Batch& batch = *context.memory.batch;
    profile_data_[op].macs +=
        ops_[op]->macs(batch) + ops_[op]->info().macs_per_token * static_cast<double>(batch.count(space));
  }
}

std::vector<OpProfile> Session::profile() const {
  const std::lock_guard<std::mutex> lock(sessions_mutex);
  return profile_data_;
}

void Session::reset_profile() {
  const std::lock_guard<std::mutex> lock(sessions_mutex);
  profile_data_.assign(profile_data_.size(), {});
}

}  // namespace fastcpu
