// Feet of points on the splines of many scenes, and their derivatives: path/foot_point.py.
#include "spline.hpp"

namespace {

using namespace dds;

// Blocks of points [count, 2] side by side; the last one repeats its last point.
Vec<Pack> points_at(const double* xy, Index first, int here) {
    Vec<Pack> z;
    for (int l = 0; l < kLanes; ++l) {
        const Index q = first + std::min(l, here - 1);
        z.x[l] = xy[2 * q], z.y[l] = xy[2 * q + 1];
    }
    return z;
}

Pack numbers_at(const double* values, Index first, int here) {
    Pack r = all(0);
    for (int l = 0; l < kLanes; ++l) r[l] = values[first + std::min(l, here - 1)];
    return r;
}

int block(Index first, Index count) { return static_cast<int>(std::min<Index>(kLanes, count - first)); }

// columns: s, d, heading, curvature, `apart` numbers from one to the next.
void locate_row(const Spline& path, const double* xy, const double* guess, Index points, double* columns, Index apart,
                bool* valid) {
    for (Index first = 0; first < points; first += kLanes) {
        const int here = block(first, points);
        const Vec<Pack> z = points_at(xy, first, here);
        const Pack begin = guess ? numbers_at(guess, first, here) : nearest_knots(path, z);
        const Pack s = search_feet(path, z, begin, guess ? kStepsFromGuess : kSteps);
        const Foot<Pack> foot = foot_of(curve_at(path, z, s));
        const Pack found[4] = {s, foot.d, direction(foot.tangent.y, foot.tangent.x), foot.curvature};
        const Mask good = inside(foot);
        for (int l = 0; l < here; ++l) {
            for (int c = 0; c < 4; ++c) columns[c * apart + first + l] = found[c][l];
            valid[first + l] = good[l] != 0;
        }
    }
}

// g_cubics: null if not wanted.
void locate_row_back(const Spline& path, const double* xy, const double* s, const double* const (&given)[4],
                     Index points, double* g_xy, double* g_cubics) {
    for (Index first = 0; first < points; first += kLanes) {
        const int here = block(first, points);
        const Pack at_s = numbers_at(s, first, here);
        const At<Pack> at = curve_at(path, points_at(xy, first, here), at_s);
        Pack g[4];
        for (int c = 0; c < 4; ++c) g[c] = numbers_at(given[c], first, here);
        const FootGradient<Pack> back = foot_back(at, at_s, path.last(), g[0], g[1], g[2], g[3]);
        for (int l = 0; l < here; ++l) {
            g_xy[2 * (first + l)] = back.point.x[l], g_xy[2 * (first + l) + 1] = back.point.y[l];
        }
        if (g_cubics) add_cubics(g_cubics, at, back, here);
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
            locate_row(splines.of(r), xy + 2 * q, guess ? guess + q : nullptr, points, columns + q, rows * points,
                       valid + q);
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
                const Index q = r * points;
                locate_row_back(splines.of(r), xy + 2 * q, s + q, {gs + q, gd + q, gh + q, gk + q}, points, g_xy + 2 * q,
                                own);
            }
        });
    });
}
