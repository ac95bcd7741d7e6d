// Exact integration of constant jerks along the path, over stages and over fine steps, with the adjoints: row by row.
// The twin of `with_progress` and `longitudinal_motion` in planner/programs/longitudinal.py.
#include "stage_grid.hpp"

namespace {

using namespace dds;

constexpr Index NZ = 5, JERK = 3;

// What speed, acceleration (at the begin of the interval) and jerk add to s in its j-th fine step, per rho.
struct Added {
    double v, a, jerk;

    Added(double h, Index step) {
        const double j = static_cast<double>(step);
        v = h;
        a = h * h * (j + 0.5);
        jerk = h * h * h * (j * j / 2 + j / 2 + 1 / 6.0);
    }
};

// work(stage, first fine step in [2 F], their number) for every stage.
template <class Work>
void over_stages(const StageGrid& grid, Work&& work) {
    over_intervals(grid, [&](Index branch, Index node, Index first) {
        const Index stage = grid.stage(branch, node);
        if (grid.branch(stage) == branch) work(stage, first, grid.length[node]);
    });
}

void write_dynamics(const StageGrid& grid, double h, const double* rho, double* A, double* B) {
    over_stages(grid, [&](Index stage, Index first, Index length) {
        double by_v = 0.0, by_a = 0.0, by_jerk = 0.0;
        for (Index j = 0; j < length; ++j) {
            const Added added(h, j);
            by_v += rho[first + j] * added.v;
            by_a += rho[first + j] * added.a;
            by_jerk += rho[first + j] * added.jerk;
        }
        const double dt = h * static_cast<double>(length);
        const double whole[9] = {1, by_v, by_a, 0, 1, dt, 0, 0, 1}, input[6] = {by_jerk, 0, dt * dt / 2, 0, dt, 0};
        std::copy(whole, whole + 9, A + 9 * stage);
        std::copy(input, input + 6, B + 6 * stage);
    });
}

void dynamics_adjoint(const StageGrid& grid, double h, const double* g_A, const double* g_B, double* d_rho) {
    over_stages(grid, [&](Index stage, Index first, Index length) {
        for (Index j = 0; j < length; ++j) {
            const Added added(h, j);
            const double by_state = g_A ? g_A[9 * stage + 1] * added.v + g_A[9 * stage + 2] * added.a : 0.0;
            d_rho[first + j] = by_state + (g_B ? g_B[6 * stage] * added.jerk : 0.0);
        }
    });
}

// What a fine step of h s drives (m) for speed and acceleration before it and its jerk.
double distance(double h, double v, double a, double jerk) { return h * (v + h * (a / 2 + h / 6 * jerk)); }

// Into s, v, a, jerk [2 F]; rho null for 1.
void integrate(const StageGrid& grid, double h, const double* z, const double* rho, const double start[3], double* s,
               double* v, double* a, double* jerk) {
    double at_s = 0.0, at_v = 0.0, at_a = 0.0;
    over_intervals(grid, [&](Index branch, Index node, Index first) {
        if (node == 0) at_s = start[0], at_v = start[1], at_a = start[2];
        const double j = z[NZ * grid.stage(branch, node) + JERK];
        for (Index f = first; f < first + grid.length[node]; ++f) {
            at_s += distance(h, at_v, at_a, j) * (rho ? rho[f] : 1.0);
            at_v += h * (at_a + h / 2 * j);
            at_a += h * j;
            s[f] = at_s, v[f] = at_v, a[f] = at_a, jerk[f] = j;
        }
    });
}

// Gradients of s, v, a, jerk, null for zero.
struct Given {
    const double* of[4];
    double at(int which, Index f) const { return of[which] ? of[which][f] : 0.0; }
};

// From g to the gradients of z, of rho (null: not wanted) and, added, of the start. v, a: as integrated.
void integrate_adjoint(const StageGrid& grid, double h, const double* z, const double* rho, const double start[3],
                       const double* v, const double* a, const Given& g, double* d_z, double* d_rho,
                       double d_start[3]) {
    for (Index branch = 0; branch < 2; ++branch) {
        double d_s = 0.0, d_v = 0.0, d_a = 0.0;
        Index f = (branch + 1) * grid.fine - 1;
        for (Index node = grid.nodes; node-- > 0;) {
            const Index stage = grid.stage(branch, node);
            const double j = z[NZ * stage + JERK];
            for (Index i = 0; i < grid.length[node]; ++i, --f) {
                const bool first = f == branch * grid.fine;
                d_s += g.at(0, f);
                d_v += g.at(1, f);
                d_a += g.at(2, f);
                const double v_before = first ? start[1] : v[f - 1], a_before = first ? start[2] : a[f - 1];
                if (d_rho) d_rho[f] = d_s * distance(h, v_before, a_before, j);
                const double d_distance = d_s * (rho ? rho[f] : 1.0);
                d_z[NZ * stage + JERK] += g.at(3, f) + h * (d_a + h * (d_v / 2 + h / 6 * d_distance));
                d_a += h * (d_v + h / 2 * d_distance);
                d_v += h * d_distance;
            }
        }
        d_start[0] += d_s;
        d_start[1] += d_v;
        d_start[2] += d_a;
    }
}

}  // namespace

