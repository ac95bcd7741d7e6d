// Agents and their forecasts as the kernels see them: twin of objects/agent_projection.py.
#pragma once

#include "intervals.hpp"
#include "spline.hpp"

namespace dds {

// Where nodes lie between forecast times, of which now is number 0: after number `before`, at `fraction` of the way to
// the next.
struct Nodes {
    std::vector<Index> before;
    std::vector<double> fraction;

    Nodes(const double* time, Index steps, const double* node_time, Index nodes) : before(nodes), fraction(nodes) {
        const auto at = [&](Index i) { return i == 0 ? 0.0 : time[i - 1]; };
        for (Index n = 0; n < nodes; ++n) {
            Index i = 0;
            while (i + 1 < steps && at(i + 1) <= node_time[n]) ++i;
            before[n] = i;
            fraction[n] = std::min(std::max((node_time[n] - at(i)) / (at(i + 1) - at(i)), 0.0), 1.0);
        }
    }
    Index size() const { return static_cast<Index>(before.size()); }
};

// A [S, A'] agents of all scenes: what is known now, and M modes of T steps.
struct Agents {
    const double *box, *covariance_now, *mean, *yaw, *covariance;  // [.., 5], [.., 2, 2], [.., M, T, 2], ...
    Index count, modes, steps;                                     // A', M, T
};

// How uncertainty widens intervals across: quantile sigmas, at most `most` m; no sigma counts less than floor.
struct Spread {
    double floor, quantile, most;
};

// Memory for arrays of K numbers each, with room to read one before the first and to work on some at a time.
class Room {
   public:
    Room(Index entries, Index arrays) : padded_((entries + kLanes - 1) / kLanes * kLanes), apart_(padded_ + 2 * kLanes) {
        memory_.resize(apart_ * arrays);
    }
    double* next() { return memory_.data() + apart_ * used_++ + kLanes; }
    Index padded() const { return padded_; }

   private:
    Index padded_, apart_, used_ = 0;
    std::vector<double> memory_;
};

// One agent at the nodes of all its modes, in the plane: K = M * N entries each. mixed: both mixed covariances.
struct AtNodes {
    double *x, *y, *yaw, *xx, *mixed, *yy;

    static constexpr Index kArrays = 6;
    explicit AtNodes(Room& r) : x(r.next()), y(r.next()), yaw(r.next()), xx(r.next()), mixed(r.next()), yy(r.next()) {}
};

inline void at_nodes(const Agents& agents, Index agent, const Nodes& nodes, Index padded, const AtNodes& out) {
    const double* box = agents.box + 5 * agent;
    const double* now = agents.covariance_now + 4 * agent;
    Index k = 0;
    for (Index m = 0; m < agents.modes; ++m) {
        const Index mode = (agent * agents.modes + m) * agents.steps;
        const double *mean = agents.mean + 2 * mode, *yaw = agents.yaw + mode, *cov = agents.covariance + 4 * mode;
        for (Index n = 0; n < nodes.size(); ++n, ++k) {
            const Index i = nodes.before[n], b = i - 1;
            const double f = nodes.fraction[n], angle = i ? yaw[b] : box[2];
            const double *p0 = i ? mean + 2 * b : box, *p1 = mean + 2 * i;
            const double *c0 = i ? cov + 4 * b : now, *c1 = cov + 4 * i;
            const auto between = [f](double begin, double end) { return begin + f * (end - begin); };
            out.x[k] = between(p0[0], p1[0]), out.y[k] = between(p0[1], p1[1]);
            out.yaw[k] = angle + f * wrapped(yaw[i] - angle);
            out.xx[k] = between(c0[0], c1[0]), out.yy[k] = between(c0[3], c1[3]);
            out.mixed[k] = between(c0[1], c1[1]) + between(c0[2], c1[2]);
        }
    }
    for (; k < padded; ++k)  // the last entry again
        for (double* column : {out.x, out.y, out.yaw, out.xx, out.mixed, out.yy}) column[k] = column[k - 1];
}

// Some entries of an agent, side by side, against the path.
struct Related {
    Boxes boxes;
    Pack heading, phi, sigma_s, sigma_d, xx, mixed, yy;
    Vec<Pack> tangent;

    Related(const AtNodes& at, Index k, const Pack& s, const Foot<Pack>& foot, const double* box, const Spread& spread)
        : xx(load(at.xx + k)), mixed(load(at.mixed + k)), yy(load(at.yy + k)), tangent(foot.tangent) {
        const Pack c = tangent.x, n = tangent.y, none = all(0);
        const Pack along = xx * c * c + mixed * (c * n) + yy * n * n, across = xx + yy - along;
        sigma_s = root(larger(along, none) + spread.floor * spread.floor);
        sigma_d = root(larger(across, none) + spread.floor * spread.floor);
        heading = direction(n, c);
        phi = wrapped(Pack(load(at.yaw + k) - heading));
        sine_cosine(phi, boxes.sin, boxes.cos);
        boxes.s = s, boxes.d = foot.d, boxes.curvature = foot.curvature, boxes.length = box[3], boxes.width = box[4];
        boxes.extra = smaller(Pack(spread.quantile * sigma_d), all(spread.most));
    }
};

}  // namespace dds
