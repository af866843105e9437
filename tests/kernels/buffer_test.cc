// AlignedBuffer: alignment, growth, and growth where memory is short. Arena: buffers that do not overlap.
#include "base/buffer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "oracle.h"

namespace fastcpu::test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

bool can_reserve(AlignedBuffer& buffer, size_t bytes) {
  try {
    buffer.reserve(bytes);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void check_growth(Report& report) {
  AlignedBuffer buffer;
  report.check(buffer.size() == 0 && buffer.data() == nullptr, "a new buffer is not empty");
  for (const auto& [bytes, expected] : {std::pair<size_t, size_t>(0, 0),
                                        {1, 64},
                                        {64, 64},
                                        {65, 128},
                                        {1000, 1024},
                                        {1025, 2048},
                                        {10, 2048},
                                        {10000, 10048}}) {
    buffer.reserve(bytes);
    report.check(buffer.size() == expected, "reserve(%zu): %zu bytes, expected %zu", bytes, buffer.size(), expected);
    report.check(reinterpret_cast<uintptr_t>(buffer.data()) % kAlignment == 0, "reserve(%zu): not aligned", bytes);
    if (expected > 0) buffer.data()[expected - 1] = 1;
  }
  bool refused = false;
  try {
    AlignedBuffer(SIZE_MAX);
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  report.check(refused, "SIZE_MAX bytes are not refused");
}

// Sanitizers map address space as they like and cannot be limited.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimited = false;
#else
constexpr bool kLimited = true;
#endif

void check_short_memory(Report& report) {
  if (!kLimited) return;
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit before = {}, limit = {};
  getrlimit(RLIMIT_AS, &before);
  limit = before;
  limit.rlim_cur = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + 100 * kMiB;
  setrlimit(RLIMIT_AS, &limit);
  AlignedBuffer buffer;
  report.check(can_reserve(buffer, 40 * kMiB) && buffer.size() == 40 * kMiB, "40 MiB of 100");
  report.check(can_reserve(buffer, 45 * kMiB) && buffer.size() == 80 * kMiB, "40 MiB grow to 80 of 100");
  report.check(can_reserve(buffer, 90 * kMiB) && buffer.size() == 90 * kMiB, "80 MiB grow to 90 of 100");
  report.check(!can_reserve(buffer, 200 * kMiB), "200 MiB of 100");
  report.check(buffer.size() == 0 && buffer.data() == nullptr, "something is left after a refusal");
  report.check(can_reserve(buffer, 90 * kMiB) && buffer.size() == 90 * kMiB, "90 MiB after a refusal");
  setrlimit(RLIMIT_AS, &before);
}

void check_large(Report& report) {
  for (const size_t bytes : {kMiB - 64, kMiB, 3 * kMiB - 64, 3 * kMiB, 16 * kMiB + 64}) {
    const AlignedBuffer buffer(bytes);
    report.check(buffer.size() >= bytes && buffer.size() <= bytes + kMiB, "%zu bytes became %zu", bytes, buffer.size());
    std::memset(buffer.data(), 1, buffer.size());
#if !defined(__SANITIZE_ADDRESS__)
    const bool whole = reinterpret_cast<uintptr_t>(buffer.data()) % (2 * kMiB) == 0;
    report.check(bytes < kMiB || whole, "%zu bytes do not start on a huge page", bytes);
#endif
  }
}

void check_arena(Report& report) {
  Arena arena;
  std::vector<std::pair<uint8_t*, size_t>> taken;
  for (const size_t bytes :
       {size_t{0}, size_t{1}, 15 * kMiB, size_t{65}, 2 * kMiB, 20 * kMiB, size_t{64}, 700 * kAlignment}) {
    uint8_t* memory = arena.take(bytes);
    report.check(reinterpret_cast<uintptr_t>(memory) % kAlignment == 0, "take(%zu): not aligned", bytes);
    if (bytes > 0) std::memset(memory, static_cast<int>(taken.size()), bytes);
    taken.emplace_back(memory, bytes);
  }
  for (size_t i = 0; i < taken.size(); ++i) {
    const auto [memory, bytes] = taken[i];
    bool kept = true;
    for (size_t b = 0; b < bytes; ++b) kept = kept && memory[b] == i;
    report.check(kept, "take(%zu): overwritten by a later one", bytes);
  }
  bool refused = false;
  try {
    arena.take(SIZE_MAX);
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  report.check(refused, "an arena does not refuse SIZE_MAX bytes");
}

int run_test(uint64_t seed) {
  Report report(seed);
  check_growth(report);
  check_large(report);
  check_arena(report);
  check_short_memory(report);
  return report.finish("buffer");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
