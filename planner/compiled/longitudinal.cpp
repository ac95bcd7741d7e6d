// The longitudinal program of every candidate, and its adjoint: the twin of planner/programs/longitudinal.py, row by row.
#include <limits>

#include "calculus.hpp"
#include "stage_grid.hpp"

namespace {

using namespace dds;

enum { S, V, ACCELERATION, JERK, EXCESS, NZ };
constexpr Index TANGENTS = 3;
constexpr double INFINITE = std::numeric_limits<double>::infinity();

// Numbers of the configuration; stop_after: s from when the tail could have slowed down from v0 until it rests.
struct Settings {
    double jerk, acceleration, braking, comfort_braking, shared, stop_after, rest_speed, tail_braking, tail_weight;
    double tangent[TANGENTS];

    explicit Settings(const double* s)
        : jerk(s[0]), acceleration(s[1]), braking(s[2]), comfort_braking(s[3]), shared(s[4]), stop_after(s[5]),
          rest_speed(s[6]), tail_braking(s[7]), tail_weight(s[8]), tangent{s[9], s[10], s[11]} {}
};

// What is constant at a stage; rest and rest_speed: bounds at the very end of the tail, else infinite.
struct AtStage {
    double time, dt, jerk, a_low, rest, rest_speed;
};

struct Constants {
    StageGrid grid;
    Settings settings;
    const double* at_stage;  // [n, 6]

    AtStage stage(Index t) const {
        const double* s = at_stage + 6 * t;
        return {s[0], s[1], s[2], s[3], s[4], s[5]};
    }
};

// One row of the inputs, or of their gradients. s_lower, s_upper [2, N]; one number each: s0, v0, a0; else [N].
template <class T>
struct Inputs {
    T *s_lower, *s_upper, *v_cap, *gap_s, *gap_headway, *gap_speed, *s0, *v0, *a0;
    T *aim_v, *weight_v, *aim_s, *weight_s;  // the last two null without a proposal

    Inputs row(Index r, Index nodes) const {
        const auto at = [&](T* p, Index size) { return p ? p + r * size : nullptr; };
        return {at(s_lower, 2 * nodes), at(s_upper, 2 * nodes), at(v_cap, nodes), at(gap_s, nodes),
                at(gap_headway, nodes), at(gap_speed, nodes), at(s0, 1), at(v0, 1), at(a0, 1), at(aim_v, nodes),
                at(weight_v, nodes), at(aim_s, nodes), at(weight_s, nodes)};
    }
};

// One row of the program, or of its gradients, null where there are none.
template <class T>
struct Outputs {
    T *x0, *g, *z_lower, *z_upper, *C, *upper;  // [3], [n, 5] three times, [n, 3, 5], [n, 3]

    Outputs row(Index r, Index n) const {
        const auto at = [&](T* p, Index size) { return p ? p + r * size : nullptr; };
        return {at(x0, 3), at(g, n * NZ), at(z_lower, n * NZ), at(z_upper, n * NZ), at(C, n * TANGENTS * NZ),
                at(upper, n * TANGENTS)};
    }
};

using In = Inputs<const double>;

constexpr double kSpareSpeed = 0.05;  // m/s

// Brakes as hard as the limits allow and ends at rest, one nominal stage after another:
// planner/programs/safe_distance.py. The cap on the speed gives way to it.
class FullBraking {
public:
    FullBraking(const Constants& k, const In& in) : k_(k), v_(*in.v0), a_(*in.a0) {}

