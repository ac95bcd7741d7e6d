"""Modes that follow lanes: which lanes an object may take, and how it moves along them."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, fields, replace

import numpy as np

from perception.forecast_config import ForecastConfig
from perception.forecast_modes import ModeKind, ModeRows, Movers
from perception.lane_following import PATH_STEP, LaneMatches, LaneNetwork, LanePath


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

    def place(self, path: np.ndarray, along: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Points ``[R, 2]`` (m) at a distance along and to the left of the paths."""
        point, part = self.at(path, along)
        angle = self.heading[point] + part * (self.heading[point + 1] - self.heading[point])
        side = np.stack([-np.sin(angle), np.cos(angle)], -1) * offset[:, None]
        return self.xy[point] + part[:, None] * (self.xy[point + 1] - self.xy[point]) + side


@dataclass(frozen=True)
class _Followers:
    """Lane rows on their way: owner, path (index into the table), along (m), offset (m), error (rad), weight ``[R]``.

    gap ``[R]`` m: free distance to the object ahead on the path, inf if none; ahead_speed ``[R]`` m/s: its speed.
    """

    owner: np.ndarray
    path: np.ndarray
    along: np.ndarray
    offset: np.ndarray
    error: np.ndarray
    weight: np.ndarray
    gap: np.ndarray
    ahead_speed: np.ndarray

    def where(self, index: np.ndarray) -> _Followers:
        return _Followers(*(getattr(self, f.name)[index] for f in fields(self)))


