// What each agent asks of ego's motion along the path, and its derivative: planner/decisions/conflicts.py, planner/objects/occupied.py.
#include "calculus.hpp"
#include "encounters.hpp"
#include "risk.hpp"

#include <numeric>

namespace {

using namespace dds;

constexpr double kFirmBraking = 4.5;                               // m/s^2
constexpr double kSoon = 4.0, kMerging = 2.0, kSameTime = 1e-6;    // s
constexpr double kTogether = 0.5;                                  // m: modes that begin this close block as one

struct Gradients {
    double *s_lo, *s_hi, *sigma_s, *weight, *speed_s;  // as in Obstacles
};

struct Pulled {
    const double *yield_front, *worst_front, *pass_rear;  // of a row, at the nodes without the one now; null: zero
    double caution;
};

// One row: bounds by an agent's forecasts that count. L lanes of the row; vectors [L, N] or, of the results, [N], in m.
class Bounds {
public:
    Bounds(const Obstacles& o, const Start& start, const Rules& rules, const Encounters& met, Index scene)
        : o_(o), rules_(rules), met_(met), scene_(scene), nodes_(o.nodes), v_(start.v[scene]), s_(start.s[scene]) {
        full_ = full_stop(v_, start.a[scene], rules.brakes);
        firm_ = met.front() + shortest_stop(v_, start.a[scene], rules.brakes) + 0.2;
        for (Index n = 0; n < nodes_; ++n) {
            firmly_.push_back(met.front() + braking_distance(v_, kFirmBraking, o.time[n]));
            reach_.push_back(s_ + v_ * o.time[n] + rules.brakes.acceleration_max * (o.time[n] * o.time[n]) / 2);
        }
    }

    double caution, first_time;
    bool conflict, passable;

    // Yielding is to the lower of two fronts, passing beyond the higher of two rears.
    double yield_front(Index n) const { return std::min(follow_front_[n], zone_front_[n]); }
    double pass_rear(Index n) const { return std::max(leave_rear_[n], merge_rear_[n]); }
    double worst_front(Index n) const { return std::min(leader_[n], stop_); }
    bool moving(Index n) const { return asks_ && follow_front_[n] <= zone_front_[n] && !o_.standing[id_]; }

    void evaluate(const Row& row) {
        id_ = scene_ * o_.agents + row.agent, asks_ = row.asks;
        count_ = asks_ ? static_cast<Index>(row.last - row.first) : 0;
        caution = nearest(row);
        occupy(row);
        zones(row);
        leaders();
        tail(row);
        judge(row);
    }

    // After `evaluate`: adds to the gradients what the row's bounds pull.
    void pull(const Row& row, const Pulled& g, Gradients out) {
        if (std::isfinite(caution)) pull_nearest(row, g.caution, out);
        if (!asks_) return;
        for (auto* x : {&g_forecast_, &g_begin_, &g_end_}) x->assign(count_ * nodes_, 0.0);
        for (auto* x : {&g_entry_, &g_leave_}) x->assign(count_, 0.0);
        double g_now = 0.0;
        for (Index n = 1; n < nodes_; ++n) {
            if (g.yield_front) pull_yield(n, g.yield_front[n - 1]);
            if (g.pass_rear) pull_pass(n, g.pass_rear[n - 1]);
            if (g.worst_front) g_now += pull_worst(row, n, g.worst_front[n - 1], out);
        }
        spread(g_now, now_, [&](Index l) { return counts_[l * nodes_] ? forecast_[l * nodes_] : kInf; },
               [&](Index l) -> double& { return g_forecast_[l * nodes_]; });
        pull_zones();
        pull_uncertainty(row, out);
        pull_pieces(row, out);
    }

private:
    Index mode(const Row& row, Index l) const { return met_.forecasts[met_.lanes[row.first + l].forecast].mode; }

    // visit(lane of the row, node, place of the piece) for what a mask marks.
    template <class Visit>
    void each(const Row& row, const std::vector<Flag>& masks, Visit&& visit) const {
        for (std::size_t l = row.first; l < row.last; ++l) {
            const Flag* mask = &masks[met_.lanes[l].mask];
            for (Index p = 0; p < o_.pieces; ++p, mask += nodes_) {
                const Index first = o_.piece(id_, p, mode(row, l - row.first));
                for (Index n = 0; n < nodes_; ++n) {
                    if (mask[n]) visit(l - row.first, n, first + n);
                }
            }
        }
    }

