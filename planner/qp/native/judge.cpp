#include "judge.hpp"

#include <math.h>
#include <string.h>

#include <memory>
#include <new>
#include <vector>

#define DD_EXPORT __attribute__((visibility("default")))
// The same loops for several instruction sets, chosen when the library is loaded.
#if defined(DD_X86) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define DD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define DD_CLONES
#endif

namespace {

const double* member(const dd_tensor& t, int64_t b) { return t.data + b * t.stride; }

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add_times(double* out, const double* row, double factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += factor * row[i];
}

void raise(double& worst, double value) {
  if (value > worst) worst = value;
}

bool finite(const double* d, int64_t size) {
  bool good = true;
  for (int64_t i = 0; i < size; ++i) good &= fabs(d[i]) < INFINITY;
  return good;
}

// Every number of the members from `first` to `last`; a shared tensor is looked at on request only.
bool finite(const dd_tensor& t, int64_t first, int64_t last, bool shared, int64_t size) {
  if (shared) return t.stride || finite(t.data, size);
  bool good = true;
  for (int64_t b = first; t.stride && b < last; ++b) good &= finite(member(t, b), size);
  return good;
}

// sign +1: a lower limit, which may be -infinite; -1: an upper one.
bool attainable(const double* d, int64_t size, double sign) {
  bool good = true;
  for (int64_t i = 0; i < size; ++i) good &= sign * d[i] < INFINITY;
  return good;
}
bool attainable(const dd_tensor& t, int64_t first, int64_t last, bool shared, int64_t size, double sign) {
  if (shared) return t.stride || attainable(t.data, size, sign);
  bool good = true;
  for (int64_t b = first; t.stride && b < last; ++b) good &= attainable(member(t, b), size, sign);
  return good;
}

struct Worst {
  double primal = 0, scaled = 0, wrong = 0, paid = 0;

  // One limit: its value, both sides, their multipliers.
  void limit(double value, double lower, double upper, double compliance, double down, double up) {
    side(value - upper - compliance * up, upper, up);
    side(lower - compliance * down - value, lower, down);
  }

  void side(double excess, double bound, double dual) {
    raise(wrong, -dual);
    if (isinf(bound)) return raise(wrong, dual);
    raise(primal, excess);
    raise(scaled, excess / (1 + fabs(bound)));
    if (dual > 0) raise(paid, dual * fabs(excess));
  }
};

}  // namespace

DD_CLONES bool valid_data(const dd_problem& p, int64_t first, int64_t last, bool shared) {
  const int64_t n = p.stages, nx = p.states, nu = p.inputs, m = p.rows, nz = nx + nu;
  const auto plain = [&](const dd_tensor& t, int64_t size) { return finite(t, first, last, shared, size); };
  const auto limit = [&](const dd_tensor& t, int64_t size, double sign) {
    return attainable(t, first, last, shared, size, sign);
  };
  bool good = plain(p.x0, nx) && plain(p.A, n * nx * nx) && plain(p.B, n * nx * nu) && plain(p.c, n * nx);
  good = good && plain(p.H, n * nz * nz) && plain(p.g, n * nz) && plain(p.C, n * m * nz) && plain(p.compliance, n * m);
  good = good && limit(p.z_lower, n * nz, 1) && limit(p.z_upper, n * nz, -1);
  good = good && limit(p.lower, n * m, 1) && limit(p.upper, n * m, -1);
  if (!good || shared != !p.compliance.stride) return good;
  for (int64_t b = shared ? 0 : first; b < (shared ? 1 : last); ++b)
    for (int64_t i = 0; i < n * m; ++i) good &= member(p.compliance, b)[i] >= 0;
  return good;
}

