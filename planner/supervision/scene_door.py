"""The doors of the second channel: a scene or a plan that does not pass is a rejected one, with a reason.

`validate()` of the contract types judges shapes, dtypes, finiteness and ranges; here in addition: nothing physically
absurd (arithmetic on 1e300 m overflows into verdicts that mean nothing), and no scene twice or out of order.
"""

from __future__ import annotations

from torch import Tensor

from planner.scene import RawObstacles, Trajectory, VectorScene
from planner.supervision.supervisor_state import Level

DISTANCE_MAX = 1e5  # m, of anything in the ego frame
GLOBAL_MAX = 1e8  # m, of ego in the map's frame
SPEED_MAX = 120.0  # m/s, of anything
ACCELERATION_MAX = 100.0  # m/s^2
CURVATURE_MAX = 2.0  # 1/m
YAW_RATE_MAX = 20.0  # rad/s
SIZE_MIN, SIZE_MAX = 0.01, 100.0  # m, of an object
VARIANCE_MAX = 1e8  # m^2
HORIZON_MAX = 120.0  # s
RAW_LAG_MAX = 0.5  # s, between the two perception channels
ENTRIES_MAX = 2000  # of a trajectory: more would cost the deadline


class SceneDoor:
    """Admits scenes in order of time; remembers the time of the last one admitted."""

    def __init__(self) -> None:
        self.time_us: int | None = None

    def problem(self, scene: object) -> str:
        """Why the scene may not be used; empty if it may, and then its time counts as seen."""
        try:
            found = self._problem(scene)
        except Exception as error:  # whatever a broken scene raises, it is a reason
            return f"{type(error).__name__}: {error}"
        if not found:
            assert isinstance(scene, VectorScene)
            self.time_us = int(scene.ego.time_us)
        return found

    def _problem(self, scene: object) -> str:
        if not isinstance(scene, VectorScene):
            return f"expected a VectorScene, got {type(scene).__name__}"
        if scene.validate().batch_shape:
            return f"expected a single scene, got batch axes {scene.batch_shape}"
        if found := _absurd(scene):
            return found
        now = int(scene.ego.time_us)
        if self.time_us is not None and now <= self.time_us:
            return f"stale or out of order: {(self.time_us - now) / 1e3:.1f} ms before the last scene"
        return ""


def absurdity(scene: VectorScene) -> str:
    """The first number in a scene that nothing on a road can have; empty if there is none, or no reading it.

    For those who plan: arithmetic on 1e300 m need not come to an end.
    """
    try:
        return _absurd(scene)
    except Exception:  # malformed: planner and supervisor each say how
        return ""


def hear(raw: object, scene: object) -> tuple[RawObstacles | None, Level, str]:
    """The second perception channel's message if it may be used, the level its state asks for, and why. Never raises.

    None is no channel at all. A malformed message: DEGRADED for now; one that lags the scene too far: MINIMAL_RISK, for
    then nothing stands beside the first channel any more.
    """
    if raw is None:
        return None, Level.OK, ""
    try:
        if not isinstance(raw, RawObstacles):
            return None, Level.DEGRADED, f"raw obstacles: got {type(raw).__name__}"
        if raw.validate().batch_shape:
            return None, Level.DEGRADED, f"raw obstacles: batch axes {raw.batch_shape}"
        real = raw.valid
        if found := _beyond(
            "raw",
            (("centre", raw.centre[real], DISTANCE_MAX), ("velocity", raw.velocity[real], SPEED_MAX),
             ("length", raw.length[real], SIZE_MAX), ("width", raw.width[real], SIZE_MAX)),
        ):  # fmt: skip
            return None, Level.DEGRADED, f"raw obstacles: {found}"
        lag = (int(scene.ego.time_us) - int(raw.time_us)) * 1e-6  # type: ignore[attr-defined]
        if not abs(lag) <= RAW_LAG_MAX:
            return None, Level.MINIMAL_RISK, f"raw obstacles: {lag:.2f} s behind the scene"
        return raw, Level.OK, ""
    except Exception as error:
        return None, Level.DEGRADED, f"raw obstacles: {type(error).__name__}: {error}"


def plan_problem(trajectory: object, tail: object) -> str:
    """Why a (trajectory, tail) pair may not even be checked; empty if it may. Never raises."""
    for name, motion in (("trajectory", trajectory), ("tail", tail)):
        try:
            if not isinstance(motion, Trajectory):
                return f"{name}: expected a Trajectory, got {type(motion).__name__}"
            if motion.validate().batch_shape:
                return f"{name}: expected no batch axes, got {motion.batch_shape}"
            if not 2 <= len(motion.time) <= ENTRIES_MAX:
                return f"{name}: expected 2 to {ENTRIES_MAX} entries, got {len(motion.time)}"
            if found := _beyond(
                name,
                (("time", motion.time, HORIZON_MAX), ("x", motion.x, DISTANCE_MAX), ("y", motion.y, DISTANCE_MAX),
                 ("yaw", motion.yaw, 100.0), ("v", motion.v, SPEED_MAX), ("a", motion.a, ACCELERATION_MAX),
                 ("curvature", motion.curvature, CURVATURE_MAX)),
            ):  # fmt: skip
                return found
        except Exception as error:
            return f"{name}: {type(error).__name__}: {error}"
    return ""


def _absurd(scene: VectorScene) -> str:
    """The first number that nothing on a road can have."""
    ego, agents, futures, route = scene.ego, scene.agents, scene.futures, scene.route
    # What is masked out is padding and may hold anything finite.
    real, spoken = agents.valid, futures.valid
    size = agents.box[real][:, 3:]
    if size.numel() and (smallest := float(size.amin())) < SIZE_MIN:
        return f"scene.agents.box: expected sizes of at least {SIZE_MIN:g} m, got {smallest:g}"
    return _beyond(
        "scene",
        (
            ("ego.x", ego.x, 1e-3), ("ego.y", ego.y, 1e-3), ("ego.yaw", ego.yaw, 1e-3),
            ("ego.v", ego.v, SPEED_MAX), ("ego.a", ego.a, ACCELERATION_MAX),
            ("ego.curvature", ego.curvature, CURVATURE_MAX), ("ego.yaw_rate", ego.yaw_rate, YAW_RATE_MAX),
            ("ego.time_us", ego.time_us, 2.0**53),
            ("global_from_ego", scene.global_from_ego, GLOBAL_MAX),
            ("agents.box", agents.box[real][:, :3], DISTANCE_MAX), ("agents.box", size, SIZE_MAX),
            ("agents.velocity", agents.velocity[real], SPEED_MAX),
            ("agents.position_covariance", agents.position_covariance[real], VARIANCE_MAX),
            ("futures.time", futures.time, HORIZON_MAX), ("futures.mean", futures.mean[spoken], DISTANCE_MAX),
            ("futures.yaw", futures.yaw[spoken], DISTANCE_MAX),
            ("futures.covariance", futures.covariance[spoken], VARIANCE_MAX),
            ("map.xy", scene.map.xy[scene.map.valid], DISTANCE_MAX),
            ("route.xy", route.xy[route.valid], DISTANCE_MAX),
            ("route.speed_limit", route.speed_limit[route.valid], SPEED_MAX),
        ),
    )  # fmt: skip


def _beyond(where: str, fields: tuple[tuple[str, Tensor, float], ...]) -> str:
    for name, value, bound in fields:
        if value.numel() and (largest := float(value.double().abs().amax())) > bound:
            return f"{where}.{name}: expected magnitudes up to {bound:g}, got {largest:g}"
    return ""
