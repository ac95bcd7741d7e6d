// Small functions and their derivatives, as torch has them: NaN passes through, equal arguments share a gradient.
#pragma once

#include <cmath>

namespace dds {

inline double at_least(double x, double low) { return x < low ? low : x; }
inline double at_most(double x, double high) { return x > high ? high : x; }

// Derivative of at_least(x, low) and at_most(x, high) by x: at the limit itself 1.
inline double above(double x, double low) { return x >= low ? 1.0 : 0.0; }
inline double below(double x, double high) { return x <= high ? 1.0 : 0.0; }

inline double greater_of(double x, double y) { return y > x || y != y ? y : x; }
inline double smaller_of(double x, double y) { return y < x || y != y ? y : x; }

// Derivative of greater_of(x, y) by x; of smaller_of(x, y) it is share(y, x).
inline double share(double x, double y) { return x > y ? 1.0 : (x < y ? 0.0 : 0.5); }

}  // namespace dds
