// From a solution of the lateral program to its states at the fine times, and the adjoint: row by row.
#include "lateral.hpp"

namespace {

using namespace dds;

enum { D, PSI, KAPPA, RATE };

// Where an interval begins: the end of the stage before it, or now.
template <class T>
T* begin_of(const StageGrid& grid, Index branch, Index node, T* z, T* x0) {
    const Index before = grid.before(branch, node);
    return before < 0 ? x0 : z + NZ * before;
}

// Into out [3][2 F].
void roll_out(const StageGrid& grid, double h, const double* z, const double* x0, const double* steps,
              double* const out[STATES]) {
    const Index count = 2 * grid.fine;
    over_intervals(grid, [&](Index branch, Index node, Index first) {
        const double* begin = begin_of(grid, branch, node, z, x0);
        const double rate = z[NZ * grid.stage(branch, node) + RATE];
        double d = begin[D], psi = begin[PSI];
        for (Index i = first; i < first + grid.length[node]; ++i) {
            const double* s = steps + i;
            const double push_d = s[2 * count] * begin[KAPPA] + s[3 * count] * rate + s[4 * count];
            const double push_psi = s[7 * count] * begin[KAPPA] + s[8 * count] * rate + s[9 * count];
            const double now = s[0] * d + s[count] * psi + push_d;
            psi = s[5 * count] * d + s[6 * count] * psi + push_psi;
            d = now;
            out[D][i] = d;
            out[PSI][i] = psi;
            out[KAPPA][i] = begin[KAPPA] + rate * (h * static_cast<double>(i - first + 1));
        }
    });
}

// From gradients g [3][2 F] (null: zero) of the states, themselves given as `state`, to those of z, x0 and the steps.
void roll_out_adjoint(const StageGrid& grid, double h, const double* z, const double* x0, const double* steps,
                      const double* const state[2], const double* const g[STATES], double* d_z, double* d_x0,
                      double* d_steps) {
    const Index count = 2 * grid.fine;
    const auto at = [&](Index which, Index i) { return g[which] ? g[which][i] : 0.0; };
    over_intervals(grid, [&](Index branch, Index node, Index first) {
        const double* begin = begin_of(grid, branch, node, z, x0);
        double *d_begin = begin_of(grid, branch, node, d_z, d_x0), d_rate = 0.0;
        const Index stage = grid.stage(branch, node);
        const double rate = z[NZ * stage + RATE];
        double due[ROWS] = {0.0, 0.0};  // what reaches d and psi after a step
        for (Index i = first + grid.length[node] - 1; i >= first; --i) {
            const double* s = steps + i;
            due[D] += at(D, i);
            due[PSI] += at(PSI, i);
            const double before[ROWS] = {i > first ? state[D][i - 1] : begin[D],
                                         i > first ? state[PSI][i - 1] : begin[PSI]};
            for (Index row = 0; row < ROWS; ++row) {
                double* own = d_steps + COLUMNS * row * count + i;
                own[0] = due[row] * before[D];
                own[count] = due[row] * before[PSI];
                own[2 * count] = due[row] * begin[KAPPA];
                own[3 * count] = due[row] * rate;
                own[4 * count] = due[row];
                d_begin[KAPPA] += due[row] * s[(COLUMNS * row + 2) * count];
                d_rate += due[row] * s[(COLUMNS * row + 3) * count];
            }
            const double carried = s[0] * due[D] + s[5 * count] * due[PSI];
            due[PSI] = s[count] * due[D] + s[6 * count] * due[PSI];
            due[D] = carried;
            d_begin[KAPPA] += at(KAPPA, i);
            d_rate += at(KAPPA, i) * (h * static_cast<double>(i - first + 1));
        }
        d_begin[D] += due[D];
        d_begin[PSI] += due[PSI];
        d_z[NZ * stage + RATE] += d_rate;
    });
}

}  // namespace

// z [R, n, 4], x0 [R, 3], steps [R, 2, 5, 2, F] -> d, psi, kappa [R, 2, F].
DDS_EXPORT Index dds_lateral_state(double h, const Index* length, const double* z, const double* x0,
                                   const double* steps, double* d, double* psi, double* kappa, Index rows, Index nodes,
                                   Index stages, Index fine, Index threads) {
    return guarded([&] {
        const StageGrid grid{length, nodes, stages, fine};
        const Index count = 2 * fine;
        over_rows(rows, threads, [&](Index r) {
            double* const out[STATES] = {d + r * count, psi + r * count, kappa + r * count};
            roll_out(grid, h, z + r * stages * NZ, x0 + r * STATES, steps + r * ENTRIES * count, out);
        });
    });
}

// g_*: gradients of d, psi, kappa, null for zero -> d_z and d_x0, zero at first, and d_steps.
DDS_EXPORT Index dds_lateral_state_adjoint(double h, const Index* length, const double* z, const double* x0,
                                           const double* steps, const double* d, const double* psi, const double* g_d,
                                           const double* g_psi, const double* g_kappa, double* d_z, double* d_x0,
                                           double* d_steps, Index rows, Index nodes, Index stages, Index fine,
                                           Index threads) {
    return guarded([&] {
        const StageGrid grid{length, nodes, stages, fine};
        const Index count = 2 * fine;
        over_rows(rows, threads, [&](Index r) {
            const auto part = [&](const double* p) { return p ? p + r * count : nullptr; };
            const double *const state[2] = {part(d), part(psi)}, *const g[] = {part(g_d), part(g_psi), part(g_kappa)};
            const Index own = r * stages * NZ;
            roll_out_adjoint(grid, h, z + own, x0 + r * STATES, steps + r * ENTRIES * count, state, g, d_z + own,
                             d_x0 + r * STATES, d_steps + r * ENTRIES * count);
        });
    });
}
