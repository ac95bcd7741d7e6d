// Sines and cosines of whole arrays, written so that the compiler uses vectors of any width.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace dds {

// Taylor's series up to pi/4, where the first term left out is below 1e-16.
inline double small_sine(double x) {
    const double z = x * x;
    const double tail = 1 / 362880.0 + z * (-1 / 39916800.0 + z * (1 / 6227020800.0 + z * (-1 / 1307674368000.0)));
    return x + x * z * (-1 / 6.0 + z * (1 / 120.0 + z * (-1 / 5040.0 + z * tail)));
}

inline double small_cosine(double x) {
    const double z = x * x;
    const double tail = -1 / 3628800.0 + z * (1 / 479001600.0 + z * (-1 / 87178291200.0 + z / 20922789888000.0));
    return 1 - (z / 2 - z * z * (1 / 24.0 + z * (-1 / 720.0 + z * (1 / 40320.0 + z * tail))));
}

// Before a loop whose turns write nothing that another one reads: it may become vectors.
#if defined(__clang__)
#define DDS_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define DDS_INDEPENDENT _Pragma("GCC ivdep")
#else
#define DDS_INDEPENDENT
#endif

// Of count angles (rad) up to 1e5; the nearest multiple of pi/2 is taken off in parts whose products are exact.
inline void small_sines_cosines(const double* angle, double* sine, double* cosine, std::int64_t count) {
    constexpr double first = 0x1.921fb544p+0, second = 0x1.0b4611a6p-34, third = 0x1.3198a2e037073p-69;
    constexpr double rounder = 0x1.8p52, per_quarter = 0.63661977236758134308;
    DDS_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
        const double shifted = angle[i] * per_quarter + rounder;  // its last bits are the number of quarter turns
        const double turns = shifted - rounder;
        std::int64_t quarters;
        std::memcpy(&quarters, &shifted, sizeof quarters);
        const double rest = ((angle[i] - turns * first) - turns * second) - turns * third;
        const double s = small_sine(rest), c = small_cosine(rest);
        const double in_sine = quarters & 1 ? c : s, in_cosine = quarters & 1 ? s : c;
        sine[i] = quarters & 2 ? -in_sine : in_sine;
        cosine[i] = (quarters + 1) & 2 ? -in_cosine : in_cosine;
    }
}

// Of count angles (rad), to within an ulp or two. sine and cosine must not overlap with angle.
inline void sines_cosines(const double* angle, double* sine, double* cosine, std::int64_t count) {
    double largest = 0.0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(angle[i]));
    if (largest <= 1e5) return small_sines_cosines(angle, sine, cosine, count);
    for (std::int64_t i = 0; i < count; ++i) {
        sine[i] = std::sin(angle[i]);
        cosine[i] = std::cos(angle[i]);
    }
}

}  // namespace dds
