// How much room the map leaves along paths, and its derivative: surface.py.
#include "spline.hpp"

namespace {

using namespace dds;

constexpr Index kAttributes = 5, kPlaces = 9;
constexpr double kClosed = 0.1;  // m: where the map leaves less, its width is not believed
const double kTurned = std::tan(0.4);

// The map's room at a place: segment, fraction, and both sides without and with the oncoming surface.
struct Room {
    Index segment;
    double t, lower[2], upper[2];
    bool closed[2];

    Room(const double* attributes, Index count, double s, double inside) {
        const double at = std::min(std::max(s, 0.0), static_cast<double>(count - 1));
        segment = std::min(static_cast<Index>(at), count - 2), t = at - static_cast<double>(segment);
        double value[4];
        for (Index a = 0; a < 4; ++a) {
            const double *begin = attributes + segment * kAttributes + a, *end = begin + kAttributes;
            value[a] = *begin + t * (*end - *begin);
        }
        for (int all = 0; all < 2; ++all) {
            const double low = -(value[1] + all * value[3] - inside), high = value[0] + all * value[2] - inside;
            const double middle = (low + high) / 2;
            closed[all] = low > high - kClosed;
            lower[all] = closed[all] ? middle - kClosed / 2 : low, upper[all] = closed[all] ? middle + kClosed / 2 : high;
        }
    }
};

// The path's heading at some places from first to last (m) stays within 0.4 rad of the first.
bool straight_on(const Spline& path, double first, double last) {
    Vec<double> begin{};
    for (Index i = 0; i < kPlaces; ++i) {
        const double at = first + (last - first) * static_cast<double>(i) / (kPlaces - 1);
        const Index segment = std::min(static_cast<Index>(at), path.count - 2);
        const double t = at - static_cast<double>(segment);
        const Vec<double> forward = curve_in(path, Vec<double>{}, static_cast<double>(segment), t).first;
        if (i == 0) begin = forward;
        if (!(std::abs(cross(begin, forward)) < kTurned * dot(begin, forward))) return false;
    }
    return true;
}

}  // namespace

// cells [S]: of the grid of G, which begins at first [S] (m) and whose values are held beyond. ends [4, S, G]: lower,
// upper, and both with the oncoming surface. straight [S]: from here to ahead [S] (m).
DDS_EXPORT Index dds_usable_surface(const double* attributes, const double* cubics, const Index* count,
                                    const double* first, const Index* cells, const double* here, const double* ahead,
                                    double inside, double spacing, double* ends, bool* straight,
                                    Index scenes, Index grid, Index n) {
    return guarded([&] {
        for (Index k = 0; k < scenes; ++k) {
            const double* own = attributes + k * n * kAttributes;
            straight[k] = straight_on({cubics + 8 * k * (n - 1), nullptr, count[k]}, here[k], ahead[k]);
            for (Index c = 0; c < grid; ++c) {
                const Index held = std::min(c, cells[k] - 1);
                const Room room(own, count[k], first[k] + spacing * static_cast<double>(held), inside);
                const double values[4] = {room.lower[0], room.upper[0], room.lower[1], room.upper[1]};
                for (Index e = 0; e < 4; ++e) ends[(e * scenes + k) * grid + c] = values[e];
            }
        }
    });
}

// Gradient of the attributes (cleared by the caller) from those of the four ends [S, G]; null for zero.
DDS_EXPORT Index dds_usable_surface_back(const double* attributes, const Index* count, const double* first,
                                         const Index* cells, double inside, double spacing, const double* g_lower,
                                         const double* g_upper, const double* g_lower_all, const double* g_upper_all,
                                         double* g_attributes, Index scenes, Index grid, Index n) {
    return guarded([&] {
        const double* const given[2][2] = {{g_lower, g_upper}, {g_lower_all, g_upper_all}};
        for (Index k = 0; k < scenes; ++k)
            for (Index c = 0; c < grid; ++c) {
                const Index held = std::min(c, cells[k] - 1);
                const double s = first[k] + spacing * static_cast<double>(held);
                const Room room(attributes + k * n * kAttributes, count[k], s, inside);
                double* out = g_attributes + (k * n + room.segment) * kAttributes;
                const auto add = [&](Index a, double g) {
                    out[a] += (1 - room.t) * g, out[kAttributes + a] += room.t * g;
                };
                for (int all = 0; all < 2; ++all) {
                    const double low = given[all][0] ? given[all][0][k * grid + c] : 0.0;
                    const double high = given[all][1] ? given[all][1][k * grid + c] : 0.0;
                    const double half = (low + high) / 2;
                    const double right = room.closed[all] ? -half : -low, left = room.closed[all] ? half : high;
                    add(0, left), add(1, right);
                    if (all) add(2, left), add(3, right);
                }
            }
    });
}
