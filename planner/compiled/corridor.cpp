// The lateral corridor of every candidate along its motion, and the adjoint: the twin of planner/programs/corridor.py.
#include <limits>

#include "arrays.hpp"
#include "calculus.hpp"

namespace {

using namespace dds;

constexpr double SLACK = 0.02, CLOSER = 0.01, CLEAR = 0.05;  // m

Index clamped(double x, Index low, Index high) {
    return x > static_cast<double>(low) ? static_cast<Index>(std::min(x, static_cast<double>(high))) : low;
}

// What all rows share. settings: room, margin, near, still (m), and the cells' size (m).
struct World {
    double room, margin, near, still, grid;
    const double *offset, *first_s;                    // [C], [S]
    const Index *which, *oncoming, *node, *cell_count;  // [R], [R], [N], [S]
    const double* reach;                               // these four as written by dds_pieces_beside
    const Index* item;
    const bool* beside;
    const Index *count, *track_id;                     // [S, A]
    Index rows, nodes, fine, circles, scenes, variants, cells, agents, of_agent, listed;

    Index scene(Index r) const { return which[r] / variants; }
    Index place(Index side, Index r, Index b, Index n, Index c) const {
        return (((side * rows + r) * 2 + b) * nodes + n) * circles + c;
    }
};

// Differentiable inputs, or their gradients.
template <class T>
struct Inputs {
    T *s, *floor, *profile, *d_lo, *d_hi;  // [R, 2, F], [2, S, 2, G + 2], [S, V, G], twice as the obstacles
    T *s0, *v0, *d0, *psi0, *bend0;        // [R]
};

// How a start outside the corridor may return: over distance, not time, for at standstill nobody returns anywhere.
struct Return {
    double settle, span, moved, raw, fade;

    Return(double s, double s0, double v0) {
        settle = 2 * v0 + 2;
        span = at_least(settle, 6.0);
        moved = s - (s0 + settle);
        raw = 1 - moved / span;
        fade = at_most(at_least(raw, 0.0), 1.0);
    }
};

// One row of the corridor: where the circles are now, and by how much the floors there are above them at first.
class Row {
  public:
    Row(const World& world, const Inputs<const double>& inputs, Index row)
        : w(world), in(inputs), r(row), k(world.scene(row)), now_(2 * w.circles), outside_(4 * w.circles) {
        for (Index c = 0; c < w.circles; ++c) {
            const double o = w.offset[c], d = in.d0[r] + o * in.psi0[r] - o * o / 2 * in.bend0[r];
            now_[c] = d;
            now_[w.circles + c] = -d;
            for (Index b = 0; b < 2; ++b) {
                for (Index side = 0; side < 2; ++side) {
                    const double above = in.floor[wall(side, cell(b, 0, c))] - now(side, c);
                    outside_[(b * 2 + side) * w.circles + c] = at_least(above, 0.0) + SLACK;
                }
            }
        }
    }

    double s(Index b, Index n) const { return in.s[(r * 2 + b) * w.fine + w.node[n]]; }
    double gone(Index b, Index n) const { return s(b, n) - in.s0[r]; }
    Return way_back(Index b, Index n) const { return Return(s(b, n), in.s0[r], in.v0[r]); }
    double now(Index side, Index c) const { return now_[side * w.circles + c]; }
    double outside(Index b, Index side, Index c) const { return outside_[(b * 2 + side) * w.circles + c]; }

    // Where the floors at a circle are found.
    Index cell(Index b, Index n, Index c) const {
        return clamped(std::rint((s(b, n) + w.offset[c] - w.first_s[k]) / w.grid), -1, w.cells);
    }
    Index wall(Index side, Index cell) const {
        return ((side * w.scenes + k) * 2 + w.oncoming[r]) * (w.cells + 2) + cell + 1;
    }

    const World& w;
    const Inputs<const double>& in;
    const Index r, k;

  private:
    std::vector<double> now_, outside_;  // [2, C], [2 branches, 2, C]
};

// Whether any of BLOCK pieces is met between rear and front (m): one look at all, in vectors.
constexpr Index BLOCK = 8;

bool any_met(const double* first, const double* last, double rear, double front) {
    Index met = 0;
    for (Index j = 0; j < BLOCK; ++j) met |= static_cast<Index>(first[j] < front) & static_cast<Index>(last[j] > rear);
    return met != 0;
}

// The strictest pieces beside the circles at one place, of equals the first; piece -1 where there is none.
class Strictest {
  public:
    explicit Strictest(const Row& row) : row(row), w(row.w), value(2 * w.circles), piece(2 * w.circles) {}

