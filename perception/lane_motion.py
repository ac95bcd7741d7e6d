"""Modes that follow lanes: which lanes an object may take, and how it moves along them."""

from __future__ import annotations

import numpy as np

from perception.forecast_config import ForecastConfig
from perception.forecast_modes import ModeKind, ModeRows, Movers
from perception.lane_following import PATH_STEP, LaneNetwork, LanePath


class _PathTable:
    """Several paths in one flat array, so that points on all of them are interpolated at once."""

    def __init__(self, paths: list[LanePath]) -> None:
        counts = np.array([len(p.xy) for p in paths])
        self.start = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.last = counts - 2
        self.xy = np.concatenate([p.xy for p in paths])
        self.heading = np.concatenate([p.heading for p in paths])
        self.curvature = np.concatenate([p.curvature for p in paths])
        self.speed_cap = np.concatenate([p.speed_cap for p in paths])

    def at(self, path: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index into the flat arrays and fraction towards the next point."""
        steps = along / PATH_STEP
        whole = np.minimum(np.maximum(steps, 0).astype(np.int64), self.last[path])
        return self.start[path] + whole, steps - whole


def lane_rows(movers: Movers, network: LaneNetwork, time: np.ndarray, config: ForecastConfig) -> ModeRows:
    """At most `config.lanes` lane modes per vehicle; weight in [0, 1], how well the lane fits (1 = perfectly).

    Moving vehicles keep their speed but slow down for curves (LANE) and stop along their best lane (STOP); standing
    ones near a lane set off along it (START).
    """
    vehicle = np.flatnonzero(~movers.static & ~movers.pedestrian)
    empty = ModeRows(*(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros((0, len(time), 2)))
    pose = np.concatenate([movers.position[vehicle], movers.course[vehicle, None]], 1)
    found = network.match(pose, config.match_distance, config.match_heading)
    owner = vehicle[found.object_index]
    standing = ~movers.moves[owner]
    near = ~standing | (np.abs(found.offset) <= config.parked_offset)
    if not near.any():
        return empty
    owner, lane, along, offset, error = (
        a[near] for a in (owner, found.lane_index, found.along, found.offset, found.heading_error)
    )
    reach = np.where(movers.moves[owner], movers.speed[owner], config.start_speed) * time[-1] + 5.0
    paths, match = [], []
    for i, (lane_index, ahead) in enumerate(zip(lane.tolist(), reach.tolist())):
        options = network.paths(lane_index, ahead)
        paths += options
        match += [i] * len(options)
    unique = {id(p): p for p in paths}
    position = {key: i for i, key in enumerate(unique)}
    table = _PathTable(list(unique.values()))
    path = np.array([position[id(p)] for p in paths])
    prior = np.array([p.prior for p in paths])
    owner, along, offset, error = owner[match], along[match], offset[match], error[match]

    weight = prior * _fit(movers, owner, table, path, along, offset, error, config)
    order = np.lexsort((-weight, owner))
    # Far more rows than can be kept come from map seams; the best few decide.
    order = order[(_rank(owner[order]) < 4 * config.lanes) & (weight[order] > 1e-4)]
    owner, path, along, offset, error, weight = (a[order] for a in (owner, path, along, offset, error, weight))
    if not len(owner):
        return empty
    moves = movers.moves[owner]
    speed = np.where(moves, movers.speed[owner], 0.0)
    goal = np.where(moves, speed, config.start_speed)
    mean = _roll_out(table, path, along, offset, error, speed, goal, config.hard_braking, time, config)
    keep = _distinct(owner, mean, config)
    kind = np.where(moves, ModeKind.LANE, ModeKind.START)
    rows = ModeRows(owner, kind, weight, mean).where(keep)

    first = keep & (_rank(owner) == 0) & moves
    if not first.any():
        return rows
    halt = _roll_out(
        table, path[first], along[first], offset[first], error[first], speed[first], np.zeros(first.sum()),
        config.stop_braking, time, config,
    )  # fmt: skip
    stops = ModeRows(owner[first], np.full(first.sum(), ModeKind.STOP), weight[first], halt)
    return ModeRows.concatenate([rows, stops])


def _fit(
    movers: Movers,
    owner: np.ndarray,
    table: _PathTable,
    path: np.ndarray,
    along: np.ndarray,
    offset: np.ndarray,
    error: np.ndarray,
    config: ForecastConfig,
) -> np.ndarray:
    """How well an object's motion fits a lane, in [0, 1]; a lane that is being entered fits too."""
    speed = np.where(movers.moves[owner], movers.speed[owner], 0.0)
    soon = offset + speed * np.sin(error) * config.match_preview
    # The heading may differ as much as steering towards the lane's middle needs.
    point, _ = table.at(path, along)
    fast = np.maximum(speed - table.speed_cap[point], 0.0)
    squares = (soon / config.offset_sigma) ** 2 + (error / config.heading_sigma) ** 2 + (fast / config.speed_sigma) ** 2
    return np.exp(-squares / 2)


def _roll_out(
    table: _PathTable,
    path: np.ndarray,
    along: np.ndarray,
    offset: np.ndarray,
    error: np.ndarray,
    speed: np.ndarray,
    goal: np.ndarray,
    braking: float,
    time: np.ndarray,
    config: ForecastConfig,
) -> np.ndarray:
    """Positions ``[R, T, 2]`` along paths: speed towards `goal` within the cap of curves, offset to zero.

    The offset answers like a critically damped system that starts with today's sideways speed.
    """
    tau = config.offset_time
    drift = speed * np.sin(np.clip(error, -0.5, 0.5)) + offset / tau
    before, out = 0.0, np.empty((len(path), len(time), 2))
    for k, t in enumerate(time):
        dt, before = t - before, t
        point, _ = table.at(path, along)
        aim = np.minimum(goal, table.speed_cap[point])
        new = speed + np.clip(aim - speed, -braking * dt, config.start_acceleration * dt)
        # On the inside of a curve the same speed covers more of the centreline.
        stretch = np.clip(1 - table.curvature[point] * offset * np.exp(-t / tau), 0.6, 1.6)
        along = along + (speed + new) / 2 * dt / stretch
        speed = new
        point, part = table.at(path, along)
        side = (offset + drift * t) * np.exp(-t / tau)
        xy = table.xy[point] + part[:, None] * (table.xy[point + 1] - table.xy[point])
        angle = table.heading[point]
        out[:, k, 0] = xy[:, 0] - side * np.sin(angle)
        out[:, k, 1] = xy[:, 1] + side * np.cos(angle)
    return out


def _distinct(owner: np.ndarray, mean: np.ndarray, config: ForecastConfig) -> np.ndarray:
    """Mask of the rows that differ from every better row of their owner; rows are sorted by owner and weight."""
    rank = _rank(owner)
    keep = np.zeros(len(owner), bool)
    kept = np.zeros((owner.max() + 1 if len(owner) else 0, config.lanes), np.int64)
    count = np.zeros(len(kept), np.int64)
    samples = mean[:, [mean.shape[1] // 3, 2 * mean.shape[1] // 3, -1]]
    for level in range(rank.max() + 1 if len(rank) else 0):
        rows = np.flatnonzero(rank == level)
        who = owner[rows]
        apart = np.hypot(*np.moveaxis(samples[rows][:, None] - samples[kept[who]], -1, 0)).max(-1)
        occupied = np.arange(config.lanes) < count[who][:, None]
        new = (count[who] < config.lanes) & ~((apart < config.same_distance) & occupied).any(1)
        rows, who = rows[new], who[new]
        keep[rows] = True
        kept[who, count[who]] = rows
        count[who] += 1
    return keep


def _rank(owner: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each run of equal owners."""
    if not len(owner):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
    return np.arange(len(owner)) - np.repeat(starts, np.diff(np.concatenate([starts, [len(owner)]])))
