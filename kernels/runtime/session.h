// A model that is ready to run.
//
// A Session is immutable after it is opened: packed weights, ops and the plan. Everything that changes during a run
// lives in a Context (buffers, batch, counters), taken from a free list, so any number of threads may run one session
// at once. Buffers grow by doubling where there is memory and are kept: after warm-up at a size no run allocates.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "runtime/planner.h"
#include "runtime/thread_pool.h"

namespace fastcpu {

constexpr int kMaxThreads = 1024;

struct SessionOptions {
  int threads = 0;  // up to kMaxThreads; 0: all CPUs available to the process
  Execution execution = Execution::automatic;
  std::vector<std::string> keep;  // values readable after a run, for calibration and tests; "*" for all
  bool profile = false;
};

// A caller's integer array of [sequences, columns], row-major.
struct IntArray {
  const void* data = nullptr;
  int bytes = 8;  // per element: 1, 2, 4 or 8
  int64_t sequences = 0, columns = 0;
  bool is_unsigned = false;
};

// One sequence of a ragged batch.
struct IntSpan {
  const void* data = nullptr;
  int bytes = 8;  // per element: 1, 2, 4 or 8
  int64_t length = 0;
  bool is_unsigned = false;
};

struct OpProfile {
  double seconds = 0;  // summed over threads
  double macs = 0;
};

class Context {
 public:
  Batch batch;

 private:
  friend class Session;
  Batch part;  // some sequences of a large batch
  struct Thread {
    uint8_t* local = nullptr;  // of `locals`
    AlignedBuffer scratch;
    std::vector<double> seconds;  // per op, when profiling
  };
  struct alignas(64) Counter {
    std::atomic<int64_t> next{0};
  };
  Memory memory;
  AlignedBuffer arena, locals;
  std::vector<size_t> slot_begins;
  std::vector<float*> part_outputs;
  std::vector<Thread> threads;
  std::vector<Counter> counters;  // per segment
  int64_t whole[2] = {};          // share_tiles() of the batch's tokens and sequences
  uint64_t wanted = 0;            // output_bit() of each output with a pointer
  std::unique_ptr<SpinBarrier> barrier;
};

class Session {
 public:
  Session(const std::string& directory, const SessionOptions& options);

  const ModelFile& model() const { return *model_; }
  int threads() const { return threads_; }
  Isa isa() const { return isa_; }
  const Plan& plan() const { return plan_; }
  std::vector<OpInfo> op_infos() const;

  class Lease {  // returns its context when it goes out of scope
   public:
    explicit Lease(Session& session);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Context& operator*() const { return *context_; }
    Context* operator->() const { return context_.get(); }

   private:
    Session& session_;
    std::unique_ptr<Context> context_;
  };

  // Fills context.batch; mask (of 0 and 1) and types may be empty (data == nullptr). Throws Error(input).
  void set_padded(Context& context, const IntArray& ids, const IntArray& mask, const IntArray& types) const;
  void set_ragged(Context& context, const std::vector<IntSpan>& ids, const std::vector<IntSpan>& types) const;

  // Shape of an output for the context's batch.
  std::vector<int64_t> output_shape(const Context& context, size_t output) const;
  // Runs the batch; outputs[i] has the size of output_shape(i) and receives f32, or is nullptr for an output that is
  // not wanted. What only such outputs need is not computed. A large batch is run some sequences at a time, through all
  // layers, so that what lies between ops stays in caches and does not grow with the batch.
  void run(Context& context, float* const* outputs);
  // A kept value after run(), as [columns, channels] row-major: f32, or the codes of a u8 value converted to f32.
  std::vector<float> kept(const Context& context, const std::string& value) const;

  // Adds up since the session was opened with profile = true.
  std::vector<OpProfile> profile() const;
  void reset_profile();

 private:
  struct OutputSize {  // of one sequence
    int64_t elements;
    bool per_column;  // so many for each column
  };

  bool has_light_weights() const;
  TileCosts tile_costs() const;
  void set_output_sizes();
  std::unique_ptr<Context> take();
  void give(std::unique_ptr<Context> context);
  void reserve(Context& context, const Batch& batch, int64_t tokens) const;
  void run_batch(Context& context, Batch& batch, float* const* outputs);
  void prepare(Context& context, const Batch& batch, float* const* outputs) const;
  bool wants(const Context& context, size_t op) const;
  void run_thread(Context& context, int thread, int threads) const;
  void run_tiles(Context& context, const Segment& segment, size_t index, int thread, int threads) const;
  void add_profile(Context& context);

  std::unique_ptr<ModelFile> model_;
  int threads_;
  Isa isa_;
  bool profile_;
  TileCosts costs_ = {};
  bool narrows_ = false;     // whether tiles may be narrower than they need be
  int64_t padding_id_ = -1;  // of unpad, or -1
  Arena weights_;            // as the ops have packed them
  std::vector<std::unique_ptr<Op>> ops_;
  Plan plan_;
  std::vector<OutputSize> output_sizes_;
  std::vector<bool> keep_;
  bool keeps_ = false;   // any value
  size_t contexts_ = 0;  // made so far
  std::vector<std::unique_ptr<Context>> free_;
  std::vector<OpProfile> profile_data_;
};

}  // namespace fastcpu
