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

/* Largest residuals of an answer that counts: primal and scaled by 1 + |limit|, dual, gap; and `rounded`, of all three,
   where a kernel stopped short of its own tolerance. Infinite: not asked; rounded < 0: never. */
typedef struct {
  double primal, dual, gap, rounded;
} dd_standard;

/* Largest residual of the adjoint system and largest kink of a gradient that counts. */
typedef struct {
  double residual, kink;
} dd_trust;

/* residuals [4, B]: primal, primal relative to 1 + |limit|, dual, gap; NaN where anything is NaN.
   Returns 0, or 1 where the data are not what StageProgram.validate asks for; then the residuals mean nothing. */
int dd_judge(const dd_problem* problem, const dd_claim* claim, double* residuals);

/* dd_solve, and each block judged at once by the thread that solved it. status [B]: 0 where the answer meets the
   standard, else -1. Returns how many do not, or -1 and -2 as dd_solve, -3 where dd_judge would say 1. */
int64_t dd_solve_judged(const dd_problem* problem, const dd_options* options, const dd_point* start,
                        dd_solution* solution, const dd_standard* standard, double* residuals, int64_t* status);

/* gradients: of x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, compliance, each dense [B, ...], or NULL where
   none is wanted. keep [B]: members whose gradient counts; the others get zero. */
int dd_pull_back(const dd_problem* problem, const dd_claim* solution, const dd_claim* sensitivity, const uint8_t* keep,
                 double* const* gradients);

/* dd_adjoint and dd_pull_back, each block pulled back at once. trusted [B]: status 0, a small residual, no kink; the
   other members get zero. Returns what dd_adjoint does. */
int dd_differentiate(const dd_problem* problem, const dd_options* options, const dd_claim* solution,
                     const int64_t* status, const dd_tensor* grad_z, const dd_trust* trust, uint8_t* trusted,
                     double* const* gradients);

/* What weights [B, N, L] of the hard limits prove, as planner.qp.problem.infeasibility_margin. margins [3, B]: the margin,
   the weighted size of the limits, and the size of all terms that cancel in the margin. */
int dd_margin(const dd_problem* problem, const double* weight_lower, const double* weight_upper, double* margins);

#ifdef __cplusplus
}

// Members first .. last - 1; `shared`: data that all members have in common instead.
bool valid_data(const dd_problem& problem, int64_t first, int64_t last, bool shared);
void judge_members(const dd_problem& problem, const dd_claim& claim, int64_t first, int64_t last, double* residuals);
// sensitivity begins with member `first`, as does keep.
void pull_back_members(const dd_problem& problem, const dd_claim& solution, const dd_claim& sensitivity,
                       const uint8_t* keep, int64_t first, int64_t last, double* const* gradients);
#endif
#endif
