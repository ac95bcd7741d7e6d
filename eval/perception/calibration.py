"""Is the said confidence true: existence against how often it is so, regions against how often they hold the truth.

Judged on scenes that the calibration was not found on. What the network itself said, before calibration, is worked
back from the checkpoint's calibration, which is known and invertible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.perception.detection import SURE
from eval.perception.intervals import over_scenes
from eval.perception.matches import REACH, Frame
from eval.perception.truth import STEP
from perception.calibrate import LIKELY, calibration_error
from perception.calibration import Calibration
from planner.scene import AgentClass

BINS = 10
REGIONS = (0.5, 0.9)
"""Probabilities of the regions whose coverage is counted."""
HORIZONS = (0.0, 1.0, 3.0, 6.0)
"""s; 0 is the position now."""
_FLOOR = 1e-8 * np.eye(2)  # m^2: keeps a covariance that was stored as zero solvable
FEWEST = 30
"""Examples below which a class is not told."""
PROTOCOL = (
    f"existence: a detection is right if it matches an annotated object of its class within {REACH:g} m (greedy by "
    f"confidence; matches of objects without a LiDAR point left out), {BINS} equal bins. Regions: Gaussian ellipses "
    f"of right detections with existence at least {SURE:g}; of forecasts the nearest mode of probability at least "
    f"{LIKELY:g}"
)


def calibration_scenes(facts: dict[str, Any], version: str, split: str, scenes: Sequence[str]) -> list[str]:
    """Those of `scenes` that a checkpoint's calibration was found on, as `dualdrive train` chooses them.

    facts: of the checkpoint. Empty where it was found on another split or not at all.
    """
    found_on = str((facts.get("calibration") or {}).get("found_on", ""))
    if found_on.startswith(f"{version} {split},") and "every second scene" in found_on:
        return list(scenes[1::2])
    return []


def evaluate_calibration(frames: Sequence[Frame], calibration: Calibration, scenes: int) -> dict[str, Any]:
    """Reliability of existence and coverage of regions before and after calibration, as JSON values."""
    judged = [_judged(f) for f in frames]
    existence = np.concatenate([f.existence[j] for f, j in zip(frames, judged)]) if frames else np.zeros(0)
    kind = np.concatenate([f.kind[j] for f, j in zip(frames, judged)]).astype(int) if frames else np.zeros(0, int)
    right = np.concatenate([f.found[j] >= 0 for f, j in zip(frames, judged)]) if frames else np.zeros(0, bool)
    scene = np.repeat([f.index for f in frames], [len(j) for j in judged]).astype(int)
    before = uncalibrated(existence, kind, calibration)
    out: dict[str, Any] = {"protocol": PROTOCOL, "answers": len(right), "found_on": calibration.found_on}
    for name, probability in (("before", before), ("after", existence)):

        def error(weight: np.ndarray, probability: np.ndarray = probability) -> float:
            return weighted_error(probability, right, weight[scene])

        classes = {
            k.name.lower(): calibration_error(probability[kind == k], right[kind == k], BINS)
            for k in AgentClass
            if (kind == k).sum() >= FEWEST
        }
        out[name] = {
            "existence_error": over_scenes(error, scenes).facts(),
            "classes": classes,
            "bins": reliability(probability, right),
        }
    out["coverage"] = _coverage(frames, calibration)
    return out


def uncalibrated(existence: np.ndarray, kind: np.ndarray, calibration: Calibration) -> np.ndarray:
    """``[n]`` the network's own probabilities from the calibrated ones: p = sigmoid(a l + b) is solved for l."""
    a, b = np.array(calibration.existence)[kind.astype(int)].T if len(kind) else np.zeros((2, 0))
    sure = np.clip(existence, 1e-7, 1 - 1e-7)
    return 1 / (1 + np.exp(-(np.log(sure / (1 - sure)) - b) / a))


def weighted_error(probability: np.ndarray, right: np.ndarray, weight: np.ndarray) -> float:
    """Expected calibration error of weighted answers; nan without any."""
    if weight.sum() == 0:
        return float("nan")
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, weight * (probability - right), BINS)
    return float(np.abs(gap).sum() / weight.sum())


def reliability(probability: np.ndarray, right: np.ndarray) -> list[dict[str, float | int | None]]:
    """Per bin: how many answers, their mean probability, the share of them that is right."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    out: list[dict[str, float | int | None]] = []
    for b in range(BINS):
        here = place == b
        some = bool(here.any())
        out.append({
            "from": b / BINS, "to": (b + 1) / BINS, "answers": int(here.sum()),
            "said": float(probability[here].mean()) if some else None,
            "right": float(right[here].mean()) if some else None,
        })  # fmt: skip
    return out


def _judged(frame: Frame) -> np.ndarray:
    """Rows that say something about the network: not those that found an object which no sensor saw."""
    found = frame.found
    unseen = (found >= 0) & (frame.truth.points[found] == 0) if len(frame.truth.points) else np.zeros(len(found), bool)
    return np.flatnonzero(~unseen)


def _coverage(frames: Sequence[Frame], calibration: Calibration) -> list[dict[str, Any]]:
    """Share of truths inside the regions, per class and horizon, before and after calibration."""
    columns: dict[tuple[int, float], list[tuple[float, float]]] = {}
    for f in frames:
        for i in f.right(SURE):
            j, kind = f.found[i], int(f.kind[i])
            away = f.truth.box[j, :2] - f.place[i, :2]
            now = _squared(away[None], f.position_covariance[i][None])[0]
            columns.setdefault((kind, 0.0), []).append((now * calibration.position[kind] ** 2, now))
            likely = f.probability[i] >= LIKELY
            if kind == AgentClass.STATIC or not likely.any():
                continue
            for horizon in HORIZONS[1:]:
                step = round(horizon / STEP) - 1
                if not f.truth.future_valid[j, step]:
                    continue
                away = f.truth.future[j, step] - f.mean[i, likely, step]
                after = f.covariance[i, likely, step]
                before = _uncalibrated_covariance(after, f.position_covariance[i], kind, step, calibration)
                pair = float(_squared(away, before).min()), float(_squared(away, after).min())
                columns.setdefault((kind, horizon), []).append(pair)
    out = []
    for kind in AgentClass:
        for horizon in HORIZONS:
            pairs = np.array(columns.get((int(kind), horizon), [])).reshape(-1, 2)
            if len(pairs) >= FEWEST:
                row: dict[str, Any] = {"class": kind.name.lower(), "horizon": horizon, "examples": len(pairs)}
                for c, name in enumerate(("before", "after")):
                    # A Gaussian in the plane: its region of probability p has the squared radius -2 ln(1 - p).
                    row[name] = {f"{p:g}": float((pairs[:, c] <= -2 * math.log(1 - p)).mean()) for p in REGIONS}
                out.append(row)
    return out


def _uncalibrated_covariance(
    after: np.ndarray, now: np.ndarray, kind: int, step: int, calibration: Calibration
) -> np.ndarray:
    """Forecast covariances are those of the forecast plus today's; each has its own factor on standard deviations."""
    factor = calibration.future[kind][step] if calibration.future else 1.0
    return (after - now) / factor**2 + now / calibration.position[kind] ** 2


def _squared(away: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """``[n]`` squared Mahalanobis distances."""
    return (away * np.linalg.solve(covariance + _FLOOR, away[..., None])[..., 0]).sum(-1)
