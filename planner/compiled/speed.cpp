// Free-flow speed along paths and its derivative: path/speed_profile.py.
#include "spline.hpp"

namespace {

using namespace dds;

constexpr double kLeastSquare = 0.25, kStraight = 1e-4, kLeastTurning = 4.0, kStep = 0.1;
constexpr Index kAttributes = 5, kLimit = 4;  // of a path's attributes, the speed limit

// Comfort: fraction of the speed limit, lateral acceleration, curvature rate, braking; what may be sped up.
struct Rules {
    double fraction, lateral, rate, braking, acceleration;
};

// One path's allowed speed at its knots, and what it is made of.
struct Allowed {
    Index count;
    const double *cubics, *attributes;
    Rules rules;
    std::vector<double> curvature, own, speed;  // 1/m; m/s before and after braking ahead
    std::vector<Index> from;                    // the knot ahead that bounds each one's speed

    Allowed(const double* path_cubics, const double* path_attributes, Index knots, const Rules& given)
        : count(knots), cubics(path_cubics), attributes(path_attributes), rules(given), curvature(knots), own(knots),
          speed(knots), from(knots) {
        for (Index k = 0; k + 1 < count; ++k) curvature[k] = cross(first(k), second(k)) / cube(k);
        for (Index k = 0; k < count; ++k) own[k] = std::min(std::min(limit(k), in_bend(k)), in_turning(k));
        double lowest = INFINITY;
        Index at = count - 1;
        for (Index k = count; k-- > 0;) {
            const double reached = own[k] * own[k] + ramp(k);
            if (reached <= lowest) lowest = reached, at = k;
            from[k] = at;
            speed[k] = std::sqrt(std::max(lowest - ramp(k), kLeastSquare));
        }
    }
    Vec<double> first(Index k) const { return {cubics[8 * k + 2], cubics[8 * k + 3]}; }
    Vec<double> second(Index k) const { return {cubics[8 * k + 4], cubics[8 * k + 5]}; }
    double square(Index k) const { return std::max(dot(first(k), first(k)), kLeastSquare); }
    double cube(Index k) const { return square(k) * std::sqrt(square(k)); }
    double ramp(Index k) const { return 2 * rules.braking * static_cast<double>(k); }
    double limit(Index k) const { return attributes[k * kAttributes + kLimit] * rules.fraction; }
    // Central differences of the curvature, one-sided at the ends, where the path does not bend.
    double change(Index k) const {
        const double ahead = k + 1 < count ? curvature[k + 1] : 0.0, behind = k > 0 ? curvature[k - 1] : 0.0;
        return (ahead - behind) / (k == 0 || k == count - 1 ? 1.0 : 2.0);
    }
    double in_bend(Index k) const { return std::sqrt(rules.lateral / std::max(std::abs(curvature[k]), kStraight)); }
    double in_turning(Index k) const {
        return std::max(rules.rate / std::max(std::abs(change(k)), kStraight), kLeastTurning);
    }

    // Adds the gradients of what it is made of from those of the speeds.
    void back(const std::vector<double>& g_speed, double* g_cubics, double* g_attributes) const {
        std::vector<double> g_own(count), g_curvature(count);
        for (Index k = 0; k < count; ++k) {
            const double square = own[from[k]] * own[from[k]] + ramp(from[k]) - ramp(k);
            if (square >= kLeastSquare) g_own[from[k]] += g_speed[k] / (2 * speed[k]) * 2 * own[from[k]];
        }
        for (Index k = 0; k < count; ++k) {
            if (g_own[k] == 0.0) continue;
            const double bend = std::abs(curvature[k]), turning = std::abs(change(k));
            const double limited = limit(k), bent = in_bend(k), turned = in_turning(k), slower = std::min(limited, bent);
            // Equals share.
            const double to_turned = turned < slower ? 1.0 : turned > slower ? 0.0 : 0.5, to_slower = 1 - to_turned;
            const double to_bent = to_slower * (bent < limited ? 1.0 : bent > limited ? 0.0 : 0.5);
            g_attributes[k * kAttributes + kLimit] += g_own[k] * (to_slower - to_bent) * rules.fraction;
            if (bend >= kStraight) g_curvature[k] -= g_own[k] * to_bent * 0.5 * bent / bend * sign(curvature[k]);
            if (turning >= kStraight && rules.rate / turning >= kLeastTurning) {
                const double apart = k == 0 || k == count - 1 ? 1.0 : 2.0;
                const double g = -g_own[k] * to_turned * rules.rate / (turning * turning) * sign(change(k)) / apart;
                if (k + 1 < count) g_curvature[k + 1] += g;
                if (k > 0) g_curvature[k - 1] -= g;
            }
        }
        for (Index k = 0; k + 1 < count; ++k) {
            if (g_curvature[k] == 0.0) continue;
            const Vec<double> f = first(k), s = second(k);
            const double g = g_curvature[k] / cube(k), steeper = -3 * g_curvature[k] * curvature[k] / square(k);
            const double grows = dot(f, f) >= kLeastSquare ? steeper : 0.0;
            double* out = g_cubics + 8 * k;
            out[2] += g * s.y + grows * f.x, out[3] += -g * s.x + grows * f.y;
            out[4] -= g * f.y, out[5] += g * f.x;
        }
    }

