// A cart brakes from 10 m/s to at most 2 m/s in 4 s at no more than 4 m/s^2: the solver called without Python.
#include <cmath>
#include <cstdio>
#include <vector>

#include "dualdrive_qp.h"

int main() {
  const int N = 8, nx = 2, nu = 1, nz = 3;
  const double dt = 0.5, inf = INFINITY;
  std::vector<int64_t> parent(N);
  std::vector<double> A, B, c(N * nx, 0.0), H, g(N * nz, 0.0), low, high;
  for (int t = 0; t < N; ++t) {
    parent[t] = t - 1;
    for (double v : {1.0, dt, 0.0, 1.0}) A.push_back(v);
    for (double v : {0.5 * dt * dt, dt}) B.push_back(v);
    for (double v : {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0}) H.push_back(v);
    for (double v : {-inf, 0.0, -4.0}) low.push_back(v);
    for (double v : {inf, t == N - 1 ? 2.0 : inf, 4.0}) high.push_back(v);
  }
  const double x0[] = {0.0, 10.0};
  dd_problem problem{};
  problem.batch = 1, problem.stages = N, problem.states = nx, problem.inputs = nu, problem.rows = 0;
  problem.parent = parent.data();
  problem.x0 = {x0, 0}, problem.A = {A.data(), 0}, problem.B = {B.data(), 0}, problem.c = {c.data(), 0};
  problem.H = {H.data(), 0}, problem.g = {g.data(), 0};
  problem.z_lower = {low.data(), 0}, problem.z_upper = {high.data(), 0};
  const dd_options options{1e-10, 0.0, INFINITY, 60, 1, DD_AUTO};

  std::vector<double> z(N * nz), costate(N * nx), lower(N * nz), upper(N * nz);
  int64_t outcome = -1, iterations = 0;
  dd_solution solution{z.data(), costate.data(), lower.data(), upper.data(), &outcome, &iterations};
  if (dd_solve(&problem, &options, nullptr, &solution) != 0 || outcome != DD_CONVERGED) return 1;

  // The least effort is to brake evenly, at (10 - 2) / 4 = 2 m/s^2.
  for (int t = 0; t < N; ++t)
    if (std::fabs(z[t * nz + 2] + 2.0) > 1e-6) return 2;
  std::printf("converged in %d iterations, final speed %.6f m/s\n", int(iterations), z[(N - 1) * nz + 1]);
  return 0;
}