// rho [R, 2, F] -> A [R, n, 3, 3], B [R, n, 3, 2].
DDS_EXPORT Index dds_progress(double h, const Index* length, const double* rho, double* A, double* B, Index rows,
                              Index nodes, Index stages, Index fine) {
    return guarded([&] {
        const StageGrid grid{length, nodes, stages, fine};
        for (Index r = 0; r < rows; ++r)
            write_dynamics(grid, h, rho + 2 * fine * r, A + 9 * stages * r, B + 6 * stages * r);
    });
}

// g_A, g_B: gradients, null for zero -> d_rho, zero at first.
DDS_EXPORT Index dds_progress_adjoint(double h, const Index* length, const double* g_A, const double* g_B,
                                      double* d_rho, Index rows, Index nodes, Index stages, Index fine) {
    return guarded([&] {
        const StageGrid grid{length, nodes, stages, fine};
        for (Index r = 0; r < rows; ++r)
            dynamics_adjoint(grid, h, g_A ? g_A + 9 * stages * r : nullptr, g_B ? g_B + 6 * stages * r : nullptr,
                             d_rho + 2 * fine * r);
    });
}

// z [R, n, 5], rho [R, 2, F] or null, s0, v0, a0 [R] -> s, v, a, jerk [R, 2, F].
DDS_EXPORT Index dds_longitudinal_motion(double h, const Index* length, const double* z, const double* s0,
                                         const double* v0, const double* a0, const double* rho, double* s, double* v,
                                         double* a, double* jerk, Index rows, Index nodes, Index stages, Index fine) {
    return guarded([&] {
        const StageGrid grid{length, nodes, stages, fine};
        for (Index r = 0; r < rows; ++r) {
            const Index at = 2 * fine * r;
            const double start[3] = {s0[r], v0[r], a0[r]};
            integrate(grid, h, z + NZ * stages * r, rho ? rho + at : nullptr, start, s + at, v + at, a + at, jerk + at);
        }
    });
}

// v, a: of the forward pass; g_*: gradients of the outputs, null for zero; d_z, d_s0, d_v0, d_a0: zero at first.
DDS_EXPORT Index dds_longitudinal_motion_adjoint(
    double h, const Index* length, const double* z, const double* s0, const double* v0, const double* a0,
    const double* rho, const double* v, const double* a, const double* g_s, const double* g_v, const double* g_a,
    const double* g_jerk, double* d_z, double* d_s0, double* d_v0, double* d_a0, double* d_rho, Index rows, Index nodes,
    Index stages, Index fine) {
    return guarded([&] {
        const StageGrid grid{length, nodes, stages, fine};
        for (Index r = 0; r < rows; ++r) {
            const Index at = 2 * fine * r;
            const auto part = [&](const double* p) { return p ? p + at : nullptr; };
            const double start[3] = {s0[r], v0[r], a0[r]};
            double d_start[3] = {};
            integrate_adjoint(grid, h, z + NZ * stages * r, part(rho), start, v + at, a + at,
                              {{part(g_s), part(g_v), part(g_a), part(g_jerk)}}, d_z + NZ * stages * r,
                              d_rho ? d_rho + at : nullptr, d_start);
            d_s0[r] += d_start[0], d_v0[r] += d_start[1], d_a0[r] += d_start[2];
        }
    });
}