    // Begin of what the agent may occupy, widened by what it could do; none where full braking cannot stop before.
    double nearest(const Row& row) const {
        double least = kInf;
        each(row, met_.wary, [&](Index, Index n, Index i) { least = std::min(least, far(row, n, i)); });
        return least > firm_ ? least : kInf;
    }

    double far(const Row& row, Index n, Index i) const { return o_.s_lo[i] - met_.stray(row.vulnerable, n); }

    void pull_nearest(const Row& row, double g, Gradients out) const {
        double count = 0.0;
        each(row, met_.wary, [&](Index, Index n, Index i) { count += far(row, n, i) == caution; });
        each(row, met_.wary, [&](Index, Index n, Index i) {
            if (far(row, n, i) == caution) out.s_lo[i] += g / count;
        });
    }

    // Begin and end as forecast, infinite where nothing is ours; then with the part of the uncertainty that counts.
    void occupy(const Row& row) {
        forecast_.assign(count_ * nodes_, kInf);
        last_.assign(count_ * nodes_, -kInf);
        for (auto* x : {&begin_, &end_}) x->resize(count_ * nodes_);
        for (auto* x : {&counts_, &crossing_}) x->assign(count_ * nodes_, 0);
        for (Index l = 0; l < count_; ++l) {
            const Lane& lane = met_.lanes[row.first + l];
            hull(lane, mode(row, l), &forecast_[l * nodes_], &last_[l * nodes_]);
            std::copy_n(&met_.crossing[met_.forecasts[lane.forecast].time], nodes_, &crossing_[l * nodes_]);
        }
        for (Index l = 0; l < count_; ++l) {
            probabilities(row, l);
            for (Index n = 0, i = l * nodes_; n < nodes_; ++n, ++i) {
                if (forecast_[i] == kInf) continue;
                const double total = std::min(total_[n], 1.0);
                const double sigma = o_.sigma_s[o_.forecast(id_, mode(row, l)) * nodes_ + n];
                const double grow = std::clamp(quantile(total) * sigma, -rules_.sigma_most, rules_.sigma_most);
                begin_[i] = forecast_[i] - grow, end_[i] = last_[i] + grow;
                counts_[i] = total > rules_.hit_probability;
            }
        }
    }

    void hull(const Lane& lane, Index m, double* forecast, double* last) const {
        const Index nodes = nodes_;
        const Flag* ours = &met_.ours[lane.mask];
        for (Index p = 0; p < o_.pieces; ++p, ours += nodes) {
            const double *s_lo = o_.s_lo + o_.piece(id_, p, m), *s_hi = o_.s_hi + o_.piece(id_, p, m);
            for (Index n = 0; n < nodes; ++n) {
                forecast[n] = std::min(forecast[n], ours[n] ? s_lo[n] : kInf);
                last[n] = std::max(last[n], ours[n] ? s_hi[n] : -kInf);
            }
        }
    }

    // total_: that the agent exists and blocks where the lane begins to, or earlier; not yet limited to 1.
    void probabilities(const Row& row, Index l) {
        const Index nodes = nodes_;
        total_.assign(nodes, 0.0);
        const double* own = &forecast_[l * nodes];
        for (Index k = 0; k < count_; ++k) {
            const double *other = &forecast_[k * nodes], weight = o_.weight[o_.forecast(id_, mode(row, k))];
            for (Index n = 0; n < nodes; ++n) total_[n] += other[n] <= own[n] + kTogether ? weight : 0.0;
        }
    }

    // Of neighbouring nodes the probability is mostly the same.
    double quantile(double total) {
        if (total != known_) known_ = total, quantile_ = risk_quantile(total, rules_.hit_probability);
        return quantile_;
    }

