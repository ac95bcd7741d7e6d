// Cubic splines with knots one metre apart, and the feet of points on them: twin of path/foot_point.py.
#pragma once

#include "lanes.hpp"

namespace dds {

constexpr double kTube = 0.9;  // Frenet coordinates are valid for |d * curvature| below this
constexpr double kStill = 1e-6;  // a step (m) below this was the last one
constexpr Index kCoarse = 4;  // the search begins at the nearest of every fourth knot
constexpr int kSteps = 8, kStepsFromGuess = 4;

// T: double, or Pack for points side by side.
template <class T>
struct Vec {
    T x, y;
};

template <class T>
DDS_INLINE Vec<T> operator+(const Vec<T>& a, const Vec<T>& b) {
    return {a.x + b.x, a.y + b.y};
}
template <class T>
DDS_INLINE Vec<T> operator-(const Vec<T>& a, const Vec<T>& b) {
    return {a.x - b.x, a.y - b.y};
}
template <class F, class T>
DDS_INLINE Vec<T> operator*(const F& f, const Vec<T>& a) {
    return {f * a.x, f * a.y};
}
template <class T>
DDS_INLINE T dot(const Vec<T>& a, const Vec<T>& b) {
    return a.x * b.x + a.y * b.y;
}
template <class T>
DDS_INLINE T cross(const Vec<T>& a, const Vec<T>& b) {
    return a.x * b.y - a.y * b.x;
}

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

// The spline at a place: where, how far a point lies from it, and its derivatives.
template <class T>
struct At {
    T segment, t;
    Vec<T> offset, first, second, third;
};

template <class T>
struct Cubic {
    Vec<T> point, slope, moment, change;
};

DDS_INLINE Cubic<double> cubic_of(const Spline& path, double segment) {
    const double* c = path.cubics + 8 * static_cast<Index>(segment);
    return {{c[0], c[1]}, {c[2], c[3]}, {c[4], c[5]}, {c[6], c[7]}};
}

DDS_INLINE Cubic<Pack> cubic_of(const Spline& path, const Pack& segment) {
    double c[8][kLanes];
    for (int l = 0; l < kLanes; ++l) {
        const double* row = path.cubics + 8 * static_cast<Index>(segment[l]);
        for (int j = 0; j < 8; ++j) c[j][l] = row[j];
    }
    return {{load(c[0]), load(c[1])}, {load(c[2]), load(c[3])}, {load(c[4]), load(c[5])}, {load(c[6]), load(c[7])}};
}

// Whole part of a number that is not negative.
DDS_INLINE double whole(double x) { return static_cast<double>(static_cast<Index>(x)); }
DDS_INLINE Pack whole(const Pack& x) {
    const Pack near = nearest_integer(x);
    return near > x ? near - 1.0 : near;
}

template <class T>
DDS_INLINE At<T> curve_in(const Spline& path, const Vec<T>& z, const T& segment, const T& t) {
    const Cubic<T> c = cubic_of(path, segment);
    const Vec<T> second = c.moment + t * c.change;
    const Vec<T> first = c.slope + T(t / 2.0) * (c.moment + second);
    const Vec<T> offset = z - c.point - t * (c.slope + T(t / 6.0) * (2.0 * c.moment + second));
    return {segment, t, offset, first, second, c.change};
}

template <class T>
DDS_INLINE At<T> curve_at(const Spline& path, const Vec<T>& z, const T& s) {
    const T latest = T{} + (path.last() - 0.5), segment = whole(T(s < latest ? s : latest));
    return curve_in(path, z, segment, T(s - segment));
}

// Frenet coordinates of points whose feet are at places, and the path's unit vector there.
template <class T>
struct Foot {
    T d, curvature, along;
    Vec<T> tangent;
};

template <class T>
DDS_INLINE Foot<T> foot_of(const At<T>& at) {
    const T square = dot(at.first, at.first), speed = root(square);
    return {cross(at.first, at.offset) / speed, cross(at.first, at.second) / (speed * square),
            dot(at.first, at.offset) / speed, {at.first.x / speed, at.first.y / speed}};
}

DDS_INLINE Mask inside(const Foot<Pack>& foot) {
    const Pack tight = foot.d * foot.curvature;
    return (magnitude(foot.along) < 1e-6) & (tight < kTube) & (tight > -1 / (1 - kTube));
}

// s (m) of the nearest of some knots; the first one of equals.
DDS_INLINE Pack nearest_knots(const Spline& path, const Vec<Pack>& z) {
    Pack best = all(INFINITY), nearest = all(0.0);
    for (Index k = 0; k < path.count; k += kCoarse) {
        const double x = path.knots[2 * k], y = path.knots[2 * k + 1];
        const Pack value = 0.5 * (x * x + y * y) - x * z.x - y * z.y;
        const Mask closer = value < best;
        best = closer ? value : best;
        nearest = closer ? all(static_cast<double>(k)) : nearest;
    }
    return nearest;
}

// From 0 to last; 0 for what is not a number, so that every place has a segment.
DDS_INLINE Pack on_path(const Pack& s, const Pack& last) { return s > 0.0 ? (s < last ? s : last) : all(0.0); }

// s of the feet of points z, by Newton's method from s. Beyond the centre of curvature the slope changes sign; the floor
// keeps the step downhill.
DDS_INLINE Pack search_feet(const Spline& path, const Vec<Pack>& z, const Pack& begin, int steps) {
    const Pack last = all(path.last()), stride = all(2.0);
    Mask going = last >= 0.0;
    Pack s = on_path(begin, last);
    for (int step = 0; step < steps && any(going); ++step) {
        const At<Pack> at = curve_at(path, z, s);
        const Pack square = dot(at.first, at.first);
        const Pack move = dot(at.offset, at.first) / larger(Pack(0.1 * square), Pack(square - dot(at.offset, at.second)));
        // In this order of arguments, what is not a number stays so.
        const Pack moved = on_path(s + smaller(stride, larger(Pack(-stride), move)), last);
        const Pack next = going ? moved : s;
        going = magnitude(next - s) > kStill;
        s = next;
    }
    return s;
}

// Gradients of points (minus those of the spline's points) and of the spline's first and second derivatives.
template <class T>
struct FootGradient {
    Vec<T> point, first, second;
};

// offset . first = 0 stays so when anything moves: that moves s, which heading and curvature follow; d does not.
template <class T>
DDS_INLINE FootGradient<T> foot_back(const At<T>& at, const T& s, double last, const T& gs, const T& gd, const T& gh,
                                     const T& gk) {
    const T square = dot(at.first, at.first), speed = root(square), cube = speed * square;
    const T curvature = cross(at.first, at.second) / cube;
    const T slope = larger(T(square - dot(at.offset, at.second)), T(0.1 * square));
    const T twist = cross(at.first, at.third) / cube - 3.0 * curvature * dot(at.first, at.second) / square;
    const T along = dot(at.first, at.offset);
    const T moves = (gs + gh * curvature * speed + gk * twist) / slope;
    const auto held = ((s <= 0.0) & (along < 0.0)) | ((s >= last) & (along > 0.0));  // at an end, where s stays
    const T g = held ? T{} : moves;
    const Vec<T> normal{-at.first.y / square, at.first.x / square}, side{-at.second.y, at.second.x};
    const T bent = gk / cube, slowed = 3.0 * curvature * gk / square;
    const Vec<T> first = g * at.offset + gh * normal - bent * side - slowed * at.first;
    return {g * at.first + T(speed * gd) * normal, first, T(gk / speed) * normal};
}

// Adds the gradient of the spline's points and derivatives at `count` feet to that of its cubics [segments, 4, 2].
DDS_INLINE void add_cubics(double* cubics, const At<Pack>& at, const FootGradient<Pack>& g, int count) {
    const Vec<Pack> point = -1.0 * g.point, slope = g.first + at.t * point;
    const Vec<Pack> moment = g.second + at.t * (g.first + Pack(at.t / 2.0) * point);
    const Vec<Pack> change = at.t * (g.second + Pack(at.t / 2.0) * (g.first + Pack(at.t / 3.0) * point));
    const Pack columns[8] = {point.x, point.y, slope.x, slope.y, moment.x, moment.y, change.x, change.y};
    for (int l = 0; l < count; ++l) {
        double* c = cubics + 8 * static_cast<Index>(at.segment[l]);
        for (int j = 0; j < 8; ++j) c[j] += columns[j][l];
    }
}

}  // namespace dds
