// The lateral program of every candidate, and its adjoint: the twin of planner/programs/lateral.py, row by row.
#include "lateral.hpp"

#include <limits>

#include "lateral_terms.hpp"

namespace {

using namespace dds;

constexpr double INFINITE = std::numeric_limits<double>::infinity();

// Ends of the stages, and the motion there, of one row.
struct Nodes {
    std::vector<Index> ends;
    Index n;

    explicit Nodes(const StageGrid& grid) : ends(2 * grid.stages), n(grid.stages) {
        stage_ends(grid, ends.data(), ends.data() + n);
    }
    Index first(Index t) const { return ends[t]; }
    Index last(Index t) const { return ends[n + t]; }

    AtNode operator()(const LateralInputs<const double>& in, Index t) const {
        return {at_least(in.v[last(t)], 0.0), in.a[last(t)], in.bend[last(t)], at_least(in.v[first(t)], 0.0)};
    }

    void add(const LateralInputs<const double>& in, Index t, const AtNode& d, const LateralInputs<double>& out) const {
        out.v[last(t)] += d.v * above(in.v[last(t)], 0.0);
        out.a[last(t)] += d.a;
        out.bend[last(t)] += d.bend;
        out.v[first(t)] += d.v_first * above(in.v[first(t)], 0.0);
    }
};

// A, B, c of every stage: the product of its fine steps; the curvature goes on by its rate.
void write_dynamics(const LateralConstants& k, const double* steps, const LateralOutputs<double>& out) {
    const Index count = 2 * k.grid.fine;
    over_intervals(k.grid, [&](Index branch, Index node, Index first) {
        const Index t = k.grid.stage(branch, node);
        if (k.grid.branch(t) != branch) return;
        double total[ENTRIES] = {};
        for (Index j = 0; j < k.grid.length[node]; ++j) follow(steps + first + j, count, j == 0, total);
        double *A = out.A + 9 * t, *B = out.B + 3 * t, *c = out.c + 3 * t;
        for (Index i = 0; i < ROWS; ++i) {
            std::copy(total + COLUMNS * i, total + COLUMNS * i + 3, A + 3 * i);
            B[i] = total[COLUMNS * i + 3];
            c[i] = total[COLUMNS * i + 4];
        }
        A[6] = A[7] = c[2] = 0.0;
        A[8] = 1.0;
        B[2] = k.stage(t).dt;
    });
}

void write_stage(const LateralConstants& k, const LateralInputs<const double>& in, const AtNode& at, Index t,
                 const LateralOutputs<double>& out) {
    const StageSettings s = k.stage(t);
    const StageCost cost = stage_cost(k, in, t, at);
    double *H = out.H + 16 * t, *g = out.g + NZ * t, *upper = out.z_upper + NZ * t;
    std::fill(H, H + 16, 0.0);
    for (Index i = 0; i < NZ; ++i) {
        H[5 * i] = cost.weight[i];
        g[i] = -cost.weight[i] * cost.aim[i];
    }
    const Bending b = bending(k.settings, s, at, *in.kappa0);
    upper[0] = INFINITE;
    upper[1] = std::abs(*in.psi0) + s.heading;
    upper[2] = greater_of(b.most, b.back);
    upper[3] = rate_limit(k.settings, at.v_first);
    for (Index i = 0; i < NZ; ++i) out.z_lower[NZ * t + i] = -upper[i];
    const Index place = (k.grid.branch(t) * k.grid.nodes + k.grid.node(t)) * k.circles;
    for (Index c = 0; c < k.circles; ++c) {
        const double bow = at.bend * k.half_square[c];  // the circle's place bows off the path's tangent
        out.lower[t * k.circles + c] = in.lower[place + c] + bow - s.soft;
        out.upper[t * k.circles + c] = in.upper[place + c] + bow + s.soft;
    }
}

void forward(const LateralConstants& k, const LateralInputs<const double>& in, const LateralOutputs<double>& out) {
    const Index count = 2 * k.grid.fine;
    Scratch scratch(FACTORS * count);
    double* factor = scratch.take(FACTORS * count);
    fill_factors(motion_of(in), k.grid, k.settings.h, factor);
    fine_steps(factor, count, k.settings.h, k.settings.sharpest, out.steps);
    write_dynamics(k, out.steps, out);
    const Nodes nodes(k.grid);
    for (Index t = 0; t < k.grid.stages; ++t) write_stage(k, in, nodes(in, t), t, out);
    out.x0[0] = *in.d0, out.x0[1] = *in.psi0, out.x0[2] = *in.kappa0;
}

double at(const double* p, Index i) { return p ? p[i] : 0.0; }

void stage_adjoint(const LateralConstants& k, const LateralInputs<const double>& in, const AtNode& node, Index t,
                   const LateralOutputs<const double>& g, const LateralInputs<double>& out, AtNode& d_node) {
    const StageSettings s = k.stage(t);
    const StageCost cost = stage_cost(k, in, t, node);
    double d_weight[NZ], d_aim[NZ];
    for (Index i = 0; i < NZ; ++i) {
        const double pull = at(g.g, NZ * t + i);
        d_weight[i] = at(g.H, 16 * t + 5 * i) - pull * cost.aim[i];
        d_aim[i] = -pull * cost.weight[i];
    }
    stage_cost_adjoint(k, in, t, node, d_weight, d_aim, out, d_node);
    const auto d_limit = [&](Index i) { return at(g.z_upper, NZ * t + i) - at(g.z_lower, NZ * t + i); };
    *out.psi0 += sign(*in.psi0) * d_limit(1);
    *out.kappa0 += sign(*in.kappa0) * bending_adjoint(k.settings, s, node, *in.kappa0, d_limit(2), d_node);
    d_node.v_first += d_limit(3) * rate_limit_slope(k.settings, node.v_first);
    const Index place = (k.grid.branch(t) * k.grid.nodes + k.grid.node(t)) * k.circles;
    for (Index c = 0; c < k.circles; ++c) {
        const double lower = at(g.lower, t * k.circles + c), upper = at(g.upper, t * k.circles + c);
        out.lower[place + c] += lower;
        out.upper[place + c] += upper;
        d_node.bend += (lower + upper) * k.half_square[c];
    }
}

// Gradients of the fine steps, from their own and from those of the stages, into g_steps.
void steps_adjoint(const LateralConstants& k, const double* steps, const LateralOutputs<const double>& g,
                   double* g_steps, double* totals) {
    const Index count = 2 * k.grid.fine;
    if (g.steps) std::copy(g.steps, g.steps + ENTRIES * count, g_steps);
    over_intervals(k.grid, [&](Index branch, Index node, Index first) {
        const Index t = k.grid.stage(branch, node);
        if (k.grid.branch(t) != branch) return;
        double due[ENTRIES];
        for (Index i = 0; i < ROWS; ++i) {
            for (Index j = 0; j < 3; ++j) due[COLUMNS * i + j] = at(g.A, 9 * t + 3 * i + j);
            due[COLUMNS * i + 3] = at(g.B, 3 * t + i);
            due[COLUMNS * i + 4] = at(g.c, 3 * t + i);
        }
        follow_adjoint(steps + first, count, k.grid.length[node], due, g_steps + first, totals);
    });
}

// From gradients of the factors HV, BEND, OFFSET and HEADING [4, 2 F] to those of the profiles and the start.
void factors_adjoint(const LateralConstants& k, const LateralInputs<const double>& in, const double* d,
                     const LateralInputs<double>& out) {
    const Index count = 2 * k.grid.fine;
    const double h = k.settings.h;
    for (Index i = 0; i < count; ++i) {
        const bool first = i % k.grid.fine == 0;
        out.v[i] += h * d[i] * above(in.v[i], 0.0);
        out.a[i] -= h * h / 2 * d[i];
        out.jerk[i] += h * h * h / 6 * d[i];
        out.bend[i] += d[count + i];
        const double d_offset = d[2 * count + i] / 2, d_heading = d[3 * count + i] / 2;
        out.d[i] += d_offset;
        out.psi[i] += d_heading;
        (first ? *out.d0 : out.d[i - 1]) += d_offset;
        (first ? *out.psi0 : out.psi[i - 1]) += d_heading;
    }
}

void backward(const LateralConstants& k, const LateralInputs<const double>& in, const double* steps,
              const LateralOutputs<const double>& g, const LateralInputs<double>& out) {
    const Index count = 2 * k.grid.fine;
    Scratch scratch((FACTORS + 2 * ENTRIES + 4) * count);
    double *factor = scratch.take(FACTORS * count), *g_steps = scratch.take(ENTRIES * count);
    double *totals = scratch.take(ENTRIES * count), *d_factor = scratch.take(4 * count);
    fill_factors(motion_of(in), k.grid, k.settings.h, factor);
    steps_adjoint(k, steps, g, g_steps, totals);
    fine_steps_adjoint(factor, count, k.settings.h, k.settings.sharpest, g_steps, d_factor);
    factors_adjoint(k, in, d_factor, out);
    const Nodes nodes(k.grid);
    for (Index t = 0; t < k.grid.stages; ++t) {
        AtNode d_node{};
        stage_adjoint(k, in, nodes(in, t), t, g, out, d_node);
        nodes.add(in, t, d_node, out);
    }
    *out.d0 += at(g.x0, 0);
    *out.psi0 += at(g.x0, 1);
    *out.kappa0 += at(g.x0, 2);
}

LateralConstants constants(const Index* length, const double* settings, const double* at_stage,
                           const double* half_square, Index nodes, Index stages, Index fine, Index circles) {
    const double* s = settings;
    return {{length, nodes, stages, fine}, {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8]},
            at_stage, half_square, circles};
}

}  // namespace

