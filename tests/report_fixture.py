"""A synthetic result directory: a drive along a bend past traffic, with every kind of picture the report can show.

Nothing is simulated here; the numbers are only consistent enough to be looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from eval.report import save_geometry
from eval.simulation.trace import Trace
from perception.recording import AgentLog, EgoTrack, Recording
from perception.road_map import Lane, RoadMap
from planner.scene import AgentClass

PLANNERS = ("dualdrive", "expert", "constant_velocity", "idm", "pdm_style")
TRAFFIC = ("log_replay", "idm")
SECONDS, DT = 12.0, 0.1
RADIUS = 60.0  # m, of the bend
RECTANGLE = ((94.0, -1.7), (98.0, -1.7), (98.0, 8.7), (94.0, 8.7), (94.0, -1.7))  # arc, offset of the crossing


def bend(arc: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """Pose ``[n, 3]`` on a road that runs 40 m straight and then turns left; offset (m) to the left."""
    turned = np.clip(arc - 40.0, 0.0, None) / RADIUS
    x = np.minimum(arc, 40.0) + RADIUS * np.sin(turned)
    y = RADIUS * (1 - np.cos(turned))
    return np.stack([1000.0 + x - offset * np.sin(turned), 500.0 + y + offset * np.cos(turned), turned], -1)


def recording(name: str) -> Recording:
    """Two lanes around the bend, an oncoming one; a leader, a bus, a bicycle, a pedestrian and cones."""
    time = np.arange(0.0, SECONDS, DT)
    arc = np.arange(-30.0, 230.0, 1.0)
    lanes = {}
    for lane_id, offset, back in (("own", 0.0, False), ("beside", 3.5, False), ("oncoming", 7.0, True)):
        line = bend(arc, offset)[:, :2]
        lanes[lane_id] = Lane(
            lane_id, line[::-1] if back else line, shapely.LineString(line).buffer(1.75, cap_style="flat"), 11.0
        )
    area = shapely.union_all([lane.polygon for lane in lanes.values()]).buffer(0.6)
    island = shapely.Point(bend(np.array([150.0]), 5.2)[0, :2]).buffer(1.0)
    road = RoadMap(
        "bend", lanes, area.difference(island), dividers=[bend(arc, 1.75)[:, :2], bend(arc, 5.25)[:, :2]],
        crossings=[np.array([bend(np.array([a]), o)[0, :2] for a, o in RECTANGLE])],
        stop_lines=[np.stack([bend(np.array([90.0]), o)[0, :2] for o in (-1.75, 1.75)])],
    )  # fmt: skip
    v = 8.0 + np.sin(time / 2)
    pose = bend(np.cumsum(v) * DT)
    k = np.where(np.cumsum(v) * DT > 40.0, 1 / RADIUS, 0.0)
    return Recording(
        name, "generated", time, 1_600_000_000_000_000, EgoTrack(pose, v, np.gradient(v, DT), k, v * k, "simulation"),
        agents(time), road, ["own"], bend(arc)[:, :2], np.ones(len(time), bool), metadata={"family": "bend", "seed": 3},
    )  # fmt: skip


def agents(time: np.ndarray) -> AgentLog:
    """(class, size, start, speed, offset); the pedestrian crosses and appears late."""
    kinds = [
        (AgentClass.CAR, (4.5, 1.9), 25.0, 7.5, 0.0), (AgentClass.BUS, (11.0, 2.6), 10.0, 5.0, 3.5),
        (AgentClass.CAR, (4.3, 1.8), 190.0, -9.0, 7.0), (AgentClass.BICYCLE, (1.8, 0.6), 45.0, 4.0, -2.0),
        (AgentClass.PEDESTRIAN, (0.7, 0.7), 96.0, 0.0, -4.0), (AgentClass.STATIC, (0.5, 0.5), 70.0, 0.0, -2.2),
        (AgentClass.STATIC, (0.5, 0.5), 74.0, 0.0, -2.2),
    ]  # fmt: skip
    poses, speeds = [], []
    for kind, _, start, speed, offset in kinds:
        pose = bend(start + speed * time, offset)
        if speed < 0:
            pose[:, 2] += np.pi
        if kind is AgentClass.PEDESTRIAN:
            pose = np.stack([bend(np.array([start]), offset + 1.2 * t)[0] for t in time])
            pose[:, 2] += np.pi / 2
        poses.append(pose)
        speeds.append(abs(speed) if kind is not AgentClass.PEDESTRIAN else 1.2)
    pose = np.stack(poses)
    velocity = np.array(speeds)[:, None, None] * np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], -1)
    valid = np.ones(pose.shape[:2], bool)
    valid[4, :20] = False
    return AgentLog(
        [f"agent-{i}" for i in range(len(kinds))], np.arange(len(kinds)) + 7, np.array([int(k[0]) for k in kinds]),
        np.array([k[1] for k in kinds]), np.full(len(kinds), 1.6), pose, velocity, valid,
    )  # fmt: skip


def picture(step: int, arc: float, v: float, log: AgentLog, agent_arc: np.ndarray) -> dict[str, Any]:
    """One step of docs/trace.md, all keys used; steps 60 to 66 have a rejected candidate, 64 to 66 drive the tail."""
    ahead = np.arange(0.0, 6.01, 0.5)
    rounded = lambda pose: pose[:, :2].round(2).tolist()  # noqa: E731
    xy = lambda offset, speed: rounded(bend(arc + speed * ahead, offset * (1 - np.exp(-ahead))))  # noqa: E731
    stop = np.minimum(v * ahead - 1.5 * ahead**2, v * v / 6) * (ahead < v / 3) + v * v / 6 * (ahead >= v / 3)
    refused = 60 <= step < 67
    modes = [
        {"track_id": int(log.track_id[i]), "p": p, "xy": rounded(bend(agent_arc[i] + s * v * ahead[1:], o)),
         "sigma": (0.2 + 0.25 * ahead[1:]).round(2).tolist()}
        for i, o0 in ((0, 0.0), (1, 3.5), (2, 7.0), (3, -2.0)) for p, s, o in ((0.7, 0.8, o0), (0.25, 0.3, o0 + 1.0))
    ]  # fmt: skip
    finding = {"rule": "occupancy", "track_id": 11, "time": 2.1, "margin": -0.21}
    active = [
        {"rule": "obstacle", "track_id": 7, "time": 2.4, "margin": 0.0, "dual": round(4 + 3 * np.sin(step / 9), 3),
         "xy": xy(0, v)[4]},
        {"rule": "corridor_right", "track_id": -1, "time": 1.0, "margin": 0.001, "dual": 0.4, "xy": xy(-1, v)[2]},
        {"rule": "speed_limit", "track_id": -1, "time": 3.0, "margin": 0.0, "dual": 0.05, "xy": None},
    ]  # fmt: skip
    return {
        "plan": {"xy": xy(0, v), "v": (v + 0 * ahead).tolist(), "time": ahead.tolist()},
        "tail": {"xy": rounded(bend(arc + stop))},
        "candidates": [
            {"decision": "yield to 7", "kind": "yield", "status": "solved", "cost": 12.5, "xy": xy(0, v)},
            {"decision": "pass 7 on the left", "kind": "left", "status": "solved", "cost": 14.0, "xy": xy(3, v * 1.1)},
            {"decision": "hold", "kind": "hold", "status": "infeasible", "cost": None, "xy": []},
        ],
        "modes": modes,
        "active": active if step % 50 else [],
        "check": {"accepted": not 64 <= step < 67, "violations": [finding] if 64 <= step < 67 else []},
        "rejected": [{"decision": "pass 7 on the left", **finding}] if refused else [],
        "state": "DEGRADED" if 64 <= step < 67 else "NORMAL",
        "explanation": f"Held back {1 + 0.01 * step:.1f} m/s by car 7 at 2.4 s; </script><b>not markup</b>.",
        "tracking_error": [0.02, -0.01, 0.001],
        "traffic": ["car 9 waits: its first pose is occupied"] if step == 30 else [],
        "observe_ms": 8.5,
        **({"reference": rounded(bend(arc + np.arange(0.0, 60.0, 4.0)))} if step == 0 else {}),
    }


def trace(rec: Recording, planner: str, traffic: str, seed: int = 0) -> Trace:
    """The recorded drive at a planner's own pace."""
    log, rng = rec.agents, np.random.default_rng([seed, PLANNERS.index(planner), TRAFFIC.index(traffic)])
    pace = {"dualdrive": 0.95, "expert": 1.0, "constant_velocity": 1.1, "idm": 0.85, "pdm_style": 0.9}[planner]
    v = rec.ego.v * pace
    arc = np.cumsum(v) * DT
    pose = bend(arc, 0.2 * np.sin(arc / 15))
    steps, ours = len(rec.time), planner == "dualdrive"
    gap = np.linalg.norm(log.pose[..., :2] - pose[None, :, :2], axis=-1) - 3.0
    agent_arc = np.array([25.0, 10.0, 190.0, 45.0])[:, None] + np.array([7.5, 5.0, -9.0, 4.0])[:, None] * rec.time
    refuge = [64 <= step < 67 and ours for step in range(steps)]
    default = {"dualdrive": "candidate", "expert": "replay"}.get(planner, "baseline")
    agent_pose = log.pose + (0.3 if traffic == "idm" else 0.0)
    return Trace(
        scenario=rec.name, planner=planner, traffic=traffic, seed=seed, time=rec.time, pose=pose, v=v,
        a=np.gradient(v, DT), curvature=rec.ego.curvature, yaw_rate=v * rec.ego.curvature, track_id=log.track_id,
        agent_class=log.agent_class, size=log.size, agent_pose=agent_pose, agent_velocity=log.velocity,
        agent_valid=log.valid, source=["tail" if r else default for r in refuge],
        reason=["candidate rejected: occupancy 11" if r else "" for r in refuge],
        tail_accepted=np.full(steps, ours), cycle_ms=rng.gamma(9, 6 if ours else 0.3, steps),
        solve_ms=rng.gamma(9, 3, steps) * ours, check_ms=rng.gamma(9, 1, steps) * ours,
        min_gap=np.where(log.valid, gap, np.inf).min(axis=0),
        steps=[picture(i, arc[i], v[i], log, agent_arc[:, i]) for i in range(steps)] if ours else [{}] * steps,
    )  # fmt: skip


