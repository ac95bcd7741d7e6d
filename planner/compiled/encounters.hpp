// Whose duty it is: twin of planner/decisions/right_of_way.py, one scene at a time. Discrete, no gradient.
#pragma once

#include "obstacles.hpp"
#include "ways.hpp"

namespace dds {

constexpr double kCrossingAngle = 0.6, kOncomingAngle = 2.4;  // rad
constexpr double kWaitingSpeed = 2.0, kWaitingOffset = 2.0;   // m/s, m
constexpr double kEasyBraking = 2.0;                          // m/s^2
constexpr double kWalkingStray = 1.0;                         // m
constexpr double kGrid = 1.0;                                 // m, of the surface

// Yes or no. Not a byte: that may be part of anything, so loops that write some would read everything else again.
using Flag = std::int16_t;

// One forecast that comes near ego's band; masks [P, N] from `mask` on, [N] from `time` on, cells beside the masks.
struct Forecast {
    Index agent, mode;
    double now;  // |heading| against the path, rad
    bool likely, pulls_out;
    std::size_t mask, time;
};

// A forecast under a manoeuvre; masks [P, N] from `mask` on.
struct Lane {
    Index forecast;
    std::size_t mask;
};

// An agent that may touch ego's band under a manoeuvre, with its lanes.
struct Row {
    Index manoeuvre, agent;
    std::size_t first, last;
    bool asks, theirs, yields, ahead, vulnerable;
};

class Encounters {
public:
    Encounters(const Obstacles& o, const Ways& w, const Start& start, const Rules& rules)
        : o_(o), w_(w), start_(start), rules_(rules), nodes_(o.nodes), places_(o.pieces * o.nodes) {
        for (Index n = 0; n < nodes_; ++n) {
            const double t = o.time[n];
            free_.push_back(std::min(rules.pedestrian_acceleration * (t * t) / 2, kWalkingStray));
            kept_.push_back(rules.stray);
        }
    }

    // All rows of a scene, or only those of the manoeuvres and agents that are wanted, [V, A].
    void look(Index scene, const Flag* wanted = nullptr) {
        rows.clear(), lanes.clear(), forecasts.clear(), ours.clear(), wary.clear(), crossing.clear();
        apart_.clear(), clear_.clear(), beyond_.clear(), cell_.clear(), easy_.clear(), bottom_.clear(), top_.clear();
        scene_ = scene, wanted_ = wanted;
        front_ = start_.s[scene] + rules_.front, rear_ = start_.s[scene] - rules_.rear;
        d_ = start_.d[scene], v_ = start_.v[scene];
        for (Index n = 0; n < nodes_; ++n) easy_.push_back(front_ + braking_distance(v_, kEasyBraking, o_.time[n]));
        for (Index v = 0; v < w_.variants; ++v) {
            bottom_.push_back(least(profile(v), w_.cells));
            top_.push_back(most(profile(v), w_.cells));
        }
        near_forecasts();
        for (Index v = 0; v < w_.variants; ++v) {
            for (Index a = 0; a < o_.agents; ++a) meet(v, a, &near_[(v * o_.agents + a) * o_.modes]);
        }
    }

    std::vector<Row> rows;
    std::vector<Lane> lanes;
    std::vector<Forecast> forecasts;
    std::vector<Flag> ours, wary;  // by the masks of lanes; of a row that yields, what would be ego's courtesy
    std::vector<Flag> crossing;    // by the times of forecasts

    double front() const { return front_; }
    // How far (m) an agent may stray from its forecast.
    double stray(bool walks, Index node) const { return (walks ? free_ : kept_)[node]; }

private:
    struct Extent {
        double s_lo, s_hi, d_lo, d_hi;
    };

    Index agent(Index a) const { return scene_ * o_.agents + a; }
    const double* profile(Index v) const { return w_.profile + (scene_ * w_.variants + v) * w_.cells; }

    // Room for so many more at the end.
    template <class T>
    static T* extend(std::vector<T>& values, Index count) {
        values.resize(values.size() + count);
        return values.data() + values.size() - count;
    }