    void pull_uncertainty(const Row& row, Gradients out) {
        for (Index l = 0; l < count_; ++l) {
            probabilities(row, l);
            for (Index n = 0, i = l * nodes_; n < nodes_; ++n, ++i) {
                const double g_grow = g_end_[i] - g_begin_[i];
                if (g_grow == 0.0) continue;
                const Index at = o_.forecast(id_, mode(row, l)) * nodes_ + n;
                const double total = std::min(total_[n], 1.0), q = quantile(total);
                if (std::abs(q * o_.sigma_s[at]) > rules_.sigma_most) continue;
                out.sigma_s[at] += g_grow * q;
                if (total_[n] > 1.0) continue;
                const double g_total = g_grow * o_.sigma_s[at] * risk_slope(total, q, rules_.hit_probability);
                for (Index k = 0; k < count_; ++k) {
                    if (forecast_[k * nodes_ + n] > forecast_[i] + kTogether) continue;
                    out.weight[o_.forecast(id_, mode(row, k))] += g_total;
                }
            }
        }
    }

    void pull_pieces(const Row& row, Gradients out) {
        first_equals_.assign(count_ * nodes_, 0.0);
        last_equals_.assign(count_ * nodes_, 0.0);
        each(row, met_.ours, [&](Index l, Index n, Index i) {
            const Index at = l * nodes_ + n;
            first_equals_[at] += o_.s_lo[i] == forecast_[at], last_equals_[at] += o_.s_hi[i] == last_[at];
        });
        each(row, met_.ours, [&](Index l, Index n, Index i) {
            const Index at = l * nodes_ + n;
            if (o_.s_lo[i] == forecast_[at]) out.s_lo[i] += (g_forecast_[at] + g_begin_[at]) / first_equals_[at];
            if (o_.s_hi[i] == last_[at]) out.s_hi[i] += g_end_[at] / last_equals_[at];
        });
    }

    bool zone(Index i) const { return counts_[i] && crossing_[i]; }
    bool follow(Index i) const { return counts_[i] && !crossing_[i]; }

    // Zones are entered at their begin and left at their end, for as long as anybody is in them.
    void zones(const Row& row) {
        for (auto* x : {&entry_, &enter_}) x->assign(count_, kInf);
        for (auto* x : {&leave_, &exit_}) x->assign(count_, -kInf);
        early_.assign(count_, rules_.zone_time);
        zone_front_.assign(nodes_, kInf);
        leave_rear_.assign(nodes_, -kInf);
        for (Index l = 0; l < count_; ++l) {
            for (Index n = 0, i = l * nodes_; n < nodes_; ++n, ++i) {
                if (!zone(i)) continue;
                entry_[l] = std::min(entry_[l], begin_[i]), leave_[l] = std::max(leave_[l], end_[i]);
                enter_[l] = std::min(enter_[l], o_.time[n]), exit_[l] = std::max(exit_[l], o_.time[n]);
            }
            if (enter_[l] == kInf) continue;
            // Whoever walks gets more time, unless ego can no longer stop for them: then going first is kinder.
            const bool can_stop = entry_[l] - rules_.ahead > met_.front() + full_;
            if (row.vulnerable && can_stop) early_[l] = rules_.zone_time_walking;
            for (Index n = 0; n < nodes_; ++n) {
                if (waiting(l, n)) zone_front_[n] = std::min(zone_front_[n], entry_[l]);
                if (due(l, n)) leave_rear_[n] = std::max(leave_rear_[n], leave_[l]);
            }
        }
    }

    bool waiting(Index l, Index n) const { return o_.time[n] <= exit_[l] + rules_.zone_time; }
    bool due(Index l, Index n) const { return o_.time[n] >= enter_[l] - early_[l] - kSameTime; }

    void pull_zones() {
        for (Index l = 0; l < count_; ++l) {
            double first = 0.0, last = 0.0;
            for (Index i = l * nodes_; i < (l + 1) * nodes_; ++i) {
                first += zone(i) && begin_[i] == entry_[l], last += zone(i) && end_[i] == leave_[l];
            }
            for (Index i = l * nodes_; i < (l + 1) * nodes_; ++i) {
                if (zone(i) && begin_[i] == entry_[l]) g_begin_[i] += g_entry_[l] / first;
                if (zone(i) && end_[i] == leave_[l]) g_end_[i] += g_leave_[l] / last;
            }
        }
    }

    // Leaders are followed; in front of whom merges, ego stays for a while.
    void leaders() {
        merge_time_ = kInf;
        for (auto* x : {&follow_front_, &leader_}) x->assign(nodes_, kInf);
        merge_rear_.assign(nodes_, -kInf);
        for (Index i = 0; i < count_ * nodes_; ++i) {
            if (!follow(i)) continue;
            const Index n = i % nodes_;
            follow_front_[n] = std::min(follow_front_[n], begin_[i]);
            leader_[n] = std::min(leader_[n], forecast_[i]);
            merge_rear_[n] = std::max(merge_rear_[n], end_[i]);
            merge_time_ = std::min(merge_time_, o_.time[n]);
        }
        for (Index n = 0; n < nodes_; ++n) {
            if (o_.time[n] > merge_time_ + kMerging) merge_rear_[n] = -kInf;
        }
    }

