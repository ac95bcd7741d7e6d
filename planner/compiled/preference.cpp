// How candidates compare, and the derivative: planner/decisions/preference.py.
#include "calculus.hpp"
#include "obstacles.hpp"

namespace {

using namespace dds;

constexpr double kWall = 0.6;                           // s: this much driving adds to one side gap along the motion
constexpr double kDiscomfort = 0.3, kUneven = 0.1;      // of squared accelerations; of jerks and lateral ones

// R candidates of S scenes; F + 1 times, N nodes among them.
struct Motions {
    Index rows, times, nodes;
    const Index *scene, *node;        // [R], [N]
    const double* node_dt;            // [N] s
    const double *v, *a, *curvature;  // [R, F + 1]
    const double *s, *d;              // [R, N] m: of the rear axle
    const double* v_profile;          // [S, N] m/s
};

struct Prices {
    double step;  // s, from time to time
    double progress, discomfort, closeness;
    double side_gap, half_length, half_width;  // m
    double middle;                             // m, from the rear axle forward
};

struct Gradients {
    double *v, *a, *curvature, *s, *d, *v_profile;    // as in Motions
    double *s_lo, *s_hi, *d_lo, *d_hi, *weight;       // as in Obstacles
};

// One candidate at the nodes: where its middle is, and what a missing gap costs there.
struct Ego {
    std::vector<double> s, d, v, per_gap, price;
    double first, last, right, left;  // whoever is beyond these is not near

    void set(const Motions& m, const Prices& prices, Index row) {
        for (auto* x : {&s, &d, &v, &per_gap, &price}) x->resize(m.nodes);
        first = right = kInf, last = left = -kInf;
        for (Index n = 0; n < m.nodes; ++n) {
            s[n] = m.s[row * m.nodes + n] + prices.middle, d[n] = m.d[row * m.nodes + n];
            v[n] = m.v[row * m.times + m.node[n]];
            const double gap = prices.side_gap + kWall * v[n];
            per_gap[n] = 1 / gap;
            price[n] = at_most(at_least(v[n] / 5.0, 0.0), 2.0) * m.node_dt[n];
            first = std::min(first, s[n] - prices.half_length - gap);
            last = std::max(last, s[n] + prices.half_length + gap);
            right = std::min(right, d[n] - prices.half_width - prices.side_gap);
            left = std::max(left, d[n] + prices.half_width + prices.side_gap);
        }
    }
};

// A forecast, and what it takes up over the whole horizon.
struct Forecast {
    Index agent, mode;
    double s_lo = kInf, s_hi = -kInf, d_lo = kInf, d_hi = -kInf;

    bool near(const Ego& ego) const {
        return s_lo < ego.last && s_hi > ego.first && d_lo < ego.left && d_hi > ego.right;
    }
};

// The gaps between a candidate and a piece at a node; along, across: of what is wished for.
struct Gaps {
    double ahead, behind, left, right;  // m
    double along, across;

    double missing() const { return at_most(at_least(1 - greater_of(along, across), 0.0), 2.0); }
    // Derivative of `missing` by its argument.
    double within() const {
        const double missing = 1 - greater_of(along, across);
        return above(missing, 0.0) * below(missing, 2.0);
    }
};

class Scene {
public:
    Scene(const Obstacles& o, const Motions& m, const Prices& prices, Index scene)
        : o_(o), m_(m), prices_(prices), scene_(scene), missing_(m.nodes) {
        for (Index a = scene * o.agents; a < (scene + 1) * o.agents; ++a) {
            for (Index mode = 0; mode < o.modes; ++mode) add_forecast(a, mode);
        }
    }

    double cost(Index row) {
        ego_.set(m_, prices_, row);
        double close = 0.0;
        for (const Forecast& f : forecasts_) {
            if (!f.near(ego_)) continue;
            shortfalls(f);
            const double weight = o_.weight[o_.forecast(f.agent, f.mode)];
            for (Index n = 0; n < m_.nodes; ++n) {
                const double shortfall = missing_[n] * weight;
                close += shortfall * shortfall * ego_.price[n];
            }
        }
        return prices_.progress * lost() + prices_.discomfort * discomfort(row) + prices_.closeness * close;
    }

    // Adds to the gradients what the cost of a row pulls.
    void pull(Index row, double g, const Gradients& out) {
        ego_.set(m_, prices_, row);
        pull_lost(row, g * prices_.progress, out);
        pull_discomfort(row, g * prices_.discomfort, out);
        for (const Forecast& f : forecasts_) {
            if (!f.near(ego_)) continue;
            shortfalls(f);
            for (Index n = 0; n < m_.nodes; ++n) {
                if (missing_[n] > 0.0) pull_close(row, f, n, g * prices_.closeness, out);
            }
        }
    }

private:
    const double* profile() const { return m_.v_profile + scene_ * m_.nodes; }

