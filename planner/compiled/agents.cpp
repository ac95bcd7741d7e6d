// Which agents come near the path, and what they take up along and across it: planner/objects/.
#include "agents.hpp"

namespace {

using namespace dds;

constexpr double kStandingSpeed = 0.5, kStandingDrift = 1.0, kSoon = 3.0, kCounts = 1e-3;
constexpr Index kStatic = 6;  // AgentClass.STATIC

// m from a point to the nearest of every fourth knot.
double distance_to(const Spline& path, double x, double y) {
    double nearest = INFINITY;
    for (Index k = 0; k < path.count; k += kCoarse) {
        const double dx = path.knots[2 * k] - x, dy = path.knots[2 * k + 1] - y;
        nearest = std::min(nearest, dx * dx + dy * dy);
    }
    return std::sqrt(nearest);
}

// m: furthest that any mode's means at forecast times lie from where the agent is now.
double travel_of(const Agents& agents, Index agent) {
    const double *box = agents.box + 5 * agent, *mean = agents.mean + 2 * agent * agents.modes * agents.steps;
    double most = 0.0;
    for (Index i = 0; i < agents.modes * agents.steps; ++i) {
        const double dx = mean[2 * i] - box[0], dy = mean[2 * i + 1] - box[1];
        most = std::max(most, dx * dx + dy * dy);
    }
    return std::sqrt(most);
}

bool comes_near(const Agents& agents, Index agent, const Spline& path, const Nodes& nodes, double reach) {
    const double* box = agents.box + 5 * agent;
    reach += 2.0 + box[3] / 2;
    const double now = distance_to(path, box[0], box[1]);
    if (now < reach) return true;
    // Its points lie within the travel of where it is, and a step is twice that at most.
    if (now >= reach + 3 * travel_of(agents, agent) + 1e-6) return false;
    double step = 0.0, closest = INFINITY;
    for (Index m = 0; m < agents.modes; ++m) {
        const double* mean = agents.mean + 2 * (agent * agents.modes + m) * agents.steps;
        double before_x = 0, before_y = 0;
        for (Index n = 0; n < nodes.size(); ++n) {
            const Index i = nodes.before[n];
            const double *p0 = i ? mean + 2 * (i - 1) : box, *p1 = mean + 2 * i, f = nodes.fraction[n];
            const double x = p0[0] + f * (p1[0] - p0[0]), y = p0[1] + f * (p1[1] - p0[1]);
            if (n) step = std::max(step, (x - before_x) * (x - before_x) + (y - before_y) * (y - before_y));
            if (n % 2 == 0) closest = std::min(closest, distance_to(path, x, y));
            before_x = x, before_y = y;
        }
    }
    return closest < reach + std::sqrt(step);
}

// What one agent's results are made of, K = M * N entries each: how far the pieces reach, by end and piece.
struct Projected {
    double *s, *sigma_s, *phi, *reach[4][kPieces];

    static constexpr Index kArrays = 3 + 4 * kPieces;
    explicit Projected(Room& r) : s(r.next()), sigma_s(r.next()), phi(r.next()) {
        for (auto& end : reach)
            for (double*& piece : end) piece = r.next();
    }
};

// A thread's working memory.
struct Memory {
    Room room;
    const AtNodes at;
    const Projected found;

    explicit Memory(Index entries) : room(entries, AtNodes::kArrays + Projected::kArrays), at(room), found(room) {}
};

// Returns the path's heading at the agent's first entry.
double project(const Spline& path, const AtNodes& at, const double* box, const Spread& spread, Index count,
               const Projected& out, bool* valid) {
    double heading = 0.0;
    for (Index k = 0; k < count; k += kLanes) {
        const Vec<Pack> z{load(at.x + k), load(at.y + k)};
        const Pack s = search_feet(path, z, nearest_knots(path, z), kSteps);
        const Foot<Pack> foot = foot_of(curve_at(path, z, s));
        const Related related(at, k, s, foot, box, spread);
        const Places places(related.boxes);
        for (int e = 0; e < 4; ++e)
            for (int p = 0; p < kPieces; ++p) store(out.reach[e][p] + k, places.reach(e, box[3] * piece_fraction(p)));
        store(out.s + k, s), store(out.sigma_s + k, related.sigma_s), store(out.phi + k, related.phi);
        const Mask good = inside(foot);
        for (Index l = 0; l < kLanes && k + l < count; ++l) valid[k + l] = good[l] != 0;
        if (k == 0) heading = related.heading[0];
    }
    return heading;
}

// The pieces' intervals [kPieces, K] of s_lo, s_hi, d_lo, d_hi, extended to half way between nodes.
void intervals_of(const Projected& in, const Neighbours& has, Index count, double* const (&ends)[4]) {
    for (int e = 0; e < 4; ++e)
        for (int p = 0; p < kPieces; ++p)
            for (Index k = 0; k < count; k += kLanes) {
                const Pack reach = extended(in.reach[e][p], has, k);
                store(ends[e] + p * count + k, e % 2 ? reach : -reach, count - k);
            }
}

// The forecast says something about the node: at both neighbouring times, or at its own.
bool spoken(const bool* said, Index steps, Index before, double fraction) {
    bool begin = false;
    if (before)
        begin = said[before - 1];
    else
        for (Index t = 0; t < steps; ++t) begin |= said[t];
    return begin && (said[before] || fraction < 1e-9);
}

// In the most likely mode, the agent stays where it is for a while.
bool stays(const AtNodes& at, const double* weight, Index modes, const double* node_time, Index nodes) {
    const Index first = (std::max_element(weight, weight + modes) - weight) * nodes;
    double most = 0.0;
    for (Index n = 0; n < nodes && node_time[n] <= kSoon; ++n) {
        const double dx = at.x[first + n] - at.x[first], dy = at.y[first + n] - at.y[first];
        most = std::max(most, dx * dx + dy * dy);
    }
    return most < kStandingDrift * kStandingDrift;
}

}  // namespace

