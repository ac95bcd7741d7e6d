// What the corridor is made from: the floors of the map, and which pieces of agents lie beside which way to go.
// The twin of planner/programs/corridor_parts.py.
#include <limits>

#include "arrays.hpp"
#include "calculus.hpp"

namespace {

using namespace dds;

constexpr double TOUCH = 0.02, WATCHED = 2.0;  // m

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

// Sizes of the obstacles and of the manoeuvres' profiles, and what the vehicle needs beside and along an agent.
struct Scenes {
    Index variants, cells, agents, modes, nodes, pieces, listed;  // nodes: the first is now
    double grid, room, reach;

    Index of_scene() const { return agents * pieces * modes * nodes; }
    Index place(Index agent, Index piece, Index mode, Index node) const {
        return ((agent * pieces + piece) * modes + mode) * nodes + node;
    }
};

// Data of one scene.
struct Scene {
    const double *s_lo, *s_hi, *d_lo, *d_hi;  // [A, P, M, N]
    const bool *active, *likely;              // [A, M, N], [A, M]
    const double* profile;                    // [V, G]
    const Index* side;                        // [V, A]
    const bool* used;                         // [V]
    double first_s;
    Index base;  // number of its first piece
};

// The lists of one scene: between which places along the path, what it leaves beside it, which piece, and for whom on
// which side.
struct Lists {
    double* reach;       // [N - 1, 4, K]
    Index *item, *count;  // [N - 1, K], [N - 1]
    bool* beside;        // [N - 1, V, 2, K]
};

// An agent's forecast: its number counted through agents and modes, its agent and mode, and whether it is likely.
struct Pair {
    Index number, agent, mode;
    bool likely;
};

// The cell at each piece's middle, for all pieces [P, N] of an agent and mode.
void middle_cells(const Scenes& all, const Scene& scene, const Pair& pair, Index* cell) {
    const double last = static_cast<double>(all.cells - 1), per_m = 1 / all.grid;
    for (Index p = 0; p < all.pieces; ++p) {
        const Index first = all.place(pair.agent, p, pair.mode, 0);
        for (Index n = 0; n < all.nodes; ++n) {
            const double middle = (scene.s_lo[first + n] + scene.s_hi[first + n]) / 2;
            const double at = std::rint((middle - scene.first_s) * per_m);
            cell[p * all.nodes + n] = static_cast<Index>(at > 0.0 ? (at < last ? at : last) : 0.0);
        }
    }
}

// The band of all profiles in use, widened: who never comes near it does not matter.
void band(const Scenes& all, const Scene& scene, double* low, double* high) {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    std::fill(low, low + all.cells, infinite);
    std::fill(high, high + all.cells, -infinite);
    for (Index v = 0; v < all.variants; ++v) {
        if (!scene.used[v]) continue;
        for (Index g = 0; g < all.cells; ++g) {
            const double at = scene.profile[v * all.cells + g];
            low[g] = smaller_of(low[g], at);
            high[g] = greater_of(high[g], at);
        }
    }
    for (Index g = 0; g < all.cells; ++g) low[g] -= all.room + WATCHED, high[g] += all.room + WATCHED;
}

bool comes_near(const Scenes& all, const Scene& scene, const Pair& pair, const Index* cell, const double* low,
                const double* high) {
    for (Index p = 0; p < all.pieces; ++p) {
        const Index first = all.place(pair.agent, p, pair.mode, 0);
        for (Index n = 1; n < all.nodes; ++n) {
            const Index at = cell[p * all.nodes + n];
            const bool close = (scene.d_hi[first + n] > low[at]) & (scene.d_lo[first + n] < high[at]);
            if (close && scene.active[pair.number * all.nodes + n]) return true;
        }
    }
    return false;
}

// Lists a piece if it lies beside any variant in use. Without branches on where it lies: it is written in any case, and
// overwritten by the next one unless it counts.
void list_piece(const Scenes& all, const Scene& scene, const Pair& pair, Index node, Index i, Index cell,
                const Lists& out) {
    const Index list = node - 1, k = out.count[list];
    bool* beside = out.beside + list * all.variants * 2 * all.listed + k;
    const double low = scene.d_lo[i], high = scene.d_hi[i], middle = (low + high) / 2, inner = all.room - TOUCH;
    bool any = false;
    for (Index v = 0; v < all.variants; ++v, beside += 2 * all.listed) {
        if (!scene.used[v]) continue;
        const Index given = scene.side[v * all.agents + pair.agent];
        const double here = scene.profile[v * all.cells + cell];
        const bool touches = (high > here - inner) & (low < here + inner);
        const bool counts = given != 0 ? pair.likely | touches : !touches;
        const bool below = given != 0 ? given < 0 : middle > here;
        beside[0] = counts & !below;
        beside[all.listed] = counts & below;
        any |= counts;
    }
    double* reach = out.reach + 4 * list * all.listed + k;
    reach[0] = scene.s_lo[i] - all.reach;
    reach[all.listed] = scene.s_hi[i] + all.reach;
    reach[2 * all.listed] = high;
    reach[3 * all.listed] = -low;
    out.item[list * all.listed + k] = scene.base + i;
    out.count[list] = k + any;
}

void list_pieces(const Scenes& all, const Scene& scene, const Lists& out) {
    std::vector<double> low(all.cells), high(all.cells);
    std::vector<Index> cell(all.pieces * all.nodes);
    band(all, scene, low.data(), high.data());
    std::fill(out.count, out.count + all.nodes - 1, 0);
    for (Index number = 0; number < all.agents * all.modes; ++number) {
        const Pair pair{number, number / all.modes, number % all.modes, scene.likely[number]};
        middle_cells(all, scene, pair, cell.data());
        if (!comes_near(all, scene, pair, cell.data(), low.data(), high.data())) continue;
        for (Index n = 1; n < all.nodes; ++n) {
            if (!scene.active[number * all.nodes + n]) continue;
            for (Index p = 0; p < all.pieces; ++p)
                list_piece(all, scene, pair, n, all.place(pair.agent, p, pair.mode, n), cell[p * all.nodes + n], out);
        }
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

// Of every scene, the pieces beside any variant in use at each node but the first, by agent, mode and piece.
// Intervals [S, A, P, M, N], active [S, A, M, N], likely [S, A, M], profile [S, V, G], side [S, V, A], used [S, V],
// first_s [S]
// -> reach [S, N - 1, 4, K], item [S, N - 1, K], beside [S, N - 1, V, 2, K], of which count [S, N - 1] are written, for
// the variants in use. K > A M P.
DDS_EXPORT Index dds_pieces_beside(double grid, double room, double reach_along, const double* s_lo,
                                   const double* s_hi, const double* d_lo, const double* d_hi, const bool* active,
                                   const bool* likely, const double* profile, const Index* side, const bool* used,
                                   const double* first_s, double* reach, Index* item, bool* beside, Index* count,
                                   Index scenes, Index variants, Index cells, Index agents, Index modes, Index nodes,
                                   Index pieces, Index listed, Index threads) {
    return guarded([&] {
        const Scenes all{variants, cells, agents, modes, nodes, pieces, listed, grid, room, reach_along};
        over_rows(scenes, threads, [&](Index k) {
            const Index base = k * all.of_scene(), pairs = k * agents * modes, lists = k * (nodes - 1);
            const Scene scene{s_lo + base, s_hi + base, d_lo + base, d_hi + base, active + pairs * nodes,
                              likely + pairs, profile + k * variants * cells, side + k * variants * agents,
                              used + k * variants, first_s[k], base};
            list_pieces(all, scene, {reach + 4 * lists * listed, item + lists * listed, count + lists,
                                     beside + 2 * lists * variants * listed});
        });
    });
}
