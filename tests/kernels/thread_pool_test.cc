// The thread pool: every body runs exactly once, from many callers, with growing numbers of threads, and after a fork.
#include "runtime/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "oracle.h"
#include "runtime/planner.h"

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

// Children are forked while other threads run; each has a pool of its own.
void check_fork(Report& report) {
  std::atomic<bool> done{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < 2; ++i)
    busy.emplace_back([&] {
      while (!done) run_once(2);
    });
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

void check_whole_tiles(Report& report) {
  for (const int threads : {1, 2, 3, 4, 8, 64, 1024})
    for (int64_t columns = 0; columns <= 64 * 40; columns += 16) {
      const int64_t tiles = tile_count(columns), whole = whole_tiles(columns, threads);
      report.check(whole >= 0 && whole <= tiles && tiles - whole <= threads, "%d threads, %ld columns: %ld of %ld",
                   threads, static_cast<long>(columns), static_cast<long>(whole), static_cast<long>(tiles));
    }
}

int run_test(uint64_t seed) {
  Report report(seed);
  report.check(available_cpus() >= 1, "no CPU is available");
  check_whole_tiles(report);
  check_sizes(report);
  check_callers(report);
  check_sleep(report);
  check_fork(report);
  return report.finish("thread_pool");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