    bool is_wanted(Index v, Index a) const { return !wanted_ || wanted_[v * o_.agents + a]; }

    // Forecasts that the band about a profile may meet, by what both take up as a whole.
    void near_forecasts() {
        near_.assign(w_.variants * o_.agents * o_.modes, 0);
        which_.assign(o_.agents * o_.modes, -1);
        extents_.resize(o_.agents);
        for (Index a = 0; a < o_.agents; ++a) {
            bool wanted = false;
            for (Index v = 0; v < w_.variants; ++v) wanted |= is_wanted(v, a);
            if (!wanted) continue;
            const double reach = rules_.half + (o_.walks(agent(a)) ? kWalkingStray : rules_.stray);
            bool known = false;
            for (Index m = 0; m < o_.modes; ++m) {
                if (!ever_active(agent(a), m)) continue;
                double low = kInf, high = -kInf;
                for (Index p = 0; p < o_.pieces; ++p) {
                    const Index first = o_.piece(agent(a), p, m);
                    low = std::min(low, least(o_.d_lo + first, nodes_));
                    high = std::max(high, most(o_.d_hi + first, nodes_));
                }
                bool any = false;
                for (Index v = 0; v < w_.variants; ++v) {
                    const bool meets = high + reach > bottom_[v] && low - reach < top_[v];
                    const bool counts = w_.valid[scene_ * w_.variants + v] && is_wanted(v, a) && meets;
                    any |= near_[(v * o_.agents + a) * o_.modes + m] = counts;
                }
                if (!any) continue;
                if (!known) extents_[a] = extent(agent(a));
                known = true;
                add_forecast(a, m);
            }
        }
    }

    // What of a forecast counts whatever the manoeuvre.
    //
    // Whoever comes from behind keeps clear of us. Someone beside us is in front of us only where we would not be even
    // if we braked gently. Already in contact: nothing that we do about the way ahead undoes that.
    void add_forecast(Index a, Index m) {
        const Index id = agent(a);
        const double* heading = o_.heading + o_.forecast(id, m) * nodes_;
        const bool standing = o_.standing[id];
        const Extent now = extents_[a];
        const bool same_way = std::abs(o_.heading[o_.forecast(id, 0) * nodes_]) < kCrossingAngle && !standing;
        const bool behind = now.s_hi < rear_ + 0.3 || (same_way && now.s_lo < rear_ && now.s_hi < front_);
        const double half = rules_.width / 2;
        const bool contact =
            now.s_lo < front_ && now.s_hi > rear_ && now.d_lo < d_ + half && now.d_hi > d_ - half;

        which_[a * o_.modes + m] = static_cast<Index>(forecasts.size());
        const bool likely = o_.weight[o_.forecast(id, m)] > rules_.probability;
        forecasts.push_back({a, m, std::abs(heading[0]), likely, pulls_out(id, m), clear_.size(), crossing.size()});
        Flag* crosses = extend(crossing, nodes_);
        for (Index n = 0; n < nodes_; ++n) crosses[n] = std::abs(heading[n]) > kCrossingAngle && !standing;
        Flag *apart = extend(apart_, places_), *clear = extend(clear_, places_), *beyond = extend(beyond_, places_);
        int* cell = extend(cell_, places_);
        const double first_s = w_.grid[scene_ * w_.cells], last = static_cast<double>(w_.cells - 1);
        const double front = front_ - 0.3, rear = rear_ + 0.3;
        const Index nodes = nodes_;
        const double* easy = easy_.data();
        for (Index p = 0; p < o_.pieces; ++p) {
            const double *s_lo = o_.s_lo + o_.piece(id, p, m), *s_hi = o_.s_hi + o_.piece(id, p, m);
            for (Index n = 0; n < nodes; ++n) {
                const bool past = (s_hi[n] >= rear) & (s_lo[n] >= (crosses[n] ? front : -kInf));
                apart[n] = past & !contact;
                clear[n] = past & !(behind | contact);
                beyond[n] = (s_lo[n] >= easy[n]) | crosses[n] | standing;
                const double number = std::nearbyint(((s_lo[n] + s_hi[n]) / 2 - first_s) / kGrid);
                cell[n] = static_cast<int>(std::min(std::max(number, 0.0), last));
            }
            apart += nodes, clear += nodes, beyond += nodes, cell += nodes;
        }
    }

