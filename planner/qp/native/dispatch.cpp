// The C interface: checks arguments, takes the widest instruction set, and spreads blocks over threads.
#include <math.h>
#include <time.h>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "judge.hpp"
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
// What follows on a block that is solved, in the thread that solved it.
using After = std::function<void(const Job&, int64_t first, int64_t last)>;

// One thread's job, and where it gets its blocks from.
struct Worker {
  Job job;
  const After& after;
  std::atomic<int64_t>& first;
  int64_t width;
  dd_gradient gradient{};  // of one block, where no one else wants it
  std::unique_ptr<double[]> memory;

  Worker(const Job& common, const After& then, std::atomic<int64_t>& queue, int64_t block)
      : job(common), after(then), first(queue), width(block) {
    if (!job.grad_z || job.gradient) return;
    const dd_problem& p = *job.problem;
    const int64_t n = p.stages * width, nz = p.states + p.inputs, limits = nz + p.rows;
    memory.reset(new double[n * (nz + p.states + 2 * limits) + 2 * width]);
    gradient.dz = memory.get(), gradient.dcostate = gradient.dz + n * nz;
    gradient.dlower = gradient.dcostate + n * p.states, gradient.dupper = gradient.dlower + n * limits;
    gradient.residual = gradient.dupper + n * limits, gradient.kink = gradient.residual + width;
    job.gradient = &gradient;
  }
  static int64_t next(void* state) {
    Worker* worker = static_cast<Worker*>(state);
    const int64_t block = worker->first.fetch_add(worker->width);
    if (worker->memory) worker->job.gradient_first = block;
    return block;
  }
  static void done(void* state, int64_t block, int64_t count) {
    const Worker* worker = static_cast<Worker*>(state);
    if (worker->after) worker->after(worker->job, block, block + count);
  }
};

// All members from `first` to `last`, in blocks of `width` that never depend on the number of threads.
int run(const Job& job, const After& after, Range range, int64_t first, int64_t last, int64_t width) {
  std::atomic<int64_t> queue{first};
  std::atomic<int> failed{0};
  const auto work = [&] {
    try {
      Worker worker(job, after, queue, width);
      if (const int code = range(worker.job, {Worker::next, Worker::done, &worker, last})) failed = code;
    } catch (const std::exception&) {
      failed = -2;
    }
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
int run_all(const Job& job, const After& after, int width, const Entry& entry) {
  const int64_t batch = job.problem->batch, lone = batch % width == 1 || width == 1 ? 1 : 0;
  if (batch > lone)
    if (const int code = run(job, after, entry.wide, 0, batch - lone, width)) return code;
  return lone ? run(job, after, entry.single, batch - 1, batch, 1) : 0;
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
  const Job job{problem, options, start, solution, nullptr, nullptr, now() + options->deadline, 0};
  return run_all(job, {}, table->width, table->solve);
}

DD_API int64_t dd_solve_judged(const dd_problem* problem, const dd_options* options, const dd_point* start,
                               dd_solution* solution, const dd_standard* standard, double* residuals, int64_t* status) {
  if (!valid(problem, options) || !solution) return -1;
  const KernelTable* table = table_of(options->level ? int(options->level) : dd_best_level());
  const Job job{problem, options, start, solution, nullptr, nullptr, now() + options->deadline, 0};
  const dd_claim claim{solution->z, solution->costate, solution->dual_lower, solution->dual_upper};
  std::atomic<int64_t> refused{0};
  std::atomic<bool> invalid{!valid_data(*problem, 0, problem->batch, true)};
  if (invalid) return -3;
  const After judge = [&](const Job&, int64_t first, int64_t last) {
    if (!valid_data(*problem, first, last, false)) invalid = true;
    judge_members(*problem, claim, first, last, residuals);
    for (int64_t b = first; b < last; ++b) {
      const int64_t B = problem->batch;
      const double *worth = residuals + B + b, dual = worth[B], gap = worth[2 * B];
      const int64_t outcome = solution->outcome[b];
      // NaN compares false and is refused.
      const bool met = outcome == DD_CONVERGED && *worth <= standard->primal && dual <= standard->dual &&
                       (gap <= standard->gap || standard->gap == INFINITY);
      const bool rounded = (outcome == DD_ITERATION_LIMIT || outcome == DD_NUMERICAL) && *worth <= standard->rounded &&
                           dual <= standard->rounded && gap <= standard->rounded;
      status[b] = met || rounded ? 0 : -1;
      refused += status[b] != 0;
    }
  };
  const int code = run_all(job, judge, table->width, table->solve);
  return code ? code : invalid ? -3 : refused.load();
}

int dd_adjoint(const dd_problem* problem, const dd_options* options, const dd_point* solution, const dd_tensor* grad_z,
               dd_gradient* gradient) {
  if (!valid(problem, options) || !solution || !grad_z || !gradient) return -1;
  const KernelTable* table = table_of(options->level ? int(options->level) : dd_best_level());
  const Job job{problem, options, solution, nullptr, grad_z, gradient, 0, 0};
  return run_all(job, {}, table->width, table->adjoint);
}

DD_API int dd_differentiate(const dd_problem* problem, const dd_options* options, const dd_claim* solution,
                            const int64_t* status, const dd_tensor* grad_z, const dd_trust* trust, uint8_t* trusted,
                            double* const* gradients) {
  if (!valid(problem, options) || !solution || !grad_z) return -1;
  const KernelTable* table = table_of(options->level ? int(options->level) : dd_best_level());
  const int64_t nz = problem->states + problem->inputs, limits = (nz + problem->rows) * problem->stages;
  const dd_point point{{solution->z, nz * problem->stages}, {solution->lower, limits}, {solution->upper, limits}};
  const Job job{problem, options, &point, nullptr, grad_z, nullptr, 0, 0};
  const After pull = [&](const Job& own, int64_t first, int64_t last) {
    const dd_gradient& found = *own.gradient;
    for (int64_t b = first; b < last; ++b)
      trusted[b] = status[b] == 0 && found.residual[b - first] <= trust->residual &&
                   found.kink[b - first] <= trust->kink;
    const dd_claim sensitivity{found.dz, found.dcostate, found.dlower, found.dupper};
    pull_back_members(*problem, *solution, sensitivity, trusted + first, first, last, gradients);
  };
  return run_all(job, pull, table->width, table->adjoint);
}

}  // extern "C"
