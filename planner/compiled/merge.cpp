// The longitudinal bounds of candidates from those of the agents that matter to each: planner/decisions/candidates.py.
#include "calculus.hpp"
#include "obstacles.hpp"
#include "stopping.hpp"

namespace {

using namespace dds;

constexpr double kSlack = 0.05;  // m

// C rows of Longitudinal, N nodes without the one now.
struct Asks {
    Index nodes;
    const Index* agent;    // [C]: counted through all scenes
    const bool* moving;    // [C, N]
    const bool* conflict;  // [C]: asks whatever the candidate decides
};

// R candidates: the rows from first to last matter, of which up to K are passed and up to L let in (filled up with -1).
struct Chosen {
    Index count, most, most_in;
    const Index *scene, *first, *last;  // [R]
    const Index *passed, *let_in;       // [R, K], [R, L]
    const bool* hold;                   // [R]
};

struct Scenes {
    const double *s, *v, *a, *path_end;  // [S]
    const double* crawling;              // [S] m: what a stop takes from walking pace, -inf: faster
    const Index* track_id;               // [S, A]
};

struct Rules {
    double front, rear;                  // of ego about its rear axle, m
    double ahead, behind, gap, headway;  // m, m, m, s
    double leader_braking;               // m/s^2
    Brakes brakes;
};

struct Values {
    const double *yield_front, *worst_front, *pass_rear;  // [C, N]
    const double* caution;                                // [C]
    const double *s, *speed_s, *v_profile;                // [S], [S, A], [S, N]
};

template <class Number>
struct Bounds {
    Number *upper, *lower;                        // [R, 2, N]
    Number *gap_s, *speed, *v_ref, *v_cap, *safe;  // [R, N]; safe may be null
};

struct Gradients {
    double *yield_front, *worst_front, *pass_rear, *caution, *s, *speed_s, *v_profile;  // as in Values
};

// Whose bound it is at one node, -1: nobody's. value: m.
struct Strictest {
    Index row = -1;
    double value;

    void consider(Index r, double x) {
        if (x < value) row = r, value = x;
    }
};

class Candidate {
public:
    Candidate(const Asks& asks, const Chosen& chosen, const Scenes& scenes, const Rules& rules, const Values& values,
              Index r)
        : asks_(asks), chosen_(chosen), rules_(rules), x_(values), r_(r), scene_(chosen.scene[r]) {
        const double v = scenes.v[scene_], a = scenes.a[scene_];
        front_ = scenes.s[scene_] + rules.front;
        stops_[0] = front_ + full_stop(v, a, rules.brakes), stops_[1] = front_ + shortest_stop(v, a, rules.brakes);
        end_ = std::max(scenes.path_end[scene_] - 1.0, stops_[0] + 1.0);
        least_ = front_ + scenes.crawling[scene_];
    }

    // ids [R, 2, N] each: track ids of whose the upper and lower bounds are, -1: nobody's.
    void write(Bounds<double> out, double* headway, Index* upper_id, Index* lower_id, const Index* track_id) {
        const Index nodes = asks_.nodes;
        const auto id = [&](Index row) { return row < 0 ? -1 : track_id[asks_.agent[row]]; };
        for (Index n = 0; n < nodes; ++n) {
            find(n);
            const Index at = r_ * nodes + n, pair = 2 * r_ * nodes + n;
            const double free = x_.v_profile[scene_ * nodes + n];
            for (Index branch = 0; branch < 2; ++branch) {
                out.upper[pair + branch * nodes] = smaller_of(kept(branch), end_) - rules_.front;
                out.lower[pair + branch * nodes] = branch ? -kInf : rear_bound() + rules_.behind + rules_.rear;
                upper_id[pair + branch * nodes] = id(ahead_[branch].row), lower_id[pair + branch * nodes] = id(passed_.row);
            }
            out.gap_s[at] = ahead_[0].value - rules_.front - rules_.gap;
            headway[at] = follows(n) ? rules_.headway : 0.0;
            out.speed[at] = speed(n);
            out.v_ref[at] = chosen_.hold[r_] ? 0.0 : free, out.v_cap[at] = free + 0.3;
            if (out.safe) {
                const double own = ahead_[0].value + speed(n) * speed(n) / (2 * rules_.leader_braking) - rules_.front;
                out.safe[at] = follows(n) && std::isfinite(ahead_[0].value) ? own : kInf;
            }
        }
    }

    // g: of what `write` gives; null: zero.
    void pull(Bounds<const double> g, Gradients out) {
        const Index nodes = asks_.nodes;
        for (Index n = 0; n < nodes; ++n) {
            find(n);
            const Index at = r_ * nodes + n, pair = 2 * r_ * nodes + n;
            const auto of = [](const double* x, Index i) { return x ? x[i] : 0.0; };
            double g_ahead[2] = {of(g.gap_s, at), 0.0}, g_speed = of(g.speed, at);
            for (Index branch = 0; branch < 2; ++branch) {
                g_ahead[branch] += pull_upper(branch, of(g.upper, pair + branch * nodes), out);
            }
            if (follows(n) && std::isfinite(ahead_[0].value)) {
                g_ahead[0] += of(g.safe, at), g_speed += of(g.safe, at) * speed(n) / rules_.leader_braking;
            }
            if (follows(n)) out.speed_s[leader()] += g_speed * above(x_.speed_s[leader()], 0.0);
            if (ahead_[0].row >= 0) out.yield_front[ahead_[0].row * nodes + n] += g_ahead[0];
            if (ahead_[1].row >= 0) *tail_place(n, out) += g_ahead[1];
            if (passed_.row >= 0) out.pass_rear[passed_.row * nodes + n] += of(g.lower, pair);
            out.v_profile[scene_ * nodes + n] += (chosen_.hold[r_] ? 0.0 : of(g.v_ref, at)) + of(g.v_cap, at);
        }
    }

private:
    bool passes(Index row) const { return named(chosen_.passed, chosen_.most, row); }
    // Left to keep clear itself.
    bool leaves(Index row) const { return !asks_.conflict[row] && !named(chosen_.let_in, chosen_.most_in, row); }
    bool named(const Index* rows, Index most, Index row) const {
        rows += r_ * most;
        return std::find(rows, rows + most, row) != rows + most;
    }

