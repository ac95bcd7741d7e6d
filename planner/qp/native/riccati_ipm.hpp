// Primal-dual interior point with Mehrotra's predictor and corrector; steps by a Riccati recursion over the tree.
//
// A block holds W instances side by side; what a step does to slacks and multipliers is in side_passes.hpp. Limits whose
// two sides meet are equations, kept by the proximal term alone. The dynamics hold at all times: states are rolled out
// from the inputs.
#pragma once

#include <time.h>

#include "side_passes.hpp"

namespace {

constexpr double kToBoundary = 0.9995;    // share of the step to the boundary that is taken
constexpr double kUsefulStep = 0.03;      // predictor steps shorter than this say nothing of second order
constexpr double kProximal = 1e-9;        // compliance of a proximal term on every multiplier, in the problem's scale
constexpr double kLeastProduct = 0.1;     // products aim no lower than this share of the tolerance
constexpr double kSmoothingError = 1e-7;  // of a product on the central path, relative
constexpr double kUnitShare = 0.3;        // slacks start at this share of the largest violation + the mean distance
constexpr double kLeastUnit = 1e-9;
constexpr double kLeastGradient = 1e-3;  // where the cost is flat at the start: this share of curvature x slack
constexpr double kStartProduct = 10;     // products that a cold start begins with, in the problem's scale
constexpr double kWarmProduct = 1e-2;    // and a warm one
constexpr double kMostDual = 1e6;        // of a start's multipliers, in the problem's scale
constexpr double kStalled = 100;         // x tolerance: a violation above this that does not fall
constexpr double kExploding = 1e4;       // mean multiplier, in the problem's scale; both: the sign of an empty problem
constexpr int kMisses = 4;

inline double clock_now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

template <int W, int NX, int NU>
class InteriorPoint : public SidePasses<W, NX, NU> {
  using Base = SidePasses<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::S;
  using typename Base::Side;
  using typename Base::Sides;
  using typename Base::SideTotals;
  using typename Base::Stage;
  using typename Base::T;
  using Base::K;
  using Base::at;
  using Base::broadcast;
  using Base::each_entry;
  using Base::each_limit;
  using Base::entry;
  using Base::id;
  using Base::count_;
  using Base::job_;
  using Base::limits_;
  using Base::member_;
  using Base::most;
  using Base::n_;
  using Base::part;
  using Base::stage_;
  using Base::proximal_;
  using Base::residual_tolerance;
  using Base::sum;
  using Base::taken;
  using Base::tolerance;

 public:
  using Base::Base;

  // Solve members first .. first + count - 1; 1 <= count <= W.
  void solve(int64_t first, int count) {
    this->load(first, count);
    for (int w = 0; w < W; ++w)
      lane_[w] = Lane{this->crossed_[w] ? DD_DIVERGING : kRunning, false, 0, 0, 0, 0, 1, 0, {}, 0, INFINITY};
    begin();
    iterate();
    store(count);
  }

 private:
  static constexpr int kRunning = -1;
  struct Lane {
    int outcome;
    bool resting;  // believed to have arrived; not yet measured
    int iterations;
    double mu, primal, dual, scale, worst, kept_primal[4];
    int misses;  // measurements in a row that found it no better
    double best_error;
  };
  struct Totals {
    T product{}, primal{}, dual_sum{};
  };

  Lane lane_[W];
  T alpha_{};  // step taken next; 0 where a lane rests
  T slack_unit_{}, dual_unit_{}, product_unit_{}, tolerance_{};

  template <class V>
  static V finite(V v) {
    return v - v == V{} ? v : V{};
  }
  // Inputs at zero, or at the start's, inside their bounds; then slacks and multipliers in the problem's own scale.
  void begin() {
    const int nx = this->nx(), nz = this->nz();
    const auto zl = this->source(job_.problem->z_lower), zu = this->source(job_.problem->z_upper);
    const auto z0 = this->source(job_.start ? job_.start->z : job_.problem->z_lower);
    for (int t = 0; t < n_; ++t)
      for (int i = nx; i < nz; ++i) {
        const int64_t k = int64_t(t) * nz + i;
        stage_[t].val[i] = smaller(larger(job_.start ? finite(z0(k)) : T{}, zl(k)), zu(k));
      }
    roll_out(false);
    measure_scales();
    if (job_.start)
      begin_warm();
    else
      begin_cold();
  }

