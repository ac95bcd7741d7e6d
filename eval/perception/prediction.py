"""Forecasts of the agents that were seen, by the devkit's prediction metrics, beside simpler forecasts.

All compared forecasts are about the same true positives. Three start from the same perceived state (position,
velocity, size); the last one knows the annotated state, which no perception does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.perception.detection import SURE
from eval.perception.intervals import over_scenes
from eval.perception.matches import REACH, Frame
from eval.perception.truth import STEP
from eval.run.store import write_atomic
from perception.forecast import forecast
from perception.recording import ObjectStates
from perception.road_map import RoadMap
from planner.scene import AgentClass

PROTOCOL = (
    f"nuScenes devkit prediction metrics (2 Hz) on true positives: existence at least {SURE:g}, class right, centre "
    f"within {REACH:g} m; only objects annotated over the whole horizon"
)
NETWORK, CONSTANT, LANES, TRUE = (
    "network", "constant velocity", "lane following", "constant velocity from the true state",
)  # fmt: skip
METHODS = (NETWORK, CONSTANT, LANES, TRUE)
HORIZONS = (3.0, 6.0)
MODES = (1, 5, 6)
TOLERANCE = 2.0
"""m: a forecast all of whose modes are farther off than this somewhere is a miss."""
MOVING = 0.5
"""m/s of annotated speed above which an object counts as moving."""
_GROUPS: dict[str, tuple[int, ...]] = {
    "all": tuple(int(k) for k in AgentClass if k != AgentClass.STATIC),
    "vehicles": tuple(int(k) for k in AgentClass if k.is_vehicle),
    "pedestrians": (int(AgentClass.PEDESTRIAN),),
}

Rows = list[tuple[Frame, int]]


def evaluate_forecasts(
    frames: Sequence[Frame], roads: dict[str, RoadMap], scenes: int, folder: Path | None = None
) -> dict[str, Any]:
    """minADE_k, minFDE_k and miss rate of 3 s and 6 s, per method and group of agents, as JSON values.

    roads: per scene, for lane following. folder: where to write the network's forecasts over 6 s in the format of the
    devkit's prediction challenge. `moving` holds the same of agents that move.
    """
    rows = [(f, i) for f in frames for i in f.right(SURE) if f.kind[i] != AgentClass.STATIC]
    out: dict[str, Any] = {"protocol": PROTOCOL, "existence": SURE, "tolerance": TOLERANCE, "horizons": {}}
    said = {method: _forecasts(method, frames, roads) for method in METHODS}
    for horizon in HORIZONS:
        steps = round(horizon / STEP)
        known = [(f, i) for f, i in rows if f.truth.future_valid[f.found[i], :steps].all()]
        values = {method: _judge(method, known, said[method], steps) for method in METHODS}
        out["horizons"][f"{horizon:g}"] = _groups(known, values, scenes)
        if folder is not None and horizon == HORIZONS[-1]:
            kept = [_prediction(f, i, said[NETWORK][id(f), i], steps).serialize() for f, i in known]
            write_atomic(folder / "forecasts.json", json.dumps(kept))
    return out


def constant_velocity(place: np.ndarray, velocity: np.ndarray, time: np.ndarray) -> np.ndarray:
    """``[..., T, 2]`` m: straight on from ``[..., 2]``."""
    return place[..., None, :] + velocity[..., None, :] * time[:, None]


def _forecasts(
    method: str, frames: Sequence[Frame], roads: dict[str, RoadMap]
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """(modes ``[M, T, 2]`` global, probabilities ``[M]``) of every judged detection."""
    out = {}
    one = np.ones(1)
    for f in frames:
        rows = f.right(SURE)
        time = np.arange(1, f.truth.future.shape[1] + 1) * STEP
        if method == LANES and len(rows):
            states = ObjectStates(rows.astype(np.int64), f.kind[rows], f.size[rows], f.place[rows], f.velocity[rows])
            lanes = forecast(states, roads[f.truth.scene], time)
        for number, i in enumerate(rows):
            if method == NETWORK:
                said = f.mean[i], f.probability[i]
            elif method == CONSTANT:
                said = constant_velocity(f.place[i, :2], f.velocity[i], time)[None], one
            elif method == TRUE:
                j = f.found[i]
                said = constant_velocity(f.truth.box[j, :2], f.truth.velocity[j], time)[None], one
            else:
                there = lanes.valid[number].all(1)
                said = lanes.mean[number, there], lanes.probability[number, there]
            out[id(f), int(i)] = said
    return out


def _prediction(frame: Frame, row: int, said: tuple[np.ndarray, np.ndarray], steps: int) -> Any:
    from nuscenes.eval.prediction.data_classes import Prediction

    modes, probability = said
    return Prediction(
        frame.truth.instance[frame.found[row]], frame.truth.token, np.round(modes[:, :steps], 3), probability
    )


def _judge(
    method: str, rows: Rows, said: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]], steps: int
) -> np.ndarray:
    """``[n, 3, k]``: minADE, minFDE (m) and misses of each agent, with the k likeliest modes."""
    from nuscenes.eval.prediction.metrics import MinADEK, MinFDEK, MissRateTopK

    ks = list(MODES)
    metrics = MinADEK(ks, []), MinFDEK(ks, []), MissRateTopK(ks, [], tolerance=TOLERANCE)
    out = np.zeros((len(rows), len(metrics), len(ks)))
    for n, (f, i) in enumerate(rows):
        true = f.truth.future[f.found[i], :steps]
        answer = _prediction(f, i, said[id(f), i], steps)
        for m, metric in enumerate(metrics):
            out[n, m] = metric(true, answer)[0]
    return out


def _groups(rows: Rows, values: dict[str, np.ndarray], scenes: int) -> dict[str, Any]:
    kind = np.array([f.kind[i] for f, i in rows], int)
    scene = np.array([f.index for f, _ in rows], int)
    speed = np.array([np.hypot(*f.truth.velocity[f.found[i]]) for f, i in rows])
    out: dict[str, Any] = {}
    for moving in (False, True):
        part = {}
        for group, kinds in _GROUPS.items():
            chosen = np.isin(kind, kinds) & (speed > MOVING if moving else True)
            part[group] = {
                "agents": int(chosen.sum()),
                "methods": {m: _figures(v[chosen], scene[chosen], scenes) for m, v in values.items()},
            }
        out["moving" if moving else "every"] = part
    return out


def _figures(values: np.ndarray, scene: np.ndarray, scenes: int) -> dict[str, Any]:
    names = ("min_ade", "min_fde", "miss_rate")
    return {
        f"{name}_{k}": over_scenes(_mean(values[:, n, c], scene, scenes), scenes).facts()
        for n, name in enumerate(names)
        for c, k in enumerate(MODES)
    }


def _mean(values: np.ndarray, scene: np.ndarray, scenes: int) -> Callable[[np.ndarray], float]:
    total, count = (np.bincount(scene, w, scenes) for w in (values, np.ones(len(values))))

    def figure(weight: np.ndarray) -> float:
        return float(weight @ total / (weight @ count)) if weight @ count else float("nan")

    return figure


def devkit_figures(forecasts: Path, tables: Any, seconds: float, modes: Iterable[int] = MODES) -> dict[str, Any]:
    """What the devkit's `compute_metrics` says of a written file of forecasts; it looks up itself what followed."""
    from nuscenes.eval.prediction.compute_metrics import compute_metrics
    from nuscenes.eval.prediction.config import PredictionConfig
    from nuscenes.eval.prediction.metrics import MinADEK, MinFDEK, MissRateTopK, RowMean
    from nuscenes.prediction import PredictHelper

    ks = list(modes)
    metrics = [kind(ks, [RowMean()]) for kind in (MinADEK, MinFDEK)]
    config = PredictionConfig([*metrics, MissRateTopK(ks, [RowMean()], TOLERANCE)], seconds=seconds)
    return dict(compute_metrics(json.loads(forecasts.read_text()), PredictHelper(tables), config))