    // At the end of stage t, the one after the last asked for.
    double reachable_cap(Index t) {
        const Settings& s = k_.settings;
        const double h = k_.stage(t).dt, later = k_.stage(std::min(t + 1, k_.grid.nodes - 1)).dt, p = (h + later) / 2;
        const double root = std::sqrt(std::max(p * p + 2 * (v_ + h * a_ / 2) / s.jerk, 0.0));
        const double y = std::max(std::min(s.jerk * (root - p), s.braking), 0.0);
        const double jerk = std::max(std::min((-y - a_) / h, s.jerk), -s.jerk);
        v_ += h * a_ + h * h / 2 * jerk, a_ += h * jerk;
        return std::max(v_, 0.0) + kSpareSpeed;
    }

private:
    const Constants& k_;
    double v_, a_;
};

double tail_speed(const Settings& s, double v0, double t) { return v0 - s.tail_braking * (t - s.shared); }

void write_limits(const Constants& k, const In& in, Index t, FullBraking& braking, double* lower, double* upper) {
    const Settings& s = k.settings;
    const AtStage at = k.stage(t);
    const double v0 = *in.v0, a0 = *in.a0;
    const Index place = k.grid.branch(t) * k.grid.nodes + k.grid.node(t);
    lower[S] = in.s_lower[place] - *in.s0;
    upper[S] = in.s_upper[place] - *in.s0;
    const double ease = smaller_of(at.time, at_most(a0, 0.0) * (-1 / s.jerk));
    lower[V] = at_most(v0 + ease * (a0 + ease * (s.jerk / 2)), 0.0) - 1e-3;
    const bool stopped = at.time >= (v0 + s.acceleration * s.shared) / s.tail_braking + s.stop_after;
    upper[V] = t < k.grid.nodes ? greater_of(in.v_cap[t], braking.reachable_cap(t))
                                : (stopped ? s.rest_speed : at.rest_speed);
    const double ramp = s.jerk * at.time;
    lower[ACCELERATION] = greater_of(smaller_of(a0 + ramp, at.a_low), -at.rest);
    upper[ACCELERATION] = smaller_of(at_least(a0 - ramp, s.acceleration), at.rest);
    lower[JERK] = -at.jerk;
    upper[JERK] = at.jerk;
    lower[EXCESS] = -INFINITE;
    upper[EXCESS] = INFINITE;
}

// Tangent q of v^2 counts where the other is slower than where it touches.
bool touches(double other, double tangent, Index q) { return other < tangent || q == 0; }

void write_gap(const Constants& k, const In& in, Index t, double* C, double* upper) {
    const Settings& s = k.settings;
    for (Index q = 0; q < TANGENTS; ++q, C += NZ) {
        C[S] = 1.0;
        C[V] = C[ACCELERATION] = C[JERK] = 0.0;
        C[EXCESS] = -1.0;
        upper[q] = INFINITE;
        if (t >= k.grid.nodes) continue;
        const double tangent = at_least(*in.v0, 3.0) * s.tangent[q], other = in.gap_speed[t];
        C[V] = in.gap_headway[t] + tangent * (1 / s.comfort_braking);
        const double room = q == 0 ? 0.0 : (tangent * tangent + other * other) / (2 * s.comfort_braking);
        if (touches(other, tangent, q)) upper[q] = in.gap_s[t] - *in.s0 + room;
    }
}

void forward(const Constants& k, const In& in, const Outputs<double>& out) {
    out.x0[0] = 0.0, out.x0[1] = *in.v0, out.x0[2] = *in.a0;
    std::fill(out.g, out.g + k.grid.stages * NZ, 0.0);
    FullBraking braking(k, in);
    for (Index t = 0; t < k.grid.stages; ++t) {
        const AtStage at = k.stage(t);
        if (t < k.grid.nodes) {
            out.g[NZ * t + V] = in.aim_v[t] * in.weight_v[t] * -at.dt;
            if (in.aim_s) out.g[NZ * t + S] = in.weight_s[t] * (in.aim_s[t] - *in.s0) * -at.dt;
        } else {
            const double slowing = at_least(tail_speed(k.settings, *in.v0, at.time), 0.0);
            out.g[NZ * t + V] = slowing * (-k.settings.tail_weight * at.dt);
        }
        write_limits(k, in, t, braking, out.z_lower + NZ * t, out.z_upper + NZ * t);
        write_gap(k, in, t, out.C + TANGENTS * NZ * t, out.upper + TANGENTS * t);
    }
}

double at(const double* p, Index i) { return p ? p[i] : 0.0; }

// In the limits, speed and acceleration of the start are constants.
void backward(const Constants& k, const In& in, const Outputs<const double>& g, const Inputs<double>& out) {
    const Settings& s = k.settings;
    *out.v0 += at(g.x0, 1);
    *out.a0 += at(g.x0, 2);
    FullBraking braking(k, in);
    for (Index t = 0; t < k.grid.stages; ++t) {
        const AtStage stage = k.stage(t);
        const Index place = k.grid.branch(t) * k.grid.nodes + k.grid.node(t);
        const double lower = at(g.z_lower, NZ * t + S), upper = at(g.z_upper, NZ * t + S);
        out.s_lower[place] += lower;
        out.s_upper[place] += upper;
        *out.s0 -= lower + upper;
        const double pull = at(g.g, NZ * t + V);
        if (t >= k.grid.nodes) {
            *out.v0 -= pull * s.tail_weight * stage.dt * above(tail_speed(s, *in.v0, stage.time), 0.0);
            continue;
        }
        out.aim_v[t] -= pull * in.weight_v[t] * stage.dt;
        out.weight_v[t] -= pull * in.aim_v[t] * stage.dt;
        if (in.aim_s) {
            const double push = at(g.g, NZ * t + S) * stage.dt;
            out.weight_s[t] -= push * (in.aim_s[t] - *in.s0);
            out.aim_s[t] -= push * in.weight_s[t];
            *out.s0 += push * in.weight_s[t];
        }
        out.v_cap[t] += at(g.z_upper, NZ * t + V) * share(in.v_cap[t], braking.reachable_cap(t));
        for (Index q = 0; q < TANGENTS; ++q) {
            out.gap_headway[t] += at(g.C, NZ * (TANGENTS * t + q) + V);
            if (!touches(in.gap_speed[t], at_least(*in.v0, 3.0) * s.tangent[q], q)) continue;
            const double limit = at(g.upper, TANGENTS * t + q);
            out.gap_s[t] += limit;
            *out.s0 -= limit;
            if (q > 0) out.gap_speed[t] += limit * in.gap_speed[t] / s.comfort_braking;
        }
    }
}

}  // namespace