DD_CLONES void judge_members(const dd_problem& p, const dd_claim& claim, int64_t first, int64_t last,
                             double* residuals) {
  const int64_t n = p.stages, nx = p.states, nu = p.inputs, m = p.rows, nz = nx + nu, L = nz + m, B = p.batch;
  const std::unique_ptr<double[]> memory(new double[n * nx + 2 * nz]);
  double *left = memory.get(), *gradient = left + n * nx, *push = gradient + nz;
  for (int64_t b = first; b < last; ++b) {
    const double *z = claim.z + b * n * nz, *costate = claim.costate + b * n * nx;
    const double *down = claim.lower + b * n * L, *up = claim.upper + b * n * L;
    const double *A = member(p.A, b), *Bu = member(p.B, b), *c = member(p.c, b), *H = member(p.H, b);
    const double *g = member(p.g, b), *C = member(p.C, b), *x0 = member(p.x0, b), *zl = member(p.z_lower, b);
    const double *zu = member(p.z_upper, b), *lo = member(p.lower, b), *hi = member(p.upper, b);
    const double* r = member(p.compliance, b);
    Worst worst;
    double terms = 0, stationarity = 0, cost = 0;
    const bool sound = finite(z, n * nz) && finite(costate, n * nx) && finite(down, n * L) && finite(up, n * L);
    const double poison = sound ? 0 : NAN;
    for (int64_t i = 0; i < n * nx; ++i) left[i] = -costate[i];
    for (int64_t t = 0; t < n; ++t) {
      const double *x = z + t * nz, *u = x + nx, *past = p.parent[t] < 0 ? x0 : z + p.parent[t] * nz;
      const double *At = A + t * nx * nx, *Bt = Bu + t * nx * nu, *Ht = H + t * nz * nz, *Ct = C + t * m * nz;
      for (int64_t i = 0; i < nx; ++i) {
        const double astray = fabs(x[i] - dot(At + i * nx, past, nx) - dot(Bt + i * nu, u, nu) - c[t * nx + i]);
        raise(worst.primal, astray);
        raise(worst.scaled, astray / (1 + fabs(x[i])));
        if (p.parent[t] >= 0) add_times(&left[p.parent[t] * nx], At + i * nx, costate[t * nx + i], nx);
      }
      const double *dt = down + t * L, *ut = up + t * L;
      for (int64_t i = 0; i < nz; ++i) {
        worst.limit(x[i], zl[t * nz + i], zu[t * nz + i], 0, dt[i], ut[i]);
        push[i] = ut[i] - dt[i];
      }
      for (int64_t j = 0; j < m; ++j) {
        const int64_t k = t * m + j;
        worst.limit(dot(Ct + j * nz, x, nz), lo[k], hi[k], r[k], dt[nz + j], ut[nz + j]);
        add_times(push, Ct + j * nz, ut[nz + j] - dt[nz + j], nz);
      }
      for (int64_t i = 0; i < nz; ++i) {
        const double hz = dot(Ht + i * nz, x, nz), gi = g[t * nz + i];
        gradient[i] = hz + gi + push[i];
        raise(terms, fabs(hz));
        raise(terms, fabs(gi));
        raise(terms, fabs(push[i]));
        cost += x[i] * (0.5 * hz + gi);
      }
      for (int64_t i = 0; i < nx; ++i) {
        left[t * nx + i] += gradient[i];
        add_times(&gradient[nx], Bt + i * nu, costate[t * nx + i], nu);
      }
      for (int64_t i = nx; i < nz; ++i) raise(stationarity, fabs(gradient[i]));
    }
    for (int64_t i = 0; i < n * nx; ++i) raise(stationarity, fabs(left[i]));
    residuals[b] = worst.primal + poison;
    residuals[B + b] = worst.scaled + poison;
    residuals[2 * B + b] = (stationarity + worst.wrong) / (1 + terms) + poison;
    residuals[3 * B + b] = worst.paid / (1 + fabs(cost)) + poison;
  }
}

extern "C" DD_EXPORT int dd_judge(const dd_problem* problem, const dd_claim* claim, double* residuals) try {
  if (!valid_data(*problem, 0, problem->batch, true) || !valid_data(*problem, 0, problem->batch, false)) return 1;
  judge_members(*problem, *claim, 0, problem->batch, residuals);
  return 0;
} catch (const std::bad_alloc&) {
  return -2;
}