    void find(Index b, Index n) {
        std::fill(value.begin(), value.end(), -std::numeric_limits<double>::infinity());
        std::fill(piece.begin(), piece.end(), -1);
        const Index list = row.k * w.nodes + n, count = w.count[list];
        const double *first = w.reach + 4 * list * w.listed, *last = first + w.listed, s = row.s(b, n);
        const double *above = last + w.listed, *below = above + w.listed;
        const bool* beside = w.beside + (list * w.variants + w.which[row.r] % w.variants) * 2 * w.listed;
        const double rear = s + w.offset[0], front = s + w.offset[w.circles - 1];
        for (Index i = 0; i < count; i += BLOCK) {
            const Index end = std::min(i + BLOCK, count);
            if (end == i + BLOCK && !any_met(first + i, last + i, rear, front)) continue;
            for (Index j = i; j < end; ++j) {
                if (!(first[j] < front && last[j] > rear)) continue;
                const Index own = w.item[list * w.listed + j];
                if (beside[j]) look_at(0, own, above[j], s, first[j], last[j]);
                if (beside[w.listed + j]) look_at(1, own, below[j], s, first[j], last[j]);
            }
        }
    }

    double floor(Index side, Index c) const { return value[side * w.circles + c]; }
    Index who(Index side, Index c) const { return piece[side * w.circles + c]; }

  private:
    void look_at(Index side, Index own, double floor, double s, double first, double last) {
        for (Index c = 0; c < w.circles; ++c) {
            const Index place = side * w.circles + c;
            const double point = s + w.offset[c];
            if (!(point > first && point < last && floor > value[place])) continue;
            value[place] = floor;
            piece[place] = own;
        }
    }

    const Row& row;
    const World& w;
    std::vector<double> value;  // [2, C]
    std::vector<Index> piece;
};

// The floor that a piece sets. Already closer than the margin to what is right here: do not come closer.
struct Raised {
    double above, closer, kept, final;
    bool near, still;

    Raised(const World& w, double value, double now, double gone) {
        above = value + w.room;
        near = gone < w.near;
        still = gone < w.still;
        closer = greater_of(above - w.margin, now - CLOSER);
        kept = near ? smaller_of(above, closer) : above;
        final = still ? smaller_of(kept, now - CLEAR) : kept;
    }
};

struct Outputs {
    double *lower, *upper;       // [R, 2, N, C]
    Index *lower_id, *upper_id;
    double *d_ref, *slope;       // [R, 2, N]
    Index* piece;                // [2, R, 2, N, C]
};

// The manoeuvre's profile between two cells.
struct Aim {
    Index at;
    bool follows;  // beyond the ends of the profile it does not change with s
    double raw, within, rise;

    Aim(const Row& row, Index b, Index n) {
        const World& w = row.w;
        const double s = row.s(b, n), first = w.first_s[row.k];
        const Index last = w.cell_count[row.k] - 2, whole = clamped((s - first) / w.grid, 0, std::max<Index>(last, 0));
        at = w.which[row.r] * w.cells + whole;
        follows = whole < last;
        raw = s - (first + w.grid * static_cast<double>(whole));
        within = follows ? at_most(at_least(raw, 0.0), w.grid) / w.grid : 0.0;
        rise = row.in.profile[at + 1] - row.in.profile[at];
    }
};

void forward(const Row& row, const Outputs& out) {
    const World& w = row.w;
    Strictest strictest(row);
    for (Index b = 0; b < 2; ++b) {
        for (Index n = 0; n < w.nodes; ++n) {
            strictest.find(b, n);
            const double fade = row.way_back(b, n).fade, gone = row.gone(b, n);
            for (Index c = 0; c < w.circles; ++c) {
                const Index cell = row.cell(b, n, c), place = w.place(0, row.r, b, n, c);
                for (Index side = 0; side < 2; ++side) {
                    const Index own = strictest.who(side, c);
                    const double before = row.in.floor[row.wall(side, cell)] - row.outside(b, side, c) * fade;
                    const Raised raised(w, strictest.floor(side, c), row.now(side, c), gone);
                    const double floor = own < 0 ? before : greater_of(before, raised.final);
                    (side ? out.upper : out.lower)[place] = side ? -floor : floor;
                    (side ? out.upper_id : out.lower_id)[place] =
                        own >= 0 && raised.final > before ? w.track_id[own / w.of_agent] : -1;
                    out.piece[w.place(side, row.r, b, n, c)] = own;
                }
            }
            const Aim aim(row, b, n);
            const Index place = (row.r * 2 + b) * w.nodes + n;
            out.d_ref[place] = row.in.profile[aim.at] + aim.rise * aim.within;
            out.slope[place] = std::atan(aim.rise / w.grid);
        }
    }
}

// Gradients of the outputs, null for zero.
struct Given {
    const double *lower, *upper, *d_ref, *slope;
};

class Adjoint {
  public:
    Adjoint(const Row& row, const Inputs<double>& out) : row(row), w(row.w), in(row.in), out(out) {}

