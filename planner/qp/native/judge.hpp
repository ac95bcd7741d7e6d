/* What surrounds a solve, in plain loops: validity of the data, residuals of a claim, gradients from an adjoint.

   Shares no code with the interior point; planner/qp/judge.py and planner/qp/layer.py say the same in torch. */
#ifndef DUALDRIVE_JUDGE_HPP
#define DUALDRIVE_JUDGE_HPP

#include "dualdrive_qp.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Dense and contiguous: [B, N, nz], [B, N, nx], [B, N, L], [B, N, L]. A claimed solution, or its sensitivities. */
typedef struct {
  const double *z, *costate, *lower, *upper;
} dd_claim;

/* residuals [4, B]: primal, primal relative to 1 + |limit|, dual, gap; NaN where anything is NaN.
   Returns 0, or 1 where the data are not what StageProgram.validate asks for; then the residuals mean nothing. */
int dd_judge(const dd_problem* problem, const dd_claim* claim, double* residuals);

/* gradients: of x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, compliance, each dense [B, ...], or NULL where
   none is wanted. keep [B]: members whose gradient counts; the others get zero. */
int dd_pull_back(const dd_problem* problem, const dd_claim* solution, const dd_claim* sensitivity, const uint8_t* keep,
                 double* const* gradients);

/* What weights [B, N, L] of the hard limits prove, as planner.qp.problem.infeasibility_margin. margins [3, B]: the margin,
   the weighted size of the limits, and the size of all terms that cancel in the margin. */
int dd_margin(const dd_problem* problem, const double* weight_lower, const double* weight_upper, double* margins);

#ifdef __cplusplus
}
#endif
#endif
