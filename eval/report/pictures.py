"""The per-step pictures of a trace (docs/trace.md) as columns, ready to be packed.

Thousands of small dictionaries would be slow to read and large; one column per field with the number
of entries per step is neither. Predictions are most of the volume, so they are thinned to what the
eye can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from eval.report.pack import Quantised

MODES_WITHIN = 80.0  # m from the ego; farther predictions are not drawn
MODE_PROBABILITY = 0.02  # modes below this are not drawn
MODE_POINTS = 8  # per mode, evenly spread, the last one kept
XY_STEP = 0.02  # m
MODE_STEP = 0.1  # m, predictions


class Words:
    """Strings by number; -1 is "nothing"."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def add(self, word: Any) -> int:
        return -1 if word is None or word == "" else self.words.setdefault(str(word), len(self.words))

    def column(self, words: Iterable[Any]) -> Quantised:
        return Quantised(np.array([self.add(word) for word in words], float), 1.0)


def columns(steps: list[dict[str, Any]], ego_xy: np.ndarray, origin: np.ndarray, *, full: bool) -> dict[str, Any]:
    """Columns of all steps. ego_xy ``[T, 2]`` global; origin ``[2]``: subtracted from every position.

    full: everything; otherwise only what every driver has (baselines).
    """
    words = Words()
    table: dict[str, Any] = {
        "plan": _lines([_part(step, "plan") for step in steps], origin, extra=("v", "time")),
        "state": words.column(step.get("state") for step in steps),
        "explanation": words.column(step.get("explanation") for step in steps),
        "traffic": words.column("; ".join(step.get("traffic") or []) for step in steps),
        "off_plan": np.array([np.hypot(*(step.get("tracking_error") or [np.nan] * 2)[:2]) for step in steps]),
        "observe_ms": np.array([_number(step.get("observe_ms")) for step in steps]),
    }
    if full:
        checks = [step.get("check") for step in steps]
        table |= {
            "tail": _lines([_part(step, "tail") for step in steps], origin),
            "candidates": _candidates(steps, words, origin),
            "modes": _modes(steps, words, ego_xy, origin),
            "active": _active(steps, words, origin),
            "accepted": _column([-1 if check is None else int(bool(check.get("accepted"))) for check in checks]),
            "worst_margin": np.array([_number((check or {}).get("worst_margin")) for check in checks]),
            "violations": _findings([(check or {}).get("violations") for check in checks], words),
            "rejected": _findings([step.get("rejected") for step in steps], words),
            "reference": _lines([{"xy": step.get("reference")} for step in steps], origin),
        }
    if any("perceived" in step for step in steps):
        table["perceived"] = _perceived(steps, words, origin)
    return {**table, "words": list(words.words)}


def _part(step: dict[str, Any], name: str) -> dict[str, Any]:
    return step.get(name) or {}


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _column(values: list[Any], step: float = 1.0) -> Quantised:
    return Quantised(np.array(values, float), step)


def _xy(points: Any) -> np.ndarray:
    """``[n, 2]``; empty for None, for an empty list and where a number is not finite."""
    xy = np.asarray(points if points is not None else [], float).reshape(-1, 2)
    return xy if np.isfinite(xy).all() else xy[:0]


def _joined(lines: list[np.ndarray], origin: np.ndarray, step: float = XY_STEP) -> Quantised:
    return Quantised(np.concatenate([np.zeros((0, 2)), *lines]) - (origin if lines else 0.0), step)


