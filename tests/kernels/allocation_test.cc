// After a run of the largest batch, 10,000 runs of other shapes, padded and ragged, take no memory from the system.
// Every way to allocate is counted, in all threads; under a sanitizer, which has its own, the runs alone are made.
#include <malloc.h>

#include <atomic>
#include <cstdlib>

#include "runtime/session.h"
#include "tiny_model.h"

namespace {

std::atomic<long> allocations{0};
std::atomic<bool> counting{false};

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
// Those of the C library, which operator new calls too.
static void count() {
  if (counting) ++allocations;
}

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

__attribute__((visibility("default"))) void* malloc(size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
__attribute__((visibility("default"))) void* calloc(size_t number, size_t bytes) {
  count();
  return __libc_calloc(number, bytes);
}
__attribute__((visibility("default"))) void* realloc(void* old, size_t bytes) {
  count();
  return __libc_realloc(old, bytes);
}
__attribute__((visibility("default"))) void* aligned_alloc(size_t alignment, size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}
__attribute__((visibility("default"))) int posix_memalign(void** out, size_t alignment, size_t bytes) {
  count();
  *out = __libc_memalign(alignment, bytes);
  return *out == nullptr ? 12 : 0;
}
}
constexpr bool kCounted = true;
#else
constexpr bool kCounted = false;
#endif

namespace fastcpu::test {
namespace {

constexpr int kRuns = 10000;
constexpr int64_t kRows = 40, kRowsInParts = 180, kMostColumns = 24;  // the second is more than one part (Session::run)

// Without allocations of its own: what it needs is as large as it will get.
struct Caller {
  Caller(Session& session_, const TinyBatch& batch_, int64_t most_rows) : session(session_), batch(batch_) {
    const Session::Lease context(session);
    set_padded(*context, most_rows, kMostColumns);
    for (size_t i = 0; i < session.model().outputs().size(); ++i) {
      int64_t size = 1;
      for (const int64_t d : session.output_shape(*context, i)) size *= d;
      answers.emplace_back(static_cast<size_t>(size));
      pointers.push_back(answers.back().data());
    }
    spans.reserve(static_cast<size_t>(most_rows));
  }

  void set_padded(Context& context, int64_t rows, int64_t columns) {
    session.set_padded(context, {batch.ids.data(), 8, rows, columns}, {batch.mask.data(), 8, rows, columns}, {});
  }

  void set_ragged(Context& context, int64_t rows, Random& random) {
    spans.clear();
    for (int64_t r = 0; r < rows; ++r)
      spans.push_back({batch.ids.data() + r * kMostColumns, 8, random.integer(1, static_cast<int>(kMostColumns))});
    session.set_ragged(context, spans, {});
  }

  Session& session;
  const TinyBatch& batch;
  std::vector<std::vector<float>> answers;
  std::vector<float*> pointers;
  std::vector<IntSpan> spans;
};

void check(const char* golden, int threads, int64_t most_rows, int runs, Report& report) {
  SessionOptions options;
  options.threads = threads;
  Session session(golden, options);
  TinyBatch batch(most_rows, kMostColumns, 1);
  std::fill(batch.mask.begin(), batch.mask.end(), 1);  // so that the warm-up has the most tokens
  Caller caller(session, batch, most_rows);
  Random random(report.seed());
  const auto one_run = [&](int64_t rows, int64_t columns) {
    const Session::Lease context(session);
    if (columns > 0)
      caller.set_padded(*context, rows, columns);
    else
      caller.set_ragged(*context, rows, random);
    session.run(*context, caller.pointers.data());
  };
  one_run(most_rows, kMostColumns);
  allocations = 0;
  counting = true;
  for (int i = 0; i < runs; ++i)
    one_run(random.integer(1, static_cast<int>(most_rows)), random.integer(0, static_cast<int>(kMostColumns)));
  counting = false;
  report.check(allocations == 0, "%s, %d threads, up to %d rows: %ld allocations in %d runs after the warm-up", golden,
               threads, static_cast<int>(most_rows), allocations.load(), runs);
}

int run_test(uint64_t seed) {
  Report report(seed);
  counting = true;
  void* volatile memory = std::malloc(1);
  std::free(memory);
  counting = false;
  report.check(allocations == (kCounted ? 1 : 0), "an allocation was counted %ld times", allocations.load());
  for (const char* golden : kGolden)
    for (const int threads : {1, 2}) {
      check(golden, threads, kRows, golden == kGolden[1] ? kRuns : kRuns / 10, report);
      check(golden, threads, kRowsInParts, kRuns / 20, report);
    }
  return report.finish("allocation");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
