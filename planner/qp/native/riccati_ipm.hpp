// Primal-dual interior point with Mehrotra's predictor and corrector; Newton steps by a Riccati recursion over the tree.
//
// A block holds W instances side by side. Every limit v <= b or v >= b of a stage becomes a side with sign +1 or -1,
// slack s, multiplier l and compliance r:   s = sign (b - v) + r l,   s l -> tau.   With inv = 1 / (s + r l) and
// e = sign (b - v) + r l  Newton's step is
//     dl = inv (l (sign dv - e) + tau),   ds = e - s - sign dv + r dl,   weight in the Hessian  w = l inv,
// and for the predictor (tau = 0) both relative changes follow from one number, rho = dl / l = inv (sign dv - e),
// ds / s = -1 - rho. A proximal term on dl adds a little to r in these steps only: weights stay bounded, the recursion
// stays accurate, the solution stays the same. Limits whose two sides meet are equations, kept by that term alone.
// The dynamics hold at all times: states are rolled out from the inputs.
#pragma once

#include <time.h>

#include "stage_newton.hpp"

namespace {

constexpr double kToBoundary = 0.999;     // share of the step to the boundary that is taken
constexpr double kUsefulStep = 0.03;      // predictor steps shorter than this say nothing of second order
constexpr double kProximal = 1e-9;        // compliance of a proximal term on every multiplier, in the problem's scale
constexpr double kLeastProduct = 0.1;     // products aim no lower than this share of the tolerance
constexpr double kSmoothingError = 1e-7;  // of a product on the central path, relative
constexpr double kUnitShare = 0.3;        // slacks start at this share of the largest violation + the mean distance
constexpr double kLeastUnit = 1e-9;
constexpr double kLeastGradient = 1e-3;  // where the cost is flat at the start: this share of curvature x slack
constexpr double kStartProduct = 2;      // products that a cold start begins with, in the problem's scale
constexpr double kWarmProduct = 1e-2;    // and a warm one
constexpr double kMostDual = 1e6;        // of a start's multipliers, in the problem's scale
constexpr double kStalled = 100;         // x tolerance: a violation above this that does not fall
constexpr double kExploding = 1e4;       // mean multiplier, in the problem's scale; together the sign of an empty problem
constexpr int kMisses = 4;

inline double clock_now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

template <int W, int NX, int NU>
class InteriorPoint : public StageNewton<W, NX, NU> {
  using Base = StageNewton<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::S;
  using typename Base::Sides;
  using typename Base::Stage;
  using typename Base::T;
  using Base::K;
  using Base::at;
  using Base::broadcast;
  using Base::add_to;
  using Base::id;
  using Base::sign_of;
  using Base::count_;
  using Base::job_;
  using Base::limits_;
  using Base::member_;
  using Base::most;
  using Base::n_;
  using Base::pick;
  using Base::stage_;
  using Base::sum;

 public:
  using Base::Base;

  // Solve members first .. first + count - 1; 1 <= count <= W.
  void solve(int64_t first, int count) {
    this->load(first, count);
    for (int w = 0; w < W; ++w) lane_[w] = Lane{this->crossed_[w] ? DD_DIVERGING : kRunning, false, 0, 0, 0, 0, 1, 0, {}, 0, INFINITY};
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
  T slack_unit_{}, dual_unit_{}, product_unit_{}, proximal_{}, tolerance_{};

  template <class V>
  static V finite(V v) {
    return v - v == V{} ? v : V{};
  }
  double tolerance() const { return job_.options->tolerance; }

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
      const Sides& sd = st.sides;
      this->cost_gradient(st);
      for (int i = 0; i < nz; ++i) {
        gradient += magnitude(st.hz[i]);
        curvature += st.diagonal ? st.H[i] : st.H[i * (this->row_z() + 1)];
      }
      for (int k = 0; k < sd.n; ++k) {
        const S d = sd.bound[k] - sd.sign[k] * pick(st.val, sd.limit, k);
        violation_s = larger(violation_s, -d);
        distance_s += sd.bound[k] < kAbsent ? magnitude(d) : S{};
        if (sd.soft) price_s += sd.comply[k] > 0 ? larger(-d, S{}) / sd.comply[k] : S{};
      }
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
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      Sides& sd = st.sides;
      const T* bound = reinterpret_cast<const T*>(sd.bound);
      T *s = reinterpret_cast<T*>(sd.s), *l = reinterpret_cast<T*>(sd.l);
      for (int k = 0; k < sd.n * K; ++k) {
        s[k] = larger(bound[k] - sign_of(sd, k) * st.val[sd.limit[k]], smaller(s[k], slack_unit_));
        l[k] = goal / s[k];
      }
    }
  }

