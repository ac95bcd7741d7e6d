// How far ego drives until it stands: twin of planner/decisions/stopping.py.
#pragma once

#include "arrays.hpp"

namespace dds {

constexpr double kStopStep = 0.02;     // s, of the simulated hardest stop
constexpr double kTailBraking = 6.0;   // m/s^2: how the tail slows down where it is free to choose

struct Brakes {
    double acceleration_max, braking_max, jerk_max, tail_braking_max, tail_jerk_max;
    double shared;  // s
};

// m covered after t when braking from `speed` to rest.
inline double braking_distance(double speed, double braking, double t) {
    const double until = std::min(t, speed / braking);
    return speed * until - braking * (until * until) / 2;
}

// m to rest under the hardest braking of the intended motion, its build-up included.
inline double full_stop(double v, double a, const Brakes& b) {
    const double build_up = (b.braking_max + std::clamp(a, -b.braking_max, 3.0)) / b.jerk_max;
    return v * build_up / 2 + v * v / (2 * b.braking_max);
}

// m to rest, rounded up a little, of the tail's hardest braking, shared first steps included.
inline double shortest_stop(double v, double a0, const Brakes& b) {
    Index count = 0;  // of shared steps
    while (static_cast<double>(count) * kStopStep < b.shared - 1e-9) ++count;
    double way = 0.0;
    for (Index number = 1; v > 0.0; ++number) {
        const double early = static_cast<double>(std::min(number, count));
        const double late = static_cast<double>(std::max<Index>(number - count, 0));
        double a = count ? std::max(a0 - b.jerk_max * kStopStep * early, -b.braking_max) : a0;
        if (late > 0) a = std::max(a - b.tail_jerk_max * kStopStep * late, -b.tail_braking_max);
        way += std::max(v * kStopStep + a * (kStopStep * kStopStep) / 2, 0.0);
        v += a * kStopStep;
    }
    return way + 0.4;
}

// s until the tail shall be at rest: planner/programs/longitudinal.py.
inline double stop_time(double v, const Brakes& b) {
    const double ramps = (b.acceleration_max + 2 * kTailBraking) / b.tail_jerk_max;
    return (v + b.acceleration_max * b.shared) / kTailBraking + (b.shared + ramps + 0.3);
}

}  // namespace dds