  // Typical slack (the largest violation, the mean distance) and multiplier (the mean gradient) at the first roll-out.
  void measure_scales() {
    const int nz = this->nz();
    T violation{}, distance{}, gradient{}, curvature{};
    S violation_s{}, distance_s{}, price_s{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->cost_gradient(st);
      for (int i = 0; i < nz; ++i) {
        gradient += magnitude(st.hz[i]);
        curvature += st.diagonal ? st.H[i] : st.H[i * (this->row_z() + 1)];
      }
      each_limit(st.sides, [&](int limit, auto&& sides) {
        const S v = part(st.val, limit);
        sides([&](Side& sd, const S& comply, auto sign) {
          const S d = sd.bound - sign * v;
          violation_s = larger(violation_s, -d);
          distance_s += sd.bound < kAbsent ? magnitude(d) : S{};
          if (st.sides.soft) price_s += comply > 0 ? larger(-d, S{}) / comply : S{};
        });
      });
      for (int k = 0; k < st.equal.n; ++k) {
        const T off = st.equal.on[k] * magnitude(st.val[st.equal.limit[k]] - st.equal.b[k]);
        violation = larger(violation, off);
        gradient += st.equal.comply[k] > 0 ? off / st.equal.comply[k] : T{};
      }
    }
    violation = larger(violation, most(violation_s)), distance = sum(distance_s) / larger(count_, broadcast(1));
    slack_unit_ = larger(kUnitShare * (violation + distance), broadcast(kLeastUnit));
    const double entries = double(n_) * nz;
    dual_unit_ = larger((gradient + sum(price_s)) / entries, kLeastGradient * curvature / entries * slack_unit_);
    dual_unit_ = larger(dual_unit_, broadcast(kLeastUnit));
    product_unit_ = slack_unit_ * dual_unit_;
    proximal_ = kProximal * slack_unit_ / dual_unit_;
    for (int t = 0; t < n_; ++t) {
      Equations& eq = stage_[t].equal;
      for (int k = 0; k < eq.n; ++k) eq.w[k] = eq.on[k] / (eq.comply[k] > 0 ? eq.comply[k] : proximal_);
    }
    tolerance_ = tolerance() * product_unit_;
  }

  void begin_cold() {
    const T goal = larger(kStartProduct * product_unit_, broadcast(job_.options->smoothing));
    for (int t = 0; t < n_; ++t)
      each_entry(stage_[t].sides, [&](int limit, Side& sd, int j, const T&, auto sign) {
        T &s = entry(sd.s, j), &l = entry(sd.l, j);
        s = larger(entry(sd.bound, j) - sign * stage_[t].val[limit], smaller(s, slack_unit_));
        l = goal / s;
      });
  }

  // From the start's distances d and multipliers: the point on the central path with the same difference d - l.
  void begin_warm() {
    const auto l0 = this->source(job_.start->dual_lower), u0 = this->source(job_.start->dual_upper);
    const T goal = larger(kWarmProduct * product_unit_, broadcast(job_.options->smoothing));
    const T ratio = slack_unit_ / dual_unit_, most_dual = kMostDual * dual_unit_;
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      each_entry(st.sides, [&](int limit, Side& sd, int j, const T& comply, auto sign) {
        T known = broadcast(0), root, &s = entry(sd.s, j), &l = entry(sd.l, j);
        if (limit < this->nz() + st.rows) {
          const int64_t i = int64_t(t) * limits_ + id(st, limit);
          known = smaller(larger(finite(sign > 0 ? u0(i) : l0(i)), T{}), most_dual);
        }
        const T a = entry(sd.bound, j) - sign * st.val[limit] + comply * known - ratio * known;
        for (int w = 0; w < W; ++w) at(root, w) = sqrt(at(a, w) * at(a, w) + 4 * at(ratio, w) * at(goal, w));
        s = a > 0 ? 0.5 * (a + root) : 2.0 * ratio * goal / (root - a);
        l = goal / s;
      });
      for (int k = 0; k < st.equal.n; ++k) {
        const int64_t i = int64_t(t) * limits_ + id(st, st.equal.limit[k]);
        st.equal.y[k] = st.equal.on[k] * smaller(larger(finite(u0(i) - l0(i)), -most_dual), most_dual);
      }
    }
  }

