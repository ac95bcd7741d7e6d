"""Responsibility-Sensitive Safety: the distances and the crossing test, as plain formulas on arrays.

Source: Shalev-Shwartz, Shammah, Shashua, arXiv:1708.06374 (definitions 1, 2, 6; section on intersections as in
ad-rss-lib 5). Everything broadcasts; SI units, magnitudes; longitudinal speeds >= 0, lateral ones positive to the
right. A distance is safe when it is strictly larger than what these functions return.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TINY = 1e-9


@dataclass(frozen=True)
class Party:
    """What RSS assumes of one road user, floats or arrays of one shape ``[...]``.

    response_time (s); acceleration (m/s^2) until then, up to speed_max (m/s); braking_min, braking_correct,
    braking_max (m/s^2); lateral_acceleration, lateral_braking (m/s^2); lateral_margin (m).
    """

    response_time: np.ndarray | float
    acceleration: np.ndarray | float
    speed_max: np.ndarray | float
    braking_min: np.ndarray | float
    braking_correct: np.ndarray | float
    braking_max: np.ndarray | float
    lateral_acceleration: np.ndarray | float
    lateral_braking: np.ndarray | float
    lateral_margin: np.ndarray | float


def same_direction(v_rear: np.ndarray, v_front: np.ndarray, rear: Party, front: Party) -> np.ndarray:
    """Safe distance (m) behind a road user ahead in the same direction, speeds in m/s.

    The rear one responds late, accelerating, then brakes at `braking_min`; the front one brakes at `braking_max`.
    """
    distance = stopping_distance(v_rear, rear, rear.braking_min) - v_front**2 / (2 * front.braking_max)
    return np.maximum(distance, 0.0)


def opposite_direction(v_correct: np.ndarray, v_other: np.ndarray, correct: Party, other: Party) -> np.ndarray:
    """Safe distance (m) between two that drive towards each other: `correct` is in its own lane and need not brake as
    hard."""
    return stopping_distance(v_correct, correct, correct.braking_correct) + stopping_distance(
        v_other, other, other.braking_min
    )


def lateral(v_left: np.ndarray, v_right: np.ndarray, left: Party, right: Party) -> np.ndarray:
    """Safe gap (m) between two beside each other, lateral speeds in m/s, positive to the right.

    Both accelerate towards each other until they respond, then brake sideways. mu + [ ... ]+, as in the paper.
    """
    approach = _sideways(v_left, left) + _sideways(-v_right, right)
    return 0.5 * (left.lateral_margin + right.lateral_margin) + np.maximum(approach, 0.0)


def stopping_distance(v: np.ndarray, party: Party, braking: np.ndarray | float) -> np.ndarray:
    """Distance (m) driven by who accelerates until it responds, then brakes to rest."""
    after, distance = _responding(v, party)
    return distance + after**2 / (2 * braking)


def crossing_safe(
    v_ego: np.ndarray,
    v_other: np.ndarray,
    ego: Party,
    other: Party,
    enter: tuple[np.ndarray, np.ndarray],
    leave: tuple[np.ndarray, np.ndarray],
    priority: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Whether two on crossing ways are safe from each other, ``[...]`` bool.

    enter, leave: distances (m) of (ego, other) to the begin and the end of the shared place, >= 0.
    priority: whether (ego, other) goes first by rule. Safe: one that has no priority can stop before the place; or one
    surely leaves it before the other can reach it.
    """
    stops = [d > stopping_distance(v, p, p.braking_min) for v, p, d in zip((v_ego, v_other), (ego, other), enter)]
    yields = (stops[0] & ~priority[0]) | (stops[1] & ~priority[1])
    earliest = [time_to_cover(v, p, d, hurry=True) for v, p, d in zip((v_ego, v_other), (ego, other), enter)]
    latest = [time_to_cover(v, p, d, hurry=False) for v, p, d in zip((v_ego, v_other), (ego, other), leave)]
    apart = (earliest[0] > latest[1]) | (earliest[1] > latest[0]) | (np.isinf(earliest[0]) & np.isinf(earliest[1]))
    return np.asarray(yields | apart)


def time_to_cover(v: np.ndarray, party: Party, distance: np.ndarray, *, hurry: bool) -> np.ndarray:
    """Time (s) to cover a distance (m); inf for who stops before. hurry: the earliest, accelerating until it responds
    and then braking at `braking_min`; else the latest, braking at `braking_max` from the beginning."""
    v, distance = np.broadcast_arrays(np.asarray(v, float), np.asarray(distance, float))
    if not hurry:
        return _braking_time(v, party.braking_max, distance)
    after, responding = _responding(v, party)
    top = np.maximum(party.speed_max, v)
    gain = np.minimum((top - v) / np.maximum(party.acceleration, _TINY), party.response_time)
    speeding = _speeding_time(v, party.acceleration, distance)
    gained = v * gain + 0.5 * party.acceleration * gain**2
    early = np.where(distance <= gained, speeding, gain + (distance - gained) / np.maximum(top, _TINY))
    late = party.response_time + _braking_time(after, party.braking_min, distance - responding)
    return np.where(distance <= responding, early, late)


def _responding(v: np.ndarray, party: Party) -> tuple[np.ndarray, np.ndarray]:
    """Speed (m/s) and distance (m) at the end of the response time."""
    top = np.maximum(party.speed_max, v)
    after = np.minimum(v + party.acceleration * party.response_time, top)
    gain = np.minimum((top - v) / np.maximum(party.acceleration, _TINY), party.response_time)
    return after, v * gain + 0.5 * party.acceleration * gain**2 + after * (party.response_time - gain)


def _sideways(v: np.ndarray, party: Party) -> np.ndarray:
    """Most distance (m) towards the other of one with lateral speed v (m/s, towards it)."""
    after = v + party.lateral_acceleration * party.response_time
    braking = np.where(after > 0, after**2 / (2 * party.lateral_braking), 0.0)
    return 0.5 * (v + after) * party.response_time + braking


def _speeding_time(v: np.ndarray, acceleration: np.ndarray | float, distance: np.ndarray) -> np.ndarray:
    root = np.sqrt(v**2 + 2 * acceleration * np.maximum(distance, 0.0))
    return np.where(distance <= 0, 0.0, 2 * distance / np.maximum(v + root, _TINY))


def _braking_time(v: np.ndarray, braking: np.ndarray | float, distance: np.ndarray) -> np.ndarray:
    left = v**2 - 2 * braking * np.maximum(distance, 0.0)
    time = 2 * distance / np.maximum(v + np.sqrt(np.maximum(left, 0.0)), _TINY)
    return np.where(distance <= 0, 0.0, np.where(left > 0, time, np.inf))
