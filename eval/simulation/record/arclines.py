"""Centrelines as arcs and straight pieces: the form in which the map expansion keeps them (`arcline_path_3`)."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = 0.02
"""m: how far a piece may leave the points it stands for."""
STRAIGHT = 1e6
"""m: radius written for straight pieces."""


def arcline_path(line: np.ndarray) -> list[dict[str, Any]]:
    """Pieces of constant curvature along a polyline ``[n, 2]`` (m), each as long as TOLERANCE allows.

    A piece starts at one of the points, in the direction of the curve there, and ends at another. Raises ValueError
    for fewer than two different points.
    """
    line = np.asarray(line, dtype=float)[:, :2]
    kept = np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 1e-6])
    line = line[kept]
    if len(line) < 2:
        raise ValueError(f"arcline_path: expected at least two different points, got {len(line)}")
    heading = _headings(line)
    pieces: list[dict[str, Any]] = []
    first = 0
    while first < len(line) - 1:
        last = first + 1
        while last + 1 < len(line) and _leaves(line, heading, first, last + 1) <= TOLERANCE:
            last += 1
        pieces.append(_piece(line, heading, first, last))
        first = last
    return pieces


def _headings(line: np.ndarray) -> np.ndarray:
    """``[n]`` rad: direction of the circle through each point and its neighbours; at the ends through three points."""
    step = np.diff(line, axis=0)
    chord = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    if len(line) == 2:
        return np.repeat(chord, 2)
    length = np.hypot(*step.T)
    bend = np.diff(chord) / (length[:-1] + length[1:])  # half the curvature
    inner = chord[:-1] + bend * length[:-1]
    return np.concatenate([[chord[0] - bend[0] * length[0]], inner, [chord[-1] + bend[-1] * length[-1]]])


def _arc(line: np.ndarray, heading: np.ndarray, first: int, last: int) -> tuple[float, float]:
    """Curvature (1/m) and length (m) of the arc from one point, along its heading, to another."""
    chord = line[last] - line[first]
    distance = float(np.hypot(*chord))
    turn = float((np.arctan2(chord[1], chord[0]) - heading[first] + np.pi) % (2 * np.pi) - np.pi)
    return 2 * np.sin(turn) / distance, distance * (turn / np.sin(turn) if abs(turn) > 1e-9 else 1.0)


def _leaves(line: np.ndarray, heading: np.ndarray, first: int, last: int) -> float:
    """m: largest distance of the points between from the arc; infinite where the arc turns more than a right angle."""
    curvature, length = _arc(line, heading, first, last)
    if abs(curvature * length) > np.pi / 2:
        return np.inf
    c, s = np.cos(heading[first]), np.sin(heading[first])
    away = line[first + 1 : last] - line[first]
    along, across = c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0]
    if abs(curvature) < 1 / STRAIGHT:
        return float(np.abs(across).max(initial=0.0))
    return float(np.abs(np.hypot(along, across - 1 / curvature) - abs(1 / curvature)).max(initial=0.0))


def _piece(line: np.ndarray, heading: np.ndarray, first: int, last: int) -> dict[str, Any]:
    curvature, length = _arc(line, heading, first, last)
    straight = abs(curvature) < 1 / STRAIGHT
    end = heading[first] + (0.0 if straight else curvature * length)
    return {
        "start_pose": [round(float(v), 6) for v in (*line[first], _wrapped(heading[first]))],
        "end_pose": [round(float(v), 6) for v in (*line[last], _wrapped(end))],
        "shape": "RSR" if curvature < 0 else "LSL",
        "radius": STRAIGHT if straight else 1 / abs(curvature),
        "segment_length": [0.0, length, 0.0] if straight else [length, 0.0, 0.0],
    }


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
