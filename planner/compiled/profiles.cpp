// Offset profiles without gradient: planner/decisions/offset_profile.py, and `Obstacles.extents_of`.
#include "obstacles.hpp"

namespace {

using namespace dds;

constexpr double kGrid = 1.0;    // m, of the surface
constexpr double kFar = 1e3;     // m: an offset no profile reaches
constexpr double kNever = 1e9;   // m: ends of an empty extent

// Room on S scenes' grids of up to G cells.
struct Surface {
    Index scenes, cells;
    const double *s, *lower, *upper, *lower_all, *upper_all;  // [S, G] m
    const Index* count;                                       // [S]
};

// L attempts of W wishes each; see Attempt and Wish. side: 0 for none.
struct Attempts {
    Index count, most;
    const Index* scene;       // [L]
    const bool* oncoming;     // [L]
    const Index *side, *row;  // [L, W]
    const double* berth;      // [L, W] m
};

struct Shape {
    double front, rear, hard, soft, soft_per_speed;  // m, m, m, m, s
};

// Moving average over 2 half + 1 cells; beyond the ends the values are constant.
void smooth(const std::vector<double>& values, Index half, double* out) {
    const Index cells = static_cast<Index>(values.size());
    for (Index i = 0; i < cells; ++i) {
        double sum = 0.0;
        for (Index j = i - half; j <= i + half; ++j) sum += values[std::clamp<Index>(j, 0, cells - 1)];
        out[i] = sum / static_cast<double>(2 * half + 1);
    }
}

// The last of a scene's cells repeated beyond them.
void hold(double* values, Index count, Index cells) {
    std::fill(values + count, values + cells, values[count - 1]);
}

Index cell_at(double s, double first, Index count) {
    return static_cast<Index>(std::clamp(std::nearbyint((s - first) / kGrid), 0.0, static_cast<double>(count - 1)));
}

// The path itself where there is room, reached from the present offset.
void base_profile(const Surface& surface, const Start& start, Index k, double* out) {
    const Index cells = surface.cells, first = k * cells;
    std::vector<double> target(cells);
    for (Index i = 0; i < cells; ++i) {
        const double lower = surface.lower[first + i], upper = surface.upper[first + i];
        const double inset = std::clamp(0.5 * (upper - lower), 0.0, 0.2);
        target[i] = std::min(std::max(0.0, lower + inset), upper - inset);
    }
    smooth(target, 4, out);
    const double* s = surface.s + first;
    const double apart = start.d[k] - out[cell_at(start.s[k], s[0], surface.count[k])];
    const double length = std::max(3.0 * start.v[k], 12.0);
    for (Index i = 0; i < cells; ++i) {
        const double x = std::clamp((s[i] - start.s[k]) / length, 0.0, 1.0);
        out[i] += apart * (1 - x * x * x * ((6 * x - 15) * x + 10));
    }
    hold(out, surface.count[k], cells);
}

// One attempt. Left and right are handled alike: limits and bounds of side 0 are upward, of side 1 mirrored.
class Profile {
public:
    Profile(const Surface& surface, const Shape& shape, bool oncoming, Index scene, double v)
        : surface_(surface), shape_(shape), scene_(scene), v_(v), cells_(surface.cells) {
        const double* ends[2] = {oncoming ? surface.upper_all : surface.upper,
                                 oncoming ? surface.lower_all : surface.lower};
        for (Index side = 0; side < 2; ++side) {
            for (Index i = 0; i < cells_; ++i) limit_[side].push_back((side ? -1 : 1) * ends[side][scene * cells_ + i]);
            bound_[side].assign(cells_, -kFar);
        }
    }

    // Raises the bound beside an agent with extent (s_lo, s_hi, d_lo, d_hi); whether there is room on that side.
    bool pass(Index sign, const double* extent, double berth) {
        const Index side = sign > 0 ? 0 : 1;
        const double first = extent[0] - (shape_.front + 1.0), last = extent[1] + (shape_.rear + 1.0);
        const double edge = side ? -extent[2] : extent[3], need = edge + shape_.hard;
        const double room = room_beside(side, first, last);
        if (!(need <= room)) return false;
        const double gap = shape_.soft + shape_.soft_per_speed * v_ + berth;
        const double aim = std::min(edge + gap, std::max(room - 0.05, need));
        const double slope = 2.0 / std::max(2.0 * v_, 9.0);
        for (Index i = 0; i < cells_; ++i) {
            const double away = std::max(std::max(first - s()[i], s()[i] - last), 0.0);
            bound_[side][i] = std::max(bound_[side][i], aim - away * slope);
        }
        return true;
    }

