"""Measures the rule-based forecasts on recordings: displacement errors and calibration.

    python benchmarks/forecast.py --dataroot ../shared/data/nuscenes --version v1.0-mini

Every key frame of every scene is a forecast from that moment's boxes and velocities alone; truth are the annotations
up to 6 s later. Per group of road users:
- ADE up to a horizon (m): of constant velocity, of the most probable mode, the probability-weighted mean over
  modes, and of the closest mode.
- share of true positions inside the 1-sigma and 2-sigma ellipse (nominal 39.3 % and 86.5 %) of the closest mode, and
  inside the mixture's highest-density regions of the same nominal content.
- NLL: mean negative log density of the mixture at the truth (nats, m^-2).
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the folder of this file comes first, and planner.py in it would hide the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import time as clock
from collections.abc import Iterable

import numpy as np

from perception.forecast import ForecastConfig, Futures, forecast
from perception.recording import ObjectStates, Recording
from planner.scene import AgentClass

HORIZONS = (1.0, 2.0, 4.0, 6.0)
GROUPS = ("vehicle moving", "vehicle standing", "cyclist moving", "pedestrian moving", "pedestrian standing", "static")
TIME = np.arange(1, 31) * 0.2


def objects_at(recording: Recording, index: int, causal: bool) -> tuple[ObjectStates, np.ndarray]:
    """Objects present at a time, and their indices. causal: velocity from the last 0.5 s where they were there."""
    log = recording.agents
    who = np.flatnonzero(log.valid[:, index])
    velocity = log.velocity[who, index]
    back = index - round(0.5 / recording.dt)
    if causal and back >= 0:
        seen = log.valid[who, back]
        past = (log.pose[who, index, :2] - log.pose[who, back, :2]) / 0.5
        velocity = np.where(seen[:, None], past, velocity)
    return ObjectStates(log.track_id[who], log.agent_class[who], log.size[who], log.pose[who, index], velocity), who


def groups_of(objects: ObjectStates) -> np.ndarray:
    """Index into GROUPS, ``[N]``."""
    cls, speed = objects.agent_class, np.hypot(*objects.velocity.T)
    cyclist = np.isin(cls, (AgentClass.MOTORCYCLE, AgentClass.BICYCLE))
    conditions = [
        cls == AgentClass.STATIC,
        (cls == AgentClass.PEDESTRIAN) & (speed > 0.25), cls == AgentClass.PEDESTRIAN,
        speed <= 0.5, cyclist,
    ]  # fmt: skip
    return np.select(conditions, [5, 3, 4, 1, 2], 0)


def score(
    futures: Futures, objects: ObjectStates, truth: np.ndarray, present: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Per object and horizon ``[N, H]``; NaN where the truth is unknown. truth ``[N, T, 2]``, present ``[N, T]``."""
    free = objects.pose[:, None, :2] + objects.velocity[:, None] * TIME[:, None]
    said = futures.valid.any(-1)
    apart = np.where(said[..., None], np.linalg.norm(futures.mean - truth[:, None], axis=-1), np.inf)
    cv = np.linalg.norm(free - truth, axis=-1)
    names = ("cv", "top", "mean", "min", "nll", "one", "two", "mix_one", "mix_two")
    out = {name: np.full((len(objects), len(HORIZONS)), np.nan) for name in names}
    for h, horizon in enumerate(HORIZONS):
        k = round(horizon / 0.2)
        ok = present[:, k - 1]
        until = np.where(said[..., None], apart, 0.0)[..., :k].mean(-1)
        out["cv"][:, h] = np.where(ok, cv[:, :k].mean(-1), np.nan)
        out["top"][:, h] = np.where(ok, until[:, 0], np.nan)
        out["mean"][:, h] = np.where(ok, (until * futures.probability).sum(-1), np.nan)
        out["min"][:, h] = np.where(ok, np.where(said, until, np.inf).min(-1), np.nan)
        spread = np.where(said[..., None, None], futures.covariance[:, :, k - 1], np.eye(2))
        center, true = futures.mean[:, :, k - 1], truth[:, k - 1]
        near = np.where(said, apart[..., k - 1], np.inf).argmin(-1)
        step = (true - center[np.arange(len(near)), near])[..., None]
        mahalanobis = (step * np.linalg.solve(spread[np.arange(len(near)), near], step)).sum((-1, -2))
        out["one"][:, h], out["two"][:, h] = np.where(ok, [mahalanobis <= 1, mahalanobis <= 4], np.nan)
        log_density = _log_density(true[:, None], center, spread, futures.probability)[:, 0]
        out["nll"][:, h] = np.where(ok, -log_density, np.nan)
        drawn = _draw(center, spread, futures.probability, 200, rng)
        content = (_log_density(drawn, center, spread, futures.probability) > log_density[:, None]).mean(-1)
        out["mix_one"][:, h], out["mix_two"][:, h] = np.where(ok, [content <= 0.3935, content <= 0.8647], np.nan)
    return out


