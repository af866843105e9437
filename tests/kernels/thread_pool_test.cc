// The thread pool: every body runs exactly once, from many callers, with growing numbers of threads, and after a fork.
// The CPUs that a process may use: quotas of control groups.
#include "runtime/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "gemm_f32/gemm_f32.h"
#include "gemm_u8s8/gemm_u8s8.h"
#include "runtime/planner.h"
#include "spmm_u8s8/spmm_u8s8.h"
#include "tiny_model.h"

// The child of a fork uses threads on purpose.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace fastcpu::test {
namespace {

// Runs `threads` bodies with a barrier in between; true if each ran once and saw what the others wrote before it.
bool run_once(int threads) {
  std::vector<int> first(static_cast<size_t>(threads)), second(first.size());
  SpinBarrier barrier(threads);
  ThreadPool::process().run(threads, [&](int thread) {
    ++first[static_cast<size_t>(thread)];
    if (threads > 1) barrier.wait();
    for (const int count : first) second[static_cast<size_t>(thread)] += count;
  });
  for (size_t i = 0; i < first.size(); ++i)
    if (first[i] != 1 || second[i] != threads) return false;
  return true;
}

void check_sizes(Report& report) {
  for (const int threads : {1, 2, 5, 3, 1, 4, 8, 2})
    for (int repeat = 0; repeat < 30; ++repeat) report.check(run_once(threads), "%d threads", threads);
}

void check_callers(Report& report) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller)
    callers.emplace_back([&, caller] {
      for (int repeat = 0; repeat < 50; ++repeat)
        if (!run_once(1 + (caller + repeat) % 4)) ++wrong;
    });
  for (std::thread& caller : callers) caller.join();
  report.check(wrong == 0, "%d runs of concurrent callers are wrong", wrong.load());
}

// Workers that have gone to sleep wake up.
void check_sleep(Report& report) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::this_thread::sleep_for(std::chrono::microseconds(repeat % 2 == 0 ? 60 : 2000));
    report.check(run_once(3), "after a pause");
  }
}

// Children are forked while other threads run; each has a pool of its own. These threads have all started before the
// first fork and allocate nothing, since a fork in the middle of either leaves a sanitizer's allocator locked in the
// child.
void check_fork(Report& report) {
  std::atomic<bool> done{false};
  std::atomic<size_t> started{0};
  std::vector<std::thread> busy;
  for (int i = 0; i < 2; ++i)
    busy.emplace_back([&] {
      ThreadPool::process().run(2, [](int) {});
      ++started;
      while (!done) ThreadPool::process().run(2, [](int) {});
    });
  while (started < busy.size()) std::this_thread::yield();
  for (int repeat = 0; repeat < 10; ++repeat) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);  // a child that hangs is killed
      _exit(run_once(3) && run_once(2) ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    report.check(status == 0, "a forked child ended with status %d", status);
  }
  done = true;
  for (std::thread& thread : busy) thread.join();
  report.check(run_once(3), "the parent after forking");
}

constexpr TileCosts kSplitting = {0.55, 0.37, 0, 0, 0.1, false}, kNarrow = {0.5, 0.26, 0, 0, 0.1, true};

template <class Kernel>
void check_costs(Report& report, const std::vector<const Kernel*>& manifest) {
  for (const Kernel* kernel : manifest) {
    const TileCosts& costs = kernel->costs;
    const bool ordered = 0 < costs.w16 && costs.w16 <= costs.w32 && costs.w32 <= 1 && costs.split >= 0;
    report.check(ordered && costs.few <= costs.w16 && 8 * costs.each <= costs.few, "costs of %s", kernel->name);
    for (const int width : {16, 32, 64})
      for (int tokens = width - 14; tokens <= width; ++tokens)  // a tile has no more than 15 lanes to spare
        report.check(costs.of(width, tokens - 1) <= costs.of(width, tokens), "%s: %d tokens in a tile of %d cost less",
                     kernel->name, tokens, width);
  }
}

