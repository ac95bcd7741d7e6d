// Primal-dual interior point with Mehrotra's predictor and corrector; steps by a Riccati recursion over the tree.
//
// A block holds W instances side by side; what a step does to slacks and multipliers is in side_passes.hpp. Limits whose
// two sides meet are equations, kept by the proximal term alone. The dynamics hold at all times: states are rolled out
// from the inputs.
#pragma once

#include <time.h>

#include "active_set.hpp"

namespace {

constexpr double kToBoundary = 0.9995;    // share of the step to the boundary that is taken
constexpr double kWhileSeeking = 0.99;    // the same while the active set is sought: it shows sooner from a centred point
constexpr double kUsefulStep = 0.03;      // predictor steps shorter than this say nothing of second order
constexpr double kLeastProduct = 0.1;     // products aim no lower than this share of the tolerance
constexpr double kStalled = 100;         // x tolerance: a violation above this that does not fall
constexpr double kExploding = 1e4;       // mean multiplier, in the problem's scale; both: the sign of an empty problem
constexpr int kMisses = 4;

inline double clock_now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

template <int W, int NX, int NU>
class InteriorPoint : public ActiveSet<W, NX, NU> {
  using Base = ActiveSet<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::Lane;
  using typename Base::S;
  using typename Base::Side;
  using typename Base::SideTotals;
  using typename Base::Stage;
  using typename Base::T;
  using Base::alpha_;
  using Base::at;
  using Base::broadcast;
  using Base::count_;
  using Base::dual_unit_;
  using Base::each_entry;
  using Base::entry;
  using Base::finite;
  using Base::good;
  using Base::id;
  using Base::job_;
  using Base::kRunning;
  using Base::lane_;
  using Base::limits_;
  using Base::measure;
  using Base::member_;
  using Base::most;
  using Base::n_;
  using Base::off;
  using Base::residual_tolerance;
  using Base::stage_;
  using Base::sum;
  using Base::taken;
  using Base::tolerance_;

 public:
  using Base::Base;

  // Solve members first .. first + count - 1; 1 <= count <= W.
  void solve(int64_t first, int count) {
    this->load(first, count);
    for (int w = 0; w < W; ++w)
      lane_[w] = Lane{this->crossed_[w] ? DD_DIVERGING : kRunning, false, 0, 0, 0, 0, 1, 0, {}, 0, INFINITY, false};
    this->begin();
    iterate();
    store(count);
  }

 private:
  struct Totals {
    T product{}, primal{}, dual_sum{};
  };

