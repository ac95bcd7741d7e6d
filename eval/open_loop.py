"""Open-loop evaluation: planners asked at every key frame, judged against what was driven and who was there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch

from eval.metrics import open_loop
from eval.metrics.open_loop import PROTOCOLS, STEP, STEPS, OpenLoopSample
from perception.nuscenes import list_scenes, load_recording
from perception.oracle import OraclePerception
from perception.recording import ObjectStates, Recording
from perception.routing import RouteSurface
from planner.scene import EgoState, Trajectory, VectorScene

OpenLoopPlanner = Callable[[VectorScene], np.ndarray | None]
"""Scene -> rear-axle points ``[6, 2]`` or poses ``[6, 3]`` (m, rad) at 0.5 ... 3 s in the ego frame, or None."""

HUMAN, CONSTANT_VELOCITY = "recorded_human", "constant_velocity"
PLAN_TIMES = STEP * np.arange(1, STEPS + 1)


def constant_velocity(scene: VectorScene) -> np.ndarray:
    """Straight on at the present speed: poses ``[6, 3]``."""
    return np.column_stack([float(scene.ego.v) * PLAN_TIMES, np.zeros((STEPS, 2))])


def poses_of(trajectory: Trajectory) -> np.ndarray:
    """Poses ``[6, 3]`` of a trajectory at 0.5 ... 3 s; held at its end where it is shorter."""
    time = trajectory.time.detach().numpy()
    return np.column_stack(
        [np.interp(PLAN_TIMES, time, getattr(trajectory, name).detach().numpy()) for name in ("x", "y", "yaw")]
    )


def samples_of(recording: Recording) -> list[OpenLoopSample]:
    """One sample per key frame. Key frames are steps of the protocols: nuScenes annotates at 2 Hz."""
    frames = np.flatnonzero(recording.keyframe)
    area = recording.road.prepared_drivable
    return [_sample(recording, frames, i, area) for i in range(len(frames))]


def _sample(recording: Recording, frames: np.ndarray, i: int, area: shapely.Geometry) -> OpenLoopSample:
    ego, agents = recording.ego.pose, recording.agents
    now = ego[frames[i]]
    steps = np.clip(i + np.arange(STEPS + 1), 0, len(frames) - 1)
    known = i + np.arange(STEPS + 1) < len(frames)
    at = frames[steps]

    def outside(corners: np.ndarray) -> np.ndarray:
        return ~shapely.contains_xy(area, _to_global(corners, now).reshape(-1, 2)).reshape(-1, 4).all(1)

    return OpenLoopSample(
        scene=recording.name,
        index=i,
        recorded=_to_local(ego[at[1:]], now),
        future=known[1:],
        pose=_to_local(agents.pose[:, at], now),
        size=agents.size,
        agent_class=agents.agent_class,
        present=agents.valid[:, at] & known,
        outside=outside,
    )


def _to_local(pose: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Poses ``[..., 3]`` in the frame of the pose origin ``[3]``."""
    c, s = np.cos(origin[2]), np.sin(origin[2])
    x, y = pose[..., 0] - origin[0], pose[..., 1] - origin[1]
    yaw = np.angle(np.exp(1j * (pose[..., 2] - origin[2])))
    return np.stack([c * x + s * y, c * y - s * x, yaw], -1)


def _to_global(xy: np.ndarray, origin: np.ndarray) -> np.ndarray:
    c, s = np.cos(origin[2]), np.sin(origin[2])
    return np.stack([c * xy[..., 0] - s * xy[..., 1], s * xy[..., 0] + c * xy[..., 1]], -1) + origin[:2]


