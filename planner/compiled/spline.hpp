// Cubic splines with knots one metre apart, and the feet of points on them: twin of foot_point.py.
#pragma once

#include "arrays.hpp"

namespace dds {

constexpr double kTube = 0.9;         // Frenet coordinates are valid for |d * curvature| below this
constexpr double kStill = 1e-6;       // a step (m) below this was the last one
constexpr Index kCoarse = 4;          // the search begins at the nearest of every fourth knot
constexpr int kSteps = 8, kStepsFromGuess = 4;
constexpr int kLanes = 8;             // points searched for side by side

struct Vec {
    double x, y;
};

inline Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y}; }
inline Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y}; }
inline Vec operator*(double f, Vec a) { return {f * a.x, f * a.y}; }
inline double dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y; }
inline double cross(Vec a, Vec b) { return a.x * b.y - a.y * b.x; }

// From 0 to last; 0 for what is not a number, so that every place has a segment.
inline double on_path(double s, double last) { return s > 0.0 ? (s < last ? s : last) : 0.0; }

// One scene's spline: per segment its point, slope, moment and the moment's change; knots without padding.
struct Spline {
    const double* cubics;  // [count - 1, 4, 2]
    const double* knots;   // [count, 2]
    Index count;

    double last() const { return static_cast<double>(count - 1); }
};

// The splines of S scenes with up to n knots, and which of them each row of points belongs to.
struct Splines {
    const double *cubics, *knots;  // [S, n - 1, 4, 2], [S, n, 2]
    Index n;
    const Index *count, *scene;  // [L]; scene: null where row and scene are the same

    Index scene_of(Index row) const { return scene ? scene[row] : row; }
    Spline of(Index row) const {
        const Index k = scene_of(row);
        return {cubics + k * (n - 1) * 8, knots + k * n * 2, count[row]};
    }
};

// The spline at a place: where, how far `z` lies from it, and its derivatives.
struct At {
    Index segment;
    double t;
    Vec offset, first, second, third;
};

inline At curve_at(const Spline& path, Vec z, double s) {
    const double at = std::min(s, path.last() - 0.5);
    const Index i = static_cast<Index>(at);
    const double t = s - static_cast<double>(i);
    const double* c = path.cubics + 8 * i;
    const Vec point{c[0], c[1]}, slope{c[2], c[3]}, moment{c[4], c[5]}, change{c[6], c[7]};
    const Vec second = moment + t * change;
    const Vec first = slope + (t / 2) * (moment + second);
    const Vec offset = z - point - t * (slope + (t / 6) * (2.0 * moment + second));
    return {i, t, offset, first, second, change};
}

// Frenet coordinates of a point whose foot is at s.
struct Foot {
    double d, heading, curvature;
    bool valid;
};

inline Foot foot_of(const At& at) {
    const double square = dot(at.first, at.first), speed = std::sqrt(square);
    const double along = dot(at.first, at.offset) / speed, d = cross(at.first, at.offset) / speed;
    const double curvature = cross(at.first, at.second) / (speed * square), tight = d * curvature;
    const bool valid = std::abs(along) < 1e-6 && tight < kTube && tight > -1 / (1 - kTube);
    return {d, std::atan2(at.first.y, at.first.x), curvature, valid};
}

// s (m) of the nearest of some knots to points z [count], count <= kLanes; the first one of equals.
inline void nearest_knots(const Spline& path, const double* zx, const double* zy, double* s) {
    double best[kLanes], nearest[kLanes];
    for (int l = 0; l < kLanes; ++l) best[l] = INFINITY, nearest[l] = 0.0;
    for (Index k = 0; k < path.count; k += kCoarse) {
        const double x = path.knots[2 * k], y = path.knots[2 * k + 1], half = 0.5 * (x * x + y * y);
        const double place = static_cast<double>(k);
        for (int l = 0; l < kLanes; ++l) {
            const double value = half - x * zx[l] - y * zy[l];
            const bool closer = value < best[l];
            best[l] = closer ? value : best[l];
            nearest[l] = closer ? place : nearest[l];
        }
    }
    for (int l = 0; l < kLanes; ++l) s[l] = nearest[l];
}

// s of the feet of points z [kLanes], by Newton's method from s. Beyond the centre of curvature the slope changes sign;
// the floor keeps the step downhill.
inline void search_feet(const Spline& path, const double* zx, const double* zy, double* s, int steps) {
    const double last = path.last();
    bool going[kLanes];
    for (int l = 0; l < kLanes; ++l) s[l] = on_path(s[l], last), going[l] = true;
    for (int step = 0; step < steps; ++step) {
        bool any = false;
        for (int l = 0; l < kLanes; ++l) {
            if (!going[l]) continue;
            const At at = curve_at(path, {zx[l], zy[l]}, s[l]);
            const double square = dot(at.first, at.first);
            const double slope = std::max(square - dot(at.offset, at.second), 0.1 * square);
            const double move = dot(at.offset, at.first) / slope;
            const double moved = on_path(s[l] + std::min(std::max(move, -2.0), 2.0), last);
            going[l] = std::abs(moved - s[l]) > kStill;
            any |= going[l];
            s[l] = moved;
        }
        if (!any) break;
    }
}

// Gradients of a point (minus that of the spline's point) and of the spline's first and second derivatives.
struct FootGradient {
    Vec point, first, second;
};

// offset . first = 0 stays so when anything moves: that moves s, which heading and curvature follow; d does not.
inline FootGradient foot_back(const At& at, double s, double last, double gs, double gd, double gh, double gk) {
    const double square = dot(at.first, at.first), speed = std::sqrt(square), cube = speed * square;
    const double curvature = cross(at.first, at.second) / cube;
    const double slope = std::max(square - dot(at.offset, at.second), 0.1 * square);
    const double twist = cross(at.first, at.third) / cube - 3 * curvature * dot(at.first, at.second) / square;
    const double along = dot(at.first, at.offset);
    const bool held = (s <= 0.0 && along < 0) || (s >= last && along > 0);  // at an end, where s stays
    const double g = held ? 0.0 : (gs + gh * curvature * speed + gk * twist) / slope;
    const Vec normal{-at.first.y / square, at.first.x / square};
    const Vec side{-at.second.y, at.second.x};
    const Vec first = g * at.offset + gh * normal - (gk / cube) * side - (3 * curvature * gk / square) * at.first;
    return {g * at.first + (speed * gd) * normal, first, (gk / speed) * normal};
}

// Adds the gradient of the spline's point and derivatives at a foot to that of its cubics [segments, 4, 2].
inline void add_cubic(double* cubics, const At& at, Vec point, Vec first, Vec second) {
    const double t = at.t;
    const Vec slope = first + t * point;
    const Vec moment = second + t * (first + (t / 2) * point);
    const Vec change = t * (second + (t / 2) * (first + (t / 3) * point));
    double* c = cubics + 8 * at.segment;
    c[0] += point.x, c[1] += point.y, c[2] += slope.x, c[3] += slope.y;
    c[4] += moment.x, c[5] += moment.y, c[6] += change.x, c[7] += change.y;
}

}  // namespace dds