    // g: gradient of the floor at a circle.
    void floor(Index side, Index b, Index n, Index c, Index own, double g) const {
        const Return back = row.way_back(b, n);
        const double outside = row.outside(b, side, c), now = row.now(side, c);
        const Index wall = row.wall(side, row.cell(b, n, c));
        const double before = in.floor[wall] - outside * back.fade;
        double d_before = g;
        if (own >= 0) {
            const double value = side ? -in.d_lo[own] : in.d_hi[own];
            const Raised raised(w, value, now, row.gone(b, n));
            d_before = g * share(before, raised.final);
            const double d_value = piece(raised, now, g - d_before, side, c);
            if (side)
                out.d_lo[own] -= d_value;
            else
                out.d_hi[own] += d_value;
        }
        out.floor[wall] += d_before;
        const Index first = row.wall(side, row.cell(b, 0, c));
        const double d_outside = -d_before * back.fade * above(in.floor[first] - now, 0.0);
        out.floor[first] += d_outside;
        of_now(side, c, -d_outside);
        fade(back, b, n, -d_before * outside);
    }

    void aim(Index b, Index n, double d_ref, double d_slope) const {
        const Aim a(row, b, n);
        const double steep = a.rise / w.grid;
        const double d_rise = d_ref * a.within + d_slope / ((1 + steep * steep) * w.grid);
        out.profile[a.at] += d_ref - d_rise;
        out.profile[a.at + 1] += d_rise;
        if (a.follows && a.raw >= 0 && a.raw <= w.grid) of_s(b, n) += d_ref * a.rise / w.grid;
    }

  private:
    double& of_s(Index b, Index n) const { return out.s[(row.r * 2 + b) * w.fine + w.node[n]]; }

    // d: gradient of raised.final. Returns that of the piece's value.
    double piece(const Raised& raised, double now, double d, Index side, Index c) const {
        double d_now = 0.0, d_above = 0.0;
        if (raised.still) {
            d_now += d * share(raised.kept, now - CLEAR);
            d *= share(now - CLEAR, raised.kept);
        }
        if (raised.near) {
            const double d_closer = d * share(raised.above, raised.closer), by_margin = raised.above - w.margin;
            d_above += d_closer * share(by_margin, now - CLOSER);
            d_now += d_closer * share(now - CLOSER, by_margin);
            d *= share(raised.closer, raised.above);
        }
        of_now(side, c, d_now);
        return d_above + d;
    }

    void of_now(Index side, Index c, double d) const {
        const double o = w.offset[c], own = side ? -d : d;
        out.d0[row.r] += own;
        out.psi0[row.r] += o * own;
        out.bend0[row.r] -= o * o / 2 * own;
    }

    void fade(const Return& back, Index b, Index n, double d) const {
        const double d_raw = d * above(back.raw, 0.0) * below(at_least(back.raw, 0.0), 1.0);
        const double d_moved = -d_raw / back.span, d_span = d_raw * back.moved / (back.span * back.span);
        of_s(b, n) += d_moved;
        out.s0[row.r] -= d_moved;
        out.v0[row.r] += 2 * (d_span * above(back.settle, 6.0) - d_moved);
    }