    static double sign(double x) { return static_cast<double>((x > 0) - (x < 0)); }
};

// Where a drive at the allowed speeds is at nodes: segment and fraction of it. step [N]: number of the node's time step.
void drive(const Allowed& allowed, double s, double v, const Index* step, Index nodes, Index* segment, double* place) {
    const double gain = allowed.rules.acceleration * 0.8 * kStep, loss = 2 * allowed.rules.braking * kStep;
    Index node = 0;
    for (Index i = 0; node < nodes; ++i) {
        const double target = allowed.speed[std::min(static_cast<Index>(s), allowed.count - 1)];
        v = v < target ? std::min(v + gain, target) : std::max(v - loss, target);
        s += v * kStep;
        for (; node < nodes && step[node] <= i; ++node) {
            segment[node] = std::min(static_cast<Index>(s), allowed.count - 2);
            place[node] = std::min(s - static_cast<double>(segment[node]), 1.0);
        }
    }
}

}  // namespace

// speed [S, N] at the nodes; segment, place [S, N]: where it was read. step [N]: ascending.
DDS_EXPORT Index dds_free_speed(const double* cubics, const double* attributes, const Index* count, const double* s,
                                const double* v, const Index* step, double fraction, double lateral, double rate,
                                double braking, double acceleration, double* speed, Index* segment, double* place,
                                Index scenes, Index nodes, Index n) {
    return guarded([&] {
        for (Index k = 0; k < scenes; ++k) {
            const Allowed allowed(cubics + 8 * k * (n - 1), attributes + kAttributes * k * n, count[k],
                                  {fraction, lateral, rate, braking, acceleration});
            drive(allowed, s[k], v[k], step, nodes, segment + k * nodes, place + k * nodes);
            for (Index j = k * nodes; j < (k + 1) * nodes; ++j) {
                const double begin = allowed.speed[segment[j]];
                speed[j] = begin + (allowed.speed[segment[j] + 1] - begin) * place[j];
            }
        }
    });
}

// Gradients of cubics and attributes (cleared by the caller) from that of the speeds.
DDS_EXPORT Index dds_free_speed_back(const double* cubics, const double* attributes, const Index* count,
                                     double fraction, double lateral, double rate, double braking, double acceleration,
                                     const Index* segment, const double* place, const double* g_speed,
                                     double* g_cubics, double* g_attributes, Index scenes, Index nodes, Index n) {
    return guarded([&] {
        for (Index k = 0; k < scenes; ++k) {
            const Index at = 8 * k * (n - 1), knots = kAttributes * k * n;
            const Allowed allowed(cubics + at, attributes + knots, count[k],
                                  {fraction, lateral, rate, braking, acceleration});
            std::vector<double> g(count[k]);
            for (Index j = k * nodes; j < (k + 1) * nodes; ++j) {
                g[segment[j]] += (1 - place[j]) * g_speed[j], g[segment[j] + 1] += place[j] * g_speed[j];
            }
            allowed.back(g, g_cubics + at, g_attributes + knots);
        }
    });
}