    void add_forecast(Index agent, Index mode) {
        const Index at = o_.forecast(agent, mode);
        const bool* active = o_.active + at * o_.nodes;
        if (!(o_.weight[at] > 0.0) || std::none_of(active + 1, active + o_.nodes, [](bool x) { return x; })) return;
        Forecast f{agent, mode};
        for (Index p = 0; p < o_.pieces; ++p) {
            const Index first = o_.piece(agent, p, mode) + 1;
            f.s_lo = std::min(f.s_lo, least(o_.s_lo + first, m_.nodes));
            f.s_hi = std::max(f.s_hi, most(o_.s_hi + first, m_.nodes));
            f.d_lo = std::min(f.d_lo, least(o_.d_lo + first, m_.nodes));
            f.d_hi = std::max(f.d_hi, most(o_.d_hi + first, m_.nodes));
        }
        forecasts_.push_back(f);
    }

    Gaps gaps(Index n, Index piece) const {
        Gaps x;
        x.ahead = o_.s_lo[piece] - (ego_.s[n] + prices_.half_length);
        x.behind = ego_.s[n] - prices_.half_length - o_.s_hi[piece];
        x.left = o_.d_lo[piece] - (ego_.d[n] + prices_.half_width);
        x.right = ego_.d[n] - prices_.half_width - o_.d_hi[piece];
        x.along = greater_of(x.ahead, x.behind) * ego_.per_gap[n];
        x.across = greater_of(x.left, x.right) / prices_.side_gap;
        return x;
    }

    // missing_: the most that any piece of a forecast leaves missing at each node, in wished gaps.
    void shortfalls(const Forecast& f) {
        const Index nodes = m_.nodes;
        const bool* active = o_.active + o_.forecast(f.agent, f.mode) * o_.nodes + 1;
        const double half_length = prices_.half_length, half_width = prices_.half_width, wish = prices_.side_gap;
        const double *s = ego_.s.data(), *d = ego_.d.data(), *per_gap = ego_.per_gap.data();
        double* missing = missing_.data();
        std::fill_n(missing, nodes, 0.0);
        for (Index p = 0; p < o_.pieces; ++p) {
            const Index first = o_.piece(f.agent, p, f.mode) + 1;
            const double *s_lo = o_.s_lo + first, *s_hi = o_.s_hi + first;
            const double *d_lo = o_.d_lo + first, *d_hi = o_.d_hi + first;
            // As in `gaps`, written out: this loop is where the time goes.
            for (Index n = 0; n < nodes; ++n) {
                const double along = std::max(s_lo[n] - (s[n] + half_length), s[n] - half_length - s_hi[n]);
                const double across = std::max(d_lo[n] - (d[n] + half_width), d[n] - half_width - d_hi[n]);
                const double left = 1 - std::max(along * per_gap[n], across / wish);
                missing[n] = std::max(missing[n], std::min(left, 2.0));
            }
        }
        for (Index n = 0; n < nodes; ++n) missing[n] = active[n] ? missing[n] : 0.0;
    }

    // Equal pieces share the gradient.
    void pull_close(Index row, const Forecast& f, Index n, double g, const Gradients& out) {
        const double weight = o_.weight[o_.forecast(f.agent, f.mode)], shortfall = missing_[n] * weight;
        const double g_short = g * 2 * shortfall * ego_.price[n], v = ego_.v[n] / 5.0;
        double& g_v = out.v[row * m_.times + m_.node[n]];
        g_v += g * shortfall * shortfall * m_.node_dt[n] / 5.0 * above(v, 0.0) * below(v, 2.0);
        out.weight[o_.forecast(f.agent, f.mode)] += g_short * missing_[n];
        double largest = 0.0, equals = 0.0;
        for (Index p = 0; p < o_.pieces; ++p) largest = std::max(largest, gaps(n, place(f, p, n)).missing());
        for (Index p = 0; p < o_.pieces; ++p) equals += gaps(n, place(f, p, n)).missing() == largest;
        for (Index p = 0; p < o_.pieces; ++p) {
            const Index piece = place(f, p, n);
            const Gaps x = gaps(n, piece);
            if (x.missing() != largest) continue;
            const double g_near = -g_short * weight / equals * x.within(), along = share(x.along, x.across);
            const double g_along = g_near * along * ego_.per_gap[n], g_across = g_near * (1 - along) / prices_.side_gap;
            g_v -= g_along * x.along * kWall;
            const double ahead = share(x.ahead, x.behind), left = share(x.left, x.right);
            out.s_lo[piece] += g_along * ahead, out.s_hi[piece] -= g_along * (1 - ahead);
            out.d_lo[piece] += g_across * left, out.d_hi[piece] -= g_across * (1 - left);
            out.s[row * m_.nodes + n] += g_along * (1 - 2 * ahead);
            out.d[row * m_.nodes + n] += g_across * (1 - 2 * left);
        }
    }

