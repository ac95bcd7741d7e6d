"""The reference driver: knows everything that will happen and drives with care.

It plans on the path-time plane: which stretches of its path are occupied at which time, a
search over grid speeds that decides whom to let go first, and a convex program that turns the
decision into a smooth motion.
"""

from __future__ import annotations

from collections.abc import Sequence
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
SPEED = 0.2  # weight of the squared difference from the wished speed
COURTESY = 1.0  # s, left to others who come after ego


class NoSafeDrive(Exception):
    """The reference driver found no motion without contact."""


@dataclass
class Drive:
    """Stations (m along the path, rear axle), speeds and accelerations ``[T]``."""

    s: np.ndarray
    v: np.ndarray
    a: np.ndarray


def occupancy(path: Path, actors: list[Actor], vehicle: VehicleParameters, steps: int, until: float) -> np.ndarray:
    """``[S, T]`` bool: with the rear axle at station ``CELL * i`` at time ``DT * k`` ego would come too close.

    Stations up to `until` (m).
    """
    stations = np.arange(0.0, min(path.length, until), CELL)
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
        near = (ego[:, None, 0] - pose[:, 0]) ** 2 + (ego[:, None, 1] - pose[:, 1]) ** 2 < reach**2
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
    path: Path,
    actors: list[Actor],
    vehicle: VehicleParameters,
    steps: int,
    s0: float,
    v0: float,
    limit: float,
    zones: Sequence[tuple[float, float, float]] = (),
) -> Drive:
    """The reference drive along the path, not faster than `limit` (m/s). Raises NoSafeDrive.

    zones: (start m, end m, speed m/s) where it goes more slowly.
    """
    taken = _kept_free(occupancy(path, actors, vehicle, steps, s0 + limit * steps * DT + 20.0))
    free_speed = comfortable_speed(path, limit, braking=1.8, zones=zones)
    rough = _search(taken, path, free_speed, s0, v0, limit, steps)
    low, high = _bounds(taken, rough, steps)
    program = _Smoothing(low, high, s0, v0, limit)
    drive = program.solve(np.interp(rough, path.s, free_speed))
    # The wished speed depends on where ego is; twice is enough for the two to agree.
    for _ in range(2):
        drive = program.solve(np.interp(drive.s, path.s, free_speed))
    return drive


def _kept_free(taken: np.ndarray) -> np.ndarray:
    """Nobody has to brake for the reference driver: places others reach within `COURTESY` count as taken."""
    out = taken.copy()
    for j in range(1, round(COURTESY / DT) + 1):
        out[:, :-j] |= taken[:, j:]
    return out