def _lines(parts: list[dict[str, Any]], origin: np.ndarray, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """One polyline per step; `extra` values per point, NaN where a step lacks them."""
    lines = [_xy(part.get("xy")) for part in parts]
    table: dict[str, Any] = {"points": _column([len(line) for line in lines]), "xy": _joined(lines, origin)}
    for name in extra:
        given = [np.asarray(part.get(name) or [], float) for part in parts]
        fitting = [g if len(g) == len(line) else np.full(len(line), np.nan) for g, line in zip(given, lines)]
        table[name] = np.concatenate([np.zeros(0), *fitting])
    return table


def _candidates(steps: list[dict[str, Any]], words: Words, origin: np.ndarray) -> dict[str, Any]:
    found = [step.get("candidates") or [] for step in steps]
    flat = [candidate for step in found for candidate in step]
    lines = [_xy(candidate.get("xy")) for candidate in flat]
    return {
        "n": _column([len(step) for step in found]),
        **{name: words.column(candidate.get(name) for candidate in flat) for name in ("decision", "kind", "status")},
        "cost": np.array([_number(candidate.get("cost")) for candidate in flat]),
        "points": _column([len(line) for line in lines]),
        "xy": _joined(lines, origin),
    }


def _modes(steps: list[dict[str, Any]], words: Words, ego_xy: np.ndarray, origin: np.ndarray) -> dict[str, Any]:
    counts: list[int] = []
    ids: list[Any] = []
    probability: list[float] = []
    lines: list[np.ndarray] = []
    sigmas: list[np.ndarray] = []
    for step, ego in zip(steps, ego_xy):
        before = len(lines)
        for mode in step.get("modes") or []:
            xy = _xy(mode.get("xy"))
            if not len(xy) or mode["p"] < MODE_PROBABILITY or np.hypot(*(xy[0] - ego)) > MODES_WITHIN:
                continue
            keep = _spread(len(xy))
            sigma = np.asarray(mode.get("sigma") or np.zeros(len(xy)), float)
            ids.append(mode.get("track_id"))
            probability.append(mode["p"])
            lines.append(xy[keep])
            sigmas.append(sigma[keep])
        counts.append(len(lines) - before)
    return {
        "n": _column(counts),
        "id": words.column(ids),
        "p": _column(probability, 0.01),
        "points": _column([len(line) for line in lines]),
        "xy": _joined(lines, origin, MODE_STEP),
        "sigma": Quantised(np.nan_to_num(np.concatenate([np.zeros(0), *sigmas])), 0.05),
    }


@lru_cache
def _spread(points: int) -> np.ndarray:
    """Indices of at most MODE_POINTS of so many points, evenly spread, the last one among them."""
    return np.unique(np.linspace(points - 1, 0, min(points, MODE_POINTS)).round().astype(int))


def _perceived(steps: list[dict[str, Any]], words: Words, origin: np.ndarray) -> dict[str, Any]:
    """Boxes as perception told them, where that is not the truth."""
    found = [step.get("perceived") or [] for step in steps]
    flat = [box for step in found for box in step]
    return {
        "n": _column([len(step) for step in found]),
        "id": words.column(box["track_id"] for box in flat),
        "class": _column([box["class"] for box in flat]),
        "xy": _joined([_xy(box["xy"]) for box in flat], origin),
        "yaw": _column([box["yaw"] for box in flat], 0.002),
        "size": Quantised(np.array([box["size"] for box in flat], float).reshape(-1, 2), 0.01),
        "p": _column([box["p"] for box in flat], 0.01),
    }


def _active(steps: list[dict[str, Any]], words: Words, origin: np.ndarray) -> dict[str, Any]:
    rows = [step.get("active") or [] for step in steps]
    flat = [row for step in rows for row in step]
    places = [(_xy(row["xy"]) - origin)[0] if row.get("xy") is not None else np.full(2, np.nan) for row in flat]
    return {
        **_findings(rows, words),
        "dual": np.array([_number(row.get("dual")) for row in flat]),
        "xy": np.array(places).reshape(-1),
    }


def _findings(rows: list[list[dict[str, Any]] | None], words: Words) -> dict[str, Any]:
    """Columns that active rows, violations and rejections share."""
    flat = [row for step in rows for row in step or []]
    ids = [None if row.get("track_id", -1) in (None, -1) else row["track_id"] for row in flat]
    return {
        "n": _column([len(step or []) for step in rows]),
        "rule": words.column(row.get("rule") for row in flat),
        "decision": words.column(row.get("decision") for row in flat),
        "id": words.column(ids),
        "time": np.array([_number(row.get("time")) for row in flat]),
        "margin": np.array([_number(row.get("margin")) for row in flat]),
    }
