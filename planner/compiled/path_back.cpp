// Derivative of dds_build_path: path/reference_path.py.
#include "path.hpp"

namespace {

using namespace dds;

// Adds to the gradients of knots and moments those of the cubics made of them.
void cubics_back(const double* g, Index knots, Points& g_knots, Points& g_moments) {
    for (Index i = 0; i + 1 < knots; ++i, g += 8) {
        const Point point{g[0], g[1]}, slope{g[2], g[3]}, moment{g[4], g[5]}, change{g[6], g[7]};
        g_knots[i] = g_knots[i] + point - slope;
        g_knots[i + 1] = g_knots[i + 1] + slope;
        g_moments[i] = g_moments[i] - (1.0 / 3) * slope + moment - change;
        g_moments[i + 1] = g_moments[i + 1] - (1.0 / 6) * slope + change;
    }
}

// Adds to the gradient of knots that of their moments, which is used up.
void moments_back(Points& g_moments, Points& g_knots) {
    solve_moments(g_moments);
    for (std::size_t i = 1; i + 1 < g_knots.size(); ++i) {
        const Point g = g_moments[i];
        g_knots[i - 1] = g_knots[i - 1] + g, g_knots[i] = g_knots[i] - 2.0 * g, g_knots[i + 1] = g_knots[i + 1] + g;
    }
}

// Adds to the gradient of points that of the distances between them.
void lengths_back(const Points& points, const Numbers& lengths, const Numbers& g, Points& out) {
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        if (lengths[i] == 0.0) continue;
        const Point by = (g[i] / lengths[i]) * (points[i + 1] - points[i]);
        out[i + 1] = out[i + 1] + by, out[i] = out[i] - by;
    }
}

// From the gradients of the arc length's steps to the cubics of the rough spline.
void quarters_back(const Rough& rough, const Numbers& g_steps, Numbers& g_cubics) {
    for (std::size_t i = 0; i < g_steps.size(); ++i)
        for (int end = 0; end < 2; ++end) {
            const Index segment = static_cast<Index>(i) / kQuarters;
            const int quarter = static_cast<int>(i) % kQuarters + end;
            const double t = static_cast<double>(quarter) / kQuarters;
            const Point first = rough.speed_at(segment, quarter);
            const Point g = (g_steps[i] / (2 * kQuarters * norm(first))) * first;
            const double shares[3] = {1, t, t * t / 2};
            for (int k = 0; k < 3; ++k) {
                g_cubics[8 * segment + 2 + 2 * k] += shares[k] * g.x;
                g_cubics[8 * segment + 3 + 2 * k] += shares[k] * g.y;
            }
        }
}

// Gradients of the rough path: of its cubics, and of its attributes before they are kept from below zero.
struct RoughGradients {
    Numbers cubics, attributes;
};

// From the gradients of the final knots (padding included) and attributes.
RoughGradients final_back(const Rough& rough, const Points& g_knots, const double* g_attributes, Index n) {
    const Index count = rough.arc.count();
    RoughGradients out{Numbers(rough.cubics.size()), Numbers(rough.attributes.size())};
    Numbers g_fraction(count);
    for (Index i = 0; i < n; ++i) {
        const Index k = std::min(i, count - 1), segment = rough.segment(k);
        const double t = rough.place(k);
        double g_t = 0;
        if (i < count) {
            const At<double> at = curve_in(rough.spline(), Point{0, 0}, static_cast<double>(segment), t);
            const Point g = g_knots[k];
            const double shares[4] = {1, t, t * t / 2, t * t * t / 6};
            for (int c = 0; c < 4; ++c) {
                out.cubics[8 * segment + 2 * c] += shares[c] * g.x;
                out.cubics[8 * segment + 2 * c + 1] += shares[c] * g.y;
            }
            g_t += dot(g, at.first);
        }
        for (int a = 0; g_attributes && a < kAttributes; ++a) {
            const double g = g_attributes[i * kAttributes + a];
            const auto add = [&](Index knot, double share) {
                const Index at = knot * kAttributes + a;
                if (a > 1 || rough.attributes[at] >= 0) out.attributes[at] += share * g;
            };
            add(segment, 1 - t), add(segment + 1, t);
            g_t += g * (rough.attribute(segment + 1, a) - rough.attribute(segment, a));
        }
        g_fraction[k] += g_t / kQuarters;
    }
    quarters_back(rough, rough.arc.back(g_fraction), out.cubics);
    return out;
}