def _search(
    taken: np.ndarray, path: Path, free_speed: np.ndarray, s0: float, v0: float, limit: float, steps: int
) -> np.ndarray:
    """Dynamic programming over (time, station, speed); stations ``[T]`` at the recording's times."""
    cells, per = len(taken), int(SEARCH_DT / DT)
    stages = int(np.ceil((steps - 1) / per))
    speeds = np.arange(0, int(np.ceil(limit / SEARCH_SPEED)) + 1)
    wish = np.interp(np.arange(cells) * CELL, path.s, free_speed)
    cost = np.full((len(speeds), cells), np.inf)
    first = min(round(v0 / SEARCH_SPEED), len(speeds) - 1)
    origin = round(s0 / CELL)
    cost[first, origin] = 0.0
    came = np.full((stages, len(speeds), cells), -1, np.int8)
    price = np.stack([4 * np.maximum(v - wish, 0) ** 2 + 0.4 * np.maximum(wish - v, 0) for v in speeds * SEARCH_SPEED])
    for stage in range(stages):
        now = np.minimum(np.arange(stage * per, (stage + 1) * per + 1), steps - 1)
        reach = min(cells, origin + 2 * (len(speeds) - 1) * (stage + 1) + 1)
        during = taken[:, now[per // 2]] | taken[:, now[per // 2 + 1]]
        new = np.full_like(cost, np.inf)
        for w in speeds:
            arrive = np.where(taken[:, now[-1]], np.inf, price[w])
            for change in (-4, -3, -2, -1, 0, 1):
                v = w - change
                if not 0 <= v < len(speeds):
                    continue
                move = v + w  # cells: (v + w) / 2 * SEARCH_DT / CELL with the grid's steps
                middle = round(move * 0.5 + (v - w) / 4)
                braking = 0.25 * (change * SEARCH_SPEED / SEARCH_DT) ** 2
                step = cost[v, origin : reach - move] + braking + arrive[origin + move : reach]
                step[during[origin + middle : reach - move + middle]] = np.inf
                better = step < new[w, origin + move : reach]
                new[w, origin + move : reach][better] = step[better]
                came[stage, w, origin + move : reach][better] = v
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
        here = min(round(rough[k] / CELL), len(column) - 1)
        if column[here]:
            free = np.flatnonzero(~column)
            here = int(free[np.abs(free - here).argmin()])
        above, below = np.flatnonzero(column[here:]), np.flatnonzero(column[:here])
        if len(above):
            high[k] = (here + above[0] - 1) * CELL
        if len(below):
            low[k] = (below[-1] + 1) * CELL
    return low, high


class _Smoothing:
    """Smooth motion within the bounds, close to a wished speed: a quadratic program over s, v, a and slack.

    The slack pays for coming closer to others than wished and for driving faster than wished.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, s0: float, v0: float, limit: float) -> None:
        n = self.n = len(low)
        eye, zero = sparse.identity(n, format="csr"), sparse.csr_matrix((n, n))
        ahead, stay = sparse.eye(n - 1, n, k=1), sparse.eye(n - 1, n)
        empty, none = sparse.csr_matrix((n - 1, n)), sparse.csr_matrix((1, n))
        pick = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, n))
        upper, lower = np.flatnonzero(np.isfinite(high)), np.flatnonzero(np.isfinite(low))
        up, down = eye[upper], eye[lower]
        no_up, no_down = zero[upper], zero[lower]
        # Constant acceleration a[k] within step k, so that s, v and a are exactly consistent.
        equal = [[ahead - stay, -DT * stay, -(DT**2) / 2 * stay, empty], [empty, ahead - stay, -DT * stay, empty]]
        equal += [[pick, none, none, none], [none, pick, none, none]]
        rows = [
            ([up, no_up, no_up, no_up], high[upper]),
            ([-down, no_down, no_down, no_down], -low[lower]),
            ([up, TIME_GAP * up, no_up, -up], high[upper] - LEAD_DISTANCE),
            ([zero, eye, zero, zero], np.full(n, limit)),
            ([zero, -eye, zero, zero], np.zeros(n)),
            ([zero, zero, eye, zero], np.full(n, ACCELERATION)),
            ([zero, zero, -eye, zero], np.full(n, BRAKING)),
            ([empty, empty, ahead - stay, empty], np.full(n - 1, JERK * DT)),
            ([empty, empty, stay - ahead, empty], np.full(n - 1, JERK * DT)),
            ([zero, zero, zero, -eye], np.zeros(n)),
            ([zero, eye, zero, -eye], np.zeros(n)),  # last, because the wished speed is its bound
        ]
        self.matrix = sparse.bmat([*equal, *(blocks for blocks, _ in rows)], format="csc")
        self.bound = np.concatenate([np.zeros(2 * (n - 1)), [s0, v0], *(bound for _, bound in rows)])
        jerk = (ahead - stay) / DT
        cost = sparse.block_diag([zero, SPEED * eye, eye + 0.4 * (jerk.T @ jerk), 1e-4 * eye])
        self.cost = sparse.triu(cost, format="csc")
        self.linear = np.concatenate([np.zeros(3 * n), np.ones(n)])
        self.cones = [clarabel.ZeroConeT(2 * n), clarabel.NonnegativeConeT(len(self.bound) - 2 * n)]

    def solve(self, wish: np.ndarray) -> Drive:
        """Wished speeds ``[T]`` (m/s). Raises NoSafeDrive where the bounds leave no motion."""
        n = self.n
        self.bound[-n:], self.linear[n : 2 * n] = wish, -SPEED * wish
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1
        solver = clarabel.DefaultSolver(self.cost, self.linear, self.matrix, self.bound, self.cones, settings)
        solution = solver.solve()
        if str(solution.status) not in ("Solved", "AlmostSolved"):
            raise NoSafeDrive(f"smoothing failed: {solution.status}")
        x = np.asarray(solution.x)
        return Drive(x[:n], np.maximum(x[n : 2 * n], 0.0), x[2 * n : 3 * n])
