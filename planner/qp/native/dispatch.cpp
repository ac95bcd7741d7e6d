// The C interface: checks arguments, takes the widest instruction set, and spreads blocks over threads.
#include <time.h>

#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "kernel.hpp"

namespace {

const KernelTable* table_of(int level) {
  switch (level) {
#ifdef DD_X86
    case DD_AVX512: return &dd_kernel_avx512;
    case DD_AVX2: return &dd_kernel_avx2;
#endif
    default: return &dd_kernel_baseline;
  }
}

bool valid(const dd_problem* p, const dd_options* o) {
  if (!p || !o || p->batch < 0 || p->stages < 1 || p->states < 1 || p->inputs < 1 || p->rows < 0) return false;
  for (int64_t t = 0; t < p->stages; ++t)
    if (p->parent[t] < -1 || p->parent[t] >= t) return false;
  return o->level >= DD_AUTO && o->level <= dd_best_level();
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

using Range = int (*)(const Job&, const BlockQueue&);

struct Counter {
  std::atomic<int64_t> first;
  int64_t width;
  static int64_t next(void* state) {
    Counter* counter = static_cast<Counter*>(state);
    return counter->first.fetch_add(counter->width);
  }
};

// All members from `first` to `last`, in blocks of `width` that never depend on the number of threads.
int run(const Job& job, Range range, int64_t first, int64_t last, int64_t width) {
  Counter counter{{first}, width};
  const BlockQueue queue{Counter::next, &counter, last};
  std::atomic<int> failed{0};
  const auto work = [&] {
    if (const int code = range(job, queue)) failed = code;
  };
  std::vector<std::thread> helpers;
  const int64_t blocks = (last - first + width - 1) / width;
  const int64_t threads = job.options->threads < blocks ? job.options->threads : blocks;
  try {
    for (int64_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  } catch (const std::exception&) {
    // No more threads to be had: those that run do the work.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  return failed;
}

// Full blocks side by side; a lone member left over by itself.
int run_all(const Job& job, int width, const Entry& entry) {
  const int64_t batch = job.problem->batch, lone = batch % width == 1 || width == 1 ? 1 : 0;
  if (batch > lone)
    if (const int code = run(job, entry.wide, 0, batch - lone, width)) return code;
  return lone ? run(job, entry.single, batch - 1, batch, 1) : 0;
}

}  // namespace

extern "C" {

int dd_version(void) { return DD_VERSION; }

int dd_best_level(void) {
#ifdef DD_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return DD_AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return DD_AVX2;
#endif
  return DD_BASELINE;
}

int dd_solve(const dd_problem* problem, const dd_options* options, const dd_point* start, dd_solution* solution) {
  if (!valid(problem, options) || !solution) return -1;
  const KernelTable* table = table_of(options->level ? int(options->level) : dd_best_level());
  const Job job{problem, options, start, solution, nullptr, nullptr, now() + options->deadline};
  return run_all(job, table->width, table->solve);
}

int dd_adjoint(const dd_problem* problem, const dd_options* options, const dd_point* solution, const dd_tensor* grad_z,
               dd_gradient* gradient) {
  if (!valid(problem, options) || !solution || !grad_z || !gradient) return -1;
  const KernelTable* table = table_of(options->level ? int(options->level) : dd_best_level());
  const Job job{problem, options, solution, nullptr, grad_z, gradient, 0};
  return run_all(job, table->width, table->adjoint);
}

}  // extern "C"