void check_whole_tiles(Report& report) {
  for (const int threads : {1, 2, 3, 4, 8, 64, 1024})
    for (int64_t columns = 0; columns <= 64 * 40; columns += 16) {
      const int64_t tiles = tile_count(columns), whole = share_tiles(columns, threads, kSplitting).whole;
      report.check(whole >= 0 && whole <= tiles && tiles - whole <= threads, "%d threads, %ld columns: %ld of %ld",
                   threads, static_cast<long>(columns), static_cast<long>(whole), static_cast<long>(tiles));
    }
}

void check_tilings(Report& report) {
  for (const int width : {64, 32, 16})
    for (int64_t tokens = 0; tokens <= 200; ++tokens) {
      const Tiling tiling(tokens, width);
      int64_t begin = 0;
      int wrong = 0;
      for (int64_t i = 0; i < tile_count(tiling); ++i) {
        const Tile tile = tile_at(tiling, i);
        wrong +=
            tile.begin != begin || tile.width > width || (tile.width != 64 && tile.width != 32 && tile.width != 16);
        for (int64_t t = begin; t < begin + tile.width; ++t) {
          const Tile found = tile_of(tiling, t);
          wrong += found.begin != tile.begin || found.width != tile.width;
        }
        begin += tile.width;
      }
      report.check(wrong == 0 && begin == padded_tokens(tokens), "%d wrong tiles of %ld tokens by %d", wrong,
                   static_cast<long>(tokens), width);
    }
  for (const TileCosts& costs : {kSplitting, kNarrow})
    for (const int threads : {1, 2, 3, 4, 8})
      for (int64_t tokens = 1; tokens <= 600; ++tokens) {
        const int width = best_tile_width(tokens, threads, costs);
        const bool wide = threads == 1 || (tokens > int64_t{64} * threads && !costs.narrow);
        report.check(width == 64 || (!wide && (width == 32 || width == 16)), "%d threads, %ld tokens: tiles of %d",
                     threads, static_cast<long>(tokens), width);
        report.check(share_tiles({tokens, width}, threads, costs).cost <= share_tiles(tokens, threads, costs).cost,
                     "%d threads, %ld tokens: tiles of %d take longer", threads, static_cast<long>(tokens), width);
      }
  const auto widths = [](const TileCosts& costs, std::vector<int64_t> tokens) {
    std::vector<int> found;
    for (const int64_t count : tokens) found.push_back(best_tile_width(count, 2, costs));
    return found;
  };
  report.check(widths(kSplitting, {25, 60, 128, 200}) == std::vector<int>{16, 32, 64, 64}, "widths for two threads");
  report.check(widths(kNarrow, {25, 60, 96, 128, 200, 1024}) == std::vector<int>{16, 32, 16, 64, 32, 64},
               "widths for two threads where narrow tiles cost nothing");
  // A little of another kernel changes nothing; where few tokens cost what they are, the tile with them goes along.
  const TileCosts mixed = {0.5, 0.26, 0.26 / 5000, 0.022 / 5000, 0.1, true}, few = {0.5, 0.26, 0.26, 0.022, 0.1, true};
  for (const int threads : {2, 4})
    for (const int64_t tokens : {8, 20, 136})
      report.check(best_tile_width(tokens, threads, mixed) == best_tile_width(tokens, threads, kNarrow) &&
                       share_tiles(tokens, threads, mixed).whole == share_tiles(tokens, threads, kNarrow).whole,
                   "%ld tokens of a mixture on %d threads", static_cast<long>(tokens), threads);
  report.check(share_tiles({66, 32}, 2, few).whole == 3 && share_tiles({66, 32}, 2, kNarrow).whole < 3,
               "the tile with two tokens is not split");
}

using Files = std::vector<std::pair<std::string, std::string>>;

// cgroup_cpus() of a system with these files.
int cpus_of(const Files& files) {
  const ScratchDirectory root;
  for (const auto& [path, text] : files) {
    const std::filesystem::path file = root.path() + path;
    std::filesystem::create_directories(file.parent_path());
    write_file(file.string(), text);
  }
  return cgroup_cpus(root.path());
}

