// Data of the lateral program, row by row; see planner/programs/lateral.py, whose names these are.
#pragma once

#include "lateral_steps.hpp"

namespace dds {

constexpr Index STATES = 3, NZ = 4;  // (d, psi, kappa) and the curvature rate

// Numbers of the configuration and the vehicle.
struct LateralSettings {
    double h, sharpest, yaw_rate_max, curvature_most, yaw_acceleration_max, lateral_jerk, rate_most, rate_least;
    double comfort;
};

// What is constant at a stage.
struct StageSettings {
    double scale, tail, dt, time, heading, grip, soft;
};

struct LateralConstants {
    StageGrid grid;
    LateralSettings settings;
    const double* at_stage;     // [n, 7] as StageSettings
    const double* half_square;  // [C] m^2
    Index circles;

    StageSettings stage(Index t) const {
        const double* s = at_stage + 7 * t;
        return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]};
    }
};

// One row of the inputs, or of their gradients: T is const double or double.
template <class T>
struct LateralInputs {
    T *v, *a, *jerk, *bend, *d, *psi;   // [2, F]
    T *d0, *psi0, *kappa0;              // one each
    T *lower, *upper;                   // [2, N, C]
    T *d_ref, *slope_ref;               // [2, N]
    T* weights;                         // [4]
    T *track[4];                        // d, psi and their weights [N]; null without a proposal

    LateralInputs row(Index r, Index fine, Index nodes, Index circles) const {
        const auto at = [&](T* p, Index size) { return p ? p + r * size : nullptr; };
        const Index f = 2 * fine, c = 2 * nodes * circles, m = 2 * nodes;
        return {at(v, f), at(a, f), at(jerk, f), at(bend, f), at(d, f), at(psi, f), at(d0, 1), at(psi0, 1),
                at(kappa0, 1), at(lower, c), at(upper, c), at(d_ref, m), at(slope_ref, m), at(weights, 4),
                {at(track[0], nodes), at(track[1], nodes), at(track[2], nodes), at(track[3], nodes)}};
    }
};

// One row of the program, or of its gradients, null where there are none.
template <class T>
struct LateralOutputs {
    T* x0;                    // [3]
    T *A, *B, *c;             // [n, 3, 3], [n, 3, 1], [n, 3]
    T *H, *g;                 // [n, 4, 4], [n, 4]
    T *z_lower, *z_upper;     // [n, 4]
    T *lower, *upper;         // [n, C]
    T* steps;                 // [2, 5, 2, F]

    LateralOutputs row(Index r, Index fine, Index n, Index circles) const {
        const auto at = [&](T* p, Index size) { return p ? p + r * size : nullptr; };
        return {at(x0, STATES), at(A, n * 9), at(B, n * 3), at(c, n * 3), at(H, n * 16), at(g, n * NZ),
                at(z_lower, n * NZ), at(z_upper, n * NZ), at(lower, n * circles), at(upper, n * circles),
                at(steps, ENTRIES * 2 * fine)};
    }
};

// The motion at the end of a stage and after its first fine step.
struct AtNode {
    double v, a, bend, v_first;
};

inline LateralMotion motion_of(const LateralInputs<const double>& in) {
    return {in.v, in.a, in.jerk, in.bend, in.d, in.psi, *in.d0, *in.psi0};
}

// Fine steps in [2 F] at the two ends of every stage.
inline void stage_ends(const StageGrid& grid, Index* first, Index* last) {
    over_intervals(grid, [&](Index branch, Index node, Index begin) {
        const Index t = grid.stage(branch, node);
        if (grid.branch(t) != branch) return;  // shared
        first[t] = begin;
        last[t] = begin + grid.length[node] - 1;
    });
}

}  // namespace dds
