// AlignedBuffer: alignment, growth, and growth where memory is short.
#include "base/buffer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>

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

int run_test(uint64_t seed) {
  Report report(seed);
  check_growth(report);
  check_short_memory(report);
  return report.finish("buffer");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
