// What one agent asks of ego's motion along the path under one manoeuvre: planner/decisions/conflicts.py and
// planner/objects/occupied.py.
#pragma once

#include "encounters.hpp"
#include "risk.hpp"

namespace dds {

constexpr double kFirmBraking = 4.5, kCourteousBraking = 3.0;      // m/s^2
constexpr double kSoon = 4.0, kMerging = 2.0, kSameTime = 1e-6;    // s
constexpr double kTogether = 0.5;                                  // m: modes that begin this close block as one

// One row: bounds by an agent's forecasts that count. L lanes of the row; vectors [L, N] or, of the results, [N], in m.
class RowBounds {
public:
    RowBounds(const Obstacles& o, const Ways& ways, const Start& start, const Rules& rules)
        : met(o, ways, start, rules), o_(o), start_(start), rules_(rules), nodes_(o.nodes) {}

    // Of the scene that is looked at.
    Encounters met;

    // wanted: as Encounters::look has it.
    void look(Index scene, const Flag* wanted = nullptr) {
        met.look(scene, wanted);
        scene_ = scene;
        const double v = start_.v[scene], a = start_.a[scene];
        full_ = full_stop(v, a, rules_.brakes);
        firm_ = met.front() + shortest_stop(v, a, rules_.brakes) + 0.2;
        firmly_.clear(), courteously_.clear(), reach_.clear();
        for (Index n = 0; n < nodes_; ++n) {
            const double t = o_.time[n];
            firmly_.push_back(met.front() + braking_distance(v, kFirmBraking, t));
            courteously_.push_back(met.front() + braking_distance(v, kCourteousBraking, t));
            reach_.push_back(start_.s[scene] + v * t + rules_.brakes.acceleration_max * (t * t) / 2);
        }
    }

    double caution, first_time;
    bool conflict, passable, courtesy;

    // Yielding is to the lower of two fronts, passing beyond the higher of two rears.
    double yield_front(Index n) const { return std::min(follow_front_[n], zone_front_[n]); }
    double pass_rear(Index n) const { return std::max(leave_rear_[n], merge_rear_[n]); }
    double worst_front(Index n) const { return std::min(leader_[n], stop_); }
    bool moving(Index n) const { return asks_ && follow_front_[n] <= zone_front_[n] && !o_.standing[id_]; }

    void evaluate(const Row& row) {
        id_ = scene_ * o_.agents + row.agent, asks_ = row.asks || row.yields;
        count_ = asks_ ? static_cast<Index>(row.last - row.first) : 0;
        caution = nearest(row);
        occupy(row);
        zones(row);
        leaders();
        tail(row);
        judge(row);
    }

protected:
    Index mode(const Row& row, Index l) const { return met.forecasts[met.lanes[row.first + l].forecast].mode; }

    // visit(lane of the row, node, place of the piece) for what a mask marks.
    template <class Visit>
    void each(const Row& row, const std::vector<Flag>& masks, Visit&& visit) const {
        for (std::size_t l = row.first; l < row.last; ++l) {
            const Flag* mask = &masks[met.lanes[l].mask];
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
        each(row, met.wary, [&](Index, Index n, Index i) { least = std::min(least, far(row, n, i)); });
        return least > firm_ ? least : kInf;
    }

    double far(const Row& row, Index n, Index i) const { return o_.s_lo[i] - met.stray(row.vulnerable, n); }

    // Begin and end as forecast, infinite where nothing is ours; then with the part of the uncertainty that counts.
    void occupy(const Row& row) {
        forecast_.assign(count_ * nodes_, kInf);
        last_.assign(count_ * nodes_, -kInf);
        for (auto* x : {&begin_, &end_}) x->resize(count_ * nodes_);
        for (auto* x : {&counts_, &crossing_}) x->assign(count_ * nodes_, 0);
        for (Index l = 0; l < count_; ++l) {
            const Lane& lane = met.lanes[row.first + l];
            hull(lane, mode(row, l), &forecast_[l * nodes_], &last_[l * nodes_]);
            std::copy_n(&met.crossing[met.forecasts[lane.forecast].time], nodes_, &crossing_[l * nodes_]);
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
        const Flag* ours = &met.ours[lane.mask];
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
            const bool can_stop = entry_[l] - rules_.ahead > met.front() + full_;
            if (row.vulnerable && can_stop) early_[l] = rules_.zone_time_walking;
            for (Index n = 0; n < nodes_; ++n) {
                if (waiting(l, n)) zone_front_[n] = std::min(zone_front_[n], entry_[l]);
                if (due(l, n)) leave_rear_[n] = std::max(leave_rear_[n], leave_[l]);
            }
        }
    }

    bool waiting(Index l, Index n) const { return o_.time[n] <= exit_[l] + rules_.zone_time; }
    bool due(Index l, Index n) const { return o_.time[n] >= enter_[l] - early_[l] - kSameTime; }

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
        const bool blocks = std::any_of(counts_.begin(), counts_.end(), [](Flag x) { return x; });
        conflict = blocks && !row.yields, courtesy = blocks && row.yields;
        for (Index n = 0; n < nodes_ && courtesy; ++n) courtesy = yield_front(n) >= courteously_[n];
        passable = conflict && !row.ahead && !o_.standing[id_];
        for (Index n = 0; n < nodes_ && passable; ++n) {
            passable = pass_rear(n) + rules_.behind + rules_.rear <= reach_[n] + 0.5;
        }
        first_time = std::min(merge_time_, least(enter_.data(), count_));
    }

    using Numbers = std::vector<double>;

    const Obstacles& o_;
    const Start& start_;
    const Rules& rules_;
    const Index nodes_;
    Index scene_ = 0, id_ = 0, count_ = 0;  // the agent; L
    double full_, firm_, merge_time_, now_, stop_;
    double known_ = -1.0, quantile_ = 0.0;
    bool asks_ = false;
    Numbers firmly_, courteously_, reach_;           // [N]: braking firmly, less so; driving hard
    Numbers forecast_, last_, begin_, end_;          // [L, N]
    std::vector<Flag> counts_, crossing_;            // [L, N]: probable enough; crosses our way
    Numbers entry_, leave_, enter_, exit_, early_;   // [L]: of zones, m and s
    Numbers follow_front_, zone_front_, leave_rear_, merge_rear_, leader_, total_;  // [N]
};

}  // namespace dds