    bool ever_active(Index id, Index m) const {
        const bool* active = o_.active + o_.forecast(id, m) * nodes_;
        return std::any_of(active, active + nodes_, [](bool x) { return x; });
    }

    // What the agent takes up now, over its modes that are ever active.
    Extent extent(Index id) const {
        Extent out{kInf, -kInf, kInf, -kInf};
        for (Index m = 0; m < o_.modes; ++m) {
            if (!ever_active(id, m)) continue;
            for (Index p = 0; p < o_.pieces; ++p) {
                const Index i = o_.piece(id, p, m);
                out = {std::min(out.s_lo, o_.s_lo[i]), std::max(out.s_hi, o_.s_hi[i]),
                       std::min(out.d_lo, o_.d_lo[i]), std::max(out.d_hi, o_.d_hi[i])};
            }
        }
        return out;
    }

    // A vehicle that stands or creeps beside our way and points at it.
    bool pulls_out(Index id, Index m) const {
        const double now = std::abs(o_.heading[o_.forecast(id, m) * nodes_]);
        if (!(std::sin(now) > 0.56 && o_.speed[id] < kWaitingSpeed)) return false;
        double nearest = kInf, low = kInf, high = -kInf;
        for (Index p = 0; p < o_.pieces; ++p) {
            const Index i = o_.piece(id, p, m);
            nearest = std::min({nearest, std::abs(o_.d_lo[i]), std::abs(o_.d_hi[i])});
            low = std::min(low, o_.d_lo[i]), high = std::max(high, o_.d_hi[i]);
        }
        return nearest > kWaitingOffset && (low > 0 || high < 0);
    }

    // An agent under a manoeuvre; near: which of its modes come near.
    void meet(Index v, Index a, const Flag* near) {
        const Index id = agent(a);
        Row row{v, a, lanes.size(), 0, false, false, false, false, o_.walks(id)};
        for (Index m = 0; m < o_.modes; ++m) {
            if (near[m]) enter_band(v, which_[a * o_.modes + m], row.vulnerable);
        }
        row.last = lanes.size();
        if (row.first == row.last) return;
        Flag touches = 0, now = 0;
        for (std::size_t l = row.first; l < row.last; ++l) {
            const Flag* touch = &ours[lanes[l].mask];
            for (Index i = 0, count = places_; i < count; ++i) touches |= touch[i];
            for (Index p = 0; p < o_.pieces; ++p) now |= touch[p * nodes_];
        }
        row.ahead = now && extents_[a].s_lo >= front_ - 1.0;
        touching_.assign(ours.begin() + lanes[row.first].mask, ours.end());
        for (std::size_t l = row.first; l < row.last; ++l) row.asks |= keep_ours(row, lanes[l]);
        row.theirs = touches && !row.asks;
        row.yields = row.theirs && !now && !o_.standing[id];
        for (std::size_t l = row.first; row.yields && l < row.last; ++l) keep_courtesy(row, lanes[l]);
        rows.push_back(row);
    }

    // Where a lane would be ego's to keep clear of if ego let in who merges from beside.
    void keep_courtesy(const Row& row, const Lane& lane) {
        const Forecast& f = forecasts[lane.forecast];
        const Flag *touch = &touching_[lane.mask - lanes[row.first].mask], *apart = &apart_[f.mask];
        Flag* mine = &ours[lane.mask];
        for (Index i = 0; i < places_; ++i) mine[i] = touch[i] & apart[i] & !crossing[f.time + i % nodes_];
    }