def write_run(run_dir: Path, scenarios: int = 2, planners: tuple[str, ...] = PLANNERS) -> Path:
    """A complete result directory, except that the last scenario failed for the last planner in IDM traffic."""
    lines = []
    for number in range(scenarios):
        rec = recording(f"bend-{number:02d}")
        save_geometry(rec, run_dir / "recordings" / f"{rec.name}.npz")
        for planner in planners:
            for traffic in TRAFFIC:
                failed = number == scenarios - 1 and planner == planners[-1] and traffic == TRAFFIC[-1]
                lines.append(_line(run_dir, rec, planner, traffic, number, failed))
    run_dir.joinpath("scenarios.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = {
        "schema": 1, "status": "completed", "seed": 0, "samples": scenarios, "sample_list_hash": "0123456789abcdef",
        "started": "2026-01-01T00:00:00+00:00", "versions": {"dualdrive": "0.1.0"},
    }  # fmt: skip
    run_dir.joinpath("manifest.json").write_text(json.dumps(manifest))
    run_dir.joinpath("summary.json").write_text(json.dumps({"schema": 1, "command": "drive", "runs": []}))
    run_dir.joinpath("config.yaml").write_text("seed: 0\ntraffic: [log_replay, idm]\n")
    return run_dir


def _line(run_dir: Path, rec: Recording, planner: str, traffic: str, seed: int, failed: bool) -> dict[str, Any]:
    name = f"traces/{planner}/{traffic}/{rec.name}.npz"
    score = {"dualdrive": 0.93, "expert": 0.97, "constant_velocity": 0.0, "idm": 0.71, "pdm_style": 0.9}[planner]
    hit = planner == "constant_velocity"
    metrics = {
        "cls": {"value": score, "valid": True, "unit": "score"},
        "at_fault_collisions": {"value": float(hit), "valid": True, "unit": "count"},
        "off_road": {"value": 0.0, "valid": True, "unit": "count"},
        "expert_progress": {"value": 0.95, "valid": True, "unit": "score"},
        "comfort": {"value": None, "valid": False, "unit": "score"},
    }
    path = run_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not failed:
        trace(rec, planner, traffic, seed).save(path)
    return {
        "scenario": rec.name, "planner": planner, "traffic": traffic, "status": "failed" if failed else "completed",
        "error": "ValueError: the sensor went dark" if failed else None, "metrics": {} if failed else metrics,
        "trace": None if failed else name, "state_hash": None,
    }  # fmt: skip
