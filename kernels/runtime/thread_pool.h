// The process's worker threads. One pool serves all sessions: a run asks for n threads, gets the calling thread plus n
// - 1 workers, and keeps them until it is done ("queued whole"). Workers spin for a moment after a run, then sleep.
// After fork() the child starts with an empty pool. The pool lives as long as the process: workers may outlast static
// destruction.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace fastcpu {

// CPUs that this process may use: the smaller of its affinity mask and cgroup_cpus(), at least 1.
int available_cpus();

// The CPU quota of this process's control groups, rounded to whole CPUs, at least 1; 0 when there is none. It is the
// smallest on the path from the process's own group up to the root, of cgroup v2 and of v1's cpu controller at their
// usual mount points. `root` stands before the paths of /proc and /sys.
int cgroup_cpus(const std::string& root = "");

class ThreadPool {
 public:
  static ThreadPool& process();
  ~ThreadPool() = delete;

  // Calls body(0) .. body(threads - 1) at once, body(0) on the calling thread, and returns when all are done. Bodies
  // must not throw.
  template <class Body>
  void run(int threads, const Body& body) {
    run(threads, [](const void* b, int thread) { (*static_cast<const Body*>(b))(thread); }, &body);
  }

 private:
  using Call = void (*)(const void* body, int thread);
  struct Worker;
  void run(int threads, Call call, const void* body);
  void work(Worker& worker);
  void grow(int workers);

  std::mutex queue_;  // held for a whole run
  std::vector<std::unique_ptr<Worker>> workers_;
  Call call_ = nullptr;
  const void* body_ = nullptr;
  std::atomic<int> pending_{0};
};

// A barrier for the threads of one run: spins, then yields.
class SpinBarrier {
 public:
  explicit SpinBarrier(int threads) : threads_(threads) {}
  void wait();

 private:
  const int threads_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

}  // namespace fastcpu