// Constants: LateralConstants. Inputs: LateralInputs. Outputs: LateralOutputs, all with the rows first.
DDS_EXPORT Index dds_lateral_program(
    const Index* length, const double* settings, const double* at_stage, const double* half_square,  //
    const double* v, const double* a, const double* jerk, const double* bend, const double* d, const double* psi,
    const double* d0, const double* psi0, const double* kappa0, const double* lower, const double* upper,
    const double* d_ref, const double* slope_ref, const double* weights, const double* track_d,
    const double* track_psi, const double* track_weight_d, const double* track_weight_psi,  //
    double* x0, double* A, double* B, double* c, double* H, double* g, double* z_lower, double* z_upper,
    double* row_lower, double* row_upper, double* steps,  //
    Index rows, Index nodes, Index stages, Index fine, Index circles, Index threads) {
    return guarded([&] {
        const auto k = constants(length, settings, at_stage, half_square, nodes, stages, fine, circles);
        const LateralInputs<const double> in{
            v, a, jerk, bend, d, psi, d0, psi0, kappa0, lower, upper, d_ref, slope_ref, weights,
            {track_d, track_psi, track_weight_d, track_weight_psi}};
        const LateralOutputs<double> out{x0, A, B, c, H, g, z_lower, z_upper, row_lower, row_upper, steps};
        over_rows(rows, threads, [&](Index r) {
            forward(k, in.row(r, fine, nodes, circles), out.row(r, fine, stages, circles));
        });
    });
}

