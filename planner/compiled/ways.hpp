// The ways to go of scenes and what conflicts are judged by, as planner/compiled/conflicts.py hands them over.
#pragma once

#include "stopping.hpp"

namespace dds {

// The lateral ways to go: planner/decisions/manoeuvres.py, and the grid they stand on.
struct Ways {
    Index variants, cells;
    const double* profile;  // [S, V, G]
    const Index* side;      // [S, V, A]
    const bool* valid;      // [S, V]
    const double* grid;     // [S, G]: s of the cells, m
    const bool* straight;   // [S]
};

struct Rules {
    double front, rear, width;  // of ego about its rear axle, m
    double half;                // width of the band that ego keeps free for itself, m
    Brakes brakes;
    double stray, pedestrian_acceleration, vehicle_braking, probability;  // the worst case of others
    double hit_probability, sigma_most;
    double ahead, behind, zone_time, zone_time_walking;  // margins: m, m, s, s
};

}  // namespace dds
