// The process's worker threads. One pool serves all sessions: a run asks for n threads, gets the calling thread plus n
// - 1 workers, and keeps them until it is done ("queued whole"). Workers spin for a moment after a run, then sleep.
// After fork() the child starts with an empty pool.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace fastcpu {

// CPUs that this process may use: the smaller of its affinity mask and its cgroup's quota, at least 1.
int available_cpus();

class ThreadPool {
 public:
  static ThreadPool& process();
  ~ThreadPool();

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
