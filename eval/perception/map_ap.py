"""Map polylines by MapTR's definition: average precision at Chamfer distances, class by class.

Chamfer distance: half the sum of the two mean nearest-point distances of 100 points each, equally spaced. MapTR in
addition requires the two lines, drawn 2 m wide to each side, to touch; lines nearer than 1.5 m on average always do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from eval.perception.intervals import over_scenes
from eval.perception.precision import Answers, area_precision, match_nearest
from eval.perception.run import Seen
from eval.perception.truth import WINDOW, Truth
from perception.config import LINE_KINDS
from perception.targets import SHORTEST, resample
from planner.scene import MapPolylines, PolylineType

THRESHOLDS = (0.5, 1.0, 1.5)
POINTS = 100
PROTOCOL = (
    f"MapTR Chamfer AP at {', '.join(f'{t:g}' for t in THRESHOLDS)} m in {2 * WINDOW[0]:g} x {2 * WINDOW[1]:g} m "
    f"around ego, {POINTS} points a line; annotated pieces below {SHORTEST:g} m are not asked for"
)
NAMES = {
    PolylineType.DIVIDER: "divider", PolylineType.CROSSING: "crossing", PolylineType.BOUNDARY: "boundary",
    PolylineType.CENTERLINE: "centreline",
}  # fmt: skip
MAPTR = ("divider", "crossing", "boundary")
"""Classes of MapTR's mean; centrelines are told apart."""


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """m between two sets of points ``[n, 2]``."""
    distance = cdist(a, b)
    return float(distance.min(0).mean() + distance.min(1).mean()) / 2


def evaluate_map(
    seen: dict[str, list[Seen]], truth: dict[str, list[Truth]]
) -> tuple[dict[str, Any], dict[Any, Answers]]:
    """AP per class and threshold, means and intervals as JSON values; and the answers behind them."""
    answers = _answers(seen, truth)
    occurring = [name for name in NAMES.values() if answers[name, THRESHOLDS[0]].asked.sum()]
    scored = [name for name in MAPTR if name in occurring]

    def mean(names: list[str]) -> Any:
        def figure(weight: np.ndarray) -> float:
            values = [area_precision(answers[name, limit], weight) for name in names for limit in THRESHOLDS]
            return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

        return over_scenes(figure, len(seen)).facts()

    classes = {}
    for name in NAMES.values():
        one = answers[name, THRESHOLDS[0]]
        ap = {f"{limit:g}": area_precision(answers[name, limit]) for limit in THRESHOLDS}
        classes[name] = {
            "annotated": int(one.asked.sum()), "said": len(one.score),
            "ap": {limit: None if value != value else value for limit, value in ap.items()},
            "mean_ap": mean([name]) if name in occurring else None,
        }  # fmt: skip
    facts = {
        "protocol": PROTOCOL, "classes": classes, "absent": [n for n in NAMES.values() if n not in occurring],
        "mean_ap": mean(scored) | {"classes": scored} if scored else None,
    }  # fmt: skip
    return facts, answers


def said_lines(polylines: MapPolylines) -> list[tuple[str, float, np.ndarray]]:
    """(class, confidence, points ``[n, 2]``) of polylines in the ego frame; stop lines are left out."""
    out = []
    for xy, kind, sure, ok in zip(*(getattr(polylines, n).numpy() for n in ("xy", "kind", "confidence", "valid"))):
        if ok.sum() >= 2 and PolylineType(int(kind)) in NAMES:
            out.append((NAMES[PolylineType(int(kind))], float(sure), xy[ok]))
    return out


def _answers(seen: dict[str, list[Seen]], truth: dict[str, list[Truth]]) -> dict[Any, Answers]:
    rows: dict[Any, list[tuple[float, bool, int]]] = {(n, t): [] for n in NAMES.values() for t in THRESHOLDS}
    asked = {name: np.zeros(len(seen), int) for name in NAMES.values()}
    for index, (scene, frames) in enumerate(seen.items()):
        for one, true in zip(frames, truth[scene], strict=True):
            said = said_lines(one.map)
            for kind, name in NAMES.items():
                lines = [x for x, k in zip(true.line, true.line_kind) if LINE_KINDS[k] is kind]
                given = [(sure, xy) for n, sure, xy in said if n == name]
                asked[name][index] += len(lines)
                score = np.array([sure for sure, _ in given])
                a, b = ([resample(x, POINTS) for x in xs] for xs in ([xy for _, xy in given], lines))
                table = np.array([[chamfer(x, y) for y in b] for x in a]).reshape(len(a), len(b))
                for limit in THRESHOLDS:
                    found = match_nearest(score, table, limit)
                    rows[name, limit] += [(s, j >= 0, index) for s, j in zip(score, found)]
    out = {}
    for (name, limit), column in rows.items():
        score, right, where = (np.array([r[i] for r in column]) for i in range(3))
        out[name, limit] = Answers(score, right.astype(bool), where.astype(int), asked[name])
    return out