    // Who bounds the intended motion's front, the tail's, and ego's rear. A tail may stop anywhere, so going first
    // bounds the intended motion only; caution does not ask for the decision.
    void find(Index n) {
        ahead_[0] = ahead_[1] = passed_ = {-1, kInf};
        for (Index row = chosen_.first[r_]; row < chosen_.last[r_]; ++row) {
            const Index at = row * asks_.nodes + n;
            double tail = x_.caution[row];
            if (passes(row)) {
                passed_.consider(row, -x_.pass_rear[at]);
            } else if (!leaves(row)) {
                ahead_[0].consider(row, x_.yield_front[at]);
                tail = std::min(tail, std::min(x_.yield_front[at], x_.worst_front[at]));
            }
            ahead_[1].consider(row, tail);
        }
    }

    double rear_bound() const { return -passed_.value; }
    double* tail_place(Index n, Gradients out) const {
        const Strictest& tail = ahead_[1];
        const Index at = tail.row * asks_.nodes + n;
        if (x_.caution[tail.row] == tail.value) return out.caution + tail.row;
        return x_.worst_front[at] == tail.value ? out.worst_front + at : out.yield_front + at;
    }

    Index leader() const { return asks_.agent[ahead_[0].row]; }
    bool follows(Index n) const { return ahead_[0].row >= 0 && asks_.moving[ahead_[0].row * asks_.nodes + n]; }
    double speed(Index n) const { return follows(n) ? at_least(x_.speed_s[leader()], 0.0) : 0.0; }

    // The margin, not the object, gives way where even braking could not keep it; who crawls may always stop.
    double margin(Index branch) const { return ahead_[branch].value - rules_.ahead; }
    double give_way(Index branch) const { return smaller_of(ahead_[branch].value - kSlack, stops_[branch]); }
    double kept(Index branch) const { return greater_of(greater_of(margin(branch), give_way(branch)), least_); }

    // Returns the gradient of what is ahead.
    double pull_upper(Index branch, double g, Gradients out) const {
        if (g == 0.0) return 0.0;
        const double asked = greater_of(margin(branch), give_way(branch));
        const double g_kept = g * share(end_, kept(branch)), g_asked = g_kept * share(asked, least_);
        const double by_margin = share(margin(branch), give_way(branch));
        const double by_room = share(stops_[branch], ahead_[branch].value - kSlack);
        out.s[scene_] += g_kept - g_asked + g_asked * (1 - by_margin) * (1 - by_room);
        return g_asked * (by_margin + (1 - by_margin) * by_room);
    }

    const Asks& asks_;
    const Chosen& chosen_;
    const Rules& rules_;
    const Values& x_;
    const Index r_, scene_;
    double front_, stops_[2], end_, least_;
    Strictest ahead_[2]{{-1, kInf}, {-1, kInf}}, passed_{-1, kInf};  // the latter's value is negative
};

}  // namespace

DDS_EXPORT Index dds_merge(const Asks* asks, const Chosen* chosen, const Scenes* scenes, const Rules* rules,
                           const Values* values, double* upper, double* lower, double* gap_s, double* headway,
                           double* speed, double* v_ref, double* v_cap, double* safe, Index* upper_id,
                           Index* lower_id) {
    return guarded([&] {
        const Bounds<double> out{upper, lower, gap_s, speed, v_ref, v_cap, safe};
        for (Index r = 0; r < chosen->count; ++r) {
            Candidate(*asks, *chosen, *scenes, *rules, *values, r)
                .write(out, headway, upper_id, lower_id, scenes->track_id);
        }
    });
}

// Adds to the gradients of Values, cleared by the caller, what those of the bounds pull; null: zero.
DDS_EXPORT Index dds_merge_back(const Asks* asks, const Chosen* chosen, const Scenes* scenes, const Rules* rules,
                                const Values* values, const double* g_upper, const double* g_lower,
                                const double* g_gap, const double* g_speed, const double* g_v_ref,
                                const double* g_v_cap, const double* g_safe, double* g_yield, double* g_worst,
                                double* g_pass, double* g_caution, double* g_s, double* g_speed_s,
                                double* g_profile) {
    return guarded([&] {
        const Bounds<const double> g{g_upper, g_lower, g_gap, g_speed, g_v_ref, g_v_cap, g_safe};
        const Gradients out{g_yield, g_worst, g_pass, g_caution, g_s, g_speed_s, g_profile};
        for (Index r = 0; r < chosen->count; ++r) Candidate(*asks, *chosen, *scenes, *rules, *values, r).pull(g, out);
    });
}
