/* C interface of the compiled solver of stage-structured convex quadratic programs over a tree.

   min   sum_t  1/2 z_t' H_t z_t + g_t' z_t  +  sum over soft limits of  excess^2 / (2 compliance),   z_t = (x_t, u_t)
   s.t.  x_t = A_t x_p + B_t u_t + c_t,   p = parent[t],  x_p = x0 where parent[t] = -1
         z_lower_t <= z_t <= z_upper_t,   lower_t <= C_t z_t <= upper_t      (hard where compliance = 0)

   See planner/qp/problem.py for the terms and planner/qp/kernel.py for what the functions promise. No call keeps
   state, and all may be used from several threads at once. Neither Python nor torch is needed. */
#ifndef DUALDRIVE_QP_H
#define DUALDRIVE_QP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DD_VERSION 2
#define DD_API __attribute__((visibility("default")))

/* Row-major float64 data of a batch: member b starts at data + b * stride; stride 0 means that all share one. */
typedef struct {
  const double* data;
  int64_t stride;
} dd_tensor;

typedef struct {
  int64_t batch, stages, states, inputs, rows; /* B, N, nx, nu, m; nz = nx + nu, L = nz + m */
  const int64_t* parent;                       /* [N], -1 <= parent[t] < t */
  dd_tensor x0;                                /* [B, nx] */
  dd_tensor A, B, c;                           /* [B, N, nx, nx], [B, N, nx, nu], [B, N, nx] */
  dd_tensor H, g;                              /* [B, N, nz, nz], [B, N, nz] */
  dd_tensor z_lower, z_upper;                  /* [B, N, nz]; may be infinite */
  dd_tensor C, lower, upper, compliance;       /* [B, N, m, nz], [B, N, m] each */
  dd_tensor bound_compliance;                  /* [B, N, nz]; data = NULL: the bounds are hard */
} dd_problem;

typedef enum { DD_AUTO = 0, DD_BASELINE = 1, DD_AVX2 = 2, DD_AVX512 = 3 } dd_level;

typedef struct {
  double tolerance;  /* of the mean product multiplier x slack and of the scaled residuals; 1e-10 is usual */
  double smoothing;  /* 0, or the product at which to stop on the central path */
  double deadline;   /* seconds from the call on; may be infinite */
  int64_t iterations;
  int64_t threads; /* at most this many, for this call only */
  int64_t level;   /* dd_level; DD_AUTO takes the widest that this CPU has */
} dd_options;

enum { DD_CONVERGED = 0, DD_DIVERGING = 1, DD_ITERATION_LIMIT = 2, DD_NUMERICAL = 3, DD_OUT_OF_TIME = 4 };

/* Dense and contiguous over the batch. */
typedef struct {
  double *z, *costate, *dual_lower, *dual_upper; /* [B, N, nz], [B, N, nx], [B, N, L], [B, N, L] */
  int64_t *outcome, *iterations;                 /* [B] */
} dd_solution;

/* Where to begin, or the solution to differentiate at. */
typedef struct {
  dd_tensor z, dual_lower, dual_upper;
} dd_point;

typedef struct {
  double *dz, *dcostate, *dlower, *dupper; /* [B, N, nz], [B, N, nx], [B, N, L], [B, N, L] */
  double *residual, *kink;                 /* [B] */
} dd_gradient;

/* Return 0, or a negative number where the arguments are impossible or memory is short. start may be NULL. */
DD_API int dd_solve(const dd_problem* problem, const dd_options* options, const dd_point* start, dd_solution* solution);
DD_API int dd_adjoint(const dd_problem* problem, const dd_options* options, const dd_point* solution,
                      const dd_tensor* grad_z, dd_gradient* gradient);

/* The widest level that was compiled in and that this CPU has. */
DD_API int dd_best_level(void);
DD_API int dd_version(void);

#ifdef __cplusplus
}
#endif
#endif
