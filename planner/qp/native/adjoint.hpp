// Derivatives of a scalar f(z) at a solution: the symmetric linear system
//
//     H dz + C' dy + grad_z = D' dcostate,   D dz = 0,   C dz = (s / l + r) dy   on the limits that hold,
//
// with D the dynamics, solved by the Riccati recursion with a proximal term on dy and iterative refinement against the
// true ratios s / l. The derivatives with respect to g, c and the limits are dz, dcostate and -dy.
#pragma once

#include "stage_newton.hpp"

namespace {

constexpr double kUndecided = 1e-3;      // below this, a limit's smaller number (multiplier or slack) counts as zero
constexpr double kProximalShare = 1e-9;   // compliance of the proximal term, over 1 / the mean curvature
constexpr int kRefinements = 6;
constexpr double kRefined = 1e-10;       // residual at which refinement ends

template <int W, int NX, int NU>
class Adjoint : public StageNewton<W, NX, NU> {
  using Base = StageNewton<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::Side;
  using typename Base::Sides;
  using typename Base::Source;
  using typename Base::Stage;
  using typename Base::T;
  using Base::K;
  using Base::at;
  using Base::broadcast;
  using Base::id;
  using Base::each_entry;
  using Base::entry;
  using Base::job_;
  using Base::limits_;
  using Base::member_;
  using Base::n_;
  using Base::stage_;

 public:
  using Base::Base;

  void solve(int64_t first, int count) {
    this->load(first, count);
    hold();
    factor();
    refine();
    store(count);
  }

 private:
  // Limits that hold in any lane, and what their multipliers' derivatives are.
  struct Held {
    int n;
    int32_t* limit;
    T *sign, *give, *w, *dy, *off;  // sign: 0 where the lane does not hold it; give = s / l + r
  };
  Held* held_ = nullptr;
  T **dz_ = nullptr, **grad_ = nullptr;
  T kink_{}, residual_{}, curvature_{};

  void hold() {
    const int nz = this->nz();
    const double mu = job_.options->smoothing;
    const Source z = this->source(job_.start->z), lower = this->source(job_.start->dual_lower),
                 upper = this->source(job_.start->dual_upper);
    T curvature{};
    for (int t = 0; t < n_; ++t)
      for (int i = 0; i < nz; ++i) curvature += stage_[t].diagonal ? stage_[t].H[i] : stage_[t].H[i * (this->row_z() + 1)];
    const T proximal = kProximalShare * (double(n_) * nz) / curvature;
    held_ = this->template take<Held>(n_);
    dz_ = this->template take<T*>(n_), grad_ = this->template take<T*>(n_);
    const Source grad = this->source(*job_.grad_z);
    T *down = this->slot_[0], *up = this->slot_[1];  // multipliers of a stage
    kink_ = T{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      z.part(st.val, t, nz);
      this->apply_rows(st, st.val);
      grad.part(grad_[t] = this->template take<T>(nz), t, nz);
      lower.part(down, t, limits_), upper.part(up, t, limits_);
      dz_[t] = this->template take<T>(nz);
      const Sides& sd = st.sides;
      const Equations& eq = st.equal;
      Held& held = held_[t];
      const int most = sd.n * K + eq.n;
      held.limit = this->template take<int32_t>(most);
      held.sign = this->template take<T>(most), held.give = this->template take<T>(most);
      held.w = this->template take<T>(most), held.dy = this->template take<T>(most);
      held.off = this->template take<T>(most);
      held.n = 0;
      const auto add = [&](int limit, const T& sign, const T& give) {
        const int k = held.n++;
        held.limit[k] = limit, held.sign[k] = sign, held.give[k] = give;
        held.w[k] = sign * sign / (give + proximal);
        held.dy[k] = held.off[k] = T{};
      };
      // Squared lengths of the rows; bounds have length one.
      T* norm = this->scratch_l_;
      for (int i = 0; i < nz; ++i) norm[i] = broadcast(1);
      for (int r = 0; r < st.rows; ++r) {
        norm[nz + r] = T{};
        for (int e = 0; e < st.row[r].entries; ++e) norm[nz + r] += this->entry(st.row[r], e) * this->entry(st.row[r], e);
      }
      const T none{}, tiny = broadcast(1e-300);
      each_entry(sd, [&](int limit, Side& side, int j, const T& comply, auto direction) {
        if (limit >= nz + st.rows) return;
        const int i = id(st, limit);
        const T& bound = entry(side.bound, j);
        const auto present = bound < kAbsent;
        const T along = present ? broadcast(direction) : none;
        const T dual = larger(direction > 0 ? up[i] : down[i], none);
        if (mu > 0) {
          const T sign = dual > 0 ? along : none;
          if (any(!(sign == none))) add(limit, sign, sign == none ? none : mu / (dual * dual) + comply);
          return;
        }
        const T slack = larger(bound - direction * st.val[limit] + comply * dual, none);
        const T push = dual * larger(norm[limit], tiny);  // both scaled to the row of norm 1
        const auto holds = push > slack;
        const T more = larger(push, slack), doubt = !present || more == none ? none : smaller(push, slack) / more;
        kink_ = larger(kink_, doubt);
        const T sign = holds || doubt >= kUndecided ? along : none;
        if (!any(!(sign == none))) return;
        add(limit, sign, sign == none ? none : comply + (doubt < kUndecided ? none : slack / larger(dual, tiny)));
      });
      for (int k = 0; k < eq.n; ++k) {
        const int i = id(st, eq.limit[k]);
        T sign = eq.on[k];
        const T u = up[i], l = down[i];
        for (int w = 0; w < W; ++w)
          if (at(l, w) > at(u, w)) at(sign, w) = -at(sign, w);
        add(eq.limit[k], sign, eq.comply[k]);
      }
    }
  }

