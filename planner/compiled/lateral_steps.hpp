// Fine steps of the linearised lateral motion, their products over the intervals, and both adjoints: one row at a time.
// The twin of planner/programs/lateral_dynamics.py, whose names these are. An entry of a step is 5 * row + column.
#pragma once

#include "calculus.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "stage_grid.hpp"

namespace dds {

constexpr Index ROWS = 2, COLUMNS = 5, ENTRIES = ROWS * COLUMNS;

// Profiles of both branches [2, F], and the state now.
struct LateralMotion {
    const double *v, *a, *jerk, *bend, *d, *psi;
    double d0, psi0;
};

// What a step is made of, as arrays over the 2 F fine steps; `late`: s since the begin of the interval.
enum { HV, BEND, OFFSET, HEADING, COSINE, SINE, LATE, FACTORS };

struct FineModel {
    double hv, bend, d, psi, cos, sin;
    double inverse, turn, level, level_d, level_psi, a, b, c, slip, bias, e1, e2, half, k00, k01, k10, k11;
};

// sharpest: least 1 - bend * d that is believed.
inline FineModel fine_model(const double* factor, Index count, double sharpest) {
    FineModel m;
    m.hv = factor[HV * count], m.bend = factor[BEND * count], m.d = factor[OFFSET * count];
    m.psi = factor[HEADING * count], m.cos = factor[COSINE * count], m.sin = factor[SINE * count];
    m.inverse = 1 / at_least(1 - m.bend * m.d, sharpest);
    m.turn = m.bend * m.hv, m.level = m.cos * m.inverse, m.level_psi = -m.sin * m.inverse;
    m.level_d = m.level * m.bend * m.inverse;
    m.a = m.hv * m.cos, m.b = -m.turn * m.level_d, m.c = -m.turn * m.level_psi;
    m.slip = m.sin - m.cos * m.psi, m.bias = m.level - m.level_d * m.d - m.level_psi * m.psi;
    m.e1 = m.hv * m.slip, m.e2 = -m.turn * m.bias;
    m.half = m.c / 6 + 0.5, m.k00 = m.a * m.b / 6 + 1;
    m.k01 = m.a * m.half, m.k10 = m.b * m.half, m.k11 = m.k00 + m.c * m.half;
    return m;
}

inline void fill_factors(const LateralMotion& motion, const StageGrid& grid, double h, double* factor) {
    const Index count = 2 * grid.fine;
    for (Index i = 0; i < count; ++i) {
        const bool first = i % grid.fine == 0;
        const double change = motion.jerk[i] * (h * h / 6) - motion.a[i] * (h / 2);
        factor[HV * count + i] = h * (at_least(motion.v[i], 0.0) + change);
        factor[BEND * count + i] = motion.bend[i];
        factor[OFFSET * count + i] = 0.5 * (motion.d[i] + (first ? motion.d0 : motion.d[i - 1]));
        factor[HEADING * count + i] = 0.5 * (motion.psi[i] + (first ? motion.psi0 : motion.psi[i - 1]));
    }
    sines_cosines(factor + HEADING * count, factor + SINE * count, factor + COSINE * count, count);
    over_intervals(grid, [&](Index, Index node, Index first) {
        for (Index j = 0; j < grid.length[node]; ++j) factor[LATE * count + first + j] = h * static_cast<double>(j);
    });
}

// Into steps [2, 5, 2 F].
inline void fine_steps(const double* factor, Index count, double h, double sharpest, double* steps) {
    DDS_INDEPENDENT
    for (Index i = 0; i < count; ++i) {
        const FineModel m = fine_model(factor + i, count, sharpest);
        const double late = factor[LATE * count + i], push0 = m.k01 * m.hv, push1 = m.k11 * m.hv;
        steps[0 * count + i] = m.k01 * m.b + 1;
        steps[1 * count + i] = m.k00 * m.a + m.k01 * m.c;
        steps[2 * count + i] = push0;
        steps[3 * count + i] = late * push0 + (h / 6) * m.a * m.hv;
        steps[4 * count + i] = m.k00 * m.e1 + m.k01 * m.e2;
        steps[5 * count + i] = m.k11 * m.b;
        steps[6 * count + i] = m.k10 * m.a + m.k11 * m.c + 1;
        steps[7 * count + i] = push1;
        steps[8 * count + i] = late * push1 + h * m.hv * m.half;
        steps[9 * count + i] = m.k10 * m.e1 + m.k11 * m.e2;
    }
}

// From gradients g of the steps [2, 5, 2 F] to those of HV, BEND, OFFSET and HEADING, into d [4, 2 F].
inline void fine_steps_adjoint(const double* factor, Index count, double h, double sharpest, const double* g,
                               double* d) {
    DDS_INDEPENDENT
    for (Index i = 0; i < count; ++i) {
        const FineModel m = fine_model(factor + i, count, sharpest);
        const double late = factor[LATE * count + i];
        const double g00 = g[i], g01 = g[count + i], g04 = g[4 * count + i];
        const double g10 = g[5 * count + i], g11 = g[6 * count + i], g14 = g[9 * count + i];
        const double g02 = g[2 * count + i] + late * g[3 * count + i], g03 = g[3 * count + i] * (h / 6);
        const double g12 = g[7 * count + i] + late * g[8 * count + i], g13 = g[8 * count + i] * h;
        const double d_k11 = g10 * m.b + g11 * m.c + g12 * m.hv + g14 * m.e2;
        const double d_k10 = g11 * m.a + g14 * m.e1;
        const double d_k01 = g00 * m.b + g01 * m.c + g02 * m.hv + g04 * m.e2;
        const double d_product = (g01 * m.a + g04 * m.e1 + d_k11) / 6;  // of a b
        const double d_half = g13 * m.hv + d_k11 * m.c + d_k10 * m.b + d_k01 * m.a;
        const double d_a = g01 * m.k00 + g11 * m.k10 + g03 * m.hv + d_k01 * m.half + d_product * m.b;
        const double d_b = g00 * m.k01 + g10 * m.k11 + d_k10 * m.half + d_product * m.a;
        const double d_c = g01 * m.k01 + g11 * m.k11 + d_k11 * m.half + d_half / 6;
        const double d_e1 = g04 * m.k00 + g14 * m.k10, d_e2 = g04 * m.k01 + g14 * m.k11;
        const double d_slip = d_e1 * m.hv, d_bias = d_e2 * m.turn;                       // of -bias
        const double d_turn = d_e2 * m.bias + d_b * m.level_d + d_c * m.level_psi;       // of -turn
        const double d_level_d = d_bias * m.d - d_b * m.turn, d_level_psi = d_bias * m.psi - d_c * m.turn;
        const double d_level = d_level_d * m.bend * m.inverse - d_bias, brought = m.level * d_level_d;
        const double d_sin = d_slip - d_level_psi * m.inverse;
        const double d_cos = d_a * m.hv + d_level * m.inverse - d_slip * m.psi;
        const double d_inverse = brought * m.bend + d_level * m.cos - d_level_psi * m.sin;
        const double d_room = d_inverse * m.inverse * m.inverse * above(1 - m.bend * m.d, sharpest);  // of -room
        d[i] = g02 * m.k01 + g12 * m.k11 + g03 * m.a + g13 * m.half + d_a * m.cos + d_e1 * m.slip - d_turn * m.bend;
        d[count + i] = brought * m.inverse + d_room * m.d - d_turn * m.hv;
        d[2 * count + i] = d_bias * m.level_d + d_room * m.bend;
        d[3 * count + i] = d_bias * m.level_psi + (d_sin - d_slip) * m.cos - d_cos * m.sin;
    }
}

// total [2, 5]: the step at `at` alone, or after what it already holds.
inline void follow(const double* step, Index count, bool first, double* total) {
    double now[ENTRIES], before[ENTRIES];
    for (Index e = 0; e < ENTRIES; ++e) now[e] = step[e * count], before[e] = total[e];
    for (Index i = 0; i < ROWS; ++i) {
        const double* s = now + COLUMNS * i;
        for (Index k = 0; k < COLUMNS; ++k) {
            const double through = s[0] * before[k] + s[1] * before[COLUMNS + k];
            total[COLUMNS * i + k] = first ? s[k] : through + (k < 2 ? 0.0 : s[k]);
        }
    }
}

// Adds to g, the gradients of an interval's steps, what the gradient due [2, 5] of their product brings. due is used
// up; totals: room for `length` products.
inline void follow_adjoint(const double* step, Index count, Index length, double* due, double* g, double* totals) {
    for (Index j = 0; j + 1 < length; ++j) {
        double* total = totals + ENTRIES * j;
        if (j) std::copy(total - ENTRIES, total, total);
        follow(step + j, count, j == 0, total);
    }
    for (Index j = length - 1; j > 0; --j) {
        const double* before = totals + ENTRIES * (j - 1);
        double carried[ENTRIES];
        for (Index i = 0; i < ROWS; ++i) {
            for (Index k = 0; k < COLUMNS; ++k) {
                const double own = due[COLUMNS * i + k];
                if (k >= 2) g[(COLUMNS * i + k) * count + j] += own;
                for (Index l = 0; l < ROWS; ++l) g[(COLUMNS * i + l) * count + j] += own * before[COLUMNS * l + k];
                carried[COLUMNS * i + k] =
                    step[i * count + j] * due[k] + step[(COLUMNS + i) * count + j] * due[COLUMNS + k];
            }
        }
        std::copy(carried, carried + ENTRIES, due);
    }
    for (Index e = 0; e < ENTRIES; ++e) g[e * count] += due[e];
}

}  // namespace dds
