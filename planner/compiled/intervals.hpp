// Intervals along and across the path that a box's pieces take up, between nodes too: twin of intervals.py.
#pragma once

#include "lanes.hpp"

namespace dds {

constexpr int kPieces = 3;  // parts of equal length into which each box is cut
constexpr double kStretchFloor = 0.1;  // of 1 - d * curvature: near the centre of curvature the path's s runs away

// The piece's place along the box, in lengths from its middle.
inline double piece_fraction(int piece) { return (static_cast<float>(piece) + 0.5f) / kPieces - 0.5f; }

// Boxes of one size in Frenet coordinates. cos, sin: of their angles to the path. extra (m) widens them across.
struct Boxes {
    Pack s, d, cos, sin, curvature, extra;
    double length, width;

    Pack stretch() const { return 1.0 / larger(Pack(1.0 - curvature * d), all(kStretchFloor)); }
};

// Where the pieces' intervals are: their middles at an offset (m) from that of the box, and half their sizes.
struct Places {
    Pack s, d, stretched, sin, bow, half_s, half_d;

    // Pieces are placed along the box's axis with the bow of the path (second order in the offset).
    explicit Places(const Boxes& b)
        : s(b.s), d(b.d), stretched(b.cos * b.stretch()), sin(b.sin), bow(-0.5 * b.curvature * b.cos * b.cos) {
        const Pack along = magnitude(b.cos), across = magnitude(b.sin);
        const double length = b.length / (2 * kPieces), width = b.width / 2;
        half_s = length * along + width * across, half_d = length * across + width * along + b.extra;
    }
    // How far a piece reaches: against s, along s, against d, along d.
    Pack reach(int end, double offset) const {
        const double side = end % 2 ? 1.0 : -1.0;
        return end < 2 ? half_s + side * (s + offset * stretched) : half_d + side * (d + offset * (sin + offset * bow));
    }
};

// Gradients by the fields of boxes.
struct BoxGradients {
    Pack s, d, cos, sin, curvature, extra, length, width;
};

// From the gradients of `Places::reach` of every end and piece.
inline BoxGradients place_back(const Boxes& b, const Pack (&grad)[4][kPieces]) {
    // Middles, by the moments of their gradients over the pieces.
    Pack s = all(0), d = s, first_s = s, first_d = s, second = s, half_s = s, half_d = s;
    for (int p = 0; p < kPieces; ++p) {
        const double f = piece_fraction(p);
        const Pack middle_s = grad[1][p] - grad[0][p], middle_d = grad[3][p] - grad[2][p];
        s += middle_s, d += middle_d, first_s += f * middle_s, first_d += f * middle_d, second += f * f * middle_d;
        half_s += grad[1][p] + grad[0][p], half_d += grad[3][p] + grad[2][p];
    }
    const Pack room = 1.0 - b.curvature * b.d, stretch = b.stretch(), along = first_s * stretch;
    const Pack g_bow = -0.5 * b.length * b.length * second;  // of curvature * cos^2
    const Pack g_room = room > kStretchFloor ? -b.length * along * b.cos * stretch : all(0);
    const Pack a = magnitude(b.cos), c = magnitude(b.sin);
    const auto sign = [](const Pack& x) { return x > 0.0 ? all(1) : x < 0.0 ? all(-1) : all(0); };
    const double piece = b.length / (2 * kPieces), side = b.width / 2;
    BoxGradients g;
    g.s = s, g.d = d - b.curvature * g_room, g.extra = half_d;
    g.cos = b.length * along + 2.0 * b.curvature * b.cos * g_bow + sign(b.cos) * (piece * half_s + side * half_d);
    g.sin = b.length * first_d + sign(b.sin) * (side * half_s + piece * half_d);
    g.curvature = b.cos * b.cos * g_bow - b.d * g_room;
    g.length = b.cos * along + first_d * b.sin - b.length * b.curvature * b.cos * b.cos * second +
               (a * half_s + c * half_d) / (2.0 * kPieces);
    g.width = (c * half_s + a * half_d) / 2.0;
    return g;
}

// Which entries of a row of modes have a node after and before them: 1 or 0.
struct Neighbours {
    std::vector<double> after, before;

    Neighbours(Index modes, Index nodes, Index padded) : after(padded), before(padded) {
        for (Index k = 0; k < modes * nodes; ++k) after[k] = k % nodes + 1 < nodes, before[k] = k % nodes > 0;
    }
};

// Entries from k on: the largest value at each node and half way to its neighbours, as they move on straight lines.
DDS_INLINE Pack extended(const double* value, const Neighbours& has, Index k) {
    const Pack here = load(value + k);
    const Pack ahead = load(&has.after[k]) * (load(value + k + 1) - here);
    const Pack behind = load(&has.before[k]) * (load(value + k - 1) - here);
    return here + 0.5 * larger(larger(ahead, behind), all(0));
}

// What the gradient of `extended` at entries from k on gives to those after and before them. Equals share: those who
// stand have the mean of what moving either way would give.
DDS_INLINE void extended_back(const double* value, const Neighbours& has, Index k, const Pack& grad, Pack& to_after,
                              Pack& to_before) {
    const auto step = [](const Pack& x) { return x > 0.0 ? all(1) : x < 0.0 ? all(0) : all(0.5); };
    const Pack here = load(value + k), after = load(&has.after[k]), before = load(&has.before[k]);
    const Pack behind = before * (load(value + k - 1) - here);
    const Pack ahead = step(after * (load(value + k + 1) - here) - larger(behind, all(0)));
    to_after = after * (0.5 * grad) * ahead;
    to_before = before * (0.5 * grad) * step(behind) * (1.0 - ahead);
}

}  // namespace dds
