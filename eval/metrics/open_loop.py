"""nuScenes open-loop planning: displacement and collision under named protocols.

There is no official benchmark: each published number belongs to one codebase, so every result
carries its protocol's tag. `uniad_noavg` and `vad_temavg` re-implement the two in common use
with their samples, agents, grids and quirks; `anyhit_exact` is what we would rather be judged by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.metrics import geometry, open_loop_grid
from planner.scene import AgentClass, VehicleParameters

STEPS = 6  # of 0.5 s
STEP = 0.5  # s
HORIZONS = {"1s": 2, "2s": 4, "3s": 6}  # horizon -> number of steps
LIDAR_AHEAD = 0.985793  # m, LIDAR_TOP ahead of the ego origin (rear axle) on the nuScenes vehicle
TURN = 2.0  # m sideways at 3 s from which a sample does not count as "straight on"


@dataclass
class OpenLoopSample:
    """One key frame with its recorded future, everything in the ego frame of the key frame.

    scene, index: which. recorded ``[6, 3]``: rear-axle poses at 0.5 ... 3 s; future ``[6]`` bool:
    recorded at all. Agents at 0, 0.5 ... 3 s: pose ``[A, 7, 3]``, size ``[A, 2]``, agent_class ``[A]``,
    present ``[A, 7]`` bool (annotated then). outside: function from ego corners ``[6, 4, 2]`` to bool
    ``[6]``, any corner off the drivable area; None where there is no map.
    """

    scene: str
    index: int
    recorded: np.ndarray
    future: np.ndarray
    pose: np.ndarray
    size: np.ndarray
    agent_class: np.ndarray
    present: np.ndarray
    outside: Any = None

    @property
    def turning(self) -> bool:
        """Three seconds recorded, and they end 2 m or more to the side: the codebases' "left" and "right"."""
        return bool(self.future.all() and abs(self.recorded[-1, 1]) >= TURN)


@dataclass(frozen=True)
class ProtocolResult:
    """Under one protocol: L2 (m) and collision (%) at "1s", "2s", "3s" and their mean "avg", over N samples.

    extra: further numbers of the protocol, by name.
    """

    tag: str
    samples: int
    l2: dict[str, float]
    collision: dict[str, float]
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "samples": self.samples,
            "l2_m": self.l2,
            "collision_percent": self.collision,
            **self.extra,
        }


def with_heading(plan: np.ndarray) -> np.ndarray:
    """Poses ``[6, 3]`` from a plan ``[6, 2]`` or ``[6, 3]`` (x, y and, if given, yaw).

    Without yaw it follows from central differences, or stays zero where the plan goes less than
    0.5 m in all (SparseDrive's rule). Raises ValueError on another shape or a number that is not finite.
    """
    plan = np.asarray(plan, float)
    if plan.shape not in ((STEPS, 2), (STEPS, 3)):
        raise ValueError(f"plan: expected shape (6, 2) or (6, 3) for 0.5 s to 3 s, got {plan.shape}")
    if not np.isfinite(plan).all():
        raise ValueError("plan: expected finite numbers")
    if plan.shape[1] == 3:
        return plan
    points = np.concatenate([np.zeros((1, 2)), plan])
    if np.linalg.norm(points[-1]) < 0.5:
        return np.column_stack([plan, np.zeros(STEPS)])
    way = np.concatenate([points[2:] - points[:-2], points[-1:] - points[-2:-1]])
    return np.column_stack([plan, np.arctan2(way[:, 1], way[:, 0])])


def lidar_points(pose: np.ndarray) -> np.ndarray:
    """Where the LiDAR is, ``[..., 2]`` forward and left of where it was at the key frame, from rear-axle poses.

    The codebases plan and measure in the LiDAR frame; our trajectories belong to the rear axle,
    0.985793 m behind.
    """
    ahead = LIDAR_AHEAD * np.stack([np.cos(pose[..., 2]) - 1.0, np.sin(pose[..., 2])], -1)
    return pose[..., :2] + ahead


def displacement(plan: np.ndarray, sample: OpenLoopSample) -> np.ndarray:
    """e_k ``[6]`` (m): distance of planned ``[6, 3]`` from recorded LiDAR positions."""
    return np.linalg.norm(lidar_points(plan) - lidar_points(sample.recorded), axis=-1)


# -- the three protocols --------------------------------------------------------------------
def uniad_noavg(samples: list[OpenLoopSample], plans: list[np.ndarray]) -> ProtocolResult:
    """UniAD: every key frame counts, steps after the end of the scene as error 0 and no collision.

    Values at the instant. Vehicles (cycles included, no pedestrians) annotated at that step, on a
    0.5 m grid; ego keeps its initial heading; steps at which the recorded ego "collides" are left out.
    """
    error, hit = np.zeros((len(samples), STEPS)), np.zeros((len(samples), STEPS))
    for i, (sample, plan) in enumerate(zip(samples, plans)):
        known = sample.future
        error[i, known] = displacement(plan, sample)[known]
        agents = (sample.agent_class <= AgentClass.BICYCLE)[:, None] & sample.present[:, 1:]
        hit[i] = known & _filtered_grid_hits(plan, sample, agents, open_loop_grid.UNIAD)
    return ProtocolResult("uniad_noavg", len(samples), _at(error), _percent(_at(hit)))