class SceneMaker:
    """The planner's view of a recording at its key frames: perfect perception of that moment only."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        surface = RouteSurface(recording.road, recording.route, recording.route_xy)
        self._perception = OraclePerception(recording.road, surface)
        self._frames = np.flatnonzero(recording.keyframe)

    def __call__(self, index: int) -> VectorScene:
        """The scene at key frame number `index`."""
        r, k = self.recording, int(self._frames[index])
        f = lambda value: torch.tensor(float(value), dtype=torch.float64)  # noqa: E731
        x, y, yaw = (f(value) for value in r.ego.pose[k])
        ego = EgoState(
            x=x, y=y, yaw=yaw, v=f(r.ego.v[k]), a=f(r.ego.a[k]), curvature=f(r.ego.curvature[k]),
            yaw_rate=f(r.ego.yaw_rate[k]), v_source=r.ego.source, a_source=r.ego.source,
            time_us=torch.tensor(r.start_us + round(float(r.time[k] - r.time[0]) * 1e6)),
        )  # fmt: skip
        there = r.agents.valid[:, k]
        objects = ObjectStates(
            r.agents.track_id[there], r.agents.agent_class[there], r.agents.size[there],
            r.agents.pose[there, k], r.agents.past_velocity(k, r.dt)[there],
        )  # fmt: skip
        return self._perception.observe(ego, objects, name=r.name)


def evaluate_open_loop(
    dataroot: str | Path,
    version: str,
    planners: Mapping[str, OpenLoopPlanner],
    progress: Callable[[int, int, str], None] | None = None,
    scenes: list[str] | None = None,
) -> dict[str, Any]:
    """All protocols for the planners, constant velocity and the recorded human (the self-test).

    progress: called with (scenes done, scenes, name of the scene done). A planner that returns None
    has its ego stand still, and the result says how often ("without_plan"); what it raises leaves
    this function. Returns JSON-able results, keys as in `docs/metrics.md`. Raises DatasetError for
    missing or damaged data, RuntimeError when the self-test fails.
    """
    names = scenes if scenes is not None else list_scenes(dataroot, version)
    asked: dict[str, OpenLoopPlanner] = {**planners, CONSTANT_VELOCITY: constant_velocity}
    samples: list[OpenLoopSample] = []
    plans: dict[str, list[np.ndarray]] = {name: [] for name in (*asked, HUMAN)}
    without = dict.fromkeys(plans, 0)
    for done, scene_name in enumerate(names, 1):
        recording = load_recording(dataroot, version, scene_name)
        maker = SceneMaker(recording)
        for sample in samples_of(recording):
            samples.append(sample)
            scene = maker(sample.index)
            for name, planner in asked.items():
                plan = planner(scene)
                without[name] += plan is None
                plans[name].append(open_loop.with_heading(np.zeros((STEPS, 3)) if plan is None else plan))
            plans[HUMAN].append(sample.recorded)
        if progress is not None:
            progress(done, len(names), scene_name)
    results = score(samples, plans)
    for name, count in without.items():
        results["planners"][name]["without_plan"] = count
    _self_test(results)
    return results


def score(samples: list[OpenLoopSample], plans: Mapping[str, list[np.ndarray]]) -> dict[str, Any]:
    """Every protocol for every list of plans ``[6, 3]``, over all samples and over those that turn."""
    turning = [i for i, sample in enumerate(samples) if sample.turning]
    listing = "\n".join(f"{sample.scene}:{sample.index}" for sample in samples)
    out: dict[str, Any] = {
        "samples": len(samples),
        "turning_samples": len(turning),
        "sample_list_sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "planners": {},
    }
    for name, planned in plans.items():
        result: dict[str, Any] = {tag: run(samples, planned).to_json() for tag, run in PROTOCOLS.items()}
        if turning:
            result["turning"] = {
                tag: run([samples[i] for i in turning], [planned[i] for i in turning]).to_json()
                for tag, run in PROTOCOLS.items()
            }
        out["planners"][name] = result
    return out


def _self_test(results: dict[str, Any]) -> None:
    """The recorded human must reach itself exactly and, filtered by itself, never collide."""
    human = results["planners"][HUMAN]
    for tag in PROTOCOLS:
        found = human[tag]
        hit = found.get("collision_filtered_percent", found["collision_percent"])
        if max(found["l2_m"].values()) > 1e-9 or max(hit.values()) > 0.0:
            raise RuntimeError(f"open-loop self-test: {tag} of the recorded human is {found}, expected all zero")


def table(results: dict[str, Any], subset: str | None = None) -> list[dict[str, str]]:
    """Rows for people: planner, protocol tag, N, L2 and collision at 1/2/3 s and their mean. subset: "turning"."""
    rows = []
    for planner, result in results["planners"].items():
        part = result if subset is None else result.get(subset, {})
        for tag in PROTOCOLS:
            if tag not in part:
                continue
            found = part[tag]
            rows.append(
                {
                    "planner": planner,
                    "protocol": tag,
                    "N": str(found["samples"]),
                    "L2 m (1/2/3/avg)": "/".join(f"{v:.2f}" for v in found["l2_m"].values()),
                    "collision % (1/2/3/avg)": "/".join(f"{v:.2f}" for v in found["collision_percent"].values()),
                }
            )
    return rows