// As above; steps: of the forward pass; g_*: gradients of the outputs, null for zero; d_*: gradients of the inputs,
// zero at first.
DDS_EXPORT Index dds_lateral_program_adjoint(
    const Index* length, const double* settings, const double* at_stage, const double* half_square,  //
    const double* v, const double* a, const double* jerk, const double* bend, const double* d, const double* psi,
    const double* d0, const double* psi0, const double* kappa0, const double* lower, const double* upper,
    const double* d_ref, const double* slope_ref, const double* weights, const double* track_d,
    const double* track_psi, const double* track_weight_d, const double* track_weight_psi, const double* steps,  //
    const double* g_x0, const double* g_A, const double* g_B, const double* g_c, const double* g_H, const double* g_g,
    const double* g_z_lower, const double* g_z_upper, const double* g_lower, const double* g_upper,
    const double* g_steps,  //
    double* d_v, double* d_a, double* d_jerk, double* d_bend, double* d_d, double* d_psi, double* d_d0,
    double* d_psi0, double* d_kappa0, double* d_lower, double* d_upper, double* d_d_ref, double* d_slope_ref,
    double* d_weights, double* d_track_d, double* d_track_psi, double* d_track_weight_d,
    double* d_track_weight_psi,  //
    Index rows, Index nodes, Index stages, Index fine, Index circles, Index threads) {
    return guarded([&] {
        const auto k = constants(length, settings, at_stage, half_square, nodes, stages, fine, circles);
        const LateralInputs<const double> in{
            v, a, jerk, bend, d, psi, d0, psi0, kappa0, lower, upper, d_ref, slope_ref, weights,
            {track_d, track_psi, track_weight_d, track_weight_psi}};
        const LateralOutputs<const double> g{g_x0, g_A, g_B, g_c, g_H, g_g, g_z_lower, g_z_upper, g_lower, g_upper,
                                             g_steps};
        const LateralInputs<double> out{
            d_v, d_a, d_jerk, d_bend, d_d, d_psi, d_d0, d_psi0, d_kappa0, d_lower, d_upper, d_d_ref, d_slope_ref,
            d_weights, {d_track_d, d_track_psi, d_track_weight_d, d_track_weight_psi}};
        over_rows(rows, threads, [&](Index r) {
            backward(k, in.row(r, fine, nodes, circles), steps + r * ENTRIES * 2 * fine,
                     g.row(r, fine, stages, circles), out.row(r, fine, nodes, circles));
        });
    });
}