  // Take the pending step, weigh the limits, factor, and prepare the predictor.
  Totals factor(bool step) {
    const int nz = this->nz();
    Totals total;
    SideTotals sides;
    const T alpha = step ? alpha_ : T{};
    T* weight = this->scratch_w_;
    T* linear = this->scratch_l_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      const int limits = nz + st.rows;
      for (int i = 0; i < limits; ++i) weight[i] = linear[i] = T{};
      if (st.sides.soft)
        this->template weigh<true>(st, alpha, weight, linear, sides);
      else
        this->template weigh<false>(st, alpha, weight, linear, sides);
      if (step) {
        for (int i = 0; i < limits; ++i) st.val[i] += taken(alpha, st.dval[i]);
        for (int k = 0; k < st.equal.n; ++k) st.equal.y[k] += taken(alpha, st.equal.dy[k]);
      }
      const Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) {
        const T distance = off(st, k);
        total.primal = larger(total.primal, magnitude(distance) - residual_tolerance() * magnitude(eq.b[k]));
        total.dual_sum += magnitude(eq.y[k]);
        weight[eq.limit[k]] += eq.w[k];
        linear[eq.limit[k]] += eq.y[k] + eq.w[k] * distance;
      }
      this->factor_stage(st, weight);
      this->cost_gradient(st);
      this->newton_gradient(st, linear);
    }
    total.primal = larger(total.primal, most(sides.primal));
    total.product = sum(sides.product);
    total.dual_sum += sum(sides.dual);
    return total;
  }

  // Predictor: the largest relative decrease, and the sum of ds dl.
  void predict(T& ratio, T& second, T& set) {
    S off{}, product{}, held{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      if (st.sides.soft)
        this->template predict_sides<true>(st, off, product, held);
      else
        this->template predict_sides<false>(st, off, product, held);
    }
    ratio = most(off) + 0.5, second = sum(product), set = sum(held);
  }
  // Corrector towards products of tau, less the predictor's second-order term scaled by `share`.
  void correct(const T& tau, const T& share, T& ratio, T& second, T& check, T& set) {
    const int nx = this->nx(), nz = this->nz();
    T* linear = this->scratch_l_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      for (int i = 0; i < nz + st.rows; ++i) linear[i] = T{};
      if (st.sides.soft)
        this->template aim<true>(st, tau, share, linear);
      else
        this->template aim<false>(st, tau, share, linear);
      const Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) linear[eq.limit[k]] += eq.y[k] + eq.w[k] * off(st, k);
      this->newton_gradient(st, linear);
    }
    S least{}, product{}, held{};
    check = T{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      for (int i = nx; i < nz; ++i) check += st.dval[i] * st.dval[i];
      if (st.sides.soft)
        this->template step_sides<true>(st, least, product, held);
      else
        this->template step_sides<false>(st, least, product, held);
      const Equations& eq = st.equal;
      // The distance apart from the step, which may be below the resolution of the value.
      for (int k = 0; k < eq.n; ++k) eq.dy[k] = eq.w[k] * (off(st, k) + st.dval[eq.limit[k]]);
    }
    ratio = most(-least), second = sum(product), set = sum(held);
    check += second;
  }
  void iterate() {
    const double tol = residual_tolerance(), goal = job_.options->smoothing;
    measure();
    bool pending = false;
    for (int w = 0; w < W; ++w) lane_[w].resting = lane_[w].outcome >= 0 || good(w);
    for (int it = 0; it <= job_.options->iterations; ++it) {
      bool all_rest = true;
      for (int w = 0; w < W; ++w) all_rest &= lane_[w].resting || lane_[w].outcome >= 0;
      if (all_rest) {
        // Those that rest are believed to have arrived; what counts is the measurement.
        this->roll_out(pending), measure();
        pending = false;
        alpha_ = T{};
        bool all_done = true;
        for (int w = 0; w < W; ++w) {
          Lane& lane = lane_[w];
          if (lane.outcome >= 0) continue;
          if (good(w)) {
            lane.outcome = DD_CONVERGED;
            continue;
          }
          // Rounding may keep an ill-conditioned member from the tolerance for good.
          const double error = larger(lane.primal, lane.dual / lane.scale);
          lane.misses = error < 0.5 * lane.best_error ? 0 : lane.misses + 1;
          lane.best_error = smaller(lane.best_error, error);
          if (lane.misses >= kMisses) {
            lane.outcome = DD_NUMERICAL;
            continue;
          }
          lane.resting = false, all_done = false;
        }
        if (all_done) return;
      }
      const bool late = clock_now() >= job_.stop_at;
      if (late || it == job_.options->iterations) {
        if (!all_rest) this->roll_out(pending), measure();
        for (int w = 0; w < W; ++w)
          if (lane_[w].outcome < 0)
            lane_[w].outcome = good(w) ? DD_CONVERGED : late ? DD_OUT_OF_TIME : DD_ITERATION_LIMIT;
        return;
      }
      const Totals total = factor(pending);
      T ratio, second, check, predicted, corrected;
      predict(ratio, second, predicted);
      const T affine = 1.0 / larger(broadcast(1), ratio);
      T tau, share;
      for (int w = 0; w < W; ++w) {
        const double n = at(count_, w) > 0 ? at(count_, w) : 1, mu = at(total.product, w) / n, a = at(affine, w);
        const double reached = ((1 - a) * mu * n + a * a * at(second, w)) / n;
        double sigma = mu > 0 ? reached / mu : 0;
        const double squared = sigma * sigma;
        sigma = squared * squared * (this->seeks(w) ? squared : 1);
        const double aim = larger(sigma * mu, larger(goal, kLeastProduct * at(tolerance_, w)));
        at(tau, w) = aim;
        at(share, w) = mu > 0 && a > kUsefulStep ? larger(0.0, 1 - aim / mu) : 0;
        lane_[w].mu = mu, lane_[w].primal = at(total.primal, w);
      }
      share *= share;
      // Products aim at tau less the scaled second-order term; that of a step is their sum.
      const T target = count_ * tau - share * second;
      correct(tau, share, ratio, second, check, corrected);
      const double reach = this->seeks(0) ? kWhileSeeking : kToBoundary;
      alpha_ = smaller(broadcast(1), reach / larger(ratio, broadcast(1e-300)));
      pending = true;
      for (int w = 0; w < W; ++w) {
        Lane& lane = lane_[w];
        const double a = at(alpha_, w);
        if (lane.outcome >= 0 || lane.resting) {
          at(alpha_, w) = 0;
          continue;
        }
        if (!(magnitude(at(check, w)) < 1e200) || !(a >= 0)) {
          lane.outcome = DD_NUMERICAL;
          at(alpha_, w) = 0;
          continue;
        }
        ++lane.iterations;
        const double n = at(count_, w) > 0 ? at(count_, w) : 1;
        const double mu = (1 - a) * lane.mu + (a * at(target, w) + a * a * at(second, w)) / n;
        lane.dual *= 1 - a;
        const double primal = (1 - a) * lane.primal;
        const bool arrived = goal > 0 ? magnitude(mu - goal) <= 0.01 * goal : mu <= at(tolerance_, w);
        lane.resting = arrived && primal <= tol && lane.dual <= tol * lane.scale;
        const double dual_sum = at(total.dual_sum, w);
        const int slot = lane.iterations % 4;
        const bool stalls = lane.iterations > 4 && lane.primal > 0.5 * lane.kept_primal[slot];
        const bool explodes = dual_sum > kExploding * n * at(dual_unit_, w);
        if (stalls && explodes && lane.primal > kStalled * tol) lane.outcome = DD_DIVERGING;
        lane.kept_primal[slot] = lane.primal;
      }
      if (this->finish(predicted, corrected)) pending = false;
      if (W == 1 && lane_[0].outcome == DD_CONVERGED) return;
    }
  }

  void store(int count) {
    const int nx = this->nx(), nz = this->nz();
    const dd_solution& out = *job_.solution;
    double *z[W], *costate[W], *below[W], *above[W];
    for (int w = 0; w < count; ++w) {
      const int64_t b = member_[w], from = b * n_;
      out.outcome[b] = lane_[w].outcome, out.iterations[b] = lane_[w].iterations;
      z[w] = out.z + from * nz, costate[w] = out.costate + from * nx;
      below[w] = out.dual_lower + from * limits_, above[w] = out.dual_upper + from * limits_;
    }
    T *values = this->flat_, *lower = values, *upper = lower + limits_;  // of one stage
    for (int t = 0; t < n_; ++t) {
      const Stage& st = stage_[t];
      for (int i = 0; i < nz; ++i) values[i] = finite(st.val[i]);
      spread(z, int64_t(t) * nz, values, nz, count);
      for (int i = 0; i < nx; ++i) values[i] = finite(st.costate[i]);
      spread(costate, int64_t(t) * nx, values, nx, count);
      for (int i = 0; i < limits_; ++i) lower[i] = upper[i] = T{};
      each_entry(st.sides, [&](int limit, Side& sd, int j, const T&, auto sign) {
        if (limit < nz + st.rows)
          (sign > 0 ? upper : lower)[id(st, limit)] = entry(sd.bound, j) < kAbsent ? finite(entry(sd.l, j)) : T{};
      });
      for (int k = 0; k < st.equal.n; ++k) {
        const int i = id(st, st.equal.limit[k]);
        const T y = finite(st.equal.y[k]);
        const auto held = st.equal.on[k] > 0;
        upper[i] = held ? larger(y, T{}) : upper[i], lower[i] = held ? larger(-y, T{}) : lower[i];
      }
      spread(below, int64_t(t) * limits_, lower, limits_, count);
      spread(above, int64_t(t) * limits_, upper, limits_, count);
    }
  }
};

}  // namespace
