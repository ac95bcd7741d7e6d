"""The page: is this trajectory, with this tail, fit to be driven in this scene?

well formed -> starts at ego -> drivable by the vehicle -> intended part clear of forecasts and edges
-> tail clear of worst-case sets and edges until it stands.
"""

from __future__ import annotations

import time

import numpy as np

from planner.checker.config import CheckerConfig
from planner.checker.motion import Motion, grid
from planner.checker.report import CheckReport, Violation
from planner.checker.rules import danger, kinematics, objects, rest, road, unseen
from planner.checker.rules.finding import Finding
from planner.checker.scene_sets import SceneSets, prepare
from planner.scene import Trajectory, VectorScene, VehicleParameters


def check(
    scene: VectorScene,
    trajectory: Trajectory,
    tail: Trajectory,
    vehicle: VehicleParameters | None = None,
    config: CheckerConfig | None = None,
) -> CheckReport:
    """Verify one (trajectory, tail) pair in a single scene; both in the scene's frame.

    For several candidates of one scene, `prepare` once and call `check_prepared`.
    Raises ValueError for a batch of scenes or trajectories that are not single ones of >= 2 entries;
    everything else, NaN included, is a violation in the report.
    """
    vehicle, config = vehicle or VehicleParameters(), config or CheckerConfig()
    return check_prepared(prepare(scene, vehicle, config), trajectory, tail, vehicle, config)


def check_prepared(
    sets: SceneSets,
    trajectory: Trajectory,
    tail: Trajectory,
    vehicle: VehicleParameters,
    config: CheckerConfig,
    kept: bool = False,
) -> CheckReport:
    """`check` against a prepared scene. kept: a tail from an earlier cycle, which may start farther from ego."""
    begin = time.perf_counter()
    planned, stopping = Motion.of(trajectory), Motion.of(tail)
    found = kinematics.well_formed(planned, "nominal")
    found.add(kinematics.well_formed(stopping, "tail"))
    if not found.violations:
        found.add(_judge(sets, planned, stopping, vehicle, config, kept))
    return CheckReport(
        accepted=not found.violations,
        violations=tuple(found.violations),
        worst_margin=found.margin,
        time_s=time.perf_counter() - begin,
        records=tuple(found.records),
        likely_contact=found.likely_contact,
        contact=min(found.contact, found.likely_contact),
    )


def _judge(
    sets: SceneSets,
    planned: Motion,
    stopping: Motion,
    vehicle: VehicleParameters,
    config: CheckerConfig,
    kept: bool,
) -> Finding:
    if _stands(sets, planned, config) and _stands(sets, stopping, config):
        return Finding(records=[Violation("standing", -1, 0.0, 0.0, "stays at rest, which is always allowed")])
    found = Finding()
    same = stopping is planned or _identical(planned, stopping)
    for name, motion in (("nominal", planned), ("tail", stopping)):
        if name == "nominal" and same:
            continue
        found.add(kinematics.start_state(motion, sets.ego, config, kept, name))
        found.add(kinematics.consistency(motion, config, name))
        found.add(kinematics.envelope(motion, vehicle, config, name))
    found.add(kinematics.shared_start(planned, stopping, config))
    found.add(kinematics.ends_at_rest(stopping, config))

    intended = planned.at(grid(min(config.nominal_horizon, float(planned.time[-1])), config))
    until = stopping.rest_time(config.rest_speed)
    halting = stopping.at(grid(min(until, float(stopping.time[-1]), config.tail_horizon), config))
    # Swept and projected at once: the cost is that of the calls, not of their length.
    both, n = intended.joined(halting), len(intended.time)
    along, swept = sets.relations.frame.project(both.pose[:, :2]), both.sweeps(vehicle)

    lasting = same or kept
    ways, sweeps = along.part(slice(n)), swept.part(slice(n - 1))
    found.add(objects.nominal_objects(sets, intended, sweeps, ways, config))
    found.add(road.boundary(sets, intended, sweeps, vehicle, config, "nominal_boundary"))
    found.add(road.stop_line(sets, intended, sweeps, config, "nominal_stop_line"))
    if not same:
        found.add(road.speed_limit(sets, intended, config))
    found.add(road.wrong_way(sets, intended, ways, config))
    found.add(_unless(lasting, danger.rss_response(sets, planned, vehicle, config)))
    found.add(_unless(lasting, unseen.phantom_walkers(sets, intended, ways, vehicle, config)))

    ways, sweeps = along.part(slice(n, None)), swept.part(slice(n, None))
    found.add(objects.tail_objects(sets, halting, sweeps, ways, config))
    found.add(road.boundary(sets, halting, sweeps, vehicle, config, "tail_boundary"))
    found.add(road.stop_line(sets, halting, sweeps, config, "tail_stop_line"))
    found.add(unseen.tail_sight(sets, halting, vehicle, config))
    found.add(unseen.phantom_drivers(sets, halting, ways, vehicle, config))
    found.add(_unless(lasting, rest.resting_place(sets, halting, vehicle, config)))
    return found


def _unless(lasting: bool, finding: Finding) -> Finding:
    """For a stop of last resort, or a tail accepted earlier, what only asks for another plan is a record.

    Stopping is the answer to danger, and better in a bad place than nowhere; what it may hit is judged by the sets.
    """
    if lasting:
        finding.records, finding.violations = finding.records + finding.violations, []
    return finding


def _stands(sets: SceneSets, motion: Motion, config: CheckerConfig) -> bool:
    """At rest where ego is, from the first entry to the last."""
    off = np.hypot(*(motion.pose[:, :2] - sets.ego[:2]).T)
    return bool((np.abs(motion.v) <= config.rest_speed).all() and off.max() <= 0.05 and abs(sets.ego[3]) < 0.2)


def _identical(one: Motion, two: Motion) -> bool:
    return len(one.time) == len(two.time) and bool(np.array_equal(one.pose, two.pose))
