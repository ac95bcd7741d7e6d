// Feet of points on the splines of many scenes, and their derivatives: foot_point.py.
#include "spline.hpp"

namespace {

using namespace dds;

struct Feet {
    double *s, *d, *heading, *curvature;
    bool* valid;
};

void locate_row(const Spline& path, const double* xy, const double* guess, Index points, Feet out) {
    double zx[kLanes], zy[kLanes], s[kLanes];
    for (Index first = 0; first < points; first += kLanes) {
        const int here = static_cast<int>(std::min<Index>(kLanes, points - first));
        for (int l = 0; l < kLanes; ++l) {
            const Index q = first + std::min(l, here - 1);  // the last block repeats its last point
            zx[l] = xy[2 * q], zy[l] = xy[2 * q + 1];
            if (guess) s[l] = guess[q];
        }
        if (!guess) nearest_knots(path, zx, zy, s);
        search_feet(path, zx, zy, s, guess ? kStepsFromGuess : kSteps);
        for (int l = 0; l < here; ++l) {
            const Index q = first + l;
            const Foot foot = foot_of(curve_at(path, {zx[l], zy[l]}, s[l]));
            out.s[q] = s[l], out.d[q] = foot.d, out.heading[q] = foot.heading, out.curvature[q] = foot.curvature;
            out.valid[q] = foot.valid;
        }
    }
}

}  // namespace

// columns [4, L, Q]: s, d, heading, curvature.
DDS_EXPORT Index dds_locate(const double* xy, const double* guess, const double* cubics, const double* knots,
                            const Index* count, const Index* scene, double* columns, bool* valid, Index rows,
                            Index points, Index n, Index threads) {
    return guarded([&] {
        const Splines splines{cubics, knots, n, count, scene};
        over_rows(rows, threads, [&](Index r) {
            const Index q = r * points;
            double* c = columns + q;
            const Index apart = rows * points;
            locate_row(splines.of(r), xy + 2 * q, guess ? guess + q : nullptr, points,
                       {c, c + apart, c + 2 * apart, c + 3 * apart, valid + q});
        });
    });
}

// Gradients of xy [L, Q, 2] and cubics [S, n - 1, 4, 2] (cleared by the caller; null if not wanted) from those of s, d,
// heading and curvature [L, Q] each. A scene's rows are one after the other on one thread: their sum has one order.
DDS_EXPORT Index dds_locate_back(const double* xy, const double* s, const double* cubics, const Index* count,
                                 const Index* scene, const double* gs, const double* gd, const double* gh,
                                 const double* gk, double* g_xy, double* g_cubics, Index scenes, Index rows,
                                 Index points, Index n, Index threads) {
    return guarded([&] {
        const Splines splines{cubics, cubics, n, count, scene};
        over_rows(scenes, threads, [&](Index k) {
            double* own = g_cubics ? g_cubics + k * (n - 1) * 8 : nullptr;
            for (Index r = 0; r < rows; ++r) {
                if (splines.scene_of(r) != k) continue;
                const Spline path = splines.of(r);
                for (Index q = r * points; q < (r + 1) * points; ++q) {
                    const At at = curve_at(path, {xy[2 * q], xy[2 * q + 1]}, s[q]);
                    const FootGradient g = foot_back(at, s[q], path.last(), gs[q], gd[q], gh[q], gk[q]);
                    g_xy[2 * q] = g.point.x, g_xy[2 * q + 1] = g.point.y;
                    if (own) add_cubic(own, at, -1.0 * g.point, g.first, g.second);
                }
            }
        });
    });
}