    void write(const double* base, double* out) const {
        const Index count = surface_.count[scene_];
        std::vector<double> profile(cells_);
        for (Index i = 0; i < cells_; ++i) profile[i] = std::max(std::min(base[i], -bound_[1][i]), bound_[0][i]);
        hold(profile.data(), count, cells_);
        smooth(profile, 2, out);
        for (Index i = 0; i < cells_; ++i) {
            const double lower = std::min(-limit_[1][i], base[i]), upper = std::max(limit_[0][i], base[i]);
            out[i] = std::min(std::max(out[i], lower), upper);
        }
        hold(out, count, cells_);
    }

private:
    const double* s() const { return surface_.s + scene_ * cells_; }

    // Least room on a side over the cells beside an agent; the nearest one counts if there is none.
    double room_beside(Index side, double first, double last) const {
        const Index count = surface_.count[scene_];
        const auto room = [&](Index i) { return std::min(limit_[side][i], -bound_[1 - side][i]); };
        double least = kInf;
        bool any = false;
        for (Index i = 0; i < count; ++i) {
            if (s()[i] >= first && s()[i] <= last) any = true, least = std::min(least, room(i));
        }
        return any ? least : room(cell_at(first, s()[0], count));
    }

    const Surface& surface_;
    const Shape& shape_;
    const Index scene_;
    const double v_;
    const Index cells_;
    std::vector<double> limit_[2], bound_[2];  // [G] m
};

}  // namespace

// out [S, G].
DDS_EXPORT Index dds_base_profile(const Surface* surface, const Start* start, double* out) {
    return guarded([&] {
        for (Index k = 0; k < surface->scenes; ++k) base_profile(*surface, *start, k, out + k * surface->cells);
    });
}

// out [L, G]; taken [L, W]: the sides on which there is room. base [S, G], v [S], extents [Q, 4].
DDS_EXPORT Index dds_shape_profiles(const Surface* surface, const Attempts* attempts, const Shape* shape,
                                    const double* base, const double* v, const double* extents, double* out,
                                    Index* taken) {
    return guarded([&] {
        for (Index l = 0; l < attempts->count; ++l) {
            const Index scene = attempts->scene[l];
            Profile profile(*surface, *shape, attempts->oncoming[l], scene, v[scene]);
            for (Index w = l * attempts->most; w < (l + 1) * attempts->most; ++w) {
                const Index side = attempts->side[w];
                taken[w] = side && profile.pass(side, extents + 4 * attempts->row[w], attempts->berth[w]) ? side : 0;
            }
            profile.write(base + scene * surface->cells, out + l * surface->cells);
        }
    });
}

// out [Q, 4]: what agents take up at the first so many nodes; those that stand, now.
DDS_EXPORT Index dds_extents(const Obstacles* obstacles, const Index* rows, double* out, Index count, Index soon) {
    return guarded([&] {
        const Obstacles& o = *obstacles;
        for (Index q = 0; q < count; ++q) {
            const Index id = rows[q], nodes = o.standing[id] ? std::min<Index>(soon, 1) : soon;
            double *x = out + 4 * q;
            x[0] = x[2] = kNever, x[1] = x[3] = -kNever;
            for (Index m = 0; m < o.modes; ++m) {
                const bool* active = o.active + o.forecast(id, m) * o.nodes;
                for (Index p = 0; p < o.pieces; ++p) {
                    const Index first = o.piece(id, p, m);
                    for (Index n = 0; n < nodes; ++n) {
                        if (!active[n]) continue;
                        x[0] = std::min(x[0], o.s_lo[first + n]), x[1] = std::max(x[1], o.s_hi[first + n]);
                        x[2] = std::min(x[2], o.d_lo[first + n]), x[3] = std::max(x[3], o.d_hi[first + n]);
                    }
                }
            }
        }
    });
}