def _log_density(at: np.ndarray, mean: np.ndarray, covariance: np.ndarray, probability: np.ndarray) -> np.ndarray:
    inverse, determinant = np.linalg.inv(covariance), np.linalg.det(covariance)
    step = at[:, :, None] - mean[:, None]
    squares = np.einsum("nsmi,nmij,nsmj->nsm", step, inverse, step)
    scale = probability / (2 * np.pi * np.sqrt(determinant))
    return np.log((scale[:, None] * np.exp(-squares / 2)).sum(-1) + 1e-12)


def _draw(
    mean: np.ndarray, covariance: np.ndarray, probability: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    edges = np.cumsum(probability, 1)[:, None]
    mode = np.minimum((rng.random((len(mean), count))[..., None] > edges).sum(-1), mean.shape[1] - 1)
    root = np.linalg.cholesky(covariance)
    who = np.arange(len(mean))[:, None]
    return mean[who, mode] + np.einsum("nsij,nsj->nsi", root[who, mode], rng.standard_normal((len(mean), count, 2)))


def measure(
    recordings: Iterable[Recording], config: ForecastConfig, causal: bool = False
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """All scores ``[N, H]`` stacked, the group of each object, and the times per call (ms)."""
    columns: list[dict[str, np.ndarray]] = []
    groups, times = [], []
    rng = np.random.default_rng(0)
    for recording in recordings:
        log, steps = recording.agents, np.round(TIME / recording.dt).astype(int)
        for index in range(0, len(recording.time) - steps[4], 5):
            objects, who = objects_at(recording, index, causal)
            begin = clock.perf_counter()
            futures = forecast(objects, recording.road, TIME, config)
            times.append(1e3 * (clock.perf_counter() - begin))
            later = np.minimum(index + steps, len(recording.time) - 1)
            present = log.valid[who][:, later] & (index + steps < len(recording.time))
            columns.append(score(futures, objects, log.pose[who][:, later, :2], present, rng))
            groups.append(groups_of(objects))
    return {k: np.concatenate([c[k] for c in columns]) for k in columns[0]}, np.concatenate(groups), np.array(times)


def table(scores: dict[str, np.ndarray], groups: np.ndarray) -> list[dict[str, float | str]]:
    """One row per group and horizon: counts and means."""
    rows: list[dict[str, float | str]] = []
    for g, name in enumerate(GROUPS):
        for h, horizon in enumerate(HORIZONS):
            known = (groups == g) & np.isfinite(scores["cv"][:, h])
            if known.any():
                means = {k: float(v[known, h].mean()) for k, v in scores.items()}
                rows.append({"group": name, "horizon": horizon, "count": int(known.sum()), **means})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", required=True, help="nuScenes root folder")
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument(
        "--causal", action="store_true", help="velocities from the last 0.5 s instead of the recording's"
    )
    parser.add_argument("--out", type=Path, help="also write the table as JSON")
    arguments = parser.parse_args()
    from perception.nuscenes import list_scenes, load_recording

    names = list_scenes(arguments.dataroot, arguments.version)
    recordings = (load_recording(arguments.dataroot, arguments.version, name) for name in names)
    scores, groups, times = measure(recordings, ForecastConfig(), arguments.causal)
    rows = table(scores, groups)
    print(f"{'group':20s}{'s':>4s}{'count':>7s} |{'CV':>7s}{'top':>7s}{'mean':>7s}{'min':>7s} |"
          f"{'1 sigma':>9s}{'2 sigma':>9s}{'mix 39':>8s}{'mix 86':>8s}{'NLL':>7s}")  # fmt: skip
    for r in rows:
        print(f"{r['group']:20s}{r['horizon']:4.0f}{r['count']:7d} |{r['cv']:7.2f}{r['top']:7.2f}{r['mean']:7.2f}"
              f"{r['min']:7.2f} |{r['one']:9.1%}{r['two']:9.1%}{r['mix_one']:8.1%}{r['mix_two']:8.1%}"
              f"{r['nll']:7.2f}")  # fmt: skip
    p50, p99 = np.percentile(times, [50, 99])
    print(f"forecast: {len(times)} calls, median {p50:.1f} ms, p99 {p99:.1f} ms, slowest {times.max():.0f} ms")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
