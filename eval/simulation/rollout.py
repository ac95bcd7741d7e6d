"""One closed-loop drive: observe, drive, limit, track, step; ten times a second, everything recorded."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import shapely

from eval.picture import perceived
from eval.simulation.drivers import DriveOutput, Driver, Listening, replays_log
from eval.simulation.injection import Injection
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.trace import Trace
from eval.simulation.tracker import PlannedMotion, Tracker, tracking_error
from eval.simulation.vehicle import Bicycle, VehicleState
from eval.simulation.vehicle_sensors import VehicleSensors
from eval.simulation.world import World, ego_box
from perception.oracle import OraclePerception
from perception.recording import ObjectStates, Recording
from perception.routing import RouteSurface
from planner.limiter import limit
from planner.scene import EgoState, VectorScene

Observer = Callable[[EgoState, ObjectStates, str], VectorScene]
"""(ego in the global frame, objects, name) -> the scene as the driver may see it. One with ``learned = True`` tells
boxes of its own, which a report draws beside the true ones."""


def rollout(
    recording: Recording,
    driver: Driver,
    traffic: str,
    config: SimulationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    observe: Observer | None = None,
    injection: Injection | None = None,
    sensors: VehicleSensors | None = None,
) -> Trace:
    """Drive a recording from its first to its last moment (or `config.duration`), replanning at every step.

    traffic: "log_replay" or "idm". progress: called with (steps done, steps). observe: perception; by default the
    oracle on the recording's map. injection: a study's faults; hand the same object to the driver, if it takes one.
    sensors: rendered ones, for perception that looks at them and drivers that listen to the second channel.
    What the driver or perception raises, leaves this function as it is.
    """
    config = SimulationConfig() if config is None else config
    observe = oracle_observer(recording) if observe is None else observe
    world = World(recording, traffic, config)
    tracker = Tracker(world.vehicle, config.tracker, config.actuator_lag)
    log = _Log(recording, _steps(recording, config))
    injection = injection or Injection()
    injection.reset(recording)
    world.bicycle = Bicycle(injection.vehicle(world.vehicle), config.actuator_lag)
    driver.reset(recording)
    replay = replays_log(driver)
    if replay:
        world.ego = VehicleState.from_track(recording.ego, 0)
    plan: PlannedMotion | None = None

    for k in range(log.steps):
        # 1. observe: what perception shows of the world now
        started = perf_counter()
        injection.time = world.time
        truth = world.ego_state()
        if sensors is not None:
            sensors.expose(truth, world.objects(), injection.sweep, recording.name)
        scene = injection.scene(
            observe(injection.localised(truth), injection.objects(world.seen(), truth), recording.name)
        )
        if sensors is not None and isinstance(driver, Listening) and (raw := sensors.raw()) is not None:
            driver.hear(raw)
        observed = perf_counter()

        # 2. drive: the driver decides on a trajectory
        output = driver.drive(scene)
        decided = perf_counter()
        missed = None if plan is None else tracking_error(world.ego, plan.at(world.dt))
        plan = PlannedMotion.from_trajectory(output.trajectory, world.ego.pose)
        log.observe(k, world, output, observe_ms=(observed - started) * 1e3, cycle_ms=(decided - observed) * 1e3)
        log.steps_taken[k]["tracking_error"] = missed
        if getattr(observe, "learned", False):
            log.steps_taken[k]["perceived"] = perceived(scene)

        # 3. track, 4. limit, 5. step
        if k + 1 < log.steps:
            if replay:
                world.replay_ego()
            else:
                tracked = tracker.track(world.ego, plan, elapsed=0.0, dt=world.dt)
                command, limited = limit(injection.command(tracked.command), world.ego, world.dt, world.vehicle)
                log.bites(k, "tracker", tracked.saturated)
                log.bites(k, "limiter", limited)
                world.step(command)
        if progress is not None:
            progress(k + 1, log.steps)
    return log.trace(driver.name, traffic, config.seed)


def oracle_observer(recording: Recording) -> Observer:
    """Perfect perception of the present, rule-based forecasts, the recording's map and route."""
    surface = RouteSurface(recording.road, recording.route, recording.route_xy)
    perception = OraclePerception(recording.road, surface)
    return lambda ego, objects, name: perception.observe(ego, objects, name=name)


def _steps(recording: Recording, config: SimulationConfig) -> int:
    """Number of recorded moments to drive. Raises ValueError for a duration below one step."""
    if config.duration is None:
        return len(recording.time)
    steps = round(config.duration / recording.dt) + 1
    if steps < 2:
        raise ValueError(f"SimulationConfig.duration: expected at least {recording.dt:g} s, got {config.duration:g}")
    return min(steps, len(recording.time))


