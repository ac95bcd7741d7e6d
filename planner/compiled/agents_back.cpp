// Derivative of dds_project_agents: objects/agent_projection.py.
#include "agents.hpp"

namespace {

using namespace dds;

// Of one agent, K = M * N entries each.
struct Reaches {
    double* reach[4][kPieces];
    double* grad[4][kPieces];  // of the reach

    static constexpr Index kArrays = 8 * kPieces;
    explicit Reaches(Room& r) {
        for (auto* table : {&reach, &grad})
            for (auto& end : *table)
                for (double*& piece : end) piece = r.next();
    }
};

// The gradients of how far pieces reach, from those of the intervals' ends.
void extended_back_all(const Neighbours& has, const double* const (&given)[4], Index count, const Reaches& out) {
    for (int e = 0; e < 4; ++e)
        for (int p = 0; p < kPieces; ++p) {
            double* grad = out.grad[e][p];
            std::fill_n(grad - 1, count + kLanes + 1, 0.0);
            for (Index k = 0; k < count; k += kLanes) {
                Pack of = all(0), after, before;
                const double* from = given[e] + p * count + k;
                for (Index l = 0; l < kLanes && k + l < count; ++l) of[l] = e % 2 ? from[l] : -from[l];
                extended_back(out.reach[e][p], has, k, of, after, before);
                store(grad + k, load(grad + k) + of - after - before);
                store(grad + k + 1, load(grad + k + 1) + after);
                store(grad + k - 1, load(grad + k - 1) + before);
            }
        }
}

// Gradients of covariances (xx, each of the mixed ones, yy) and of the path's heading from those of the spreads.
struct SpreadGradients {
    Pack xx, mixed, yy, heading;
};

SpreadGradients spread_back(const Related& r, const Pack& g_sigma_s, const Pack& g_extra, const Spread& spread) {
    const Pack c = r.tangent.x, s = r.tangent.y;
    const Pack across =
        spread.quantile * r.sigma_d <= spread.most ? g_extra * spread.quantile / (2.0 * r.sigma_d) : all(0);
    const Pack along = g_sigma_s / (2.0 * r.sigma_s) - across;
    const Pack turned = 2.0 * c * s * (r.yy - r.xx) + r.mixed * (c * c - s * s);
    return {along * c * c + across, along * c * s, along * s * s + across, along * turned};
}

// Gradients of the inputs of one agent; those of forecasts [M, T, ...].
struct AgentGradients {
    double *box, *covariance_now, *mean, *yaw, *covariance;

    // Adds the share of a point, an angle and covariances to those of one time; before the first forecast: of now.
    void add(Index mode, Index time, double share, const double (&point)[2], double angle, const double (&spread)[3]) {
        const Index at = mode + time;
        double* xy = time < 0 ? box : mean + 2 * at;
        double* c = time < 0 ? covariance_now : covariance + 4 * at;
        double* turned = time < 0 ? box + 2 : yaw + at;
        xy[0] += share * point[0], xy[1] += share * point[1], *turned += share * angle;
        c[0] += share * spread[0], c[1] += share * spread[1], c[2] += share * spread[1], c[3] += share * spread[2];
    }
};

// Some entries of an agent, side by side, as they were found.
struct Block {
    Pack s;
    At<Pack> at;
    Related related;
};

// A thread's working memory.
struct Memory {
    Room room;
    AtNodes at;
    Reaches reaches;
    std::vector<Block> blocks;

    explicit Memory(Index entries) : room(entries, AtNodes::kArrays + Reaches::kArrays), at(room), reaches(room) {
        blocks.reserve(room.padded() / kLanes);
    }
};

void find_again(const Spline& path, const double* feet, const double* box, const Spread& spread, Index count,
                Memory& memory) {
    memory.blocks.clear();
    for (Index k = 0; k < count; k += kLanes) {
        Pack s;
        for (Index l = 0; l < kLanes; ++l) s[l] = feet[std::min(k + l, count - 1)];
        const At<Pack> foot = curve_at(path, Vec<Pack>{load(memory.at.x + k), load(memory.at.y + k)}, s);
        memory.blocks.push_back({s, foot, Related(memory.at, k, s, foot_of(foot), box, spread)});
        const Places places(memory.blocks.back().related.boxes);
        for (int e = 0; e < 4; ++e)
            for (int p = 0; p < kPieces; ++p)
                store(memory.reaches.reach[e][p] + k, places.reach(e, box[3] * piece_fraction(p)));
    }
}

bool all_zero(const double* values, Index count) {
    return std::all_of(values, values + count, [](double x) { return x == 0.0; });
}

}  // namespace

