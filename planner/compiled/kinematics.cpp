// The kinematic bicycle along given profiles, and its adjoint: the twin of planner/programs/kinematics.py, row by row.
#include "arrays.hpp"
#include "calculus.hpp"
#include "lanes.hpp"
#include "scratch.hpp"

namespace {

using dds::Index;

enum { X, Y, YAW, SPEED, ACCELERATION, CURVATURE, STATES };

// v, a, jerk, kappa at the ends of `fine` steps of h seconds, of one branch.
struct Profile {
    double h, rest_speed;
    Index fine;
    const double *v, *a, *jerk, *kappa, *start;
    bool tail;
};

// What happens within the steps: arrays over their ends (fine + 1) or over the steps.
struct Steps {
    double *speed, *curve, *bend, *yaw, *cos, *sin;
    double *middle_speed, *quarter_speed, *half_yaw, *half_cos, *half_sin, *parked, *resting;

    static constexpr Index arrays = 13;

    Steps(dds::Scratch& scratch, Index fine) {
        for (double** p : {&speed, &curve, &bend, &yaw, &cos, &sin}) *p = scratch.take(fine + 1);
        for (double** p : {&middle_speed, &quarter_speed, &half_yaw, &half_cos, &half_sin, &parked, &resting})
            *p = scratch.take(fine + 1);
    }
};

// Speeds at the ends; from the moment on from which it never again exceeds a snail's pace, the tail is at rest.
void settle(const Profile& p, Steps& s) {
    s.speed[0] = p.start[SPEED];
    for (Index f = 0; f < p.fine; ++f) s.speed[f + 1] = dds::at_least(p.v[f], 0.0);
    double later = 0.0;
    for (Index f = p.fine; f-- > 0;) {
        later = dds::greater_of(later, s.speed[f + 1]);
        s.parked[f] = p.tail && later < p.rest_speed;
        if (s.parked[f] != 0.0) s.speed[f + 1] = 0.0;
        s.resting[f] = s.parked[f] != 0.0 || (s.speed[f + 1] < 1e-3 && p.v[f] <= 1e-2);
    }
}

// Simpson's rule for the heading over the step, and over its first half with a midpoint at a quarter of the step.
void turn(const Profile& p, Steps& s) {
    const double h = p.h;
    s.curve[0] = p.start[CURVATURE];
    std::copy(p.kappa, p.kappa + p.fine, s.curve + 1);
    for (Index f = 0; f <= p.fine; ++f) s.bend[f] = s.speed[f] * s.curve[f];
    s.yaw[0] = p.start[YAW];
    for (Index f = 0; f < p.fine; ++f) {
        const double v0 = s.speed[f], v1 = s.speed[f + 1];
        const double free = dds::at_least(v1 - p.a[f] * (h / 2) + p.jerk[f] * (h * h / 8), 0.0);
        s.middle_speed[f] = s.resting[f] != 0.0 ? v0 / 2 : free;
        s.quarter_speed[f] = dds::at_least((3 * v0 + 6 * s.middle_speed[f] - v1) / 8, 0.0);
        const double quarter = s.quarter_speed[f] * (3 * s.curve[f] + s.curve[f + 1]);
        const double middle = s.middle_speed[f] * (s.curve[f] + s.curve[f + 1]);
        s.half_yaw[f] = s.yaw[f] + (s.bend[f] + quarter + middle / 2) * (h / 12);
        s.yaw[f + 1] = s.yaw[f] + (s.bend[f] + 2 * middle + s.bend[f + 1]) * (h / 6);
    }
    dds::sines_cosines(s.yaw, s.sin, s.cos, p.fine + 1);
    dds::sines_cosines(s.half_yaw, s.half_sin, s.half_cos, p.fine);
}

// Into out[i], the states of this branch.
void forward(const Profile& p, Steps& s, double* const out[STATES]) {
    settle(p, s);
    turn(p, s);
    for (int i = 0; i < STATES; ++i) out[i][0] = p.start[i];
    for (Index f = 0; f < p.fine; ++f) {
        const double v0 = s.speed[f], v1 = s.speed[f + 1], along = 4 * s.middle_speed[f], sixth = p.h / 6;
        out[X][f + 1] = out[X][f] + (s.cos[f] * v0 + along * s.half_cos[f] + s.cos[f + 1] * v1) * sixth;
        out[Y][f + 1] = out[Y][f] + (s.sin[f] * v0 + along * s.half_sin[f] + s.sin[f + 1] * v1) * sixth;
        out[YAW][f + 1] = s.yaw[f + 1];
        out[SPEED][f + 1] = v1;
        out[ACCELERATION][f + 1] = s.resting[f] != 0.0 ? 0.0 : p.a[f];
        out[CURVATURE][f + 1] = s.curve[f + 1];
    }
}

// Gradients of v, a, jerk, kappa of one branch, and of the start, to which they are added.
struct Gradients {
    double *v, *a, *jerk, *kappa, *start;
};

// From the gradients g of the states (null: zero). d_speed, d_curve, d_yaw: zero, fine + 1 each.
void backward(const Profile& p, const Steps& s, const double* const g[STATES], double* d_speed, double* d_curve,
              double* d_yaw, const Gradients& out) {
    const double h = p.h;
    const auto at = [&](int i, Index f) { return g[i] ? g[i][f] : 0.0; };
    double dx = 0.0, dy = 0.0, yaw = 0.0;  // of what follows
    for (Index f = p.fine; f-- > 0;) {
        dx += at(X, f + 1);
        dy += at(Y, f + 1);
        const double x = dx * (h / 6), y = dy * (h / 6);
        for (const Index e : {f, f + 1}) {
            d_speed[e] += x * s.cos[e] + y * s.sin[e];
            d_yaw[e] += (y * s.cos[e] - x * s.sin[e]) * s.speed[e];
        }
        // All that reaches the heading at the end of the step is there now.
        yaw += d_yaw[f + 1] + at(YAW, f + 1);
        const double half_yaw = 4 * s.middle_speed[f] * (y * s.half_cos[f] - x * s.half_sin[f]);
        d_yaw[f] += half_yaw;
        const double d_half = half_yaw * (h / 12), d_turn = yaw * (h / 6);
        const double k0 = s.curve[f], k1 = s.curve[f + 1], both = k0 + k1;
        const double d_middle = 2 * d_turn + d_half / 2, d_first = d_turn + d_half;
        double d_middle_speed = 4 * (x * s.half_cos[f] + y * s.half_sin[f]) + d_middle * both;
        const double d_quarter = d_half * s.quarter_speed[f], d_sum = d_middle * s.middle_speed[f];
        const double d_quarter_speed = s.quarter_speed[f] > 0 ? d_half * (3 * k0 + k1) : 0.0;
        d_middle_speed += d_quarter_speed * 0.75;
        d_curve[f] += d_first * s.speed[f] + d_sum + 3 * d_quarter;
        d_curve[f + 1] += d_turn * s.speed[f + 1] + d_sum + d_quarter + at(CURVATURE, f + 1);
        d_speed[f] += d_first * k0 + d_quarter_speed * 0.375;
        d_speed[f + 1] += d_turn * k1 - d_quarter_speed * 0.125 + at(SPEED, f + 1);
        const bool resting = s.resting[f] != 0.0;
        const double d_free = resting || s.middle_speed[f] <= 0 ? 0.0 : d_middle_speed;
        d_speed[f] += resting ? d_middle_speed / 2 : 0.0;
        d_speed[f + 1] += d_free;
        out.v[f] = s.parked[f] != 0.0 || p.v[f] < 0 ? 0.0 : d_speed[f + 1];
        out.a[f] = (resting ? 0.0 : at(ACCELERATION, f + 1)) - d_free * (h / 2);
        out.jerk[f] = d_free * (h * h / 8);
        out.kappa[f] = d_curve[f + 1];
    }
    out.start[X] += dx + at(X, 0);
    out.start[Y] += dy + at(Y, 0);
    out.start[YAW] += yaw + d_yaw[0] + at(YAW, 0);
    out.start[SPEED] += d_speed[0] + at(SPEED, 0);
    out.start[ACCELERATION] += at(ACCELERATION, 0);
    out.start[CURVATURE] += d_curve[0] + at(CURVATURE, 0);
}

}  // namespace