DD_CLONES void pull_back_members(const dd_problem& p, const dd_claim& solution, const dd_claim& sensitivity,
                                 const uint8_t* keep, int64_t first, int64_t last, double* const* gradients) {
  const int64_t n = p.stages, nx = p.states, nu = p.inputs, m = p.rows, nz = nx + nu, L = nz + m;
  const int64_t sizes[] = {nx, n * nx * nx, n * nx * nu, n * nx, n * nz * nz, n * nz,
                           n * nz, n * nz, n * m * nz, n * m, n * m, n * m};
  for (int64_t b = first; b < last; ++b) {
    const int64_t own = b - first;
    double* out[12];
    for (int k = 0; k < 12; ++k) out[k] = gradients[k] ? gradients[k] + b * sizes[k] : nullptr;
    if (!keep[own] || out[0]) {
      for (int k = 0; k < (keep[own] ? 1 : 12); ++k)
        if (out[k]) memset(out[k], 0, sizes[k] * sizeof(double));
      if (!keep[own]) continue;
    }
    const double *zb = solution.z + b * n * nz, *ab = sensitivity.z + own * n * nz, *x0 = member(p.x0, b);
    for (int64_t t = 0; t < n; ++t) {
      const double *z = zb + t * nz, *a = ab + t * nz;
      const double *costate = solution.costate + (b * n + t) * nx, *nu_ = sensitivity.costate + (own * n + t) * nx;
      const double *down = solution.lower + (b * n + t) * L, *up = solution.upper + (b * n + t) * L;
      const double *dlow = sensitivity.lower + (own * n + t) * L, *dup = sensitivity.upper + (own * n + t) * L;
      const int64_t q = p.parent[t];
      const double *past = q < 0 ? x0 : zb + q * nz, *moved = q < 0 ? nullptr : ab + q * nz;
      if (out[0] && q < 0)
        for (int64_t i = 0; i < nx; ++i) add_times(out[0], member(p.A, b) + (t * nx + i) * nx, nu_[i], nx);
      for (int64_t i = 0; i < nx; ++i) {
        if (out[1])
          for (int64_t j = 0; j < nx; ++j)
            out[1][(t * nx + i) * nx + j] = nu_[i] * past[j] + (moved ? costate[i] * moved[j] : 0);
        if (out[2])
          for (int64_t j = 0; j < nu; ++j) out[2][(t * nx + i) * nu + j] = nu_[i] * z[nx + j] + costate[i] * a[nx + j];
      }
      if (out[3]) memcpy(out[3] + t * nx, nu_, nx * sizeof(double));
      if (out[4])
        for (int64_t i = 0; i < nz; ++i)
          for (int64_t j = 0; j < nz; ++j) out[4][(t * nz + i) * nz + j] = 0.5 * (a[i] * z[j] + z[i] * a[j]);
      if (out[5]) memcpy(out[5] + t * nz, a, nz * sizeof(double));
      if (out[6]) memcpy(out[6] + t * nz, dlow, nz * sizeof(double));
      if (out[7]) memcpy(out[7] + t * nz, dup, nz * sizeof(double));
      if (out[8])
        for (int64_t j = 0; j < m; ++j) {
          const double y = up[nz + j] - down[nz + j], eta = -(dlow[nz + j] + dup[nz + j]);
          for (int64_t i = 0; i < nz; ++i) out[8][(t * m + j) * nz + i] = y * a[i] + eta * z[i];
        }
      if (out[9]) memcpy(out[9] + t * m, dlow + nz, m * sizeof(double));
      if (out[10]) memcpy(out[10] + t * m, dup + nz, m * sizeof(double));
      if (out[11])
        for (int64_t j = 0; j < m; ++j)
          out[11][t * m + j] = up[nz + j] * dup[nz + j] - down[nz + j] * dlow[nz + j];
    }
  }
}

extern "C" DD_EXPORT int dd_pull_back(const dd_problem* problem, const dd_claim* solution, const dd_claim* sensitivity,
                                      const uint8_t* keep, double* const* gradients) {
  pull_back_members(*problem, *solution, *sensitivity, keep, 0, problem->batch, gradients);
  return 0;
}