// Adds what the shift off the route, which the sides lose and gain, brings to the smooth and the raw points.
void shift_back(const Rough& rough, const Numbers& g_attributes, Points& g_smooth, Points& g_raw) {
    const Index last = rough.along.count() - 1;
    for (Index k = 0; k <= last; ++k) {
        const double g = g_attributes[k * kAttributes + 1] - g_attributes[k * kAttributes];
        const Point chord = rough.chord(k), moved = rough.smooth[k] - rough.raw[k];
        const double length = norm(chord);
        const Point tangent = (1 / length) * chord, by{-g * tangent.y, g * tangent.x};
        g_smooth[k] = g_smooth[k] + by, g_raw[k] = g_raw[k] - by;
        const Point g_tangent{g * moved.y, -g * moved.x};
        const Point g_chord = (1 / length) * (g_tangent - dot(tangent, g_tangent) * tangent);
        Point &end = g_smooth[std::min(k + 1, last)], &begin = g_smooth[std::max<Index>(k - 1, 0)];
        end = end + g_chord, begin = begin - g_chord;
    }
}

// Gradients of one route: [R, 2], and [R] of each attribute.
struct RouteGradients {
    double *xy, *attributes[kAttributes];
};

void route_back(const Rough& rough, const Points& g_raw, const Numbers& g_attributes, const RouteGradients& out) {
    Points g_points(rough.points.size());
    Numbers g_fraction(g_raw.size());
    for (std::size_t k = 0; k < g_raw.size(); ++k) {
        const Index i = rough.along.step[k];
        const double f = rough.along.fraction[k];
        g_points[i] = g_points[i] + (1 - f) * g_raw[k], g_points[i + 1] = g_points[i + 1] + f * g_raw[k];
        g_fraction[k] = dot(rough.points[i + 1] - rough.points[i], g_raw[k]);
        // Attributes are read where the points are; that they would be read elsewhere is left out.
        for (int a = 0; a < kAttributes; ++a) {
            const double g = g_attributes[k * kAttributes + a];
            out.attributes[a][rough.kept[i]] += (1 - f) * g, out.attributes[a][rough.kept[i + 1]] += f * g;
        }
    }
    lengths_back(rough.points, rough.along.steps, rough.along.back(g_fraction), g_points);
    for (std::size_t i = 0; i < g_points.size(); ++i) {
        out.xy[2 * rough.kept[i]] += g_points[i].x, out.xy[2 * rough.kept[i] + 1] += g_points[i].y;
    }
}

}  // namespace

// Gradients of a route's points and attributes (cleared by the caller) from those of knots, moments, attributes and
// cubics of dds_build_path; any of them null for zero.
DDS_EXPORT Index dds_build_path_back(
    const double* xy, const double* left, const double* right, const double* left_oncoming,
    const double* right_oncoming, const double* speed_limit, const bool* junction, const bool* valid,
    const double* g_knots, const double* g_moments, const double* g_attributes, const double* g_cubics, double* g_xy,
    double* g_left, double* g_right, double* g_left_oncoming, double* g_right_oncoming, double* g_speed_limit,
    Index scenes, Index points, Index n, Index threads) {
    return guarded([&] {
        const Routes routes{xy, {left, right, left_oncoming, right_oncoming, speed_limit}, junction, valid, points};
        over_rows(scenes, threads, [&](Index k) {
            const Rough rough(routes, k);
            const Index count = rough.arc.count();
            Points of_knots(count), of_moments(count);
            for (Index i = 0; i < n; ++i) {  // beyond its end a path stands there, and does not bend
                const Index j = std::min(i, count - 1), at = 2 * (k * n + i);
                if (g_knots) of_knots[j] = of_knots[j] + Point{g_knots[at], g_knots[at + 1]};
                if (g_moments && i < count) of_moments[i] = of_moments[i] + Point{g_moments[at], g_moments[at + 1]};
                if (g_cubics && i + 1 >= count && i + 1 < n) {
                    const double* g = g_cubics + 8 * (k * (n - 1) + i);
                    of_knots[j] = of_knots[j] + Point{g[0], g[1]};
                }
            }
            if (g_cubics) cubics_back(g_cubics + 8 * k * (n - 1), count, of_knots, of_moments);
            moments_back(of_moments, of_knots);
            const RoughGradients g =
                final_back(rough, of_knots, g_attributes ? g_attributes + k * n * kAttributes : nullptr, n);

            Points g_smooth(rough.smooth.size()), g_bends(rough.smooth.size()), g_raw(rough.smooth.size());
            cubics_back(g.cubics.data(), static_cast<Index>(rough.smooth.size()), g_smooth, g_bends);
            moments_back(g_bends, g_smooth);
            shift_back(rough, g.attributes, g_smooth, g_raw);
            Smoother(rough.along.count()).solve(g_smooth);
            for (std::size_t i = 0; i < g_raw.size(); ++i) g_raw[i] = g_raw[i] + g_smooth[i];
            route_back(rough, g_raw, g.attributes,
                       {g_xy + 2 * k * points,
                        {g_left + k * points, g_right + k * points, g_left_oncoming + k * points,
                         g_right_oncoming + k * points, g_speed_limit + k * points}});
        });
    });
}
