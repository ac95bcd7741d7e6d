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
constexpr double kRefined = 1e-12;       // residual at which refinement ends

template <int W, int NX, int NU>
class Adjoint : public StageNewton<W, NX, NU> {
  using Base = StageNewton<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::Sides;
  using typename Base::Source;
  using typename Base::Stage;
  using typename Base::T;
  using Base::K;
  using Base::at;
  using Base::broadcast;
  using Base::id;
  using Base::sign_of;
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
  T** dz_ = nullptr;
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
    dz_ = this->template take<T*>(n_);
    kink_ = T{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      for (int i = 0; i < nz; ++i) st.val[i] = z(int64_t(t) * nz + i);
      this->apply_rows(st, st.val);
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
      const T *bounds = reinterpret_cast<const T*>(sd.bound), *soft = reinterpret_cast<const T*>(sd.comply);
      for (int k = 0; k < sd.n * K; ++k) {
        const int limit = sd.limit[k];
        const int64_t i = int64_t(t) * limits_ + id(st, limit);
        T norm = broadcast(1);
        if (limit >= nz) {
          const auto& row = st.row[limit - nz];
          norm = T{};
          for (int e = 0; e < row.entries; ++e) norm += this->entry(row, e) * this->entry(row, e);
        }
        T sign{}, give{};
        const T u = upper(i), l = lower(i);
        for (int w = 0; w < W; ++w) {
          const double direction = sign_of(sd, k);
          if (direction == 0 || at(bounds[k], w) >= kAbsent) continue;
          const double dual = larger(direction > 0 ? at(u, w) : at(l, w), 0.0), r = at(soft[k], w);
          if (mu > 0) {
            if (dual > 0) at(sign, w) = direction, at(give, w) = mu / (dual * dual) + r;
            continue;
          }
          const double slack = larger(at(bounds[k], w) - direction * at(st.val[limit], w) + r * dual, 0.0);
          const double size = larger(at(norm, w), 1e-300), push = dual * size;  // both scaled to the row of norm 1
          const bool holds = push > slack;
          const double doubt = holds ? slack / push : slack > 0 ? push / slack : 0;
          at(kink_, w) = larger(at(kink_, w), doubt);
          if (!holds && doubt < kUndecided) continue;
          at(sign, w) = direction;
          at(give, w) = r + (doubt < kUndecided ? 0 : slack / larger(dual, 1e-300));
        }
        if (any(!(sign == T{}))) add(limit, sign, give);
      }
      for (int k = 0; k < eq.n; ++k) {
        const int64_t i = int64_t(t) * limits_ + id(st, eq.limit[k]);
        T sign = eq.on[k];
        const T u = upper(i), l = lower(i);
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
    const Source grad = this->source(*job_.grad_z);
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
          T v = grad(int64_t(t) * nz + i);
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
    for (int w = 0; w < count; ++w) {
      const int64_t b = member_[w], from = b * n_;
      double* limits[2] = {out.dlower + from * limits_, out.dupper + from * limits_};
      for (double* side : limits) memset(side, 0, sizeof(double) * n_ * limits_);
      double check = at(residual_, w);
      for (int t = 0; t < n_; ++t) {
        const Stage& st = stage_[t];
        const Held& held = held_[t];
        for (int i = 0; i < nz; ++i) check += 0 * (out.dz[(from + t) * nz + i] = at(dz_[t][i], w));
        for (int i = 0; i < nx; ++i) check += 0 * (out.dcostate[(from + t) * nx + i] = at(st.costate[i], w));
        for (int k = 0; k < held.n; ++k) {
          const double direction = at(held.sign[k], w), dy = at(held.dy[k], w);
          if (direction != 0) limits[direction > 0][int64_t(t) * limits_ + id(st, held.limit[k])] = -dy;
          check += 0 * dy;
        }
      }
      const bool finite = check - check == 0;
      out.residual[b] = finite ? check : INFINITY;
      out.kink[b] = smaller(at(kink_, w), 1.0);
      if (finite) continue;
      memset(out.dz + from * nz, 0, sizeof(double) * n_ * nz);
      memset(out.dcostate + from * nx, 0, sizeof(double) * n_ * nx);
      for (double* side : limits) memset(side, 0, sizeof(double) * n_ * limits_);
    }
  }
};

}  // namespace