def vad_temavg(samples: list[OpenLoopSample], plans: list[np.ndarray]) -> ProtocolResult:
    """VAD (after ST-P3): only key frames with three seconds of future; values averaged over time.

    Vehicles and pedestrians annotated now and without interruption until then; grid, heading and
    filter as UniAD, with VAD's flipped rows.
    """
    kept = [(s, p) for s, p in zip(samples, plans) if s.future.all()]
    error, hit = np.zeros((len(kept), STEPS)), np.zeros((len(kept), STEPS))
    for i, (sample, plan) in enumerate(kept):
        error[i] = displacement(plan, sample)
        known = np.logical_and.accumulate(sample.present, axis=1)[:, 1:]
        agents = (sample.agent_class != AgentClass.STATIC)[:, None] & known
        hit[i] = _filtered_grid_hits(plan, sample, agents, open_loop_grid.VAD)
    return ProtocolResult("vad_temavg", len(kept), _mean_until(error), _percent(_mean_until(hit)))


def anyhit_exact(
    samples: list[OpenLoopSample], plans: list[np.ndarray], vehicle: VehicleParameters | None = None
) -> ProtocolResult:
    """Ours: a sample collides if any step until then does; oriented boxes, exact polygons, every annotated object.

    collision is the unfiltered rate; extra: the rate with the recorded ego's own hits left out
    ("collision_filtered_percent"), L2 in both conventions ("l2_at_instant_m"; `l2` is averaged
    over time), and the share of samples with a corner off the drivable area.
    """
    vehicle = vehicle or VehicleParameters()
    kept = [(s, p) for s, p in zip(samples, plans) if s.future.all()]
    error = np.zeros((len(kept), STEPS))
    hit, filtered, outside = (np.zeros((len(kept), STEPS), bool) for _ in range(3))
    for i, (sample, plan) in enumerate(kept):
        error[i] = displacement(plan, sample)
        hit[i] = exact_hits(plan, sample, vehicle)
        filtered[i] = hit[i] & ~exact_hits(sample.recorded, sample, vehicle)
        if sample.outside is not None:
            outside[i] = sample.outside(geometry.ego_corners(plan, vehicle))
    extra = {
        "l2_at_instant_m": _at(error),
        "collision_filtered_percent": _percent(_any_until(filtered)),
        "off_road_percent": _percent(_any_until(outside)) if all(s.outside for s, _ in kept) else None,
    }
    return ProtocolResult("anyhit_exact", len(kept), _mean_until(error), _percent(_any_until(hit)), extra)


PROTOCOLS = {"uniad_noavg": uniad_noavg, "vad_temavg": vad_temavg, "anyhit_exact": anyhit_exact}


# -- collisions -----------------------------------------------------------------------------
def exact_hits(plan: np.ndarray, sample: OpenLoopSample, vehicle: VehicleParameters) -> np.ndarray:
    """``[6]`` bool: the true ego box overlaps the box of any object annotated at that step."""
    ego = geometry.ego_corners(plan, vehicle)
    boxes = geometry.box_corners(sample.pose[:, 1:], sample.size[:, None, 0], sample.size[:, None, 1])
    return (geometry.boxes_overlap(ego[None], boxes) & sample.present[:, 1:]).any(0)


def _filtered_grid_hits(
    plan: np.ndarray, sample: OpenLoopSample, agents: np.ndarray, grid: open_loop_grid.GridRule
) -> np.ndarray:
    """c_k ``[6]``: the plan's cells are occupied and the recording's are not. agents ``[A, 6]`` bool: who occupies."""
    corners = geometry.box_corners(sample.pose[:, 1:], sample.size[:, None, 0], sample.size[:, None, 1])
    corners = corners - np.array([LIDAR_AHEAD, 0.0])
    planned, recorded = lidar_points(plan), lidar_points(sample.recorded)
    out = np.zeros(STEPS, bool)
    for k in range(STEPS):
        boxes = corners[agents[:, k], k]
        if open_loop_grid.hits(planned[k], boxes, grid):
            out[k] = not open_loop_grid.hits(recorded[k], boxes, grid)
    return out


# -- conventions of time: values [N, 6] -> one number per horizon ------------------------------
def _at(values: np.ndarray) -> dict[str, float]:
    return _with_mean({name: values[:, k - 1] for name, k in HORIZONS.items()})


def _mean_until(values: np.ndarray) -> dict[str, float]:
    return _with_mean({name: values[:, :k].mean(1) for name, k in HORIZONS.items()})


def _any_until(values: np.ndarray) -> dict[str, float]:
    return _with_mean({name: values[:, :k].any(1) for name, k in HORIZONS.items()})


def _with_mean(by_sample: dict[str, np.ndarray]) -> dict[str, float]:
    out = {name: float(v.mean()) if len(v) else 0.0 for name, v in by_sample.items()}
    return {**out, "avg": float(np.mean(list(out.values())))}


def _percent(shares: dict[str, float]) -> dict[str, float]:
    return {name: 100.0 * share for name, share in shares.items()}
