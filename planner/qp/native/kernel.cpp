// The solver for one instruction set; DD_LEVEL names it.
#include "kernel.hpp"
#include "riccati_ipm.hpp"

namespace {

template <int W, int NX, int NU>
int solve_blocks(const Job& job, const BlockQueue& queue) {
  InteriorPoint<W, NX, NU> block(job);
  if (!block.ready()) return -2;
  for (int64_t first; (first = queue.next(queue.state)) < queue.last;)
    block.solve(first, int(smaller<int64_t>(W, queue.last - first)));
  return 0;
}

template <int W>
int solve_sizes(const Job& job, const BlockQueue& queue) {
  const int64_t nx = job.problem->states, nu = job.problem->inputs;
  if (nx == 3 && nu == 1) return solve_blocks<W, 3, 1>(job, queue);
  if (nx == 3 && nu == 2) return solve_blocks<W, 3, 2>(job, queue);
  if (nx == 6 && nu == 2) return solve_blocks<W, 6, 2>(job, queue);
  if (nx == 4 && nu == 2) return solve_blocks<W, 4, 2>(job, queue);
  if (nx == 2 && nu == 1) return solve_blocks<W, 2, 1>(job, queue);
  return solve_blocks<W, 0, 0>(job, queue);
}

}  // namespace

const KernelTable DD_LEVEL = {DD_WIDTH, solve_sizes<DD_WIDTH>, solve_sizes<1>};
