// The end of a solve in one step: the limits that hold at the optimum are guessed from the interior point's last step,
// and the equality-constrained problem that they leave is solved by the same recursion.
//
// In a Newton step the multiplier of a limit that will hold keeps its size and its slack loses it, and the other way
// round: the set shows long before the iterates have converged (El-Bakry, Tapia, Zhang 1994). Sides whose multiplier or
// slack comes out negative change over, and the step is tried again from the same iterate. A set stands if every
// multiplier and slack is clear of zero by what the central path at the tolerance leaves undecided: where an optimum is
// degenerate, the interior point has to say so. Like every answer, this one is measured before it counts.
//
// For an instance by itself only: side by side the last of a block would set the time, and what a member gets would
// depend on its neighbours.
#pragma once

#include "interior_state.hpp"

namespace {

constexpr int kTries = 3;       // of sets, at one iterate
constexpr int kRepairs = 2;     // a set with more sides on the wrong side of zero is not worth another try
constexpr int kPolishes = 3;
constexpr double kSame = 1e-6;  // sets whose numbers differ by less are one, relative
constexpr double kClear = 10;   // x sqrt(tolerance): a multiplier or slack that is not zero

template <int W, int NX, int NU>
class ActiveSet : public InteriorState<W, NX, NU> {
 protected:
  using Base = InteriorState<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::Lane;
  using typename Base::S;
  using typename Base::Side;
  using typename Base::Stage;
  using typename Base::T;
  using Base::alpha_;
  using Base::each_limit;
  using Base::job_;
  using Base::kRunning;
  using Base::lane_;
  using Base::n_;
  using Base::off;
  using Base::part;
  using Base::stage_;
  using Base::sum;
  using Base::taken;
  using Base::tolerance_;

 public:
  using Base::Base;

 protected:
  // Whether a lane's end may still be found this way.
  bool seeks(int w) const { return W == 1 && !lane_[w].undecided && job_.options->smoothing == 0; }

  // Takes the pending step, and tries to finish; the outcome says whether that succeeded. Does nothing but say so unless
  // the set that the predictor points at and that of the whole step agree: then they are usually right.
  bool finish(const T& predicted, const T& corrected) {
    if constexpr (W == 1) {
      Lane& lane = lane_[0];
      if (!seeks(0) || lane.outcome != kRunning || lane.resting) return false;
      if (!(magnitude(predicted - corrected) <= kSame * predicted)) return false;
      press([&](Stage& st) { guess(st); }, true);
      T least, wrong = examine(least);
      for (int round = 1; wrong > 0 && wrong <= kRepairs && round < kTries; ++round) {
        press([](Stage&) {}, true);
        wrong = examine(least);
      }
      alpha_ = 0;
      if (wrong > 0) return true;
      lane.undecided = !(least >= kClear * sqrt(tolerance_));
      if (lane.undecided) return true;
      for (int t = 0; t < n_; ++t) settle(stage_[t]);
      for (int round = 0; round < kPolishes; ++round) {
        // With the same factors: what rounding and the proximal term left.
        press([](Stage&) {}, false);
        examine(least);
        for (int t = 0; t < n_; ++t) settle(stage_[t]);
        this->roll_out(false), this->measure();
        if (!this->good(0)) continue;
        lane.outcome = DD_CONVERGED;
        return true;
      }
      lane.undecided = true;
      this->center(0, kAgainProduct * this->product_unit_);
      return true;
    }
    return false;
  }

 private:
  // Backward pass: the problem in which the sides of the set are equations, and the others are not there.
  template <class Before>
  void press(Before&& before, bool factor) {
    T* weight = this->scratch_w_;
    T* linear = this->scratch_l_;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      before(st);
      const int limits = this->nz() + st.rows;
      for (int i = 0; i < limits; ++i) weight[i] = linear[i] = 0;
      each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
        const S v = part(st.val, limit);
        S w{}, push{};
        sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
          const S own = sd.one;
          w += own;
          push += own > 0 ? sign * (sd.l - own * this->template distance<true>(sd, comply, sign, v)) : S{};
        });
        part(weight, limit) = w, part(linear, limit) = push;
      });
      const Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) {
        weight[eq.limit[k]] += eq.w[k];
        linear[eq.limit[k]] += eq.y[k] + eq.w[k] * off(st, k);
      }
      if (factor) this->factor_stage(st, weight);
      this->cost_gradient(st);
      this->newton_gradient(st, linear);
    }
  }

  // Takes the pending step of the interior point. Leaves in `one` the weights of the sides that will hold, 0 for others.
  void guess(Stage& st) {
    const S hard = 1.0 / this->template give<false>(S{});
    each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
      const S v = part(st.val, limit), dv = part(st.dval, limit);
      sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
        const S give = this->template give<true>(comply), dl = sd.x;
        const S ds = give * dl - this->template missing<true>(sd, comply, sign, v, dv) - sd.s;
        const S weight = st.sides.soft ? 1.0 / give : hard;
        const S held = dl * sd.s > ds * sd.l ? weight : S{};
        sd.one = sd.bound < kAbsent ? held : S{};
        sd.s += taken(alpha_, ds), sd.l += taken(alpha_, dl);
      });
    });
    move(st, alpha_);
  }

  // Forward pass: the step, with that of the multipliers in x. Counts the sides that come out on the wrong side of zero,
  // and lets them change over. least: of all multipliers and slacks.
  T examine(T& least) {
    S count{}, low = S{} + INFINITY;
    const S hard = 1.0 / this->template give<false>(S{});
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      this->forward_stage(st);
      each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
        const S v = part(st.val, limit), dv = part(st.dval, limit);
        sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
          const auto held = sd.one > 0;
          const S miss = this->template missing<true>(sd, comply, sign, v, dv);
          const S dl = held ? sd.one * miss : -sd.l;
          const S worth = held ? sd.l + dl : -miss - comply * sd.l;  // multiplier or slack after the step
          const auto wrong = !(worth >= 0);
          const S other = held ? S{} : st.sides.soft ? 1.0 / this->template give<true>(comply) : hard;
          sd.x = dl, sd.one = wrong ? other : sd.one;
          count += wrong ? S{} + 1.0 : S{};
          low = smaller(low, worth);
        });
      });
      Equations& eq = st.equal;
      for (int k = 0; k < eq.n; ++k) eq.dy[k] = eq.w[k] * (off(st, k) + st.dval[eq.limit[k]]);
    }
    least = -this->most(-low);
    return sum(count);
  }

  // Takes the whole step. A slack below zero becomes zero, so that it counts as a violation.
  void settle(Stage& st) {
    move(st, 1);
    each_limit(st.sides, [&](int limit, auto&& sides) {
      const S v = part(st.val, limit);
      sides([&](Side& sd, const S& comply, auto sign) {
        sd.l += sd.x;
        sd.s = larger(this->template distance<true>(sd, comply, sign, v), S{});
      });
    });
  }

  void move(Stage& st, double alpha) const {
    const int limits = this->nz() + st.rows;
    for (int i = 0; i < limits; ++i) st.val[i] += taken(alpha, st.dval[i]);
    for (int k = 0; k < st.equal.n; ++k) st.equal.y[k] += taken(alpha, st.equal.dy[k]);
  }
};

}  // namespace