  // From the start's distances d and multipliers: the point on the central path with the same difference d - l.
  void begin_warm() {
    const auto l0 = this->source(job_.start->dual_lower), u0 = this->source(job_.start->dual_upper);
    const T goal = larger(kWarmProduct * product_unit_, broadcast(job_.options->smoothing));
    const T ratio = slack_unit_ / dual_unit_, most_dual = kMostDual * dual_unit_;
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      Sides& sd = st.sides;
      const T *bound = reinterpret_cast<const T*>(sd.bound), *comply = reinterpret_cast<const T*>(sd.comply);
      T *s = reinterpret_cast<T*>(sd.s), *l = reinterpret_cast<T*>(sd.l);
      for (int k = 0; k < sd.n * K; ++k) {
        const int64_t i = int64_t(t) * limits_ + id(st, sd.limit[k]);
        const double sign = sign_of(sd, k);
        T known = sign > 0 ? u0(i) : l0(i);
        known = smaller(larger(finite(known), T{}), most_dual);
        const T a = bound[k] - sign * st.val[sd.limit[k]] + comply[k] * known - ratio * known;
        T root;
        for (int w = 0; w < W; ++w) at(root, w) = sqrt(at(a, w) * at(a, w) + 4 * at(ratio, w) * at(goal, w));
        s[k] = a > 0 ? 0.5 * (a + root) : 2.0 * ratio * goal / (root - a);
        l[k] = goal / s[k];
      }
      for (int k = 0; k < st.equal.n; ++k) {
        const int64_t i = int64_t(t) * limits_ + id(st, st.equal.limit[k]);
        st.equal.y[k] = st.equal.on[k] * smaller(larger(finite(u0(i) - l0(i)), -most_dual), most_dual);
      }
    }
  }

  // The part of a step that is taken: nothing, not even NaN, where a lane rests.
  template <class V>
  static DD_INLINE V taken(const T& alpha, const V& step) {
    if constexpr (W == 1) {
      if (alpha == 0) return V{};
      return alpha * step;
    } else {
      return alpha > 0 ? alpha * step : V{};
    }
  }
  // Distance of a side from its limit, with what its multiplier buys.
  static DD_INLINE S distance(const Stage& st, int k, const S& l) {
    const Sides& sd = st.sides;
    const S d = sd.bound[k] - sd.sign[k] * pick(st.val, sd.limit, k);
    return sd.soft ? d + sd.comply[k] * l : d;
  }
  // Slack and multiplier of a side after the pending step, which is in e and x.
  static DD_INLINE void advance(const Sides& sd, int k, const T& alpha) {
    sd.s[k] += taken(alpha, sd.e[k]), sd.l[k] += taken(alpha, sd.x[k]);
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
        for (int k = 0; k < st.sides.n; ++k) advance(st.sides, k, alpha_);
        for (int k = 0; k < st.equal.n; ++k) st.equal.y[k] += taken(alpha_, st.equal.dy[k]);
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
    const double tol = tolerance(), goal = job_.options->smoothing;
    T* y = this->scratch_l_;
    T* gradient = this->scratch_w_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      const Sides& sd = st.sides;
      for (int i = 0; i < nz + st.rows; ++i) y[i] = T{};
      for (int k = 0; k < sd.n; ++k) {
        const auto present = sd.bound[k] < kAbsent;
        primal_s = larger(primal_s, magnitude(distance(st, k, sd.l[k]) - sd.s[k]) - tol * magnitude(sd.bound[k]));
        const S p = sd.s[k] * sd.l[k];
        product_s += present ? p : S{};
        worst_s = larger(worst_s, present ? magnitude(p - goal) : S{});
        add_to(y, sd.limit, k, sd.sign[k] * sd.l[k]);
      }
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
    const T alpha = alpha_;
    T* weight = this->scratch_w_;
    T* linear = this->scratch_l_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      const int limits = nz + st.rows;
      if (step) {
        for (int i = 0; i < limits; ++i) st.val[i] += taken(alpha, st.dval[i]);
        for (int k = 0; k < st.equal.n; ++k) st.equal.y[k] += taken(alpha, st.equal.dy[k]);
      }
      for (int i = 0; i < limits; ++i) weight[i] = linear[i] = T{};
      if (st.sides.soft)
        weigh<true>(st, step ? alpha : T{}, weight, linear, sides);
      else
        weigh<false>(st, step ? alpha : T{}, weight, linear, sides);
      const Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) {
        const T distance = off(st, k);
        total.primal = larger(total.primal, magnitude(distance) - tolerance() * magnitude(eq.b[k]));
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

  struct SideTotals {
    S product{}, primal{}, dual{};
  };
  // Takes the step alpha of the sides; leaves the distance in e.
  template <bool Soft>
  DD_INLINE void weigh(const Stage& st, const T& alpha, T* weight, T* linear, SideTotals& total) const {
    const Sides& sd = st.sides;
    const double tol = tolerance();
    const T proximal = proximal_;
    for (int k = 0; k < sd.n; ++k) {
      const S bound = sd.bound[k];
      const S s = sd.s[k] + taken(alpha, sd.e[k]), l = sd.l[k] + taken(alpha, sd.x[k]), both = s * l;
      const S d = bound - sd.sign[k] * pick(st.val, sd.limit, k), e = Soft ? d + sd.comply[k] * l : d;
      const auto present = bound < kAbsent;
      const S give = s + (Soft ? sd.comply[k] + proximal : S{} + proximal) * l, one = 1.0 / (both * give);
      const S inv = both * one;
      sd.s[k] = s, sd.l[k] = l, sd.e[k] = e, sd.inv[k] = inv, sd.isl[k] = present ? give * one : S{};
      total.primal = larger(total.primal, magnitude(e - s) - tol * magnitude(bound));
      total.product += present ? both : S{};
      total.dual += l;
      add_to(weight, sd.limit, k, padded(sd, k) * l * inv);
      add_to(linear, sd.limit, k, sd.sign[k] * (l - e * (l * inv)));
    }
  }
  // 0 for the sides that only fill a register.
  static DD_INLINE auto padded(const Sides& sd, int k) {
    if constexpr (W == 1) {
      return sd.sign[k] * sd.sign[k];
    } else {
      return 1.0;
    }
  }

  void newton_gradient(Stage& st, const T* linear) {
    const int nz = this->nz();
    alignas(64) T local[Base::kVector];
    T* gradient = NX ? local : this->scratch_g_;
    for (int i = 0; i < nz; ++i) gradient[i] = st.hz[i] + linear[i];
    this->pull_rows(st, linear, gradient);
    this->backward_stage(st, gradient);
  }

  // Predictor: the largest relative decrease, and the sum of ds dl; leaves ds dl in x.
  void predict(T& ratio, T& second) {
    S off_s{}, second_s{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      const Sides& sd = st.sides;
      for (int k = 0; k < sd.n; ++k) {
        // From the middle of the admissible range, -1 <= rho <= 0.
        const S off = sd.inv[k] * (sd.sign[k] * pick(st.dval, sd.limit, k) - sd.e[k]) + 0.5;
        off_s = larger(off_s, magnitude(off));
        const S x = sd.s[k] * sd.l[k] * (0.25 - off * off);
        second_s += x;
        sd.x[k] = x;
      }
    }
    ratio = most(off_s) + 0.5, second = sum(second_s);
  }

  // Corrector towards products of tau, less the predictor's second-order term scaled by `share`.
  void correct(const T& tau, const T& share, T& ratio, T& second, T& check) {
    const int nx = this->nx(), nz = this->nz();
    T* linear = this->scratch_l_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      for (int i = 0; i < nz + st.rows; ++i) linear[i] = T{};
      const Sides& sd = st.sides;
      for (int k = 0; k < sd.n; ++k) {
        const S goal = tau - share * sd.x[k], l = sd.l[k];
        sd.x[k] = goal;
        add_to(linear, sd.limit, k, sd.sign[k] * (l + sd.inv[k] * (goal - l * sd.e[k])));
      }
      const Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) linear[eq.limit[k]] += eq.y[k] + eq.w[k] * off(st, k);
      newton_gradient(st, linear);
    }
    S least_s{}, second_s{};
    check = T{};
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      for (int i = nx; i < nz; ++i) check += st.dval[i] * st.dval[i];
      if (st.sides.soft)
        step_sides<true>(st, least_s, second_s);
      else
        step_sides<false>(st, least_s, second_s);
      const Equations& eq = st.equal;
      // The distance apart from the step, which may be below the resolution of the value.
      for (int k = 0; k < eq.n; ++k) eq.dy[k] = eq.w[k] * (off(st, k) + st.dval[eq.limit[k]]);
    }
    ratio = most(-least_s), second = sum(second_s);
    check += second;
  }
  // Leaves the steps of slacks and multipliers in e and x.
  template <bool Soft>
  DD_INLINE void step_sides(const Stage& st, S& least, S& second) const {
    const Sides& sd = st.sides;
    const T proximal = proximal_;
    for (int k = 0; k < sd.n; ++k) {
      const S s = sd.s[k], l = sd.l[k], isl = sd.isl[k];
      const S miss = sd.sign[k] * pick(st.dval, sd.limit, k) - sd.e[k];
      const S dl = sd.inv[k] * (l * miss + sd.x[k]);
      const S ds = (Soft ? sd.comply[k] + proximal : S{} + proximal) * dl - miss - s;
      least = smaller(least, smaller(dl * s, ds * l) * isl);
      second += isl > 0 ? ds * dl : S{};
      sd.e[k] = ds, sd.x[k] = dl;
    }
  }

  bool good(int w) const {
    const Lane& lane = lane_[w];
    const double tol = tolerance(), goal = job_.options->smoothing;
    if (!(lane.primal <= tol && lane.dual <= tol * lane.scale)) return false;
    return goal > 0 ? lane.worst <= kSmoothingError * goal : lane.mu <= at(tolerance_, w);
  }

  void iterate() {
    const double tol = tolerance(), goal = job_.options->smoothing;
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
        if (stalls && lane.primal > kStalled * tol && dual_sum > kExploding * n * at(dual_unit_, w)) lane.outcome = DD_DIVERGING;
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
      const Sides& sd = st.sides;
      const T *l = reinterpret_cast<const T*>(sd.l), *bound = reinterpret_cast<const T*>(sd.bound);
      for (int w = 0; w < count; ++w) {
        const int64_t base = member_[w] * n_ + t;
        for (int i = 0; i < nz; ++i) out.z[base * nz + i] = finite(at(st.val[i], w));
        for (int i = 0; i < nx; ++i) out.costate[base * nx + i] = finite(at(st.costate[i], w));
        double *lower = out.dual_lower + base * limits_, *upper = out.dual_upper + base * limits_;
        for (int k = 0; k < sd.n * K; ++k) {
          const double direction = sign_of(sd, k);
          if (direction == 0 || at(bound[k], w) >= kAbsent) continue;
          (direction > 0 ? upper : lower)[id(st, sd.limit[k])] = finite(at(l[k], w));
        }
        for (int k = 0; k < st.equal.n; ++k) {
          const double y = finite(at(st.equal.y[k], w));
          if (at(st.equal.on[k], w) != 0) (y > 0 ? upper : lower)[id(st, st.equal.limit[k])] = magnitude(y);
        }
      }
    }
  }
};

}  // namespace
