// A curvature-continuous path along a route: twin of path/reference_path.py and path/path_points.py, one scene at a time.
#pragma once

#include "spline.hpp"

namespace dds {

using Point = Vec<double>;
using Points = std::vector<Point>;
using Numbers = std::vector<double>;

constexpr int kAttributes = 5;  // left, right, left_oncoming, right_oncoming, speed_limit
constexpr double kSecond = 2.0, kThird = 40.0;  // weights of squared differences against squared displacement
constexpr int kQuarters = 4;

inline double norm(Point a) { return std::sqrt(dot(a, a)); }

// The routes of all scenes: [S, R, 2], [S, R] each.
struct Routes {
    const double *xy, *attributes[kAttributes];
    const bool *junction, *valid;
    Index points;
};

// (I + w2 D2'D2 + w3 D3'D3) x = b by its banded factors: the least-squares smoother.
class Smoother {
   public:
    explicit Smoother(Index n) : n_(n), band_(4 * n) {
        const double stencils[2][4] = {{1, -2, 1, 0}, {-1, 3, -3, 1}}, weights[2] = {kSecond, kThird};
        for (Index i = 0; i < n; ++i) at(i, 0) = 1.0;
        for (int s = 0; s < 2; ++s)
            for (Index first = 0; first + s + 2 < n; ++first)
                for (int a = 0; a < s + 3; ++a)
                    for (int b = 0; b <= a; ++b) at(first + a, a - b) += weights[s] * stencils[s][a] * stencils[s][b];
        // A = L D L', D in place of the diagonal, L (unit) in place of the rest.
        for (Index i = 0; i < n; ++i) {
            for (int k = 3; k >= 1; --k) {
                if (i < k) continue;
                for (int j = k + 1; j <= 3; ++j)
                    if (i >= j) at(i, k) -= at(i, j) * at(i - k, j - k) * at(i - j, 0);
                at(i, k) /= at(i - k, 0);
            }
            for (int k = 1; k <= 3; ++k)
                if (i >= k) at(i, 0) -= at(i, k) * at(i, k) * at(i - k, 0);
        }
    }

    void solve(Points& x) const {
        for (Index i = 0; i < n_; ++i)
            for (int k = 1; k <= 3 && k <= i; ++k) x[i] = x[i] - at(i, k) * x[i - k];
        for (Index i = 0; i < n_; ++i) x[i] = (1 / at(i, 0)) * x[i];
        for (Index i = n_; i-- > 0;)
            for (int k = 1; k <= 3 && k <= i; ++k) x[i - k] = x[i - k] - at(i, k) * x[i];
    }

   private:
    double& at(Index i, int below) { return band_[4 * i + below]; }
    double at(Index i, int below) const { return band_[4 * i + below]; }
    Index n_;
    Numbers band_;
};

// Solves for the inner moments: (m[i-1] + 4 m[i] + m[i+1]) / 6 = r[i]; those at the ends are zero. In place, symmetric.
inline void solve_moments(Points& r) {
    const Index n = static_cast<Index>(r.size());
    Numbers factor(n);
    r[0] = r[n - 1] = {0, 0};
    double pivot = 0;
    for (Index i = 1; i + 1 < n; ++i) {
        factor[i] = i > 1 ? 1 / (6 * pivot) : 0.0;
        pivot = 2.0 / 3 - factor[i] / 6;
        r[i] = r[i] - factor[i] * r[i - 1];
    }
    for (Index i = n - 2; i > 0; --i) {
        const double own = 2.0 / 3 - factor[i] / 6;
        r[i] = (1 / own) * (r[i] - (i + 2 < n ? 1.0 / 6 : 0.0) * r[i + 1]);
    }
}

// Second derivatives at the knots of the natural cubic spline through them.
inline Points moments_of(const Points& knots) {
    Points r(knots.size());
    for (std::size_t i = 1; i + 1 < knots.size(); ++i) r[i] = knots[i - 1] - 2.0 * knots[i] + knots[i + 1];
    solve_moments(r);
    return r;
}

inline Numbers cubics_of(const Points& knots, const Points& moments) {
    Numbers out;
    out.reserve(8 * knots.size());
    for (std::size_t i = 0; i + 1 < knots.size(); ++i) {
        const Point slope = knots[i + 1] - knots[i] - (1.0 / 6) * (moments[i + 1] + 2.0 * moments[i]);
        for (const Point& p : {knots[i], slope, moments[i], moments[i + 1] - moments[i]}) out.insert(out.end(), {p.x, p.y});
    }
    return out;
}

// Steps of a line, the arc length (m) before each of them, and where its whole metres lie: in which step, at which
// fraction of it.
struct Metres {
    Numbers steps, arc;
    std::vector<Index> step;
    Numbers fraction;

    explicit Metres(Numbers lengths) : steps(std::move(lengths)), arc(steps.size() + 1) {
        for (std::size_t i = 0; i < steps.size(); ++i) arc[i + 1] = arc[i] + steps[i];
        const Index count = static_cast<Index>(arc.back()) + 1, last = static_cast<Index>(steps.size()) - 1;
        for (Index k = 0, i = 0; k < count; ++k) {
            while (i < last && arc[i + 1] <= static_cast<double>(k)) ++i;
            step.push_back(i);
            fraction.push_back((static_cast<double>(k) - arc[i]) / steps[i]);
        }
    }
    Index count() const { return static_cast<Index>(step.size()); }

