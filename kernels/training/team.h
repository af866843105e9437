// Threads for products inside a training step, between operations of a framework that has threads of its own.
#pragma once

namespace fastcpu {

// Calls body(0) .. body(threads - 1) at once, body(0) on the calling thread, and returns when all are done; bodies must
// not throw. Where the process has loaded GCC's OpenMP runtime, as torch does, they run on its threads: those spin for
// a moment after each operation, on the very CPUs that workers of another pool would need. Else on the process's pool.
void run_on_team(int threads, void (*body)(const void* context, int thread), const void* context);

template <class Body>
void run_on_team(int threads, const Body& body) {
  run_on_team(threads, [](const void* context, int thread) { (*static_cast<const Body*>(context))(thread); }, &body);
}

}  // namespace fastcpu