void check_quotas(Report& report) {
  const std::string own = "/proc/self/cgroup", v2 = "/sys/fs/cgroup", v1 = "/sys/fs/cgroup/cpu";
  const auto expect = [&](const char* what, int cpus, const Files& files) {
    const int found = cpus_of(files);
    report.check(found == cpus, "%s: %d CPUs instead of %d", what, found, cpus);
  };
  expect("no files", 0, {});
  expect("v2 without limits", 0, {{own, "0::/a\n"}, {v2 + "/a/cpu.max", "max 100000\n"}});
  expect("v2, the root of a container", 3, {{own, "0::/\n"}, {v2 + "/cpu.max", "300000 100000\n"}});
  expect("v2, the own group", 2, {{own, "0::/a/b\n"}, {v2 + "/a/b/cpu.max", "200000 100000\n"}});
  expect("v2, a slice above", 4,
         {{own, "0::/a/b/c\n"}, {v2 + "/a/cpu.max", "200000 50000\n"}, {v2 + "/a/b/c/cpu.max", "max 100000\n"}});
  expect("v2, the least of several", 2,
         {{own, "0::/a/b\n"},
          {v2 + "/cpu.max", "900000 100000\n"},
          {v2 + "/a/cpu.max", "200000 100000\n"},
          {v2 + "/a/b/cpu.max", "400000 100000\n"}});
  expect("v2, a group of others", 0, {{own, "0::/a\n"}, {v2 + "/b/cpu.max", "100000 100000\n"}});
  expect("v2, less than one CPU", 1, {{own, "0::/a\n"}, {v2 + "/a/cpu.max", "10000 100000\n"}});
  expect("v2, half a CPU more", 2, {{own, "0::/a\n"}, {v2 + "/a/cpu.max", "150000 100000\n"}});
  expect("v2, less than half a CPU more", 1, {{own, "0::/a\n"}, {v2 + "/a/cpu.max", "149999 100000\n"}});
  expect("v2, outside of the namespace", 5, {{own, "0::/../x\n"}, {v2 + "/cpu.max", "500000 100000\n"}});
  expect("v1, the own group", 2,
         {{own, "5:memory:/m\n4:cpu,cpuacct:/a/b\n3:cpuset:/s\n"},
          {v1 + "/a/b/cpu.cfs_quota_us", "200000\n"},
          {v1 + "/a/b/cpu.cfs_period_us", "100000\n"}});
  expect("v1, the path of the host", 3,
         {{own, "4:cpuacct,cpu:/docker/1234\n"},
          {v1 + "/cpu.cfs_quota_us", "300000\n"},
          {v1 + "/cpu.cfs_period_us", "100000\n"}});
  expect("v1 without limits", 0,
         {{own, "1:cpu:/a\n0::/\n"}, {v1 + "/a/cpu.cfs_quota_us", "-1\n"}, {v1 + "/a/cpu.cfs_period_us", "100000\n"}});
  expect("another controller", 0,
         {{own, "1:cpuset:/a\n"}, {v1 + "/cpu.cfs_quota_us", "100000\n"}, {v1 + "/cpu.cfs_period_us", "100000\n"}});
  expect("damaged files", 0,
         {{own, "\n:\n::\n0:\n0::\n0::x\n0::/a:b\n"}, {v2 + "/a:b/cpu.max", "-\n"}, {v2 + "/cpu.max", "1e5 0\n"}});
}

int run_test(uint64_t seed) {
  Report report(seed);
  report.check(available_cpus() >= 1, "no CPU is available");
  check_quotas(report);
  check_costs(report, spmm_u8s8_manifest());
  check_costs(report, gemm_u8s8_manifest());
  check_costs(report, gemm_f32_manifest());
  check_whole_tiles(report);
  check_tilings(report);
  check_sizes(report);
  check_callers(report);
  check_sleep(report);
  check_fork(report);
  return report.finish("thread_pool");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