    // The tail: leaders brake as hard as assumed, zones are entered early.
    void tail(const Row& row) {
        now_ = stop_ = kInf;
        for (Index l = 0; l < count_; ++l) {
            if (counts_[l * nodes_]) now_ = std::min(now_, forecast_[l * nodes_]);
            if (enter_[l] <= kSoon) stop_ = std::min(stop_, entry_[l]);
        }
        for (Index n = 0; n < nodes_ && asks_; ++n) {
            // Who merges into where we would be even if we braked firmly has the duty not to.
            if (leader_[n] < firmly_[n]) leader_[n] = kInf;
            if (row.ahead) leader_[n] = now_ + braking_distance(driven(), rules_.vehicle_braking, o_.time[n]);
        }
    }

    double driven() const { return std::max(o_.speed_s[id_], 0.0); }

    void judge(const Row& row) {
        conflict = std::any_of(counts_.begin(), counts_.end(), [](Flag x) { return x; });
        passable = conflict && !row.ahead && !o_.standing[id_];
        for (Index n = 0; n < nodes_ && passable; ++n) {
            passable = pass_rear(n) + rules_.behind + rules_.rear <= reach_[n] + 0.5;
        }
        first_time = std::min(merge_time_, least(enter_.data(), count_));
    }

    void pull_yield(Index n, double g) {
        const double part = share(zone_front_[n], follow_front_[n]);
        spread(g * part, follow_front_[n],
               [&](Index l) { return follow(l * nodes_ + n) ? begin_[l * nodes_ + n] : kInf; },
               [&](Index l) -> double& { return g_begin_[l * nodes_ + n]; });
        spread(g * (1 - part), zone_front_[n], [&](Index l) { return waiting(l, n) ? entry_[l] : kInf; },
               [&](Index l) -> double& { return g_entry_[l]; });
    }

    void pull_pass(Index n, double g) {
        const double part = share(leave_rear_[n], merge_rear_[n]);
        spread(g * part, leave_rear_[n], [&](Index l) { return due(l, n) ? leave_[l] : -kInf; },
               [&](Index l) -> double& { return g_leave_[l]; });
        spread(g * (1 - part), merge_rear_[n],
               [&](Index l) { return follow(l * nodes_ + n) ? end_[l * nodes_ + n] : -kInf; },
               [&](Index l) -> double& { return g_end_[l * nodes_ + n]; });
    }

    // Returns the gradient of where the agent begins now.
    double pull_worst(const Row& row, Index n, double g, Gradients out) {
        const double part = share(stop_, leader_[n]), g_leader = g * part;
        spread(g * (1 - part), stop_, [&](Index l) { return enter_[l] <= kSoon ? entry_[l] : kInf; },
               [&](Index l) -> double& { return g_entry_[l]; });
        if (row.ahead) {
            out.speed_s[id_] += g_leader * std::min(o_.time[n], driven() / rules_.vehicle_braking);
            return g_leader;
        }
        spread(g_leader, leader_[n],
               [&](Index l) { return follow(l * nodes_ + n) ? forecast_[l * nodes_ + n] : kInf; },
               [&](Index l) -> double& { return g_forecast_[l * nodes_ + n]; });
        return 0.0;
    }

    // The gradient of an extreme value among the lanes, shared by its equals; none for an infinite one.
    template <class Value, class Place>
    void spread(double g, double extreme, Value&& value, Place&& place) {
        if (g == 0.0 || !std::isfinite(extreme)) return;
        double count = 0.0;
        for (Index l = 0; l < count_; ++l) count += value(l) == extreme;
        for (Index l = 0; l < count_; ++l) {
            if (value(l) == extreme) place(l) += g / count;
        }
    }

    using Numbers = std::vector<double>;

