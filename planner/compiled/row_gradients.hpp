// The derivative of RowBounds: what the bounds of a row pull of an agent's forecasts.
#pragma once

#include "calculus.hpp"
#include "row_bounds.hpp"

namespace dds {

struct Gradients {
    double *s_lo, *s_hi, *sigma_s, *weight, *speed_s;  // as in Obstacles
};

struct Pulled {
    const double *yield_front, *worst_front, *pass_rear;  // of a row, at the nodes without the one now; null: zero
    double caution;
};

class RowGradients : public RowBounds {
public:
    using RowBounds::RowBounds;

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
    void pull_nearest(const Row& row, double g, Gradients out) const {
        double count = 0.0;
        each(row, met.wary, [&](Index, Index n, Index i) { count += far(row, n, i) == caution; });
        each(row, met.wary, [&](Index, Index n, Index i) {
            if (far(row, n, i) == caution) out.s_lo[i] += g / count;
        });
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
        each(row, met.ours, [&](Index l, Index n, Index i) {
            const Index at = l * nodes_ + n;
            first_equals_[at] += o_.s_lo[i] == forecast_[at], last_equals_[at] += o_.s_hi[i] == last_[at];
        });
        each(row, met.ours, [&](Index l, Index n, Index i) {
            const Index at = l * nodes_ + n;
            if (o_.s_lo[i] == forecast_[at]) out.s_lo[i] += (g_forecast_[at] + g_begin_[at]) / first_equals_[at];
            if (o_.s_hi[i] == last_[at]) out.s_hi[i] += g_end_[at] / last_equals_[at];
        });
    }

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

    Numbers g_forecast_, g_begin_, g_end_, first_equals_, last_equals_;  // [L, N]
    Numbers g_entry_, g_leave_;                                          // [L]: of zones
};

}  // namespace dds