def smallest_gap(ego: np.ndarray, size: tuple[float, float], objects: ObjectStates) -> float:
    """Distance (m) between the ego's box and the nearest other box, 0 if they touch, infinite without others.

    ego ``[3]``: box centre and yaw; size: length, width (m). Exact: only boxes whose circumscribed circle
    could be nearest are measured.
    """
    if not len(objects):
        return float("inf")
    centre = np.hypot(*(objects.pose[:, :2] - ego[:2]).T)
    nearest_possible = centre - np.hypot(*objects.size.T) / 2 - np.hypot(*size) / 2
    near = nearest_possible <= centre.min()
    boxes = shapely.polygons(_corners(objects.pose[near], objects.size[near]))
    own = shapely.polygons(_corners(ego[None], np.array([size])))[0]
    return float(shapely.distance(own, boxes).min())


def _corners(pose: np.ndarray, size: np.ndarray) -> np.ndarray:
    """``[N, 4, 2]`` corners of boxes ``[N, 3]``, sizes ``[N, 2]``."""
    local = size[:, None] * np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    c, s = np.cos(pose[:, 2])[:, None], np.sin(pose[:, 2])[:, None]
    x = pose[:, :1] + c * local[..., 0] - s * local[..., 1]
    return np.stack([x, pose[:, 1:2] + s * local[..., 0] + c * local[..., 1]], -1)


class _Log:
    """Collects a `Trace` step by step."""

    def __init__(self, recording: Recording, steps: int) -> None:
        agents = len(recording.agents)
        self.recording, self.steps = recording, steps
        self._pose = np.zeros((steps, 3))
        self._motion = np.zeros((steps, 4))
        self._agent_pose = np.zeros((agents, steps, 3))
        self._agent_velocity = np.zeros((agents, steps, 2))
        self._agent_valid = np.zeros((agents, steps), bool)
        self._times = np.zeros((steps, 3))
        self._gap = np.full(steps, np.inf)
        self._tail = np.zeros(steps, bool)
        self._source: list[str] = []
        self._reason: list[str] = []
        self.steps_taken: list[dict[str, Any]] = []

    def observe(self, k: int, world: World, output: DriveOutput, observe_ms: float, cycle_ms: float) -> None:
        ego, t, vehicle = world.ego, world.traffic, world.vehicle
        self._pose[k] = ego.pose
        self._motion[k] = ego.v, ego.a, ego.curvature, ego.yaw_rate
        there = t.present
        self._agent_valid[:, k] = there
        self._agent_pose[there, k], self._agent_velocity[there, k] = t.pose[there], t.velocity[there]
        box = ego_box(ego, vehicle.rear_axle_to_center)
        self._gap[k] = smallest_gap(box, (vehicle.length, vehicle.width), world.objects())
        self._tail[k] = output.tail_accepted
        self._times[k] = cycle_ms, output.solve_ms, output.check_ms
        self._source.append(output.source)
        self._reason.append(output.reason)
        self.steps_taken.append({**output.picture, "observe_ms": round(observe_ms, 3), "traffic": list(t.events)})

    def bites(self, k: int, who: str, names: tuple[str, ...]) -> None:
        """Add to the step's reason what kept a command from being obeyed."""
        if names:
            said = f"{who}: {', '.join(names)}"
            self._reason[k] = f"{self._reason[k]}; {said}" if self._reason[k] else said

    def trace(self, planner: str, traffic: str, seed: int) -> Trace:
        r, m = self.recording, self._motion
        return Trace(
            scenario=r.name, planner=planner, traffic=traffic, seed=seed, time=r.time[: self.steps].copy(),
            pose=self._pose, v=m[:, 0].copy(), a=m[:, 1].copy(), curvature=m[:, 2].copy(), yaw_rate=m[:, 3].copy(),
            track_id=r.agents.track_id, agent_class=r.agents.agent_class, size=r.agents.size,
            agent_pose=self._agent_pose, agent_velocity=self._agent_velocity, agent_valid=self._agent_valid,
            source=self._source, reason=self._reason, tail_accepted=self._tail, cycle_ms=self._times[:, 0].copy(),
            solve_ms=self._times[:, 1].copy(), check_ms=self._times[:, 2].copy(), min_gap=self._gap,
            steps=self.steps_taken,
        )  # fmt: skip