    const Obstacles& o_;
    const Rules& rules_;
    const Encounters& met_;
    const Index scene_, nodes_;
    const double v_, s_;
    double full_, firm_, merge_time_, now_, stop_;
    double known_ = -1.0;
    double quantile_ = 0.0;
    Index id_ = 0, count_ = 0;  // the agent; L
    bool asks_ = false;
    Numbers firmly_, reach_;                                              // [N]: braking firmly, driving hard
    Numbers forecast_, last_, begin_, end_, g_forecast_, g_begin_, g_end_;  // [L, N]
    Numbers first_equals_, last_equals_;                                  // [L, N]
    std::vector<Flag> counts_, crossing_;                                 // [L, N]: probable enough; crosses our way
    Numbers entry_, leave_, enter_, exit_, early_, g_entry_, g_leave_;    // [L]: of zones, m and s
    Numbers follow_front_, zone_front_, leave_rear_, merge_rear_, leader_, total_;  // [N]
};

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

}  // namespace

// Rows of all scenes in one: scene, manoeuvre, agent [3, cap]; yield, worst, pass [3, cap, N - 1]; caution, first_time
// [2, cap]; moving [cap, N - 1]; conflict, passable, theirs [3, cap]; count [S]: rows of each scene. cap: S V A.
DDS_EXPORT Index dds_conflicts(const Obstacles* obstacles, const Ways* ways, const Start* start, const Rules* rules,
                               Index* who, double* fronts, double* numbers, bool* moving, bool* flags, Index* count,
                               Index threads) {
    return guarded([&] {
        const Obstacles& o = *obstacles;
        const Index cap = o.scenes * ways->variants * o.agents, own = o.nodes - 1;
        const Index room = ways->variants * o.agents;  // of a scene, until the rows are moved together
        over_rows(o.scenes, threads, [&](Index k) {
            const Encounters met(o, *ways, *start, *rules, k);
            Bounds bounds(o, *start, *rules, met, k);
            Index c = k * room;
            for (const Row& row : met.rows) {
                bounds.evaluate(row);
                who[c] = k, who[cap + c] = row.manoeuvre, who[2 * cap + c] = row.agent;
                for (Index n = 0; n < own; ++n) {
                    fronts[c * own + n] = bounds.yield_front(n + 1);
                    fronts[(cap + c) * own + n] = bounds.worst_front(n + 1);
                    fronts[(2 * cap + c) * own + n] = bounds.pass_rear(n + 1);
                    moving[c * own + n] = bounds.moving(n + 1);
                }
                numbers[c] = bounds.caution, numbers[cap + c] = bounds.first_time;
                flags[c] = bounds.conflict, flags[cap + c] = bounds.passable, flags[2 * cap + c] = row.theirs;
                ++c;
            }
            count[k] = c - k * room;
        });
        const Moves moves{count, o.scenes, room};
        for (Index i = 0; i < 3; ++i) {
            moves.apply(who + i * cap, 1);
            moves.apply(flags + i * cap, 1);
            moves.apply(fronts + i * cap * own, own);
        }
        for (Index i = 0; i < 2; ++i) moves.apply(numbers + i * cap, 1);
        moves.apply(moving, own);
    });
}

// Adds to the gradients of Obstacles, cleared by the caller, what those of the rows' bounds pull, [C, N - 1] and
// [C]; null: zero.
DDS_EXPORT Index dds_conflicts_back(const Obstacles* obstacles, const Ways* ways, const Start* start,
                                    const Rules* rules, const Index* count, const double* g_yield,
                                    const double* g_worst, const double* g_pass, const double* g_caution,
                                    double* g_s_lo, double* g_s_hi, double* g_sigma, double* g_weight,
                                    double* g_speed, Index threads) {
    return guarded([&] {
        const Obstacles& o = *obstacles;
        over_rows(o.scenes, threads, [&](Index k) {
            const Encounters met(o, *ways, *start, *rules, k);
            Bounds bounds(o, *start, *rules, met, k);
            Index c = std::accumulate(count, count + k, Index{0});
            for (const Row& row : met.rows) {
                bounds.evaluate(row);
                const auto of_row = [&](const double* g) { return g ? g + c * (o.nodes - 1) : nullptr; };
                bounds.pull(row, {of_row(g_yield), of_row(g_worst), of_row(g_pass), g_caution ? g_caution[c] : 0.0},
                            {g_s_lo, g_s_hi, g_sigma, g_weight, g_speed});
                ++c;
            }
        });
    });
}
