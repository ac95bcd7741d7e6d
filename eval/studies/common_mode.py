"""Do both perception channels miss the same objects? P(both) against the product of the single rates.

The raw channel is the real one, on rendered sweeps. The first channel is artificial until there is a network: it misses
by a stated law, so that the estimate can be checked against what was put in.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from eval.simulation.lidar import LidarConfig
from eval.simulation.rendered_lidar import RenderedLidar, RenderedLidarConfig
from eval.simulation.vehicle import VehicleState
from eval.simulation.world import World
from eval.studies.intervals import clopper_pearson
from perception.raw_obstacles import RawObstacleChannel
from perception.recording import ObjectStates, Recording
from planner.scene import AgentClass, RawObstacles

RANGE = 50.0
TOUCH = 0.3
"""m: a raw obstacle this close to an object's box is the object."""

WEATHER = {
    "clear": LidarConfig(),
    "rain": LidarConfig(dropout=0.3, reach=120.0, range_noise=0.03),
}


@dataclass(frozen=True)
class Seen:
    """One object at one moment: distance (m), visible share of its width in [0, 1], what happened in each channel.

    draw: uniform in [0, 1], the same for an object for two seconds; decides what the first channel misses.
    """

    scene: str
    track: int
    kind: AgentClass
    distance: float
    share: float
    raw_missed: bool
    draw: float = 1.0
    first_missed: bool = False


FIRST: dict[str, Callable[[float, float, float], float]] = {
    # (distance m, visible share, rain 0 or 1) -> probability of a miss
    "blind at random": lambda d, share, rain: 0.10,
    "hard is hard": lambda d, share, rain: _sigmoid(-4.5 + 0.06 * d + 3.0 * (1 - share) + 1.0 * rain),
}


def with_first(seen: list[Seen], first: str, weather: str) -> list[Seen]:
    """The same objects with the misses of a first channel, a key of `FIRST`."""
    rain = float(weather == "rain")
    return [replace(s, first_missed=s.draw < FIRST[first](s.distance, s.share, rain)) for s in seen]


