// Cost, limits and corridor of one stage of the lateral program, and their adjoints.
#pragma once

#include "lateral.hpp"

namespace dds {

// Diagonal of H and what it pulls to.
struct StageCost {
    double weight[NZ], aim[NZ];
};

// factor[i]: what the weight is proportional to beside the row's own; `tracked` stages follow a proposal.
struct StageCostParts {
    bool tracked;
    double factor[NZ], grow, grow_first;
};

// What curvature and its rate cost at speed: lateral acceleration and jerk, plus a floor at low speed.
inline double growth(double v) { return v * v * v * v / 256.0 + 1.0; }
inline double growth_slope(double v) { return v * v * v / 64.0; }

inline StageCostParts cost_parts(const LateralConstants& k, const LateralInputs<const double>& in, Index t,
                                 const AtNode& at) {
    const StageSettings s = k.stage(t);
    const bool proposal = in.track[0] != nullptr;
    const double comfort = proposal ? s.tail + (1 - s.tail) * k.settings.comfort : 1.0;
    StageCostParts p{proposal && t < k.grid.nodes, {}, growth(at.v), growth(at.v_first)};
    p.factor[0] = p.factor[1] = p.tracked ? s.dt : s.scale;
    p.factor[2] = s.scale * comfort * 0.02 * p.grow;
    p.factor[3] = s.scale * comfort * p.grow_first;
    return p;
}

inline StageCost stage_cost(const LateralConstants& k, const LateralInputs<const double>& in, Index t,
                            const AtNode& at) {
    const StageCostParts p = cost_parts(k, in, t, at);
    const Index place = k.grid.branch(t) * k.grid.nodes + k.grid.node(t);
    StageCost c;
    c.weight[0] = p.factor[0] * (p.tracked ? in.track[2][t] : in.weights[0]);
    c.weight[1] = p.factor[1] * (p.tracked ? in.track[3][t] : in.weights[1]);
    c.weight[2] = p.factor[2] * in.weights[2];
    c.weight[3] = p.factor[3] * in.weights[3];
    c.aim[0] = p.tracked ? in.track[0][t] : in.d_ref[place];
    c.aim[1] = p.tracked ? in.track[1][t] : in.slope_ref[place];
    c.aim[2] = at.bend;
    c.aim[3] = 0.0;
    return c;
}

// d_weight, d_aim: gradients of the two parts of StageCost. Those of the node are added to d_at.
inline void stage_cost_adjoint(const LateralConstants& k, const LateralInputs<const double>& in, Index t,
                               const AtNode& at, const double* d_weight, const double* d_aim,
                               const LateralInputs<double>& out, AtNode& d_at) {
    const StageCostParts p = cost_parts(k, in, t, at);
    const Index place = k.grid.branch(t) * k.grid.nodes + k.grid.node(t);
    for (Index i = 0; i < 2; ++i) {
        double& weight = p.tracked ? out.track[2 + i][t] : out.weights[i];
        double& aim = p.tracked ? out.track[i][t] : (i ? out.slope_ref : out.d_ref)[place];
        weight += d_weight[i] * p.factor[i];
        aim += d_aim[i];
    }
    for (Index i = 2; i < NZ; ++i) out.weights[i] += d_weight[i] * p.factor[i];
    d_at.bend += d_aim[2];
    d_at.v += d_weight[2] * in.weights[2] * p.factor[2] / p.grow * growth_slope(at.v);
    d_at.v_first += d_weight[3] * in.weights[3] * p.factor[3] / p.grow_first * growth_slope(at.v_first);
}

inline double slowness(double v) { return 1 / at_least(v, 0.5); }
inline double slowness_slope(double v) { return -above(v, 0.5) * slowness(v) * slowness(v); }

// Largest curvature rate, 1/(m s): steering actuator at low speed, yaw acceleration and lateral jerk above.
inline double rate_limit(const LateralSettings& s, double v) {
    const double slow = slowness(v);
    const double soft = smaller_of(s.yaw_acceleration_max * slow, s.lateral_jerk * slow * slow);
    return at_least(at_most(soft, s.rate_most), s.rate_least);
}

inline double rate_limit_slope(const LateralSettings& s, double v) {
    const double slow = slowness(v), yaw = s.yaw_acceleration_max * slow, jerk = s.lateral_jerk * slow * slow;
    const double soft = smaller_of(yaw, jerk), counts = below(soft, s.rate_most) * above(soft, s.rate_least);
    const double by_slow = share(jerk, yaw) * s.yaw_acceleration_max + share(yaw, jerk) * 2 * s.lateral_jerk * slow;
    return counts * by_slow * slowness_slope(v);
}

// What limits the curvature: the grip that braking leaves, the yaw rate, and the way back of a start outside.
struct Bending {
    double braking, across, by_grip, by_yaw, most, back;
};

inline Bending bending(const LateralSettings& s, const StageSettings& at, const AtNode& node, double kappa0) {
    Bending b;
    const double slow = slowness(node.v);
    b.braking = smaller_of(greater_of(node.a, -at.grip), at.grip);
    b.across = std::sqrt(at.grip * at.grip - b.braking * b.braking / 4);
    b.by_grip = b.across * slow * slow;
    b.by_yaw = s.yaw_rate_max * slow;
    b.most = at_most(smaller_of(b.by_grip, b.by_yaw), s.curvature_most);
    b.back = std::abs(kappa0) - 0.75 * rate_limit(s, node.v) * at.time;
    return b;
}

// d: gradient of greater_of(most, back). Returns that of |kappa0|.
inline double bending_adjoint(const LateralSettings& s, const StageSettings& at, const AtNode& node, double kappa0,
                              double d, AtNode& d_at) {
    const Bending b = bending(s, at, node, kappa0);
    const double slow = slowness(node.v), d_back = d * share(b.back, b.most);
    const double d_most = d * share(b.most, b.back) * below(smaller_of(b.by_grip, b.by_yaw), s.curvature_most);
    const double d_grip = d_most * share(b.by_yaw, b.by_grip), d_yaw = d_most * share(b.by_grip, b.by_yaw);
    const double d_slow = d_grip * 2 * b.across * slow + d_yaw * s.yaw_rate_max;
    d_at.v += d_slow * slowness_slope(node.v) - d_back * 0.75 * at.time * rate_limit_slope(s, node.v);
    const double d_braking = -d_grip * slow * slow * b.braking / (4 * b.across);
    d_at.a += d_braking * share(node.a, -at.grip) * share(at.grip, greater_of(node.a, -at.grip));
    return d_back;
}

inline double sign(double x) { return x > 0 ? 1.0 : (x < 0 ? -1.0 : 0.0); }

}  // namespace dds
