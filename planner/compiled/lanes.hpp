// Numbers side by side, as many as a register holds, and the functions that the mathematical library has for single ones only.
#pragma once

#include <cmath>
#include <cstring>

#include "arrays.hpp"

#define DDS_INLINE inline __attribute__((always_inline))

// All is inlined, so that no calling convention matters.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace dds {

#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
constexpr double kPi = 3.14159265358979323846, kTwoPi = 2 * kPi;

using Pack = double __attribute__((vector_size(8 * kLanes)));
using Mask = long long __attribute__((vector_size(8 * kLanes)));

DDS_INLINE Pack load(const double* from) {
    Pack r;
    std::memcpy(&r, from, sizeof(Pack));
    return r;
}
// The first `count` of them, then zeros.
DDS_INLINE Pack load(const double* from, Index count) {
    Pack r{};
    std::memcpy(&r, from, sizeof(double) * static_cast<std::size_t>(std::min<Index>(count, kLanes)));
    return r;
}
DDS_INLINE void store(double* to, const Pack& x) { std::memcpy(to, &x, sizeof(Pack)); }
// The first `count` of them.
DDS_INLINE void store(double* to, const Pack& x, Index count) {
    std::memcpy(to, &x, sizeof(double) * static_cast<std::size_t>(std::min<Index>(count, kLanes)));
}
DDS_INLINE Pack all(double x) { return Pack{} + x; }  // not for -0.0

DDS_INLINE bool any(const Mask& mask) {
    long long found = 0;
    for (int l = 0; l < kLanes; ++l) found |= mask[l];
    return found != 0;
}

template <class T>
DDS_INLINE T larger(const T& a, const T& b) {
    return a > b ? a : b;
}
template <class T>
DDS_INLINE T smaller(const T& a, const T& b) {
    return a < b ? a : b;
}
DDS_INLINE double magnitude(double a) { return std::abs(a); }
DDS_INLINE Pack magnitude(const Pack& a) { return Pack(Mask(a) & 0x7fffffffffffffffLL); }
DDS_INLINE Pack root(const Pack& a) {
    double x[kLanes];
    store(x, a);
    for (double& v : x) v = std::sqrt(v);
    return load(x);
}
DDS_INLINE double root(double a) { return std::sqrt(a); }

// The nearest integer, the even one of two; for |x| < 2^51.
template <class T>
DDS_INLINE T nearest_integer(const T& x) {
    constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52
    return (x + shift) - shift;
}

template <class T>
DDS_INLINE T wrapped(const T& angle) {
    return angle - kTwoPi * nearest_integer(T(angle / kTwoPi));
}

// Sine and cosine to an ulp or so, for |angle| < 1e5: Taylor series within an eighth of a turn of a multiple of pi / 2.
template <class T>
DDS_INLINE void sine_cosine(const T& angle, T& sine, T& cosine) {
    constexpr double high = 1.57079637050628662109375, low = -4.3711390001862426e-08;  // pi / 2; whole multiples of high are exact
    const T quarter = nearest_integer(T(angle * (2 / kPi)));
    const T x = (angle - quarter * high) - quarter * low, q = x * x;
    T s = q * (-1.0 / 1307674368000) + 1.0 / 6227020800;
    s = q * (q * (q * (q * (q * s - 1.0 / 39916800) + 1.0 / 362880) - 1.0 / 5040) + 1.0 / 120) - 1.0 / 6;
    s = x + x * q * s;
    T c = q * (1.0 / 20922789888000) - 1.0 / 87178291200;
    c = q * (q * (q * (q * (q * c + 1.0 / 479001600) - 1.0 / 3628800) + 1.0 / 40320) - 1.0 / 720) + 1.0 / 24;
    c = 1.0 - (0.5 * q - q * q * c);
    // Quarters 0 to 3: (s, c), (c, -s), (-s, -c), (-c, s).
    const T turn = quarter - 4.0 * nearest_integer(T(quarter * 0.25));  // 0, 1, -1, and 2 or -2
    const auto odd = magnitude(turn) == 1.0;
    const T a = odd ? c : s, b = odd ? s : c;
    sine = ((turn == -1.0) | (magnitude(turn) == 2.0)) ? -a : a;
    cosine = ((turn == 1.0) | (magnitude(turn) == 2.0)) ? -b : b;
}

// Of count angles. sine and cosine must not overlap with angle; an angle beyond 1e5 slows all of them down.
inline void sines_cosines(const double* angle, double* sine, double* cosine, Index count) {
    double largest = 0.0;
    for (Index i = 0; i < count; ++i) largest = std::max(largest, std::abs(angle[i]));
    if (!(largest <= 1e5)) {
        for (Index i = 0; i < count; ++i) sine[i] = std::sin(angle[i]), cosine[i] = std::cos(angle[i]);
        return;
    }
    for (Index i = 0; i < count; i += kLanes) {
        Pack s, c;
        sine_cosine(load(angle + i, count - i), s, c);
        store(sine + i, s, count - i), store(cosine + i, c, count - i);
    }
}

// atan2(y, x) to an ulp or so for finite numbers: the series of the angle to the nearest of 0, 1/16 and 1/8 of a turn.
DDS_INLINE Pack direction(const Pack& y, const Pack& x) {
    constexpr double tan_1 = 0.19891236737965800691, tan_2 = 0.41421356237309504880, tan_3 = 0.66817863791929891999;
    const Pack ay = magnitude(y), ax = magnitude(x), low = smaller(ay, ax), high = larger(ay, ax);
    const Mask some = low > tan_1 * high, much = low > tan_3 * high;
    const Pack centre = much ? all(1.0) : some ? all(tan_2) : all(0.0);
    const Pack below = high + centre * low, t = (low - centre * high) / (below > 0.0 ? below : all(1.0)), q = t * t;
    Pack sum = all(0.0);
    for (int k = 25; k >= 3; k -= 2) sum = q * (sum + (k % 4 == 1 ? 1.0 : -1.0) / k);
    Pack angle = (much ? all(kPi / 4) : some ? all(kPi / 8) : all(0.0)) + (t + t * sum);
    angle = ay > ax ? kPi / 2 - angle : angle;
    angle = x < 0.0 ? kPi - angle : angle;
    return Pack(Mask(angle) | (Mask(y) & ~0x7fffffffffffffffLL));
}

}  // namespace dds
