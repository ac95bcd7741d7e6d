// The sides of the limits within an interior point: their part in each pass of an iteration.
//
// Every limit v <= b or v >= b of a stage becomes a side with sign +1 or -1, slack s, multiplier l and compliance r:
//     s = sign (b - v) + r l,   s l -> tau.
// With inv = 1 / (s + r l) and miss = sign dv - (sign (b - v) + r l)  Newton's step is
//     dl = inv (l miss + tau),   ds = r dl - miss - s,   weight in the Hessian  w = l inv,
// and for the predictor (tau = 0) both relative changes follow from one number, rho = dl / l = inv miss,
// ds / s = -1 - rho. Memory is what the passes wait for: what v and dv give again is not kept. A proximal term on dl
// adds a little to r in these steps only: weights stay bounded, the recursion stays accurate, the solution the same.
#pragma once

#include "stage_newton.hpp"

namespace {

constexpr double kResidualShare = 10;     // residuals may be this multiple of a tolerance that is near rounding, ...
constexpr double kRounding = 1e-11;       // ... up to this

template <int W, int NX, int NU>
class SidePasses : public StageNewton<W, NX, NU> {
 protected:
  using Base = StageNewton<W, NX, NU>;
  using typename Base::S;
  using typename Base::Side;
  using typename Base::Stage;
  using typename Base::T;
  using Base::each_limit;
  using Base::job_;
  using Base::part;

 public:
  using Base::Base;

 protected:
  T proximal_{};

  double tolerance() const { return job_.options->tolerance; }
  double residual_tolerance() const { return larger(tolerance(), smaller(kResidualShare * tolerance(), kRounding)); }

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
  template <bool Soft, class Direction>
  static DD_INLINE S distance(const Side& sd, const S& comply, Direction sign, const S& v) {
    const S d = sign > 0 ? sd.bound - v : sd.bound + v;
    return Soft ? d + comply * sd.l : d;
  }
  template <bool Soft, class Direction>
  static DD_INLINE S missing(const Side& sd, const S& comply, Direction sign, const S& v, const S& dv) {
    const S e = distance<Soft>(sd, comply, sign, v);
    return sign > 0 ? dv - e : -dv - e;
  }
  // What a multiplier's step gives: compliance and proximal term.
  template <bool Soft>
  DD_INLINE S give(const S& comply) const {
    return Soft ? comply + proximal_ : S{} + proximal_;
  }
  // Slack and multiplier of a side after the pending step: that of the multiplier is in x, the slack's follows.
  template <bool Soft, class Direction>
  DD_INLINE void advance(Side& sd, const S& comply, Direction sign, const S& v, const S& dv, const T& alpha) const {
    const S ds = give<Soft>(comply) * sd.x - missing<Soft>(sd, comply, sign, v, dv) - sd.s;
    sd.s += taken(alpha, ds), sd.l += taken(alpha, sd.x);
  }
  void advance_all(Stage& st, const T& alpha) const {
    each_limit(st.sides, [&](int limit, auto&& sides) {
      const S v = part(st.val, limit), dv = part(st.dval, limit);
      sides([&](Side& sd, const S& comply, auto sign) { advance<true>(sd, comply, sign, v, dv, alpha); });
    });
    for (int k = 0; k < st.equal.n; ++k) st.equal.y[k] += taken(alpha, st.equal.dy[k]);
  }

  struct SideTotals {
    S product{}, primal{}, dual{};
  };
  // Takes the step alpha of the sides; val is still that before it.
  template <bool Soft>
  DD_INLINE void weigh(const Stage& st, const T& alpha, T* weight, T* linear, SideTotals& total) const {
    const double tol = residual_tolerance();
    SideTotals sum = total;
    each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
      const S v = part(st.val, limit), dv = part(st.dval, limit), moved = v + taken(alpha, dv);
      S w{}, push{};
      sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
        advance<Soft>(sd, comply, sign, v, dv, alpha);
        const S e = distance<Soft>(sd, comply, sign, moved), both = sd.s * sd.l;
        const S one = 1.0 / (both * (sd.s + give<Soft>(comply) * sd.l)), own = sd.l * both * one;
        sd.one = one;
        sum.primal = larger(sum.primal, magnitude(e - sd.s) - tol * magnitude(sd.bound));
        sum.product += sd.bound < kAbsent ? both : S{};
        sum.dual += sd.l;
        w += own;
        push += sign * (sd.l - e * own);
      });
      part(weight, limit) = w, part(linear, limit) = push;
    });
    total = sum;
  }

  // Of the predictor's step of a side: rho + 1/2, from which the relative changes of both factors follow; and inv.
  template <bool Soft, class Direction>
  static DD_INLINE S predicted(const Side& sd, const S& comply, Direction sign, const S& v, const S& dv, S& both,
                               S& inv) {
    both = sd.s * sd.l, inv = both * sd.one;
    return inv * missing<Soft>(sd, comply, sign, v, dv) + 0.5;
  }

  // set: a number that stands for the set of sides whose multiplier keeps the larger share of itself in the step.
  template <bool Soft>
  DD_INLINE void predict_sides(const Stage& st, S& most_off, S& sum, S& set) const {
    S worst = most_off, total = sum, held = set;
    each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
      const S v = part(st.val, limit), dv = part(st.dval, limit);
      sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
        // From the middle of the admissible range, -1 <= rho <= 0.
        S both, inv;
        const S off = predicted<Soft>(sd, comply, sign, v, dv, both, inv);
        worst = larger(worst, magnitude(off));
        total += both * (0.25 - off * off);
        if constexpr (W == 1) held += off > 0 ? both : S{};
      });
    });
    most_off = worst, sum = total, set = held;
  }

  // Leaves in x what of the multiplier's step does not depend on dv.
  template <bool Soft>
  DD_INLINE void aim(const Stage& st, const T& tau, const T& share, T* linear) const {
    each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
      const S v = part(st.val, limit), dv = part(st.dval, limit);
      S push{};
      sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
        S both, inv;
        const S off = predicted<Soft>(sd, comply, sign, v, dv, both, inv);
        const S goal = tau - share * (both * (0.25 - off * off));
        const S still = inv * (goal - sd.l * distance<Soft>(sd, comply, sign, v));
        sd.x = still;
        push += sign * (sd.l + still);
      });
      part(linear, limit) = push;
    });
  }
  // Leaves the multipliers' steps in x.
  template <bool Soft>
  DD_INLINE void step_sides(const Stage& st, S& least, S& product, S& set) const {
    S low = least, total = product, held = set;
    each_limit(st.sides, [&](int limit, auto&& sides) DD_ALWAYS {
      const S v = part(st.val, limit), dv = part(st.dval, limit);
      sides([&](Side& sd, const S& comply, auto sign) DD_ALWAYS {
        const S s = sd.s, l = sd.l, give = this->template give<Soft>(comply);
        const S both = s * l, dl = sd.x + sign * (l * (both * sd.one) * dv);
        const S ds = give * dl - missing<Soft>(sd, comply, sign, v, dv) - s;
        const auto present = sd.bound < kAbsent;
        const S isl = present ? (s + give * l) * sd.one : S{};
        const S of_dual = dl * s, of_slack = ds * l;
        low = smaller(low, smaller(of_dual, of_slack) * isl);
        total += present ? ds * dl : S{};
        if constexpr (W == 1) held += (of_dual > of_slack) & present ? both : S{};
        sd.x = dl;
      });
    });
    least = low, product = total, set = held;
  }
};

}  // namespace