// Gradients of the tensors of dds_project_agents (cleared by the caller) from those of its results. feet [S, A, M, N]: s.
// Scenes are independent; a scene's agents come one after the other, so that the sum for its spline has one order.
DDS_EXPORT Index dds_project_agents_back(
    const double* box, const double* velocity, const double* covariance_now, const double* existence,
    const double* mean, const double* yaw, const double* covariance, const double* probability, const double* time,
    const double* node_time, const double* cubics, const Index* count, const Index* near, const double* feet,
    double floor, double quantile, double most, const double* g_s_lo, const double* g_s_hi, const double* g_d_lo,
    const double* g_d_hi, const double* g_sigma_s, const double* g_phi, const double* g_speed_s, const double* g_speed,
    const double* g_weight, double* g_box, double* g_velocity, double* g_covariance_now, double* g_existence,
    double* g_mean, double* g_yaw, double* g_covariance, double* g_probability, double* g_cubics, Index scenes,
    Index seen, Index agents, Index modes, Index steps, Index nodes, Index n, Index threads) {
    return guarded([&] {
        const Agents every{box, covariance_now, mean, yaw, covariance, agents, modes, steps};
        const Splines splines{cubics, cubics, n, count, nullptr};
        const Spread spread{floor, quantile, most};
        const Index entries = modes * nodes;
        const Neighbours has(modes, nodes, entries + kLanes);
        const auto make = [&] { return Memory(entries); };
        over_rows_with(scenes, threads, make, [&](Memory& memory, Index k) {
            const Nodes own(time + k * steps, steps, node_time, nodes);
            const Spline path = splines.of(k);
            for (Index slot = k * seen; slot < (k + 1) * seen; ++slot) {
                if (near[slot] < 0) continue;
                const Index a = k * agents + near[slot], begin = slot * entries, forecast = a * modes * steps;
                const double vx = velocity[2 * a], vy = velocity[2 * a + 1], speed = std::sqrt(vx * vx + vy * vy);
                const double along = g_speed_s[slot], share = speed > 0 ? g_speed[slot] / speed : 0.0;
                g_velocity[2 * a] = share * vx, g_velocity[2 * a + 1] = share * vy;
                for (Index m = 0; m < modes; ++m) {
                    g_probability[a * modes + m] = g_weight[slot * modes + m] * existence[a];
                    g_existence[a] += g_weight[slot * modes + m] * probability[a * modes + m];
                }
                // Most agents do not shape any plan.
                const Index ends = begin * kPieces;
                const double* const given[4] = {g_s_lo + ends, g_s_hi + ends, g_d_lo + ends, g_d_hi + ends};
                bool idle = along == 0.0 && all_zero(g_sigma_s + begin, entries) && all_zero(g_phi + begin, entries);
                for (const double* end : given) idle = idle && all_zero(end, entries * kPieces);
                if (idle) continue;

                at_nodes(every, a, own, memory.room.padded(), memory.at);
                find_again(path, feet + begin, box + 5 * a, spread, entries, memory);
                extended_back_all(has, given, entries, memory.reaches);
                const double heading = memory.blocks[0].related.heading[0];
                const double cos = std::cos(heading), sin = std::sin(heading);
                g_velocity[2 * a] += along * cos, g_velocity[2 * a + 1] += along * sin;

                AgentGradients out{g_box + 5 * a, g_covariance_now + 4 * a, g_mean + 2 * forecast, g_yaw + forecast,
                                   g_covariance + 4 * forecast};
                for (Index q = 0; q < entries; q += kLanes) {
                    const Block& block = memory.blocks[q / kLanes];
                    const Index left = entries - q, here = std::min<Index>(left, kLanes);
                    Pack grad[4][kPieces];
                    for (int e = 0; e < 4; ++e)
                        for (int p = 0; p < kPieces; ++p) grad[e][p] = load(memory.reaches.grad[e][p] + q);
                    const Pack g_turn = load(g_phi + begin + q, left), g_sigma = load(g_sigma_s + begin + q, left);
                    Mask moves = (g_turn != 0.0) | (g_sigma != 0.0);
                    for (const auto& end : grad)
                        for (const Pack& g : end) moves |= g != 0.0;
                    if (q > 0 && !any(moves)) continue;
                    const Boxes& boxes = block.related.boxes;
                    const BoxGradients g = place_back(boxes, grad);
                    const Pack angle = boxes.cos * g.sin - boxes.sin * g.cos + g_turn;
                    const SpreadGradients wide = spread_back(block.related, g_sigma, g.extra, spread);
                    Pack turned = wide.heading - angle;
                    if (q == 0) turned[0] += along * (vy * cos - vx * sin);
                    const FootGradient<Pack> foot =
                        foot_back(block.at, block.s, path.last(), g.s, g.d, turned, g.curvature);
                    add_cubics(g_cubics + k * (n - 1) * 8, block.at, foot, static_cast<int>(here));
                    for (Index l = 0; l < here; ++l) {
                        const Index j = (q + l) % nodes, mode = (q + l) / nodes * steps, i = own.before[j];
                        const double point[2] = {foot.point.x[l], foot.point.y[l]};
                        const double spreads[3] = {wide.xx[l], wide.mixed[l], wide.yy[l]};
                        out.add(mode, i, own.fraction[j], point, angle[l], spreads);
                        out.add(mode, i - 1, 1 - own.fraction[j], point, angle[l], spreads);
                        out.box[3] += g.length[l], out.box[4] += g.width[l];
                    }
                }
            }
        });
    });
}
