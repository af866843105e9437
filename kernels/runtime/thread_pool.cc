#include "runtime/thread_pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <system_error>

#include "base/error.h"

namespace fastcpu {
namespace {

using Clock = std::chrono::steady_clock;

// A worker that has nothing to do looks for work for a while before it sleeps, since waking it takes as long as several
// ops. It does so for longer where its last wait was short: for a caller that runs one input after the other, with a
// tokenizer between. What a pause costs at most is kLongestSpin of each worker's CPU.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kLongestSpin = std::chrono::microseconds(1500);
constexpr int kSpinsPerClock = 64;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A file of the system; empty if it is not there. Streams of libstdc++ are no choice: where another library of the
// process brings its own copy, as CUDA builds of torch do, reading a number from one may crash.
std::string read_text(const std::string& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  for (ssize_t bytes = 0; (bytes = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(bytes));
  ::close(fd);
  return text;
}

// CPUs per period that one group may use; infinity when it has no limit of its own.
double group_quota(const std::string& folder, bool v2) {
  const std::string quota = read_text(folder + (v2 ? "/cpu.max" : "/cpu.cfs_quota_us"));  // v2: "<quota> <period>"
  char* rest = nullptr;
  const double microseconds = std::strtod(quota.c_str(), &rest);  // 0 for "max" and for no file; v1: -1
  const double period = v2 ? std::atof(rest) : std::atof(read_text(folder + "/cpu.cfs_period_us").c_str());
  return microseconds > 0 && period > 0 ? microseconds / period : std::numeric_limits<double>::infinity();
}

std::atomic<ThreadPool*> process_pool{nullptr};
std::mutex creation;

// The child of a fork has none of the parent's threads; whatever state the pool was in stays behind, unreachable.
void forget_pool() {
  process_pool.store(nullptr, std::memory_order_relaxed);
  new (&creation) std::mutex;
}
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, forget_pool);

}  // namespace

int cgroup_cpus(const std::string& root) {
  double least = std::numeric_limits<double>::infinity();
  const std::string groups = read_text(root + "/proc/self/cgroup");
  for (size_t begin = 0, end = 0; begin < groups.size(); begin = end + 1) {
    end = std::min(groups.find('\n', begin), groups.size());
    const std::string line = groups.substr(begin, end - begin);  // hierarchy:controllers:path, no controllers in v2
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string mount = root + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    // A container may see the path of the host, or one above its own root: what is not below the mount point is
    // skipped.
    std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/' || path.find("/..") != std::string::npos) path = "/";
    least = std::min(least, group_quota(mount, v2));
    for (; path.size() > 1; path.erase(path.rfind('/'))) least = std::min(least, group_quota(mount + path, v2));
  }
  return std::isinf(least) ? 0 : std::max(1, static_cast<int>(std::min(least, 1e6) + 0.5));
}

int available_cpus() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    cpus = CPU_COUNT(&set);
  else
    cpus = static_cast<int>(std::thread::hardware_concurrency());
  const int limit = cgroup_cpus();
  if (limit > 0) cpus = std::min(cpus, limit);
  return std::max(1, cpus);
}

struct ThreadPool::Worker {
  int index = 0;
  std::thread thread;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint32_t> posted{0};  // runs given to this worker
  std::atomic<bool> asleep{false};
};

ThreadPool& ThreadPool::process() {
  ThreadPool* pool = process_pool.load(std::memory_order_acquire);
  if (pool != nullptr) return *pool;
  const std::lock_guard<std::mutex> lock(creation);
  pool = process_pool.load(std::memory_order_relaxed);
  if (pool == nullptr) {
    pool = new ThreadPool;
    process_pool.store(pool, std::memory_order_release);
  }
  return *pool;
}

void ThreadPool::grow(int workers) {
  workers_.reserve(static_cast<size_t>(workers));  // a running worker is never lost
  while (static_cast<int>(workers_.size()) < workers) {
    auto worker = std::make_unique<Worker>();
    worker->index = static_cast<int>(workers_.size()) + 1;
    Worker* raw = worker.get();
    try {
      worker->thread = std::thread([this, raw] { work(*raw); });
    } catch (const std::system_error& error) {
      throw Error(Error::Kind::io, "cannot start thread " + std::to_string(worker->index + 1) + " of " +
                                       std::to_string(workers + 1) + ": " + error.what());
    }
    workers_.push_back(std::move(worker));
  }
}

void ThreadPool::run(int threads, Call call, const void* body) {
  if (threads <= 1) {
    call(body, 0);
    return;
  }
  const std::lock_guard<std::mutex> lock(queue_);
  grow(threads - 1);
  call_ = call;
  body_ = body;
  pending_.store(threads - 1, std::memory_order_relaxed);
  for (int i = 0; i < threads - 1; ++i) {
    Worker& worker = *workers_[static_cast<size_t>(i)];
    worker.posted.fetch_add(1, std::memory_order_seq_cst);
    if (worker.asleep.load(std::memory_order_seq_cst)) {
      {
        const std::lock_guard<std::mutex> wake_lock(worker.mutex);
      }
      worker.wake.notify_one();
    }
  }
  call(body, 0);
  for (int spins = 0; pending_.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < 4096)
      pause_cpu();
    else
      sched_yield();
  }
}

void ThreadPool::work(Worker& worker) {
  uint32_t seen = 0;
  Clock::duration patience = kSpin;
  while (true) {
    const Clock::time_point began = Clock::now();
    bool ready = false;
    while (!ready) {
      for (int i = 0; i < kSpinsPerClock && !ready; ++i) {
        ready = worker.posted.load(std::memory_order_acquire) != seen;
        if (!ready) pause_cpu();
      }
      if (!ready && Clock::now() - began > patience) break;
    }
    if (!ready) {
      std::unique_lock<std::mutex> lock(worker.mutex);
      worker.asleep.store(true, std::memory_order_seq_cst);
      worker.wake.wait(lock, [&] { return worker.posted.load(std::memory_order_seq_cst) != seen; });
      worker.asleep.store(false, std::memory_order_relaxed);
    }
    patience = Clock::now() - began < kLongestSpin ? kLongestSpin : kSpin;
    ++seen;
    call_(body_, worker.index);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

void SpinBarrier::wait() {
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
    if (spins < 4096)
      pause_cpu();
    else
      sched_yield();
  }
}

}  // namespace fastcpu