// v, a, jerk, kappa [R, 2, F], start [R, 6] -> states [6, R, 2, F + 1].
DDS_EXPORT Index dds_integrate(double h, double rest_speed, const double* v, const double* a, const double* jerk,
                               const double* kappa, const double* start, double* states, Index rows, Index fine,
                               Index threads) {
    return dds::guarded([&] {
        dds::over_rows(rows, threads, [&](Index r) {
            dds::Scratch scratch(Steps::arrays * (fine + 1));
            Steps steps(scratch, fine);
            for (Index i = 2 * r; i < 2 * r + 2; ++i) {
                const Index at = i * fine;
                const Profile p{h, rest_speed, fine, v + at, a + at, jerk + at, kappa + at, start + 6 * r, i % 2 == 1};
                double* out[STATES];
                for (Index j = 0; j < STATES; ++j) out[j] = states + (j * 2 * rows + i) * (fine + 1);
                forward(p, steps, out);
            }
        });
    });
}

// g_*: gradients of the states [R, 2, F + 1] or null -> those of v, a, jerk, kappa and start.
DDS_EXPORT Index dds_integrate_adjoint(double h, double rest_speed, const double* v, const double* a,
                                       const double* jerk, const double* kappa, const double* start, const double* g_x,
                                       const double* g_y, const double* g_yaw, const double* g_speed,
                                       const double* g_acceleration, const double* g_curvature, double* d_v,
                                       double* d_a, double* d_jerk, double* d_kappa, double* d_start, Index rows,
                                       Index fine, Index threads) {
    return dds::guarded([&] {
        dds::over_rows(rows, threads, [&](Index r) {
            std::fill(d_start + 6 * r, d_start + 6 * r + 6, 0.0);
            for (Index i = 2 * r; i < 2 * r + 2; ++i) {
                dds::Scratch scratch((Steps::arrays + 3) * (fine + 1));
                Steps steps(scratch, fine);
                const Index at = i * fine, ends = i * (fine + 1);
                const Profile p{h, rest_speed, fine, v + at, a + at, jerk + at, kappa + at, start + 6 * r, i % 2 == 1};
                settle(p, steps);
                turn(p, steps);
                const double* g[STATES] = {g_x, g_y, g_yaw, g_speed, g_acceleration, g_curvature};
                for (const double*& x : g) x = x ? x + ends : nullptr;
                double *d_speed = scratch.take(fine + 1), *d_curve = scratch.take(fine + 1);
                const Gradients out{d_v + at, d_a + at, d_jerk + at, d_kappa + at, d_start + 6 * r};
                backward(p, steps, g, d_speed, d_curve, scratch.take(fine + 1), out);
            }
        });
    });
}
