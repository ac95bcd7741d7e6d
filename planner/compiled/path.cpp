// Paths along routes: path/reference_path.py.
#include <memory>

#include "path.hpp"

using namespace dds;

// m: lengths [S] of the routes' polylines through their distinct points.
DDS_EXPORT Index dds_route_lengths(const double* xy, const bool* valid, double* lengths, Index scenes, Index points) {
    return guarded([&] {
        const Routes routes{xy, {}, nullptr, valid, points};
        for (Index k = 0; k < scenes; ++k) {
            lengths[k] = 0;
            for (const double step : lengths_of(points_of(routes, k, distinct_points(routes, k)))) lengths[k] += step;
        }
    });
}

// count [S]: knots of each path; n, the most of them, is the rows' length in the outputs: knots, moments [S, n, 2],
// attributes [S, n, 5], junction [S, n], cubics [S, n - 1, 4, 2], beyond a path's end as its last one. Where n exceeds
// `capacity`, for which the outputs have room, nothing but count is written.
DDS_EXPORT Index dds_build_path(const double* xy, const double* left, const double* right, const double* left_oncoming,
                                const double* right_oncoming, const double* speed_limit, const bool* junction,
                                const bool* valid, double* knots, double* moments, double* attributes, bool* junctions,
                                double* cubics, Index* count, Index scenes, Index points, Index capacity,
                                Index threads) {
    return guarded([&] {
        const Routes routes{xy, {left, right, left_oncoming, right_oncoming, speed_limit}, junction, valid, points};
        std::vector<std::unique_ptr<Rough>> rough(scenes);
        over_rows(scenes, threads, [&](Index k) {
            rough[k] = std::make_unique<Rough>(routes, k);
            count[k] = rough[k]->arc.count();
        });
        const Index n = *std::max_element(count, count + scenes);
        if (n > capacity) return;
        over_rows(scenes, threads, [&](Index k) {
            const Rough& own = *rough[k];
            Points found;
            for (Index i = 0; i < n; ++i) {
                const Index j = std::min(i, count[k] - 1), segment = own.segment(j);
                const double t = own.place(j);
                const At<double> at = curve_in(own.spline(), Point{0, 0}, static_cast<double>(segment), t);
                const Point p = -1.0 * at.offset;
                if (i < count[k]) found.push_back(p);
                knots[2 * (k * n + i)] = p.x, knots[2 * (k * n + i) + 1] = p.y;
                for (int a = 0; a < kAttributes; ++a) {
                    const double begin = own.attribute(segment, a), end = own.attribute(segment + 1, a);
                    attributes[(k * n + i) * kAttributes + a] = begin + (end - begin) * t;
                }
                junctions[k * n + i] = own.junction[segment + (t >= 0.5)];
            }
            const Points bends = moments_of(found);
            const Numbers own_cubics = cubics_of(found, bends);
            for (Index i = 0; i < n; ++i) {
                const Point m = i < count[k] ? bends[i] : Point{0, 0};
                moments[2 * (k * n + i)] = m.x, moments[2 * (k * n + i) + 1] = m.y;
            }
            double* c = cubics + k * (n - 1) * 8;
            std::copy(own_cubics.begin(), own_cubics.end(), c);
            for (Index i = count[k] - 1; i + 1 < n; ++i) {  // the path stands at its end
                std::fill_n(c + 8 * i, 8, 0.0);
                c[8 * i] = found.back().x, c[8 * i + 1] = found.back().y;
            }
        });
    });
}
