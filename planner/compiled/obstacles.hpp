// What decisions read of the road users and of ego's start: planner/objects/obstacles.py, planner/path/surface.py.
#pragma once

#include "arrays.hpp"

namespace dds {

constexpr Index kBicycle = 4, kPedestrian = 5, kStatic = 6;  // AgentClass
constexpr double kInf = HUGE_VAL;

// Intervals are stored in the order S, A, P, M, N.
struct Obstacles {
    Index scenes, agents, modes, nodes, pieces;
    const double* time;                       // [N], 0 first
    const double *s_lo, *s_hi, *d_lo, *d_hi;  // [S, A, P, M, N]
    const double *sigma_s, *heading;          // [S, A, M, N]
    const bool* active;                       // [S, A, M, N]
    const double* weight;                     // [S, A, M]
    const double *speed_s, *speed;            // [S, A]
    const bool* standing;                     // [S, A]
    const Index* kind;                        // [S, A]

    // Agents and forecasts are counted through all scenes.
    Index forecast(Index agent, Index mode) const { return agent * modes + mode; }
    Index piece(Index agent, Index p, Index mode) const { return ((agent * pieces + p) * modes + mode) * nodes; }
    bool walks(Index agent) const { return kind[agent] == kPedestrian || kind[agent] == kBicycle; }
};

struct Start {
    const double *s, *d, *v, *a;  // [S]
};

inline double least(const double* x, Index count) {
    double out = kInf;
    for (Index i = 0; i < count; ++i) out = std::min(out, x[i]);
    return out;
}

inline double most(const double* x, Index count) {
    double out = -kInf;
    for (Index i = 0; i < count; ++i) out = std::max(out, x[i]);
    return out;
}

}  // namespace dds