def lane_rows(movers: Movers, network: LaneNetwork, time: np.ndarray, config: ForecastConfig) -> ModeRows:
    """At most `config.lanes` lane modes per vehicle; weight in [0, 1], how well the lane fits (1 = perfectly).

    Moving vehicles keep their speed but slow down for curves and for who is ahead (LANE) or stop along their best lane
    (STOP); standing ones near a lane set off along it (START).
    """
    vehicle = np.flatnonzero(~movers.static & ~movers.pedestrian)
    pose = np.concatenate([movers.position[vehicle], movers.course[vehicle, None]], 1)
    found = network.match(pose, config.match_distance, config.match_heading)
    found = replace(found, object_index=vehicle[found.object_index])
    near = movers.moves[found.object_index] | (np.abs(found.offset) <= config.parked_offset)
    found_near = found.where(near)
    if not near.any():
        return ModeRows(*(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros((0, len(time), 2)))
    rows, table = _candidates(movers, network, found_near, found, time[-1], config)
    order = np.lexsort((-rows.weight, rows.owner))
    # Map seams and forks give more rows than can be kept; the best few decide.
    order = order[(_rank(rows.owner[order]) < 4 * config.lanes) & (rows.weight[order] > 1e-4)]
    rows = rows.where(order)
    moves = movers.moves[rows.owner]
    speed = np.where(moves, movers.speed[rows.owner], 0.0)
    goal = np.where(moves, speed + config.speed_up * np.maximum(config.start_speed - speed, 0.0), config.start_speed)
    mean = _roll_out(movers, table, rows, speed, goal, time, config)
    keep = _distinct(rows.owner, mean, config)
    kind = np.where(moves, ModeKind.LANE, ModeKind.START)
    first = keep & (_rank(rows.owner) == 0) & moves
    best = rows.where(first)
    halt = _roll_out(movers, table, best, speed[first], np.zeros(len(best.owner)), time, config)
    return ModeRows.concatenate([
        ModeRows(rows.owner, kind, rows.weight, mean).where(keep),
        ModeRows(best.owner, np.full(len(best.owner), ModeKind.STOP), best.weight, halt),
    ])  # fmt: skip


def _candidates(
    movers: Movers, network: LaneNetwork, starts: LaneMatches, everyone: LaneMatches, horizon: float,
    config: ForecastConfig,
) -> tuple[_Followers, _PathTable]:  # fmt: skip
    """Every continuation of every matched lane, as far as the object gets."""
    queues = _queues(movers, network, everyone, config)
    who = starts.object_index
    reach = np.where(movers.moves[who], movers.speed[who], config.start_speed) * horizon + 5.0
    number: dict[int, int] = {}
    paths: list[LanePath] = []
    match, path, gap, ahead_speed = [], [], [], []
    for i, (lane, along, owner, ahead) in enumerate(
        zip(starts.lane_index.tolist(), starts.along.tolist(), who.tolist(), reach.tolist())
    ):
        for option in network.paths(lane, ahead):
            if id(option) not in number:
                number[id(option)] = len(paths)
                paths.append(option)
            match.append(i)
            path.append(number[id(option)])
            clear, speed = _ahead(option, queues, along, owner, ahead)
            gap.append(clear)
            ahead_speed.append(speed)
    table, index = _PathTable(paths), np.array(path)
    owner, along, offset, error = who[match], starts.along[match], starts.offset[match], starts.heading_error[match]
    fit = _fit(movers, owner, table, index, along, offset, error, config)
    weight = np.array([p.prior for p in paths])[index] * fit
    return _Followers(owner, index, along, offset, error, weight, np.array(gap), np.array(ahead_speed)), table


_Queue = list[tuple[float, int, float, float]]


def _queues(movers: Movers, network: LaneNetwork, matches: LaneMatches, config: ForecastConfig) -> dict[str, _Queue]:
    """Who is in which lane: per lane id (along, object, half length, speed), sorted."""
    queues: dict[str, _Queue] = {}
    inside = np.flatnonzero(np.abs(matches.offset) <= config.queue_offset)
    for i in inside[np.argsort(matches.along[inside], kind="stable")].tolist():
        who = int(matches.object_index[i])
        entry = (float(matches.along[i]), who, float(movers.length[who]) / 2, float(movers.speed[who]))
        queues.setdefault(network.lanes[matches.lane_index[i]].id, []).append(entry)
    return queues


def _ahead(path: LanePath, queues: dict[str, _Queue], along: float, owner: int, reach: float) -> tuple[float, float]:
    """Distance (m) to the back of the next object on the path, and its speed; (inf, 0) if there is none in reach."""
    for lane, start in zip(path.lanes, path.lane_starts):
        if start > along + reach:
            break
        queue = queues.get(lane, [])
        for place, who, half, speed in queue[bisect(queue, (along + 0.5 - start,)) :]:
            if who != owner:
                return start + place - half - along, speed
    return np.inf, 0.0


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
    movers: Movers,
    table: _PathTable,
    rows: _Followers,
    speed: np.ndarray,
    goal: np.ndarray,
    time: np.ndarray,
    config: ForecastConfig,
) -> np.ndarray:
    """Positions ``[R, T, 2]`` along paths: speed towards `goal`, below what curves and who is ahead allow.

    The offset answers like a critically damped system that starts with today's sideways speed.
    """
    tau, path, along = config.offset_time, rows.path, rows.along
    drift = speed * np.sin(np.clip(rows.error, -0.5, 0.5)) + rows.offset / tau
    # Gentle where the stop is the driver's own will, hard where a curve or a queue demands it.
    braking = np.where(goal > 0, config.hard_braking, config.stop_braking)
    half = movers.length[rows.owner] / 2
    before, out = 0.0, np.empty((len(path), len(time), 2))
    point = table.at(path, along)[0]
    # The lane's frame is coarse in curves; what it misses of today's position fades out.
    missed = movers.position[rows.owner] - table.place(path, along, rows.offset)
    for k, t in enumerate(time):
        dt, before = t - before, t
        room = rows.gap + rows.ahead_speed * t - (along - rows.along) - half - config.queue_gap
        follow = rows.ahead_speed + (room - config.queue_time * speed) / config.queue_response
        aim = np.minimum(np.minimum(goal, table.speed_cap[point]), np.maximum(follow, 0.0))
        new = speed + np.clip(aim - speed, -braking * dt, config.start_acceleration * dt)
        # On the inside of a curve the same speed covers more of the centreline.
        side = (rows.offset + drift * t) * np.exp(-t / tau)
        along = along + (speed + new) / 2 * dt / np.clip(1 - table.curvature[point] * side, 0.6, 1.6)
        speed = new
        point = table.at(path, along)[0]
        out[:, k] = table.place(path, along, side) + missed * np.exp(-t)
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
