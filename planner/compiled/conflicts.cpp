// What each agent asks of ego's motion along the path, and its derivative: planner/decisions/conflicts.py.
#include "row_gradients.hpp"

#include <numeric>

namespace {

using namespace dds;

// Moves the rows of scenes, each at the begin of its room, together.
struct Moves {
    const Index* count;
    Index scenes, room;

    template <class T>
    void apply(T* values, Index width) const {
        Index to = count[0];
        for (Index k = 1; k < scenes; to += count[k++]) {
            std::copy_n(values + k * room * width, count[k] * width, values + to * width);
        }
    }
};

// Whether any of the numbers, if there are any, is not zero.
bool any(const double* values, Index count) {
    return values && std::any_of(values, values + count, [](double x) { return x != 0.0; });
}

}  // namespace

// Rows of all scenes in one: scene, manoeuvre, agent [3, cap]; yield, worst, pass [3, cap, N - 1]; caution, first_time
// [2, cap]; moving [cap, N - 1]; conflict, passable, theirs, courtesy [4, cap]; count [S]: rows of each
// scene. cap: S V A.
DDS_EXPORT Index dds_conflicts(const Obstacles* obstacles, const Ways* ways, const Start* start, const Rules* rules,
                               Index* who, double* fronts, double* numbers, bool* moving, bool* flags, Index* count,
                               Index threads) {
    return guarded([&] {
        const Obstacles& o = *obstacles;
        const Index cap = o.scenes * ways->variants * o.agents, own = o.nodes - 1;
        const Index room = ways->variants * o.agents;  // of a scene, until the rows are moved together
        const auto make = [&] { return RowBounds(o, *ways, *start, *rules); };
        over_rows_with(o.scenes, threads, make, [&](RowBounds& bounds, Index k) {
            bounds.look(k);
            Index c = k * room;
            for (const Row& row : bounds.met.rows) {
                bounds.evaluate(row);
                who[c] = k, who[cap + c] = row.manoeuvre, who[2 * cap + c] = row.agent;
                for (Index n = 0; n < own; ++n) {
                    fronts[c * own + n] = bounds.yield_front(n + 1);
                    fronts[(cap + c) * own + n] = bounds.worst_front(n + 1);
                    fronts[(2 * cap + c) * own + n] = bounds.pass_rear(n + 1);
                    moving[c * own + n] = bounds.moving(n + 1);
                }
                numbers[c] = bounds.caution, numbers[cap + c] = bounds.first_time;
                flags[c] = bounds.conflict, flags[cap + c] = bounds.passable;
                flags[2 * cap + c] = row.theirs, flags[3 * cap + c] = bounds.courtesy;
                ++c;
            }
            count[k] = c - k * room;
        });
        const Moves moves{count, o.scenes, room};
        for (Index i = 0; i < 3; ++i) {
            moves.apply(who + i * cap, 1);
            moves.apply(fronts + i * cap * own, own);
        }
        for (Index i = 0; i < 4; ++i) moves.apply(flags + i * cap, 1);
        for (Index i = 0; i < 2; ++i) moves.apply(numbers + i * cap, 1);
        moves.apply(moving, own);
    });
}

// Adds to the gradients of Obstacles, cleared by the caller, what those of the rows' bounds pull, [C, N - 1] and
// [C]; null: zero. who [3, C] and count [S] are of dds_conflicts. Rows that pull nothing are not looked at.
DDS_EXPORT Index dds_conflicts_back(const Obstacles* obstacles, const Ways* ways, const Start* start,
                                    const Rules* rules, const Index* who, const Index* count, const double* g_yield,
                                    const double* g_worst, const double* g_pass, const double* g_caution,
                                    double* g_s_lo, double* g_s_hi, double* g_sigma, double* g_weight,
                                    double* g_speed, Index threads) {
    return guarded([&] {
        const Obstacles& o = *obstacles;
        const Index own = o.nodes - 1, pairs = ways->variants * o.agents;
        const Index rows = std::accumulate(count, count + o.scenes, Index{0});
        const auto of_row = [&](const double* g, Index c) { return g ? g + c * own : nullptr; };
        const auto pulls = [&](Index c) {
            return any(of_row(g_yield, c), own) || any(of_row(g_worst, c), own) || any(of_row(g_pass, c), own) ||
                   (g_caution && g_caution[c] != 0.0);
        };
        const auto make = [&] { return RowGradients(o, *ways, *start, *rules); };
        over_rows_with(o.scenes, threads, make, [&](RowGradients& bounds, Index k) {
            const Index first = std::accumulate(count, count + k, Index{0});
            std::vector<Index> pulling(pairs, -1);  // the row of each manoeuvre and agent
            std::vector<Flag> wanted(pairs);
            for (Index c = first; c < first + count[k]; ++c) {
                const Index pair = who[rows + c] * o.agents + who[2 * rows + c];
                if (pulls(c)) pulling[pair] = c, wanted[pair] = 1;
            }
            bounds.look(k, wanted.data());
            for (const Row& row : bounds.met.rows) {
                const Index c = pulling[row.manoeuvre * o.agents + row.agent];
                bounds.evaluate(row);
                bounds.pull(row,
                            {of_row(g_yield, c), of_row(g_worst, c), of_row(g_pass, c), g_caution ? g_caution[c] : 0.0},
                            {g_s_lo, g_s_hi, g_sigma, g_weight, g_speed});
            }
        });
    });
}
