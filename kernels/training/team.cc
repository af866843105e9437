#include "training/team.h"

#include <dlfcn.h>

#include <atomic>

#include "runtime/thread_pool.h"

namespace fastcpu {
namespace {

struct OpenMp {
  void (*parallel)(void (*body)(void*), void* context, unsigned threads, unsigned flags);
  int (*in_parallel)();
};

// Looked up on every call: the runtime may be loaded at any time.
OpenMp open_mp() {
  OpenMp found;
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  found.in_parallel = reinterpret_cast<decltype(found.in_parallel)>(dlsym(RTLD_DEFAULT, "omp_in_parallel"));
  return found;
}

struct Call {
  void (*body)(const void*, int);
  const void* context;
  int threads;
  std::atomic<int> next{0};
};

// Threads of the team take the parts one after another: the team may be smaller than was asked for.
void take_parts(void* call_pointer) {
  Call& call = *static_cast<Call*>(call_pointer);
  while (true) {
    const int part = call.next.fetch_add(1, std::memory_order_relaxed);
    if (part >= call.threads) return;
    call.body(call.context, part);
  }
}

}  // namespace

void run_on_team(int threads, void (*body)(const void* context, int thread), const void* context) {
  const OpenMp runtime = open_mp();
  if (threads > 1 && runtime.parallel != nullptr && (runtime.in_parallel == nullptr || runtime.in_parallel() == 0)) {
    Call call{body, context, threads};
    runtime.parallel(take_parts, &call, static_cast<unsigned>(threads), 0);
    return;
  }
  ThreadPool::process().run(threads, [&](int thread) { body(context, thread); });
}

}  // namespace fastcpu
