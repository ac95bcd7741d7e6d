"""ad-rss's answers to cases of `rss_oracle.py`. Runs in the oracles' environment, knows nothing of this project.

python ad_rss_side.py CASES.npz ANSWERS.npz
"""

from __future__ import annotations

import sys

import ad_physics
import ad_rss
import numpy as np

core, state, structured = ad_rss.rss.core, ad_rss.rss.state, ad_rss.rss.structured
Distance = ad_physics.physics.Distance


def road_user(party: np.ndarray, v: float, aside: float, enter: float, leave: float, priority: bool):
    """One side of a constellation; party in the order of `planner.checker.rss.Party`."""
    o = core.RelativeObjectState()
    o.object_type = ad_rss.rss.world.ObjectType.OtherVehicle
    s, d = o.structured_object_state, o.dynamics
    s.velocity.speed_lon_min = s.velocity.speed_lon_max = v
    s.velocity.speed_lat_min = s.velocity.speed_lat_max = aside
    s.distance_to_enter_intersection, s.distance_to_leave_intersection = enter, leave
    s.has_priority, s.is_in_correct_lane = priority, True
    d.response_time, d.max_speed_on_acceleration = party[0], party[2]
    # Signs as the library wants them: braking is negative there.
    d.alpha_lon.accel_max, d.alpha_lon.brake_max = party[1], -party[5]
    d.alpha_lon.brake_min, d.alpha_lon.brake_min_correct = -party[3], -party[4]
    d.alpha_lat.accel_max, d.alpha_lat.brake_min = party[6], -party[7]
    d.lateral_fluctuation_margin, d.min_longitudinal_safety_distance = party[8], 0.0
    u = d.unstructured_settings
    u.pedestrian_turning_radius, u.drive_away_max_angle, u.vehicle_yaw_rate_change = 2.0, 2.4, 0.3
    u.vehicle_min_radius, u.vehicle_trajectory_calculation_step = 3.5, 0.2
    # Not used by the formulas, but the library refuses states without it.
    f = o.unstructured_object_state
    f.yaw, f.yaw_rate, f.steering_angle = 0.0, 0.0, 0.0
    f.center_point.x, f.center_point.y, f.dimension.length, f.dimension.width = 0.0, 0.0, 4.0, 2.0
    f.speed_range.minimum = f.speed_range.maximum = v
    return o


def crossing_is_safe(ego, other, gap: float, ego_first: bool) -> bool:
    """Whether the library's intersection checker, without history, calls the pair longitudinally safe."""
    c = core.RelativeConstellation()
    c.constellation_id, c.ego_id, c.object_id = 1, 1, 2
    c.constellation_type = ad_rss.rss.world.ConstellationType.IntersectionSamePriority
    c.ego_state, c.other_state = ego, other
    c.relative_position.longitudinal_position = (
        core.LongitudinalRelativePosition.InFront if ego_first else core.LongitudinalRelativePosition.AtBack
    )
    c.relative_position.longitudinal_distance = gap
    c.relative_position.lateral_position = core.LateralRelativePosition.Overlap
    c.relative_position.lateral_distance = 0.0
    answer = state.RssState()
    checker = structured.RssIntersectionConstellationChecker()
    if not checker.calculateRssStateIntersection(1, c, answer):
        raise RuntimeError("ad-rss refused a case")
    return bool(answer.longitudinal_state.is_safe)


def main() -> None:
    cases, out = np.load(sys.argv[1]), []
    for i in range(len(cases["kind"])):
        pair = [
            road_user(
                cases["party"][i, j], float(cases["v"][i, j]), float(cases["aside"][i, j]), float(cases["enter"][i, j]),
                float(cases["leave"][i, j]), bool(cases["priority"][i, j]),
            )
            for j in range(2)
        ]  # fmt: skip
        kind, safe = int(cases["kind"][i]), Distance(0.0)
        if kind == 3:
            out.append(float(crossing_is_safe(*pair, float(cases["gap"][i]), bool(cases["ego_first"][i]))))
            continue
        name = ("SameDirection", "OppositeDirection", "")[kind]
        formula = structured.calculateSafeLateralDistance
        if kind < 2:
            formula = getattr(structured, f"calculateSafeLongitudinalDistance{name}")
        # Same direction: the library names the leading one first.
        first, second = (pair[1], pair[0]) if kind == 0 else pair
        if not formula(first, second, safe):
            raise RuntimeError(f"ad-rss refused case {i}")
        out.append(safe.mDistance)
    np.savez(sys.argv[2], answer=np.array(out))


if __name__ == "__main__":
    main()