extern "C" DD_EXPORT int dd_margin(const dd_problem* problem, const double* weight_lower, const double* weight_upper,
                                   double* margins) try {
  const dd_problem& p = *problem;
  const int64_t n = p.stages, nx = p.states, nu = p.inputs, m = p.rows, nz = nx + nu, L = nz + m, B = p.batch;
  // Of the weighted sum as a function of z, with the states carried forward: signed, and the size of what cancels.
  std::vector<double> total(n * nx), size(n * nx), slope(nz), around(nz);
  for (int64_t b = 0; b < B; ++b) {
    const double *A = member(p.A, b), *Bu = member(p.B, b), *c = member(p.c, b), *C = member(p.C, b);
    const double *zl = member(p.z_lower, b), *zu = member(p.z_upper, b), *lo = member(p.lower, b);
    const double *hi = member(p.upper, b), *r = member(p.compliance, b), *x0 = member(p.x0, b);
    const double *wl = weight_lower + b * n * L, *wu = weight_upper + b * n * L;
    double constant = 0, terms = 0, weighted = 0;
    for (int64_t i = 0; i < n * nx; ++i) total[i] = size[i] = 0;
    for (int64_t t = n - 1; t >= 0; --t) {
      for (int64_t i = 0; i < nz; ++i) slope[i] = around[i] = 0;
      for (int64_t i = 0; i < nx; ++i) slope[i] = total[t * nx + i], around[i] = size[t * nx + i];
      for (int64_t k = 0; k < L; ++k) {
        const bool row = k >= nz;
        if (row ? r[t * m + k - nz] != 0 : k >= nx) continue;
        const double l = row ? lo[t * m + k - nz] : zl[t * nz + k], u = row ? hi[t * m + k - nz] : zu[t * nz + k];
        const double down = isfinite(l) && wl[t * L + k] > 0 ? wl[t * L + k] : 0;
        const double up = isfinite(u) && wu[t * L + k] > 0 ? wu[t * L + k] : 0;
        if (down > 0) constant += down * l, weighted += down * (1 + fabs(l));
        if (up > 0) constant -= up * u, weighted += up * (1 + fabs(u));
        if (!(down + up > 0)) continue;
        if (!row) {
          slope[k] += up - down, around[k] += up + down;
          continue;
        }
        for (int64_t i = 0; i < nz; ++i) {
          const double coefficient = C[(t * m + k - nz) * nz + i];
          slope[i] += coefficient * (up - down), around[i] += fabs(coefficient) * (up + down);
        }
      }
      double *before = nullptr, *beyond = nullptr;
      if (p.parent[t] >= 0) before = &total[p.parent[t] * nx], beyond = &size[p.parent[t] * nx];
      for (int64_t i = 0; i < nx; ++i) {
        if (around[i] == 0) continue;
        constant += c[t * nx + i] * slope[i], terms += fabs(c[t * nx + i]) * around[i];
        for (int64_t j = 0; j < nx; ++j) {
          const double a = A[(t * nx + i) * nx + j];
          if (before) before[j] += a * slope[i], beyond[j] += fabs(a) * around[i];
          else constant += a * slope[i] * x0[j], terms += fabs(a * x0[j]) * around[i];
        }
        for (int64_t j = 0; j < nu; ++j) {
          const double v = Bu[(t * nx + i) * nu + j];
          slope[nx + j] += v * slope[i], around[nx + j] += fabs(v) * around[i];
        }
      }
      for (int64_t j = nx; j < nz; ++j) {
        const double low = zl[t * nz + j], high = zu[t * nz + j];
        if (slope[j] != 0) constant += slope[j] > 0 ? slope[j] * low : slope[j] * high;
        if (isfinite(low)) terms += around[j] * fabs(low) * (!isfinite(high) || fabs(low) >= fabs(high));
        if (isfinite(high)) terms += around[j] * fabs(high) * (!isfinite(low) || fabs(high) > fabs(low));
      }
    }
    margins[b] = constant, margins[B + b] = weighted, margins[2 * B + b] = terms;
  }
  return 0;
} catch (const std::bad_alloc&) {
  return -2;
}