  // States and rows from the inputs; with the pending step of inputs, slacks and multipliers if `step`.
  void roll_out(bool step) {
    const int nx = this->nx(), nz = this->nz();
    const auto x0 = this->source(job_.problem->x0);
    T* root = this->scratch_g_;
    for (int i = 0; i < nx; ++i) root[i] = x0(i);
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      if (step) {
        this->advance_all(st, alpha_);
        for (int i = nx; i < nz; ++i) st.val[i] += taken(alpha_, st.dval[i]);
      }
      const T* past = st.parent < 0 ? root : stage_[st.parent].val;
      for (int i = 0; i < nx; ++i) st.val[i] = this->row_dot(st.F, i, past, st.val, st.c[i]);
      this->apply_rows(st, st.val);
    }
  }

  // The true residuals of every lane, with the costates: roll-out, slacks, stationarity by the adjoint recursion.
  void measure(bool step) {
    const int nz = this->nz();
    roll_out(step);
    T primal{}, dual{}, scale{};
    S primal_s{}, product_s{}, worst_s{};
    const double tol = residual_tolerance(), goal = job_.options->smoothing;
    T* y = this->scratch_l_;
    T* gradient = this->scratch_w_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      for (int i = 0; i < nz + st.rows; ++i) y[i] = T{};
      each_limit(st.sides, [&](int limit, auto&& sides) {
        const S v = part(st.val, limit);
        S push{};
        sides([&](Side& sd, const S& comply, auto sign) {
          const auto present = sd.bound < kAbsent;
          const S apart = magnitude(this->template distance<true>(sd, comply, sign, v) - sd.s);
          primal_s = larger(primal_s, apart - tol * magnitude(sd.bound));
          const S p = sd.s * sd.l;
          product_s += present ? p : S{};
          worst_s = larger(worst_s, present ? magnitude(p - goal) : S{});
          push += sign * sd.l;
        });
        part(y, limit) = push;
      });
      const Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) {
        y[eq.limit[k]] += eq.y[k];
        primal = larger(primal, magnitude(off(st, k)) - tol * magnitude(eq.b[k]));
      }
      this->cost_gradient(st);
      for (int i = 0; i < nz; ++i) gradient[i] = y[i];
      this->pull_rows(st, y, gradient);
      for (int i = 0; i < nz; ++i) {
        scale = larger(scale, larger(magnitude(gradient[i]), larger(magnitude(st.hz[i]), magnitude(st.g[i]))));
        gradient[i] += st.hz[i];
      }
      this->costate_stage(st, gradient, dual);
    }
    primal = larger(primal, most(primal_s));
    const T product = sum(product_s), worst = most(worst_s);
    for (int w = 0; w < W; ++w) {
      Lane& lane = lane_[w];
      const double n = at(count_, w);
      lane.mu = n > 0 ? at(product, w) / n : 0;
      lane.primal = at(primal, w), lane.dual = at(dual, w), lane.scale = 1 + at(scale, w), lane.worst = at(worst, w);
    }
  }

  // How far an equation is from holding; 0 where the lane has none.
  static DD_INLINE T off(const Stage& st, int k) {
    const Equations& eq = st.equal;
    return eq.on[k] * (st.val[eq.limit[k]] - eq.b[k] - eq.comply[k] * eq.y[k]);
  }

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
      newton_gradient(st, linear);
    }
    total.primal = larger(total.primal, most(sides.primal));
    total.product = sum(sides.product);
    total.dual_sum += sum(sides.dual);
    return total;
  }

  void newton_gradient(Stage& st, const T* linear) {
    const int nz = this->nz();
    alignas(64) T local[Base::kVector];
    T* gradient = NX ? local : this->scratch_g_;
    for (int i = 0; i < nz; ++i) gradient[i] = st.hz[i] + linear[i];
    this->pull_rows(st, linear, gradient);
    this->backward_stage(st, gradient);
  }

  // Predictor: the largest relative decrease, and the sum of ds dl.
  void predict(T& ratio, T& second) {
    S off{}, product{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      if (st.sides.soft)
        this->template predict_sides<true>(st, off, product);
      else
        this->template predict_sides<false>(st, off, product);
    }
    ratio = most(off) + 0.5, second = sum(product);
  }
  // Corrector towards products of tau, less the predictor's second-order term scaled by `share`.
  void correct(const T& tau, const T& share, T& ratio, T& second, T& check) {
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
      newton_gradient(st, linear);
    }
    S least{}, product{};
    check = T{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      for (int i = nx; i < nz; ++i) check += st.dval[i] * st.dval[i];
      if (st.sides.soft)
        this->template step_sides<true>(st, least, product);
      else
        this->template step_sides<false>(st, least, product);
      const Equations& eq = st.equal;
      // The distance apart from the step, which may be below the resolution of the value.
      for (int k = 0; k < eq.n; ++k) eq.dy[k] = eq.w[k] * (off(st, k) + st.dval[eq.limit[k]]);
    }
    ratio = most(-least), second = sum(product);
    check += second;
  }
  bool good(int w) const {
    const Lane& lane = lane_[w];
    const double tol = residual_tolerance(), goal = job_.options->smoothing;
    if (!(lane.primal <= tol && lane.dual <= tol * lane.scale)) return false;
    return goal > 0 ? lane.worst <= kSmoothingError * goal : lane.mu <= at(tolerance_, w);
  }

  void iterate() {
    const double tol = residual_tolerance(), goal = job_.options->smoothing;
    measure(false);
    bool pending = false;
    for (int w = 0; w < W; ++w) lane_[w].resting = lane_[w].outcome >= 0 || good(w);
    for (int it = 0; it <= job_.options->iterations; ++it) {
      bool all_rest = true;
      for (int w = 0; w < W; ++w) all_rest &= lane_[w].resting || lane_[w].outcome >= 0;
      if (all_rest) {
        // Those that rest are believed to have arrived; what counts is the measurement.
        measure(pending);
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
        if (!all_rest) measure(pending);
        for (int w = 0; w < W; ++w)
          if (lane_[w].outcome < 0)
            lane_[w].outcome = good(w) ? DD_CONVERGED : late ? DD_OUT_OF_TIME : DD_ITERATION_LIMIT;
        return;
      }
      const Totals total = factor(pending);
      T ratio, second, check;
      predict(ratio, second);
      const T affine = 1.0 / larger(broadcast(1), ratio);
      T tau, share;
      for (int w = 0; w < W; ++w) {
        const double n = at(count_, w) > 0 ? at(count_, w) : 1, mu = at(total.product, w) / n, a = at(affine, w);
        const double reached = ((1 - a) * mu * n + a * a * at(second, w)) / n;
        double sigma = mu > 0 ? reached / mu : 0;
        sigma *= sigma, sigma *= sigma;
        const double aim = larger(sigma * mu, larger(goal, kLeastProduct * at(tolerance_, w)));
        at(tau, w) = aim;
        at(share, w) = mu > 0 && a > kUsefulStep ? larger(0.0, 1 - aim / mu) : 0;
        lane_[w].mu = mu, lane_[w].primal = at(total.primal, w);
      }
      share *= share;
      // Products aim at tau less the scaled second-order term; that of a step is their sum.
      const T target = count_ * tau - share * second;
      correct(tau, share, ratio, second, check);
      alpha_ = smaller(broadcast(1), kToBoundary / larger(ratio, broadcast(1e-300)));
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
    }
  }


  void store(int count) {
    const int nx = this->nx(), nz = this->nz();
    const dd_solution& out = *job_.solution;
    for (int w = 0; w < count; ++w) {
      const int64_t b = member_[w];
      out.outcome[b] = lane_[w].outcome, out.iterations[b] = lane_[w].iterations;
      memset(out.dual_lower + b * n_ * limits_, 0, sizeof(double) * n_ * limits_);
      memset(out.dual_upper + b * n_ * limits_, 0, sizeof(double) * n_ * limits_);
    }
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      for (int w = 0; w < count; ++w) {
        const int64_t base = member_[w] * n_ + t;
        for (int i = 0; i < nz; ++i) out.z[base * nz + i] = finite(at(st.val[i], w));
        for (int i = 0; i < nx; ++i) out.costate[base * nx + i] = finite(at(st.costate[i], w));
        double *lower = out.dual_lower + base * limits_, *upper = out.dual_upper + base * limits_;
        each_entry(st.sides, [&](int limit, Side& sd, int j, const T&, auto sign) {
          if (at(entry(sd.bound, j), w) >= kAbsent) return;
          (sign > 0 ? upper : lower)[id(st, limit)] = finite(at(entry(sd.l, j), w));
        });
        for (int k = 0; k < st.equal.n; ++k) {
          const double y = finite(at(st.equal.y[k], w));
          if (at(st.equal.on[k], w) != 0) (y > 0 ? upper : lower)[id(st, st.equal.limit[k])] = magnitude(y);
        }
      }
    }
  }
};

}  // namespace
