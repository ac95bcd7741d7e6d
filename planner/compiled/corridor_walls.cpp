// What the corridor is made from: the floors of the map. The twin of planner/programs/corridor_parts.py.
#include "arrays.hpp"
#include "calculus.hpp"

namespace {

using namespace dds;

// Three neighbours' strictest, for one line of cells: floor j belongs to cell j - 1, beyond the ends to the last one.
struct Neighbours {
    Index before, at, after;

    Neighbours(Index j, Index cells)
        : before(std::clamp<Index>(j - 2, 0, cells - 1)), at(std::clamp<Index>(j - 1, 0, cells - 1)),
          after(std::min(j, cells - 1)) {}
};

// The surface's limits as floors: the lower one, and the upper one with its sign turned.
struct Walls {
    const double* limit[2];
    Index cells;

    double own(int side, Index cell) const { return side ? -limit[1][cell] : limit[0][cell]; }
    double strictest(int side, Index j) const {
        const Neighbours n(j, cells);
        return greater_of(greater_of(own(side, n.before), own(side, n.after)), own(side, n.at));
    }
};

// Where both floors leave no room, 0.1 m about the middle remains.
bool has_room(double own, double other) { return !(own + other > -0.1); }

void floors(const Walls& walls, Index j, double out[2]) {
    const double low = walls.strictest(0, j), high = walls.strictest(1, j);
    out[0] = has_room(low, high) ? low : (low - high) / 2 - 0.05;
    out[1] = has_room(high, low) ? high : (high - low) / 2 - 0.05;
}

// g: gradients of the two floors at j, added to those of the lower and the upper limit.
void floors_adjoint(const Walls& walls, Index j, const double g[2], double* const d[2]) {
    const double low = walls.strictest(0, j), high = walls.strictest(1, j);
    const bool roomy = has_room(low, high);
    const double of[2] = {roomy ? g[0] : (g[0] - g[1]) / 2, roomy ? g[1] : (g[1] - g[0]) / 2};
    const Neighbours n(j, walls.cells);
    for (int side = 0; side < 2; ++side) {
        const double before = walls.own(side, n.before), after = walls.own(side, n.after), at = walls.own(side, n.at);
        const double ends = greater_of(before, after), due = side ? -of[side] : of[side];
        d[side][n.at] += due * share(at, ends);
        d[side][n.before] += due * share(ends, at) * share(before, after);
        d[side][n.after] += due * share(ends, at) * share(after, before);
    }
}

}  // namespace

// lower, upper, lower_all, upper_all [S, G] -> floor [2, S, 2, G + 2].
DDS_EXPORT Index dds_map_floor(const double* lower, const double* upper, const double* lower_all,
                               const double* upper_all, double* floor, Index scenes, Index cells) {
    return guarded([&] {
        const Index wide = cells + 2, half = 2 * scenes * wide;
        for (Index line = 0; line < 2 * scenes; ++line) {
            const Index at = line / 2 * cells;
            const Walls walls = line % 2 ? Walls{{lower_all + at, upper_all + at}, cells}
                                         : Walls{{lower + at, upper + at}, cells};
            for (Index j = 0; j < wide; ++j) {
                double both[2];
                floors(walls, j, both);
                floor[line * wide + j] = both[0];
                floor[half + line * wide + j] = both[1];
            }
        }
    });
}

// g: gradient of floor -> those of the four limits, zero at first.
DDS_EXPORT Index dds_map_floor_adjoint(const double* lower, const double* upper, const double* lower_all,
                                       const double* upper_all, const double* g, double* d_lower, double* d_upper,
                                       double* d_lower_all, double* d_upper_all, Index scenes, Index cells) {
    return guarded([&] {
        const Index wide = cells + 2, half = 2 * scenes * wide;
        for (Index line = 0; line < 2 * scenes; ++line) {
            const Index at = line / 2 * cells;
            const Walls walls = line % 2 ? Walls{{lower_all + at, upper_all + at}, cells}
                                         : Walls{{lower + at, upper + at}, cells};
            double* const own[2] = {d_lower + at, d_upper + at};
            double* const all[2] = {d_lower_all + at, d_upper_all + at};
            for (Index j = 0; j < wide; ++j) {
                const double both[2] = {g[line * wide + j], g[half + line * wide + j]};
                floors_adjoint(walls, j, both, line % 2 ? all : own);
            }
        }
    });
}
