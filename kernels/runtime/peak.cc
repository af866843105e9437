#include "runtime/peak.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"
#include "base/manifest.h"
#include "runtime/thread_pool.h"

namespace fastcpu {
namespace {

constexpr double kSeconds = 0.06;     // of one figure
constexpr double kRunSeconds = 4e-4;  // of one run: mostly shorter than what the system gives a thread at a time
constexpr size_t kPage = 4096, kChunk = size_t{1} << 20;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// All threads call work(thread, begin, rounds), which returns the amount that it did, over and over; each thread's best
// rate counts, and the sum is returned. `begin` counts the rounds done before.
template <class Work>
double best_rate(int threads, const Work& work) {
  std::vector<double> best(static_cast<size_t>(threads));
  ThreadPool::process().run(threads, [&](int thread) {
    const double end = now() + kSeconds;
    int64_t begin = 0, rounds = 1;
    for (double before = now(), after = before; before < end; before = after) {
      const double amount = work(thread, begin, rounds);
      after = now();
      double& rate = best[static_cast<size_t>(thread)];
      begin += rounds;
      if (after - before >= kRunSeconds / 2)
        rate = std::max(rate, amount / (after - before));
      else
        rounds *= 2;
    }
  });
  return std::accumulate(best.begin(), best.end(), 0.0);
}

// Bytes of a cache, or `fallback` where the system does not say; a multiple of the page size.
size_t cache_bytes(int name, size_t fallback) {
  const long bytes = sysconf(name);
  return std::max(bytes > 0 ? static_cast<size_t>(bytes) : fallback, kPage) / kPage * kPage;
}

double read_rate(const PeakKernel& kernel, int threads, size_t bytes) {
  std::vector<AlignedBuffer> buffers(static_cast<size_t>(threads));
  for (AlignedBuffer& buffer : buffers) buffer = AlignedBuffer(bytes);
  // A page that was never written is one and the same page of zeros.
  ThreadPool::process().run(threads, [&](int thread) {
    uint8_t* data = buffers[static_cast<size_t>(thread)].data();
    for (size_t i = 0; i < bytes; i += kPage) data[i] = 1;
  });
  const size_t chunk = std::min(bytes, kChunk);
  const auto chunks = static_cast<int64_t>(bytes / chunk);
  return best_rate(threads, [&](int thread, int64_t begin, int64_t rounds) {
    const uint8_t* data = buffers[static_cast<size_t>(thread)].data();
    for (int64_t i = begin; i < begin + rounds; ++i) kernel.read(data + static_cast<size_t>(i % chunks) * chunk, chunk);
    return static_cast<double>(rounds) * static_cast<double>(chunk);
  });
}

}  // namespace

Peak measure_peak(Isa isa, int threads) {
  if (threads < 0 || threads > 1024)
    throw Error(Error::Kind::input, "threads must be from 1 to 1024, not " + std::to_string(threads));
  if (threads == 0) threads = available_cpus();
  const PeakKernel& kernel = select(peak_manifest(), isa);
  // Half of an L2 is well beyond L1 and leaves room for whatever else lies there. Memory: four times the L3 in all, but
  // not so much that filling it takes long.
  const size_t l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, size_t{512} << 10) / 2 / kPage * kPage;
  const size_t l3 = cache_bytes(_SC_LEVEL3_CACHE_SIZE, size_t{32} << 20);
  const size_t memory = std::clamp(4 * l3, size_t{64} << 20, size_t{192} << 20) / static_cast<size_t>(threads);
  return {&kernel,
          threads,
          best_rate(threads, [&](int, int64_t, int64_t rounds) { return kernel.int8(rounds); }),
          best_rate(threads, [&](int, int64_t, int64_t rounds) { return kernel.f32(rounds); }),
          read_rate(kernel, threads, std::max(l2, kPage)),
          read_rate(kernel, threads, std::max(memory / kPage * kPage, kPage))};
}

}  // namespace fastcpu