// near [S, A']: positions of the agents any mode of which comes near the path, then -1; found [S]: how many.
DDS_EXPORT Index dds_near_path(const double* box, const double* mean, const bool* valid, const double* time,
                               const double* node_time, const double* knots, const Index* count, double reach,
                               Index* near, Index* found, Index scenes, Index agents, Index modes, Index steps,
                               Index nodes, Index n, Index threads) {
    return guarded([&] {
        const Agents every{box, nullptr, mean, nullptr, nullptr, agents, modes, steps};
        over_rows(scenes, threads, [&](Index k) {
            const Spline path{nullptr, knots + 2 * k * n, count[k]};
            const Nodes own(time + k * steps, steps, node_time, nodes);
            Index* out = near + k * agents;
            found[k] = 0;
            for (Index a = 0; a < agents; ++a)
                if (valid[k * agents + a] && comes_near(every, k * agents + a, path, own, reach)) out[found[k]++] = a;
            std::fill(out + found[k], out + agents, -1);
        });
    });
}

// near [S, A] into agents [S, A']. Outputs: intervals [S, A, P, M, N]; columns [3, S, A, M, N]: sigma_s, relative heading
// and s of the feet; speeds [2, S, A]: along the path and in all; weight [S, A, M]; labels [2, S, A]: track and class;
// flags [2, S, A]: standing, present. What belongs to an absent agent is zero, its labels -1.
DDS_EXPORT Index dds_project_agents(
    const double* box, const double* velocity, const double* covariance_now, const Index* kind, const double* existence,
    const Index* track, const double* mean, const double* yaw, const double* covariance, const double* probability,
    const bool* said, const double* time, const double* node_time, const double* cubics, const double* knots,
    const Index* count, const Index* near, double floor, double quantile, double most, double* s_lo, double* s_hi,
    double* d_lo, double* d_hi, double* columns, double* speeds, double* weight, bool* active, Index* labels,
    bool* flags, Index scenes, Index seen, Index agents, Index modes, Index steps, Index nodes, Index n,
    Index threads) {
    return guarded([&] {
        const Agents every{box, covariance_now, mean, yaw, covariance, agents, modes, steps};
        const Splines splines{cubics, knots, n, count, nullptr};
        std::vector<Nodes> brackets;
        for (Index k = 0; k < scenes; ++k) brackets.emplace_back(time + k * steps, steps, node_time, nodes);
        const Index slots = scenes * seen, entries = modes * nodes;
        const Neighbours has(modes, nodes, entries + kLanes);
        const auto make = [&] { return Memory(entries); };
        over_rows_with(slots, threads, make, [&](Memory& memory, Index slot) {
            const auto& [room, at, found] = memory;
            const Index k = slot / seen, begin = slot * entries;
            double* ends[4] = {s_lo, s_hi, d_lo, d_hi};
            for (double*& end : ends) end += begin * kPieces;
            flags[slot] = false, flags[slots + slot] = near[slot] >= 0;
            if (near[slot] < 0) {
                for (double* end : ends) std::fill_n(end, entries * kPieces, 0.0);
                for (int c = 0; c < 3; ++c) std::fill_n(columns + c * slots * entries + begin, entries, 0.0);
                std::fill_n(weight + slot * modes, modes, 0.0);
                std::fill_n(active + begin, entries, false);
                speeds[slot] = speeds[slots + slot] = 0.0, labels[slot] = labels[slots + slot] = -1;
                return;
            }
            const Index a = k * agents + near[slot];
            const Nodes& own = brackets[k];
            at_nodes(every, a, own, room.padded(), at);
            const double heading =
                project(splines.of(k), at, box + 5 * a, {floor, quantile, most}, entries, found, active + begin);
            intervals_of(found, has, entries, ends);
            const double* const kept[3] = {found.sigma_s, found.phi, found.s};
            for (int c = 0; c < 3; ++c) std::copy_n(kept[c], entries, columns + c * slots * entries + begin);

            double* w = weight + slot * modes;
            for (Index m = 0, q = begin; m < modes; ++m) {
                w[m] = probability[a * modes + m] * existence[a];
                const bool* words = said + (a * modes + m) * steps;
                for (Index j = 0; j < nodes; ++j, ++q)
                    active[q] = active[q] && w[m] > kCounts && spoken(words, steps, own.before[j], own.fraction[j]);
            }
            const double vx = velocity[2 * a], vy = velocity[2 * a + 1], speed = std::sqrt(vx * vx + vy * vy);
            speeds[slot] = vx * std::cos(heading) + vy * std::sin(heading), speeds[slots + slot] = speed;
            labels[slot] = track[a], labels[slots + slot] = kind[a];
            flags[slot] = kind[a] == kStatic || (speed < kStandingSpeed && stays(at, w, modes, node_time, nodes));
        });
    });
}
