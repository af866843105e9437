#include "training/attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

#include "attention_training/attention_training.h"
#include "base/buffer.h"
#include "base/manifest.h"
#include "training/team.h"

namespace fastcpu {
namespace {

// Scratch memory of each thread, for one call at a time.
class Workspace {
 public:
  Workspace(int threads, size_t floats) : lock_(mutex) {
    if (static_cast<int>(scratch.size()) < threads) scratch.resize(static_cast<size_t>(threads));
    for (int thread = 0; thread < threads; ++thread)
      scratch[static_cast<size_t>(thread)].reserve(floats * sizeof(float));
  }
  float* of(int thread) const { return scratch[static_cast<size_t>(thread)].as<float>(); }

 private:
  static inline std::mutex mutex;
  static inline std::vector<AlignedBuffer> scratch;
  const std::lock_guard<std::mutex> lock_;
};

// Calls body(head, scratch) for every head of every sequence; at(pointer) is where the head begins in an array.
template <class Body>
void for_each_head(const AttentionBatch& batch, int threads, Body body) {
  const Workspace workspace(threads, attention_training_scratch(static_cast<int>(batch.sequence), batch.channels));
  const int64_t pitch = int64_t{batch.heads} * batch.channels;
  std::atomic<int64_t> next{0};
  run_on_team(threads, [&](int thread) {
    while (true) {
      const int64_t sequence = next.fetch_add(1, std::memory_order_relaxed);
      if (sequence >= batch.batch) return;
      for (int number = 0; number < batch.heads; ++number) {
        const int64_t element = sequence * batch.sequence * pitch + int64_t{number} * batch.channels;
        const int64_t offset = element * (batch.bf16 ? 2 : 4);
        const auto in = [&](const void* array) { return static_cast<const char*>(array) + offset; };
        const auto out = [&](void* array) { return static_cast<char*>(array) + offset; };
        TrainingHead head{};
        head.tokens = static_cast<int>(batch.lengths[sequence]);
        head.channels = batch.channels;
        head.scale = batch.scale;
        head.bf16 = batch.bf16;
        head.pitch = pitch;
        head.q = in(batch.q);
        head.k = in(batch.k);
        head.v = in(batch.v);
        body(head, in, out, workspace.of(thread));
      }
    }
  });
}

void clear_padding(const AttentionBatch& batch, void* array) {
  const int64_t row = int64_t{batch.heads} * batch.channels * (batch.bf16 ? 2 : 4);
  for (int64_t i = 0; i < batch.batch; ++i)
    std::memset(static_cast<char*>(array) + (i * batch.sequence + batch.lengths[i]) * row, 0,
                static_cast<size_t>((batch.sequence - batch.lengths[i]) * row));
}

const AttentionTrainingKernel& kernel() { return select(attention_training_manifest(), selected_isa()); }

}  // namespace

void attention_forward(const AttentionBatch& batch, void* o, int threads) {
  const AttentionTrainingKernel& chosen = kernel();
  clear_padding(batch, o);
  for_each_head(batch, threads, [&](TrainingHead& head, auto, auto out, float* scratch) {
    head.o = out(o);
    chosen.forward(head, scratch);
  });
}

void attention_backward(const AttentionBatch& batch, const void* gradient, void* dq, void* dk, void* dv, int threads) {
  const AttentionTrainingKernel& chosen = kernel();
  for (void* array : {dq, dk, dv}) clear_padding(batch, array);
  for_each_head(batch, threads, [&](TrainingHead& head, auto in, auto out, float* scratch) {
    head.gradient = in(gradient);
    head.dq = out(dq);
    head.dk = out(dk);
    head.dv = out(dv);
    chosen.backward(head, scratch);
  });
}

}  // namespace fastcpu