    // Gradients of the steps from those of the fractions.
    Numbers back(const Numbers& g_fraction) const {
        Numbers g_arc(arc.size()), g(steps.size());
        for (Index k = 0; k < count(); ++k) {
            const double share = g_fraction[k] / steps[step[k]];
            g_arc[step[k]] -= share, g[step[k]] -= share * fraction[k];
        }
        double later = 0;
        for (std::size_t i = steps.size(); i-- > 0;) later += g_arc[i + 1], g[i] += later;
        return g;
    }
};

// The indices of the valid points that lie apart from the one before.
inline std::vector<Index> distinct_points(const Routes& routes, Index scene) {
    std::vector<Index> kept;
    for (Index i = 0; i < routes.points; ++i) {
        const double* p = routes.xy + 2 * (scene * routes.points + i);
        if (!routes.valid[scene * routes.points + i]) continue;
        if (i == 0 || std::hypot(p[0] - p[-2], p[1] - p[-1]) > 1e-6) kept.push_back(i);
    }
    return kept;
}

inline Points points_of(const Routes& routes, Index scene, const std::vector<Index>& kept) {
    Points out;
    for (const Index i : kept) {
        const double* p = routes.xy + 2 * (scene * routes.points + i);
        out.push_back({p[0], p[1]});
    }
    return out;
}

inline Numbers lengths_of(const Points& points) {
    Numbers out;
    for (std::size_t i = 0; i + 1 < points.size(); ++i) out.push_back(norm(points[i + 1] - points[i]));
    return out;
}

// The smoothed route as a spline with knots about a metre apart, and its arc length; everything later is linear in this.
struct Rough {
    std::vector<Index> kept;
    Points points;
    Metres along;  // the polyline
    Points raw, smooth, moments;
    Numbers cubics, attributes, shift;  // [n - 1, 4, 2], [n, kAttributes] before they are kept from below zero, [n]
    std::vector<bool> junction;
    Metres arc;  // quarters of the spline's segments

    Rough(const Routes& routes, Index scene)
        : kept(distinct_points(routes, scene)), points(points_of(routes, scene, kept)), along(lengths_of(points)),
          raw(resampled()), smooth(smoothed()), moments(moments_of(smooth)), cubics(cubics_of(smooth, moments)),
          arc(quarters()) {
        for (Index k = 0; k < along.count(); ++k) {
            const Index begin = scene * routes.points + kept[along.step[k]];
            const Index end = scene * routes.points + kept[along.step[k] + 1];
            shift.push_back(cross((1 / norm(chord(k))) * chord(k), smooth[k] - raw[k]));
            for (int a = 0; a < kAttributes; ++a) {
                const double* own = routes.attributes[a];
                const double value = own[begin] + (own[end] - own[begin]) * along.fraction[k];
                attributes.push_back(a == 0 ? value - shift[k] : a == 1 ? value + shift[k] : value);
            }
            junction.push_back(routes.junction[begin]);
        }
    }
    double attribute(Index knot, int a) const {
        const double value = attributes[knot * kAttributes + a];
        return a < 2 ? std::max(value, 0.0) : value;
    }
    Point chord(Index k) const {
        return smooth[std::min(k + 1, static_cast<Index>(smooth.size()) - 1)] - smooth[std::max<Index>(k - 1, 0)];
    }
    Spline spline() const { return {cubics.data(), nullptr, static_cast<Index>(smooth.size())}; }
    // The final knots' segments and places in them.
    Index segment(Index k) const { return arc.step[k] / kQuarters; }
    double place(Index k) const { return (arc.fraction[k] + arc.step[k] % kQuarters) / kQuarters; }
    // The spline's first derivative at a quarter of a segment.
    Point speed_at(Index segment, int quarter) const {
        const double t = static_cast<double>(quarter) / kQuarters, *c = &cubics[8 * segment];
        return Point{c[2], c[3]} + t * Point{c[4], c[5]} + (t * t / 2) * Point{c[6], c[7]};
    }

   private:
    Points resampled() const {
        Points out;
        for (Index k = 0; k < along.count(); ++k) {
            const Point begin = points[along.step[k]], end = points[along.step[k] + 1];
            out.push_back(begin + along.fraction[k] * (end - begin));
        }
        return out;
    }
    Points smoothed() const {
        Points out = raw;
        Smoother(along.count()).solve(out);
        return out;
    }
    // By the trapezoidal rule.
    Numbers quarters() const {
        Numbers out;
        for (Index i = 0; i + 1 < static_cast<Index>(smooth.size()); ++i) {
            double before = norm(speed_at(i, 0));
            for (int q = 1; q <= kQuarters; ++q) {
                const double after = norm(speed_at(i, q));
                out.push_back((after + before) / (2 * kQuarters));
                before = after;
            }
        }
        return out;
    }
};

}  // namespace dds