    const Row& row;
    const World& w;
    const Inputs<const double>& in;
    const Inputs<double>& out;
};

void backward(const Row& row, const Index* piece, const Given& g, const Inputs<double>& out) {
    const World& w = row.w;
    const Adjoint adjoint(row, out);
    const auto at = [](const double* p, Index i) { return p ? p[i] : 0.0; };
    for (Index b = 0; b < 2; ++b) {
        for (Index n = 0; n < w.nodes; ++n) {
            for (Index c = 0; c < w.circles; ++c) {
                const Index place = w.place(0, row.r, b, n, c);
                adjoint.floor(0, b, n, c, piece[place], at(g.lower, place));
                adjoint.floor(1, b, n, c, piece[w.place(1, row.r, b, n, c)], -at(g.upper, place));
            }
            const Index place = (row.r * 2 + b) * w.nodes + n;
            adjoint.aim(b, n, at(g.d_ref, place), at(g.slope, place));
        }
    }
}

}  // namespace

// The inputs are those of World and Inputs, in their order; the outputs those of Outputs.
DDS_EXPORT Index dds_corridor(const double* settings, const double* offset, const double* first_s, const Index* which,
                              const Index* oncoming, const Index* node, const Index* cell_count, const double* reach,
                              const Index* item, const bool* beside, const Index* count, const Index* track_id,  //
                              const double* s, const double* floor, const double* profile, const double* d_lo,
                              const double* d_hi, const double* s0, const double* v0, const double* d0,
                              const double* psi0, const double* bend0,  //
                              double* lower, double* upper, Index* lower_id, Index* upper_id, double* d_ref,
                              double* slope, Index* piece,  //
                              Index rows, Index nodes, Index fine, Index circles, Index scenes, Index variants,
                              Index cells, Index agents, Index of_agent, Index listed, Index threads) {
    return guarded([&] {
        const World world{settings[0], settings[1], settings[2], settings[3], settings[4], offset, first_s, which,
                          oncoming, node, cell_count, reach, item, beside, count, track_id, rows, nodes, fine,
                          circles, scenes, variants, cells, agents, of_agent, listed};
        const Inputs<const double> in{s, floor, profile, d_lo, d_hi, s0, v0, d0, psi0, bend0};
        const Outputs out{lower, upper, lower_id, upper_id, d_ref, slope, piece};
        over_rows(rows, threads, [&](Index r) { forward(Row(world, in, r), out); });
    });
}

// piece: of the forward pass; g_*: gradients of the outputs, null for zero; d_*: those of the inputs, zero at first.
DDS_EXPORT Index dds_corridor_adjoint(
    const double* settings, const double* offset, const double* first_s, const Index* which, const Index* oncoming,
    const Index* node, const Index* cell_count, const double* reach, const Index* item, const bool* beside,
    const Index* count, const Index* track_id,  //
    const double* s, const double* floor, const double* profile, const double* d_lo, const double* d_hi,
    const double* s0, const double* v0, const double* d0, const double* psi0, const double* bend0,  //
    const Index* piece, const double* g_lower, const double* g_upper, const double* g_d_ref, const double* g_slope,  //
    double* d_s, double* d_floor, double* d_profile, double* d_d_lo, double* d_d_hi, double* d_s0, double* d_v0,
    double* d_d0, double* d_psi0, double* d_bend0,  //
    Index rows, Index nodes, Index fine, Index circles, Index scenes, Index variants, Index cells, Index agents,
    Index of_agent, Index listed, Index threads) {
    return guarded([&] {
        const World world{settings[0], settings[1], settings[2], settings[3], settings[4], offset, first_s, which,
                          oncoming, node, cell_count, reach, item, beside, count, track_id, rows, nodes, fine,
                          circles, scenes, variants, cells, agents, of_agent, listed};
        const Inputs<const double> in{s, floor, profile, d_lo, d_hi, s0, v0, d0, psi0, bend0};
        const Inputs<double> out{d_s, d_floor, d_profile, d_d_lo, d_d_hi, d_s0, d_v0, d_d0, d_psi0, d_bend0};
        const Given g{g_lower, g_upper, g_d_ref, g_slope};
        // Rows of a scene add to the same walls and agents: threads take whole scenes.
        over_rows(scenes, threads, [&](Index k) {
            for (Index r = 0; r < rows; ++r) {
                if (world.scene(r) == k) backward(Row(world, in, r), piece, g, out);
            }
        });
    });
}