    // A new lane: is a piece in the band of a manoeuvre that does not pass its agent beside, and could it stray there?
    void enter_band(Index v, Index number, bool walks) {
        const Forecast& f = forecasts[number];
        const double* band = profile(v);
        const bool* active = o_.active + o_.forecast(agent(f.agent), f.mode) * nodes_;
        const bool beside = w_.side[(scene_ * w_.variants + v) * o_.agents + f.agent] != 0;
        lanes.push_back({number, ours.size()});
        Flag *touch = extend(ours, places_), *inside = extend(wary, places_);
        const int* cell = &cell_[f.mask];
        const Index nodes = nodes_;
        const double half = rules_.half, *free = (walks ? free_ : kept_).data();
        for (Index p = 0; p < o_.pieces; ++p) {
            const Index first = o_.piece(agent(f.agent), p, f.mode);
            const double *d_lo = o_.d_lo + first, *d_hi = o_.d_hi + first;
            for (Index n = 0; n < nodes; ++n) {
                const double here = band[cell[n]];
                const double apart = std::max(d_lo[n] - here, here - d_hi[n]);
                touch[n] = (apart < half) & active[n] & !beside;
                inside[n] = (apart < half + free[n]) & active[n];
            }
            touch += nodes, inside += nodes, cell += nodes;
        }
    }

    // Leaves of a lane's masks what is ego's duty; whether anything is.
    //
    // The tail stops short of whoever may cross or is free to go anywhere, as long as it moves, however unlikely.
    bool keep_ours(const Row& row, const Lane& lane) {
        const Forecast& f = forecasts[lane.forecast];
        const Flag *clear = &clear_[f.mask], *beyond = &beyond_[f.mask], *crosses = &crossing[f.time];
        Flag *mine = &ours[lane.mask], *careful = &wary[lane.mask];
        const Flag ahead = row.ahead;
        for (Index i = 0, count = places_; i < count; ++i) mine[i] &= clear[i] & (beyond[i] | ahead);
        if (waits_for_us(row, f, mine)) {
            std::fill_n(mine, places_, 0);
            std::fill_n(careful, places_, 0);
            return false;
        }
        const double soon = stop_time(v_, rules_.brakes) + 0.3, *time = o_.time;
        const bool vulnerable = row.vulnerable, likely = f.likely;
        const Index nodes = nodes_;
        Flag any = 0;
        for (Index p = 0; p < o_.pieces; ++p) {
            for (Index n = 0; n < nodes; ++n) {
                careful[n] &= clear[n] & (crosses[n] | vulnerable) & (likely & (time[n] <= soon));
                any |= mine[n];
            }
            mine += nodes, careful += nodes, clear += nodes;
        }
        return any;
    }

    // Who has to give way to us, if it drives and is not in front of us already: oncoming traffic that would turn
    // across our way while that is still two seconds off, and whoever waits beside our way and points at it.
    bool waits_for_us(const Row& row, const Forecast& f, const Flag* mine) const {
        const Index id = agent(row.agent);
        if (o_.kind[id] == kPedestrian || row.ahead) return false;
        const double* heading = o_.heading + o_.forecast(id, f.mode) * nodes_;
        bool early = false, turns = false;
        for (Index p = 0, i = 0; p < o_.pieces; ++p) {
            for (Index n = 0; n < nodes_; ++n, ++i) {
                const bool across = mine[i] && crossing[f.time + n];
                early |= across && o_.time[n] <= 2.0;
                turns |= across && std::abs(heading[n]) < kOncomingAngle;
            }
        }
        return (f.now > kOncomingAngle && w_.straight[scene_] && turns && !early) || f.pulls_out;
    }

    const Obstacles& o_;
    const Ways& w_;
    const Start& start_;
    const Rules& rules_;
    const Index nodes_, places_;
    Index scene_ = 0;
    const Flag* wanted_ = nullptr;
    double front_, rear_, d_, v_;
    std::vector<double> easy_;          // [N]: s of the front when braking gently, m
    std::vector<double> free_, kept_;   // [N]: how far who walks, and who does not, may stray, m
    std::vector<double> bottom_, top_;  // of the profiles
    std::vector<Flag> near_;            // [V, A, M]
    std::vector<Extent> extents_;       // of agents that have forecasts
    std::vector<Index> which_;          // [A, M]: number of a forecast
    std::vector<Flag> apart_, clear_, beyond_;  // by the masks of forecasts
    std::vector<Flag> touching_;                // by the masks of a row's lanes, from its first on
    std::vector<int> cell_;
};

}  // namespace dds