// Constants: those of Constants. Inputs and outputs: as their structs, all with the rows first.
DDS_EXPORT Index dds_longitudinal_program(
    const Index* length, const double* settings, const double* at_stage,  //
    const double* s_lower, const double* s_upper, const double* v_cap, const double* gap_s, const double* gap_headway,
    const double* gap_speed, const double* s0, const double* v0, const double* a0, const double* aim_v,
    const double* weight_v, const double* aim_s, const double* weight_s,  //
    double* x0, double* g, double* z_lower, double* z_upper, double* C, double* upper,  //
    Index rows, Index nodes, Index stages, Index fine, Index threads) {
    return guarded([&] {
        const Constants k{{length, nodes, stages, fine}, Settings(settings), at_stage};
        const In in{s_lower, s_upper, v_cap, gap_s, gap_headway, gap_speed, s0, v0, a0, aim_v, weight_v, aim_s,
                    weight_s};
        const Outputs<double> out{x0, g, z_lower, z_upper, C, upper};
        over_rows(rows, threads, [&](Index r) { forward(k, in.row(r, nodes), out.row(r, stages)); });
    });
}

// g_*: gradients of the outputs, null for zero; d_*: those of the inputs, zero at first.
DDS_EXPORT Index dds_longitudinal_program_adjoint(
    const Index* length, const double* settings, const double* at_stage,  //
    const double* s_lower, const double* s_upper, const double* v_cap, const double* gap_s, const double* gap_headway,
    const double* gap_speed, const double* s0, const double* v0, const double* a0, const double* aim_v,
    const double* weight_v, const double* aim_s, const double* weight_s,  //
    const double* g_x0, const double* g_g, const double* g_z_lower, const double* g_z_upper, const double* g_C,
    const double* g_upper,  //
    double* d_s_lower, double* d_s_upper, double* d_v_cap, double* d_gap_s, double* d_gap_headway, double* d_gap_speed,
    double* d_s0, double* d_v0, double* d_a0, double* d_aim_v, double* d_weight_v, double* d_aim_s,
    double* d_weight_s,  //
    Index rows, Index nodes, Index stages, Index fine, Index threads) {
    return guarded([&] {
        const Constants k{{length, nodes, stages, fine}, Settings(settings), at_stage};
        const In in{s_lower, s_upper, v_cap, gap_s, gap_headway, gap_speed, s0, v0, a0, aim_v, weight_v, aim_s,
                    weight_s};
        const Outputs<const double> g{g_x0, g_g, g_z_lower, g_z_upper, g_C, g_upper};
        const Inputs<double> out{d_s_lower, d_s_upper, d_v_cap, d_gap_s, d_gap_headway, d_gap_speed, d_s0,
                                 d_v0, d_a0, d_aim_v, d_weight_v, d_aim_s, d_weight_s};
        over_rows(rows, threads, [&](Index r) {
            backward(k, in.row(r, nodes), g.row(r, stages), out.row(r, nodes));
        });
    });
}
