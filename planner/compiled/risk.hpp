// The quantile by which uncertainty becomes distance: `risk_quantile` in planner/objects/obstacles.py.
#pragma once

#include "arrays.hpp"

namespace dds {

inline double polynomial(const double (&c)[8], double x) {
    double out = c[7];
    for (int i = 6; i >= 0; --i) out = out * x + c[i];
    return out;
}

// Standard normal quantile of 1e-11 < p < 1 - 1e-11, to rounding: rational approximations of
// Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 37 (1988).
inline double normal_quantile(double p) {
    constexpr double a[8] = {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                             1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                             3.3430575583588128105e4, 2.5090809287301226727e3};
    constexpr double b[8] = {1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
                             2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
                             5.2264952788528545610e3};
    constexpr double c[8] = {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
                             3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
                             2.27238449892691845833e-2, 7.74545014278341407640e-4};
    constexpr double d[8] = {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
                             1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
                             1.05075007164441684324e-9};
    const double centred = p - 0.5;
    if (std::abs(centred) <= 0.425) {
        const double x = 0.180625 - centred * centred;
        return centred * polynomial(a, x) / polynomial(b, x);
    }
    const double x = std::sqrt(-std::log(centred < 0 ? p : 1 - p)) - 1.6;
    const double tail = polynomial(c, x) / polynomial(d, x);
    return centred < 0 ? -tail : tail;
}

constexpr double kLeastRatio = 1e-9, kMostRatio = 1 - 1.35e-3, kLeastWeight = 1e-12;

// q = Phi^-1(1 - eps / weight).
inline double risk_quantile(double weight, double eps) {
    return normal_quantile(1 - std::clamp(eps / std::max(weight, kLeastWeight), kLeastRatio, kMostRatio));
}

// Its derivative by the weight.
inline double risk_slope(double weight, double q, double eps) {
    const double ratio = eps / weight;
    if (!(ratio >= kLeastRatio && ratio <= kMostRatio && weight >= kLeastWeight)) return 0.0;
    return std::sqrt(2 * M_PI) * std::exp(q * q / 2) * ratio / weight;
}

}  // namespace dds