    Index place(const Forecast& f, Index p, Index n) const { return o_.piece(f.agent, p, f.mode) + 1 + n; }

    // m behind the free-flow speed.
    double lost() const {
        double lost = 0.0;
        for (Index n = 0; n < m_.nodes; ++n) lost += at_least(profile()[n] - ego_.v[n], 0.0) * m_.node_dt[n];
        return lost;
    }

    void pull_lost(Index row, double g, const Gradients& out) const {
        for (Index n = 0; n < m_.nodes; ++n) {
            const double g_v = g * above(profile()[n] - ego_.v[n], 0.0) * m_.node_dt[n];
            out.v_profile[scene_ * m_.nodes + n] += g_v;
            out.v[row * m_.times + m_.node[n]] -= g_v;
        }
    }

    double discomfort(Index row) const {
        const double *v = m_.v + row * m_.times, *a = m_.a + row * m_.times, *bend = m_.curvature + row * m_.times;
        double held = 0.0, uneven = 0.0;
        for (Index n = 0; n < m_.nodes; ++n) held += a[m_.node[n]] * a[m_.node[n]] * m_.node_dt[n];
        for (Index i = 0; i < m_.times; ++i) {
            const double lateral = v[i] * v[i] * bend[i];
            uneven += lateral * lateral;
            if (i + 1 == m_.times) break;
            const double jerk = (a[i + 1] - a[i]) / prices_.step;
            const double swerve = (v[i + 1] * v[i + 1] * bend[i + 1] - lateral) / prices_.step;
            uneven += jerk * jerk + swerve * swerve;
        }
        return kDiscomfort * held + prices_.step * kUneven * uneven;
    }

    void pull_discomfort(Index row, double g, const Gradients& out) const {
        const Index first = row * m_.times;
        const double *v = m_.v + first, *a = m_.a + first, *bend = m_.curvature + first;
        double *g_v = out.v + first, *g_a = out.a + first, *g_bend = out.curvature + first;
        const auto lateral = [&](Index i) { return v[i] * v[i] * bend[i]; };
        for (Index n = 0; n < m_.nodes; ++n) {
            g_a[m_.node[n]] += g * kDiscomfort * 2 * a[m_.node[n]] * m_.node_dt[n];
        }
        const double g_uneven = g * prices_.step * kUneven, per_square = 2 / (prices_.step * prices_.step);
        for (Index i = 0; i < m_.times; ++i) {
            double g_lateral = 2 * lateral(i);
            for (const Index j : {i - 1, i + 1}) {
                if (j < 0 || j == m_.times) continue;
                g_lateral += (lateral(i) - lateral(j)) * per_square;
                g_a[i] += g_uneven * (a[i] - a[j]) * per_square;
            }
            g_v[i] += g_uneven * g_lateral * 2 * v[i] * bend[i];
            g_bend[i] += g_uneven * g_lateral * v[i] * v[i];
        }
    }

    const Obstacles& o_;
    const Motions& m_;
    const Prices& prices_;
    const Index scene_;
    std::vector<Forecast> forecasts_;  // that ever count
    std::vector<double> missing_;      // [N]
    Ego ego_;
};

// work(scene's, row) for every candidate.
template <class Work>
void over_candidates(const Obstacles& o, const Motions& m, const Prices& prices, Index threads, Work&& work) {
    over_rows(o.scenes, threads, [&](Index k) {
        Scene scene(o, m, prices, k);
        for (Index row = 0; row < m.rows; ++row) {
            if (m.scene[row] == k) work(scene, row);
        }
    });
}

}  // namespace

// cost [R].
DDS_EXPORT Index dds_costs(const Obstacles* obstacles, const Motions* motions, const Prices* prices, double* cost,
                           Index threads) {
    return guarded([&] {
        over_candidates(*obstacles, *motions, *prices, threads,
                        [&](Scene& scene, Index row) { cost[row] = scene.cost(row); });
    });
}

// Adds to the gradients, cleared by the caller, what those of the costs [R] pull.
DDS_EXPORT Index dds_costs_back(const Obstacles* obstacles, const Motions* motions, const Prices* prices,
                                const double* g, double* g_v, double* g_a, double* g_curvature, double* g_s,
                                double* g_d, double* g_profile, double* g_s_lo, double* g_s_hi, double* g_d_lo,
                                double* g_d_hi, double* g_weight, Index threads) {
    return guarded([&] {
        const Gradients out{g_v, g_a, g_curvature, g_s, g_d, g_profile, g_s_lo, g_s_hi, g_d_lo, g_d_hi, g_weight};
        over_candidates(*obstacles, *motions, *prices, threads,
                        [&](Scene& scene, Index row) { scene.pull(row, g[row], out); });
    });
}
