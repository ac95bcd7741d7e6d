// What lies beside which way to go: pieces of agents, for the corridor. The twin of planner/programs/corridor_parts.py.
#include <limits>

#include "arrays.hpp"
#include "calculus.hpp"

namespace {

using namespace dds;

constexpr double TOUCH = 0.02, WATCHED = 2.0;  // m

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

// What a piece is to a variant: a wall on ego's left, one on its right, or nothing. Not a byte: that may be part of
// anything, so loops that write some would read everything else again.
using Flag = std::int16_t;
enum : Flag { NOTHING = 0, LEFT = 1, RIGHT = 2 };

// A thread's working memory: of one forecast the cells and flags of its pieces [P, N], flags by variant, and whether a
// piece counts for any of them; the band of all profiles in use [G].
struct Memory {
    std::vector<std::int32_t> cell;
    std::vector<Flag> flag, counts;
    std::vector<double> low, high;

    explicit Memory(const Scenes& all)
        : cell(all.pieces * all.nodes), flag(all.variants * all.pieces * all.nodes), counts(all.pieces * all.nodes),
          low(all.cells), high(all.cells) {}
};

// The cell at each piece's middle.
void middle_cells(const Scenes& all, const Scene& scene, const Pair& pair, std::int32_t* cell) {
    const double last = static_cast<double>(all.cells - 1), per_m = 1 / all.grid, first_s = scene.first_s;
    for (Index p = 0; p < all.pieces; ++p, cell += all.nodes) {
        const Index first = all.place(pair.agent, p, pair.mode, 0), nodes = all.nodes;
        const double *s_lo = scene.s_lo + first, *s_hi = scene.s_hi + first;
        for (Index n = 0; n < nodes; ++n) {
            const double at = std::nearbyint(((s_lo[n] + s_hi[n]) / 2 - first_s) * per_m);
            cell[n] = static_cast<std::int32_t>(at > 0.0 ? (at < last ? at : last) : 0.0);
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

bool comes_near(const Scenes& all, const Scene& scene, const Pair& pair, const Memory& memory) {
    const bool* active = scene.active + pair.number * all.nodes;
    for (Index p = 0; p < all.pieces; ++p) {
        const Index first = all.place(pair.agent, p, pair.mode, 0), nodes = all.nodes;
        const std::int32_t* cell = &memory.cell[p * nodes];
        const double *d_lo = scene.d_lo + first, *d_hi = scene.d_hi + first;
        bool close = false;
        for (Index n = 1; n < nodes; ++n)
            close |= (d_hi[n] > memory.low[cell[n]]) & (d_lo[n] < memory.high[cell[n]]) & active[n];
        if (close) return true;
    }
    return false;
}

// Which pieces of a forecast lie beside a variant, and on which side.
void flag_pieces(const Scenes& all, const Scene& scene, const Pair& pair, Index variant, Memory& memory) {
    const Index given = scene.side[variant * all.agents + pair.agent], nodes = all.nodes;
    const double* profile = scene.profile + variant * all.cells;
    const double inner = all.room - TOUCH;
    const bool likely = pair.likely, by_side = given != 0, right = given < 0;
    for (Index p = 0; p < all.pieces; ++p) {
        const Index first = all.place(pair.agent, p, pair.mode, 0);
        const std::int32_t* cell = &memory.cell[p * nodes];
        const double *d_lo = scene.d_lo + first, *d_hi = scene.d_hi + first;
        Flag *flag = &memory.flag[(variant * all.pieces + p) * nodes], *any = &memory.counts[p * nodes];
        for (Index n = 0; n < nodes; ++n) {
            const double low = d_lo[n], high = d_hi[n], here = profile[cell[n]];
            const bool touches = (high > here - inner) & (low < here + inner);
            const bool counts = by_side ? likely | touches : !touches;
            const bool below = by_side ? right : (low + high) / 2 > here;
            const Flag found = counts ? (below ? RIGHT : LEFT) : NOTHING;
            flag[n] = found;
            any[n] |= found;
        }
    }
}

// Lists a piece with what it is to each variant.
void list_piece(const Scenes& all, const Scene& scene, const Memory& memory, Index at, Index i, Index list,
                const Lists& out) {
    const Index k = out.count[list]++;
    bool* beside = out.beside + list * all.variants * 2 * all.listed + k;
    for (Index v = 0; v < all.variants; ++v, beside += 2 * all.listed) {
        const Flag found = memory.flag[v * all.pieces * all.nodes + at];
        beside[0] = found == LEFT, beside[all.listed] = found == RIGHT;
    }
    double* reach = out.reach + 4 * list * all.listed + k;
    reach[0] = scene.s_lo[i] - all.reach;
    reach[all.listed] = scene.s_hi[i] + all.reach;
    reach[2 * all.listed] = scene.d_hi[i];
    reach[3 * all.listed] = -scene.d_lo[i];
    out.item[list * all.listed + k] = scene.base + i;
}

void list_pieces(const Scenes& all, const Scene& scene, Memory& memory, const Lists& out) {
    band(all, scene, memory.low.data(), memory.high.data());
    std::fill(memory.flag.begin(), memory.flag.end(), NOTHING);
    std::fill(out.count, out.count + all.nodes - 1, 0);
    for (Index number = 0; number < all.agents * all.modes; ++number) {
        const Pair pair{number, number / all.modes, number % all.modes, scene.likely[number]};
        middle_cells(all, scene, pair, memory.cell.data());
        if (!comes_near(all, scene, pair, memory)) continue;
        std::fill(memory.counts.begin(), memory.counts.end(), NOTHING);
        for (Index v = 0; v < all.variants; ++v)
            if (scene.used[v]) flag_pieces(all, scene, pair, v, memory);
        for (Index n = 1; n < all.nodes; ++n) {
            if (!scene.active[number * all.nodes + n]) continue;
            for (Index p = 0; p < all.pieces; ++p) {
                const Index at = p * all.nodes + n;
                if (memory.counts[at])
                    list_piece(all, scene, memory, at, all.place(pair.agent, p, pair.mode, n), n - 1, out);
            }
        }
    }
}

}  // namespace

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
        over_rows_with(scenes, threads, [&] { return Memory(all); }, [&](Memory& memory, Index k) {
            const Index base = k * all.of_scene(), pairs = k * agents * modes, lists = k * (nodes - 1);
            const Scene scene{s_lo + base, s_hi + base, d_lo + base, d_hi + base, active + pairs * nodes,
                              likely + pairs, profile + k * variants * cells, side + k * variants * agents,
                              used + k * variants, first_s[k], base};
            list_pieces(all, scene, memory,
                        {reach + 4 * lists * listed, item + lists * listed, count + lists,
                                     beside + 2 * lists * variants * listed});
        });
    });
}