  void factor() {
    const int nz = this->nz();
    T* weight = this->scratch_w_;
    curvature_ = T{};
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      for (int i = 0; i < nz + st.rows; ++i) weight[i] = T{};
      const Held& held = held_[t];
      for (int k = 0; k < held.n; ++k) weight[held.limit[k]] += held.w[k];
      for (int i = 0; i < nz; ++i) {
        const T h = st.diagonal ? st.H[i] : st.H[i * (this->row_z() + 1)];
        curvature_ = larger(curvature_, h);
      }
      this->factor_stage(st, weight);
      for (int i = 0; i < nz; ++i) dz_[t][i] = T{};
    }
  }

  // Residual of the full system at (dz, dy), with dcostate; then one correction by the factored one.
  void refine() {
    const int nz = this->nz();
    T* pushed = this->scratch_w_;
    T* linear = this->scratch_l_;
    for (int round = 0;; ++round) {
      T stationarity{}, broken{}, size{};
      for (int t = n_ - 1; t >= 0; --t) {
        Stage& st = stage_[t];
        Held& held = held_[t];
        alignas(64) T local[Base::kVector];
        T* gradient = NX ? local : this->scratch_g_;
        for (int i = 0; i < nz + st.rows; ++i) pushed[i] = linear[i] = T{};
        if (round > 0) {
          for (int i = 0; i < nz; ++i) st.val[i] = dz_[t][i];
          this->apply_rows(st, st.val);
        }
        for (int k = 0; k < held.n; ++k) {
          const int i = held.limit[k];
          if (round > 0) held.off[k] = held.sign[k] * held.sign[k] * (st.val[i] - held.give[k] * held.dy[k]);
          broken = larger(broken, magnitude(held.off[k]));
          pushed[i] += held.dy[k];
          linear[i] += held.w[k] * held.off[k];
        }
        for (int i = 0; i < nz; ++i) {
          T v = grad_[t][i];
          size = larger(size, magnitude(v));
          v += pushed[i];
          if (st.diagonal)
            v += st.H[i] * dz_[t][i];
          else
            for (int j = 0; j < nz; ++j) v += st.H[i * this->row_z() + j] * dz_[t][j];
          gradient[i] = v;
        }
        this->pull_rows(st, pushed, gradient);
        this->costate_stage(st, gradient, stationarity);
        for (int i = 0; i < nz; ++i) gradient[i] += linear[i];
        this->pull_rows(st, linear, gradient);
        this->backward_stage(st, gradient);
      }
      residual_ = larger(stationarity, broken * curvature_) / larger(size, broadcast(1e-300));
      bool small = true;
      for (int w = 0; w < W; ++w) small &= at(residual_, w) <= kRefined;
      if ((small && round > 0) || round == kRefinements) return;
      for (int t = 0; t < n_; ++t) {
        Stage& st = stage_[t];
        this->forward_stage(st);
        for (int i = 0; i < nz; ++i) dz_[t][i] += st.dval[i];
        Held& held = held_[t];
        for (int k = 0; k < held.n; ++k) held.dy[k] += held.w[k] * (st.dval[held.limit[k]] + held.off[k]);
      }
    }
  }

  void store(int count) {
    const int nx = this->nx(), nz = this->nz();
    const dd_gradient& out = *job_.gradient;
    double *dz[W], *costate[W], *below[W], *above[W];
    for (int w = 0; w < count; ++w) {
      const int64_t from = (member_[w] - job_.gradient_first) * n_;
      dz[w] = out.dz + from * nz, costate[w] = out.dcostate + from * nx;
      below[w] = out.dlower + from * limits_, above[w] = out.dupper + from * limits_;
    }
    T check = residual_, *lower = this->flat_, *upper = lower + limits_;  // of one stage
    for (int t = 0; t < n_; ++t) {
      const Stage& st = stage_[t];
      const Held& held = held_[t];
      for (int i = 0; i < nz; ++i) check += 0 * dz_[t][i];
      for (int i = 0; i < nx; ++i) check += 0 * st.costate[i];
      spread(dz, int64_t(t) * nz, dz_[t], nz, count);
      spread(costate, int64_t(t) * nx, st.costate, nx, count);
      for (int i = 0; i < limits_; ++i) lower[i] = upper[i] = T{};
      for (int k = 0; k < held.n; ++k) {
        const int i = id(st, held.limit[k]);
        upper[i] = held.sign[k] > 0 ? -held.dy[k] : upper[i], lower[i] = held.sign[k] < 0 ? -held.dy[k] : lower[i];
        check += 0 * held.dy[k];
      }
      spread(below, int64_t(t) * limits_, lower, limits_, count);
      spread(above, int64_t(t) * limits_, upper, limits_, count);
    }
    for (int w = 0; w < count; ++w) {
      const int64_t b = member_[w] - job_.gradient_first;
      const double residual = at(check, w);
      const bool finite = residual - residual == 0;
      out.residual[b] = finite ? residual : INFINITY;
      out.kink[b] = smaller(at(kink_, w), 1.0);
      if (finite) continue;
      memset(dz[w], 0, sizeof(double) * n_ * nz), memset(costate[w], 0, sizeof(double) * n_ * nx);
      memset(below[w], 0, sizeof(double) * n_ * limits_), memset(above[w], 0, sizeof(double) * n_ * limits_);
    }
  }
};

}  // namespace
