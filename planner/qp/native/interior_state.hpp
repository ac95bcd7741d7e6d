// Where an interior point begins, and how far an iterate is from a solution.
#pragma once

#include "side_passes.hpp"

namespace {

constexpr double kProximal = 1e-9;        // compliance of a proximal term on every multiplier, in the problem's scale
constexpr double kSmoothingError = 1e-7;  // of a product on the central path, relative
constexpr double kUnitShare = 0.3;        // slacks start at this share of the largest violation + the mean distance
constexpr double kLeastUnit = 1e-9;
constexpr double kLeastGradient = 1e-3;  // where the cost is flat at the start: this share of curvature x slack
constexpr double kStartProduct = 10;     // products that a cold start begins with, in the problem's scale
constexpr double kWarmProduct = 1e-2;    // and a warm one
constexpr double kAgainProduct = 1e-6;  // and one that goes on after a guess of the active set failed
constexpr double kMostDual = 1e6;        // of a start's multipliers, in the problem's scale

template <int W, int NX, int NU>
class InteriorState : public SidePasses<W, NX, NU> {
 protected:
  using Base = SidePasses<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::S;
  using typename Base::Side;
  using typename Base::Stage;
  using typename Base::T;
  using Base::K;
  using Base::at;
  using Base::broadcast;
  using Base::count_;
  using Base::each_entry;
  using Base::each_limit;
  using Base::entry;
  using Base::id;
  using Base::job_;
  using Base::limits_;
  using Base::most;
  using Base::n_;
  using Base::part;
  using Base::proximal_;
  using Base::residual_tolerance;
  using Base::stage_;
  using Base::sum;
  using Base::taken;
  using Base::tolerance;

 public:
  using Base::Base;

 protected:
  static constexpr int kRunning = -1;
  struct Lane {
    int outcome;
    bool resting;  // believed to have arrived; not yet measured
    int iterations;
    double mu, primal, dual, scale, worst, kept_primal[4];
    int misses;  // measurements in a row that found it no better
    double best_error;
    bool undecided;  // a limit holds, or does not, by too little: no guess of the active set will do
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

  // From the start's distances and multipliers.
  void begin_warm() {
    const auto l0 = this->source(job_.start->dual_lower), u0 = this->source(job_.start->dual_upper);
    const T goal = larger(kWarmProduct * product_unit_, broadcast(job_.options->smoothing));
    const T most_dual = kMostDual * dual_unit_;
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      each_entry(st.sides, [&](int limit, Side& sd, int j, const T&, auto sign) {
        T& l = entry(sd.l, j) = T{};
        if (limit >= this->nz() + st.rows) return;
        const int64_t i = int64_t(t) * limits_ + id(st, limit);
        l = smaller(larger(finite(sign > 0 ? u0(i) : l0(i)), T{}), most_dual);
      });
      for (int k = 0; k < st.equal.n; ++k) {
        const int64_t i = int64_t(t) * limits_ + id(st, st.equal.limit[k]);
        st.equal.y[k] = st.equal.on[k] * smaller(larger(finite(u0(i) - l0(i)), -most_dual), most_dual);
      }
    }
    for (int w = 0; w < W; ++w) center(w, at(goal, w));
  }

  // A lane's point on the central path with the same differences of distance and multiplier.
  void center(int w, double goal) {
    const double ratio = at(slack_unit_, w) / at(dual_unit_, w);
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      each_entry(st.sides, [&](int limit, Side& sd, int j, const T& comply, auto sign) {
        double &s = at(entry(sd.s, j), w), &l = at(entry(sd.l, j), w);
        const double a = at(entry(sd.bound, j), w) - sign * at(st.val[limit], w) + (at(comply, w) - ratio) * l;
        const double root = sqrt(a * a + 4 * ratio * goal);
        s = a > 0 ? 0.5 * (a + root) : 2 * ratio * goal / (root - a);
        l = goal / s;
      });
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

  // The true residuals of every lane that is rolled out, with the costates: slacks, stationarity by the adjoint recursion.
  void measure() {
    const int nz = this->nz();
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

  bool good(int w) const {
    const Lane& lane = lane_[w];
    const double tol = residual_tolerance(), goal = job_.options->smoothing;
    if (!(lane.primal <= tol && lane.dual <= tol * lane.scale)) return false;
    return goal > 0 ? lane.worst <= kSmoothingError * goal : lane.mu <= at(tolerance_, w);
  }
};

}  // namespace