def observe(recording: Recording, weather: str, every: float = 0.5) -> Iterator[Seen]:
    """All visible objects within `RANGE` and the raw channel's misses, every `every` s of the recorded drive."""
    config = RenderedLidarConfig(lidar=WEATHER[weather])
    lidar, world = RenderedLidar(recording, config), World(recording, "log_replay")
    step = max(round(every / recording.dt), 1)
    world.ego = VehicleState.from_track(recording.ego, 0)
    for k in range(len(recording.time)):
        if k % step == 0:
            ego, objects = world.ego_state(), world.objects()
            # Finding does not need a past; a new channel makes moments independent of each other.
            raw = RawObstacleChannel(recording.vehicle).observe(
                lidar.sweep(ego, objects), int(ego.time_us), float(ego.v), float(ego.yaw_rate)
            )
            yield from _judged(recording, objects, world.ego.pose, raw, int(recording.time[k] // 2.0))
        if k + 1 < len(recording.time):
            world.replay_ego()


def _judged(
    recording: Recording, objects: ObjectStates, ego: np.ndarray, raw: RawObstacles, block: int
) -> Iterator[Seen]:
    c, s = np.cos(ego[2]), np.sin(ego[2])
    place = (objects.pose[:, :2] - ego[:2]) @ np.array([[c, -s], [s, c]])
    box = np.c_[place, objects.pose[:, 2] - ego[2], objects.size]
    distance = np.hypot(*place.T)
    share = visible_share(box, objects.agent_class)
    touched = _touched(box, raw)
    for i in np.flatnonzero((distance < RANGE) & (share > 0)):
        # A network's miss lasts: one draw per object and two seconds.
        draw = np.random.default_rng([zlib.crc32(recording.name.encode()), int(objects.track_id[i]), block]).random()
        kind = AgentClass(int(objects.agent_class[i]))
        yield Seen(
            recording.name,
            int(objects.track_id[i]),
            kind,
            float(distance[i]),
            float(share[i]),
            not touched[i],
            float(draw),
        )


def visible_share(box: np.ndarray, agent_class: np.ndarray, points: int = 7) -> np.ndarray:
    """``[N]``: share of points across each object's width, seen from the origin, that no car, truck or bus hides.

    box ``[N, 5]``: x, y, yaw, length, width. Points lie in the object's middle plane, across the line of sight.
    """
    n = len(box)
    away = np.maximum(np.hypot(*box[:, :2].T), 1e-6)
    sight = box[:, :2] / away[:, None]
    c, s = np.cos(box[:, 2]), np.sin(box[:, 2])
    # Half the extent across the line of sight.
    half = np.abs(-sight[:, 1] * c + sight[:, 0] * s) * box[:, 3] / 2
    half = half + np.abs(sight[:, 1] * s + sight[:, 0] * c) * box[:, 4] / 2
    across = np.stack([-sight[:, 1], sight[:, 0]], -1)
    fractions = np.linspace(-0.9, 0.9, points)
    target = box[:, None, :2] + fractions[None, :, None] * half[:, None, None] * across[:, None]
    hides = np.flatnonzero(np.isin(agent_class, [AgentClass.CAR, AgentClass.TRUCK, AgentClass.BUS]))
    free = np.ones((n, points), dtype=bool)
    for j in hides:
        blocked = _crosses(target.reshape(-1, 2), box[j]).reshape(n, points)
        blocked[j] = False
        free &= ~blocked
    return free.mean(1)


def _crosses(target: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether the segments from the origin to targets ``[P, 2]`` cross a box ``[5]``; slab method in its axes."""
    c, s = np.cos(box[2]), np.sin(box[2])
    into = np.array([[c, -s], [s, c]])
    start, way = -box[:2] @ into, target @ into
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-box[3:] / 2 - start) / way, (box[3:] / 2 - start) / way
    enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    return (enter < leave) & (leave > 0) & (enter < 0.98)


def _touched(box: np.ndarray, raw: RawObstacles) -> np.ndarray:
    """``[N]`` bool: whether some raw box comes within `TOUCH` of each object's box; separating axes, so exact."""
    other = np.c_[raw.centre.numpy(), raw.yaw.numpy(), raw.length.numpy(), raw.width.numpy()]
    if not len(other) or not len(box):
        return np.zeros(len(box), dtype=bool)
    grown = box.copy()
    grown[:, 3:] += 2 * TOUCH
    overlap = np.ones((len(box), len(other)), dtype=bool)
    between = other[None, :, :2] - grown[:, None, :2]
    for yaw in (grown[:, None, 2], grown[:, None, 2] + np.pi / 2, other[None, :, 2], other[None, :, 2] + np.pi / 2):
        axis = np.stack(np.broadcast_arrays(np.cos(yaw), np.sin(yaw)), -1)
        reach = _half_along(grown[:, None], axis) + _half_along(other[None], axis)
        overlap &= np.abs((between * axis).sum(-1)) <= reach
    return overlap.any(1)


def _half_along(box: np.ndarray, axis: np.ndarray) -> np.ndarray:
    c, s = np.cos(box[..., 2]), np.sin(box[..., 2])
    along = np.abs(axis[..., 0] * c + axis[..., 1] * s) * box[..., 3] / 2
    return along + np.abs(axis[..., 1] * c - axis[..., 0] * s) * box[..., 4] / 2


@dataclass(frozen=True)
class CommonMode:
    """Rates with 95 % intervals (low, high) over resampled scenes. ratio: P(both) / (P(first) P(raw))."""

    count: int
    first: tuple[float, float, float]
    raw: tuple[float, float, float]
    both: tuple[float, float, float]
    product: tuple[float, float, float]
    ratio: tuple[float, float, float]


def common_mode(seen: list[Seen], samples: int = 2000, seed: int = 0) -> CommonMode:
    """Rate, low, high of each, by bootstrap over scenes: objects of one scene are not independent.

    A bootstrap knows nothing where nothing was missed; there the upper limit is the exact one for as many trials as
    there are different objects, however often each was seen. Raises ValueError without any object.
    """
    if not seen:
        raise ValueError("common_mode: expected at least one object")
    names = sorted({s.scene for s in seen})
    index = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), 4))  # objects, first missed, raw missed, both missed
    for s in seen:
        counts[index[s.scene]] += (1, s.first_missed, s.raw_missed, s.first_missed and s.raw_missed)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(names), (samples, len(names)))
    total = np.concatenate([counts.sum(0)[None], counts[drawn].sum(1)])
    rate = total[:, 1:] / np.maximum(total[:, :1], 1)
    product = rate[:, 0] * rate[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(product > 0, rate[:, 2] / product, np.nan)

    def interval(values: np.ndarray) -> tuple[float, float, float]:
        rest = values[1:][np.isfinite(values[1:])]
        low, high = np.percentile(rest, [2.5, 97.5]) if len(rest) else (np.nan, np.nan)
        return float(values[0]), float(low), float(high)

    nothing = clopper_pearson(0, len({(s.scene, s.track) for s in seen}))
    first, raw, both = (interval(r) if r[0] > 0 else (0.0, *nothing) for r in rate.T)
    return CommonMode(len(seen), first, raw, both, interval(product), interval(ratio))


def within(seen: list[Seen], low: float, high: float, share: float = 0.0) -> list[Seen]:
    """Those between two distances (m) of which more than `share` is visible."""
    return [s for s in seen if low <= s.distance < high and s.share > share]


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
