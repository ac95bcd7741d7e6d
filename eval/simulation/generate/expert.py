"""The reference driver: knows everything that will happen and drives with care.

It plans on the path-time plane: which stretches of its path are occupied at which time, a
search over grid speeds that decides whom to let go first, and a convex program that turns the
decision into a smooth motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import clarabel
import numpy as np
from scipy import sparse

from eval.simulation.generate import boxes
from eval.simulation.generate.actors import DT, Actor, comfortable_speed
from eval.simulation.generate.curves import Path
from planner.scene import VehicleParameters

CELL = 0.25  # m, grid of the search
SEARCH_DT = 0.5  # s
SEARCH_SPEED = 1.0  # m/s
BRAKING = 7.0  # m/s^2
ACCELERATION = 2.2  # m/s^2
JERK = 9.0  # m/s^3
LEAD_DISTANCE = 2.0  # m, kept behind others at standstill
TIME_GAP = 1.2  # s, wished behind others


class NoSafeDrive(Exception):
    """The reference driver found no motion without contact."""


@dataclass
class Drive:
    """Stations (m along the path, rear axle), speeds and accelerations ``[T]``."""

    s: np.ndarray
    v: np.ndarray
    a: np.ndarray


def occupancy(path: Path, actors: list[Actor], vehicle: VehicleParameters, steps: int) -> np.ndarray:
    """``[S, T]`` bool: with the rear axle at station ``CELL * i`` at time ``DT * k`` ego would come too close."""
    stations = np.arange(0.0, path.length, CELL)
    ego = boxes.rear_axle_to_center(path.pose(stations), vehicle.rear_axle_to_center)
    ego_size = np.array([vehicle.length, vehicle.width])
    taken = np.zeros((len(stations), steps), bool)
    for actor in actors:
        still = np.ptp(actor.pose, axis=0).max() < 1e-9 and actor.valid.all()
        times = np.array([0]) if still else np.flatnonzero(actor.valid)
        vulnerable = actor.body.agent_class.is_vulnerable
        margin = np.array([1.5, 0.6]) if vulnerable else np.array([0.4, 0.25] if still else [1.0, 0.3])
        size = np.array([actor.body.length, actor.body.width]) + 2 * margin
        reach = (np.hypot(*ego_size) + np.hypot(*size)) / 2
        pose = actor.pose[times]
        near = ((ego[:, None, :2] - pose[None, :, :2]) ** 2).sum(-1) < reach**2
        i, k = np.nonzero(near)
        if len(i) == 0:
            continue
        tile = lambda a, n: np.broadcast_to(a, (n, 2))  # noqa: E731
        hit = boxes.separation(ego[i], tile(ego_size, len(i)), pose[k], tile(size, len(i))) < 0
        if still:
            taken[np.unique(i[hit])] = True
        else:
            taken[i[hit], times[k[hit]]] = True
    return taken


def plan_drive(
    path: Path, actors: list[Actor], vehicle: VehicleParameters, steps: int, s0: float, v0: float, limit: float
) -> Drive:
    """The reference drive along the path. Raises NoSafeDrive."""
    taken = occupancy(path, actors, vehicle, steps)
    free_speed = comfortable_speed(path, limit, braking=1.8)
    rough = _search(taken, path, free_speed, s0, v0, limit, steps)
    low, high = _bounds(taken, rough, steps)
    drive = None
    for _ in range(3):
        wish = np.interp(rough, path.s, free_speed)
        drive = _smooth(low, high, wish, s0, v0, limit)
        rough = drive.s
    assert drive is not None
    return drive


def _search(
    taken: np.ndarray, path: Path, free_speed: np.ndarray, s0: float, v0: float, limit: float, steps: int
) -> np.ndarray:
    """Dynamic programming over (time, station, speed); stations ``[T]`` at the recording's times."""
    cells, per = len(taken), int(SEARCH_DT / DT)
    stages = int(np.ceil((steps - 1) / per))
    speeds = np.arange(0, int(np.ceil(limit / SEARCH_SPEED)) + 1)
    wish = np.interp(np.arange(cells) * CELL, path.s, free_speed)
    cost = np.full((len(speeds), cells), np.inf)
    first = min(int(round(v0 / SEARCH_SPEED)), len(speeds) - 1)
    origin = int(round(s0 / CELL))
    cost[first, origin] = 0.0
    came = np.full((stages, len(speeds), cells), -1, np.int8)
    over = np.stack([np.maximum(v * SEARCH_SPEED - wish, 0) ** 2 * 4 for v in speeds])
    slow = np.stack([np.maximum(wish - v * SEARCH_SPEED, 0) for v in speeds]) * 0.4
    for stage in range(stages):
        now = np.minimum(np.arange(stage * per, (stage + 1) * per + 1), steps - 1)
        new = np.full_like(cost, np.inf)
        for v in speeds:
            for change in (-4, -3, -2, -1, 0, 1):
                w = v + change
                if not 0 <= w < len(speeds):
                    continue
                move = v + w  # cells: (v + w) / 2 * SEARCH_DT / CELL with the grid's steps
                middle = int(round(move * 0.5 + (v - w) / 4))
                blocked = taken[move:, now[-1]] | taken[middle : cells - move + middle, now[per // 2]]
                blocked |= taken[middle : cells - move + middle, now[per // 2 + 1]]
                a = change * SEARCH_SPEED / SEARCH_DT
                step = cost[v, : cells - move] + 0.25 * a * a + over[w, move:] + slow[w, move:]
                step = np.where(blocked, np.inf, step)
                better = step < new[w, move:]
                new[w, move:][better] = step[better]
                came[stage, w, move:][better] = v
        cost = new
    if not np.isfinite(cost).any():
        raise NoSafeDrive("every motion along the path meets somebody")
    w, cell = np.unravel_index(int(cost.argmin()), cost.shape)
    nodes = [(int(cell), int(w))]
    for stage in range(stages - 1, -1, -1):
        v = int(came[stage, w, cell])
        w, cell = v, cell - (v + w)
        nodes.append((int(cell), v))
    times = np.arange(stages + 1) * SEARCH_DT
    return np.interp(np.arange(steps) * DT, times, [c * CELL for c, _ in reversed(nodes)])


def _bounds(taken: np.ndarray, rough: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The free interval of stations around the rough motion at each time, ``[T]`` each; inf where open."""
    low, high = np.full(steps, -np.inf), np.full(steps, np.inf)
    for k in range(steps):
        column = taken[:, k]
        here = min(int(round(rough[k] / CELL)), len(column) - 1)
        if column[here]:
            free = np.flatnonzero(~column)
            here = int(free[np.abs(free - here).argmin()])
        above, below = np.flatnonzero(column[here:]), np.flatnonzero(column[:here])
        if len(above):
            high[k] = (here + above[0] - 1) * CELL
        if len(below):
            low[k] = (below[-1] + 1) * CELL
    return low, high


def _smooth(low: np.ndarray, high: np.ndarray, wish: np.ndarray, s0: float, v0: float, limit: float) -> Drive:
    """Smooth motion within the bounds, close to the wished speed; a quadratic program over s, v, a and slack."""
    n = len(low)
    eye, zero = sparse.identity(n, format="csc"), sparse.csc_matrix((n, n))
    ahead, stay = sparse.eye(n - 1, n, k=1), sparse.eye(n - 1, n)
    empty = sparse.csc_matrix((n - 1, n))
    pick = sparse.csc_matrix(([1.0], ([0], [0])), shape=(1, n))
    none = sparse.csc_matrix((1, n))
    # Constant acceleration a[k] within step k, so that s, v and a are exactly consistent.
    equal = sparse.vstack(
        [
            sparse.hstack([ahead - stay, -DT * stay, -(DT**2) / 2 * stay, empty]),
            sparse.hstack([empty, ahead - stay, -DT * stay, empty]),
            sparse.hstack([pick, none, none, none]),
            sparse.hstack([none, pick, none, none]),
        ]
    )
    equal_to = np.concatenate([np.zeros(2 * (n - 1)), [s0, v0]])
    upper, lower = np.flatnonzero(np.isfinite(high)), np.flatnonzero(np.isfinite(low))
    rows = [
        (sparse.hstack([eye, zero, zero, zero]).tocsr()[upper], high[upper]),
        (-sparse.hstack([eye, zero, zero, zero]).tocsr()[lower], -low[lower]),
        (sparse.hstack([eye, TIME_GAP * eye, zero, -eye]).tocsr()[upper], high[upper] - LEAD_DISTANCE),
        (sparse.hstack([zero, eye, zero, zero]), np.full(n, limit)),
        (sparse.hstack([zero, -eye, zero, zero]), np.zeros(n)),
        (sparse.hstack([zero, eye, zero, -eye]), wish),
        (sparse.hstack([zero, zero, eye, zero]), np.full(n, ACCELERATION)),
        (sparse.hstack([zero, zero, -eye, zero]), np.full(n, BRAKING)),
        (sparse.hstack([empty, empty, ahead - stay, empty]), np.full(n - 1, JERK * DT)),
        (sparse.hstack([empty, empty, stay - ahead, empty]), np.full(n - 1, JERK * DT)),
        (sparse.hstack([zero, zero, zero, -eye]), np.zeros(n)),
    ]
    matrix = sparse.vstack([equal, *(m for m, _ in rows)]).tocsc()
    bound = np.concatenate([equal_to, *(b for _, b in rows)])
    jerk = (ahead - stay) / DT
    cost = sparse.block_diag([zero, 0.2 * eye, 1.0 * eye + 0.4 * (jerk.T @ jerk), 1e-4 * eye]).tocsc()
    linear = np.concatenate([np.zeros(n), -0.2 * wish, np.zeros(n), np.full(n, 1.0)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    cones = [clarabel.ZeroConeT(len(equal_to)), clarabel.NonnegativeConeT(len(bound) - len(equal_to))]
    solution = clarabel.DefaultSolver(sparse.triu(cost).tocsc(), linear, matrix, bound, cones, settings).solve()
    if str(solution.status) not in ("Solved", "AlmostSolved"):
        raise NoSafeDrive(f"smoothing failed: {solution.status}")
    x = np.asarray(solution.x)
    return Drive(x[:n], np.maximum(x[n : 2 * n], 0.0), x[2 * n : 3 * n])
