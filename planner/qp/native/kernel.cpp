// The solver for one instruction set; DD_LEVEL names it.
#include "adjoint.hpp"
#include "kernel.hpp"
#include "riccati_ipm.hpp"

namespace {

template <class Solver, int W>
int run(const Job& job, const BlockQueue& queue) {
  Solver block(job);
  if (!block.ready()) return -2;
  for (int64_t first; (first = queue.next(queue.state)) < queue.last;) {
    const int64_t count = smaller<int64_t>(W, queue.last - first);
    block.solve(first, int(count));
    queue.done(queue.state, first, count);
  }
  return 0;
}

// Sizes that occur often are compiled in, save where the CPU is old anyway; <0, 0> reads them at run time.
template <template <int, int, int> class Solver, int W>
int run_sized(const Job& job, const BlockQueue& queue) {
#if !defined(DD_X86) || DD_WIDTH > 2
  const int64_t nx = job.problem->states, nu = job.problem->inputs;
  if (nx == 3 && nu == 1) return run<Solver<W, 3, 1>, W>(job, queue);
  if (nx == 3 && nu == 2) return run<Solver<W, 3, 2>, W>(job, queue);
  if (nx == 6 && nu == 2) return run<Solver<W, 6, 2>, W>(job, queue);
  if (nx == 4 && nu == 2) return run<Solver<W, 4, 2>, W>(job, queue);
  if (nx == 2 && nu == 1) return run<Solver<W, 2, 1>, W>(job, queue);
#endif
  return run<Solver<W, 0, 0>, W>(job, queue);
}

}  // namespace

const KernelTable DD_LEVEL = {
    DD_WIDTH,
    {run_sized<InteriorPoint, DD_WIDTH>, run_sized<InteriorPoint, 1>},
    {run_sized<Adjoint, DD_WIDTH>, run_sized<Adjoint, 1>},
};
