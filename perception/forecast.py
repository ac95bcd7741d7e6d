"""Rule-based forecasts with several modes: from one observation and the map, without a look at the future.

Moving vehicles follow each lane they may be in (slowing down for curves), go on freely, or brake
to a stop. Standing ones stay, or set off along their lane. Pedestrians walk on or stop; standing ones
stay or set off. Parked vehicles and static objects stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception import forecast_modes as modes
from perception.forecast_config import ForecastConfig
from perception.forecast_modes import ModeKind, ModeRows, Movers
from perception.lane_following import LaneNetwork, lane_network, wrap
from perception.lane_motion import lane_rows
from perception.recording import ObjectStates
from perception.road_map import RoadMap
from planner.scene import AgentClass

__all__ = ["ForecastConfig", "Futures", "ModeKind", "forecast", "road_network"]


@dataclass
class Futures:
    """Forecasts of ``A`` objects in ``M`` modes at ``T`` times, global frame.

    mean ``[A, M, T, 2]`` box centre (m); yaw ``[A, M, T]`` rad; covariance ``[A, M, T, 2, 2]`` m^2;
    probability ``[A, M]``, most probable mode first, sums to one; time ``[T]`` s; valid ``[A, M, T]``;
    kind ``[A, M]`` ModeKind values. Empty slots are zeros with valid False.
    """

    mean: np.ndarray
    yaw: np.ndarray
    covariance: np.ndarray
    probability: np.ndarray
    time: np.ndarray
    valid: np.ndarray
    kind: np.ndarray


def forecast(
    objects: ObjectStates,
    road: RoadMap,
    time: np.ndarray,
    config: ForecastConfig | None = None,
    turn_rate: np.ndarray | None = None,
) -> Futures:
    """Where the objects may be at the times ``[T]`` (s after now, increasing, > 0).

    turn_rate ``[N]`` rad/s, where a tracker knows it: used by the free mode; default 0.
    Raises ValueError when a number of an object is not finite or the times do not increase from above 0.
    """
    config = config or ForecastConfig()
    time = np.asarray(time, np.float64)
    _check(objects, time)
    movers = _movers(objects, turn_rate, config)
    lanes = lane_rows(movers, road_network(road, config), time, config)
    rows = ModeRows.concatenate([_weigh_lanes(movers, lanes, config), _plain_rows(movers, lanes, time, config)])
    return _arrange(movers, rows, time, config)


def road_network(road: RoadMap, config: ForecastConfig) -> LaneNetwork:
    """What the forecasts need to know of a road; built at the first call, which takes longest."""
    return lane_network(road, config.lateral_acceleration, config.curve_braking, config.turn_reluctance)


def _check(objects: ObjectStates, time: np.ndarray) -> None:
    for name in ("pose", "velocity", "size"):
        if not np.isfinite(getattr(objects, name)).all():
            raise ValueError(f"forecast: expected finite objects.{name}, got NaN or infinite values")
    if time.ndim != 1 or not len(time) or time[0] <= 0 or (np.diff(time) <= 0).any():
        raise ValueError(f"forecast: expected increasing times after 0, got {time}")


def _movers(objects: ObjectStates, turn_rate: np.ndarray | None, config: ForecastConfig) -> Movers:
    cls = objects.agent_class
    static, pedestrian = cls == AgentClass.STATIC, cls == AgentClass.PEDESTRIAN
    speed = np.hypot(objects.velocity[:, 0], objects.velocity[:, 1])
    moves = ~static & (speed > np.where(pedestrian, config.walking_speed, config.moving_speed))
    yaw, motion = objects.pose[:, 2], np.arctan2(objects.velocity[:, 1], objects.velocity[:, 0])
    # Slow vehicles: position noise turns the measured motion, the box knows better where it points.
    backwards = np.abs(wrap(motion - yaw)) > np.pi / 2
    boxed = ~pedestrian & (speed < config.heading_speed)
    course = np.where(moves, np.where(boxed, yaw + np.pi * backwards, motion), yaw)
    turn = np.zeros(len(cls)) if turn_rate is None else np.where(moves & ~pedestrian, turn_rate, 0.0)
    return Movers(
        position=objects.pose[:, :2], length=objects.size[:, 0], yaw=yaw, speed=speed, course=course,
        turn_rate=np.clip(turn, -config.turn_rate_max, config.turn_rate_max), moves=moves, pedestrian=pedestrian,
        cyclist=np.isin(cls, modes.CYCLISTS), static=static,
    )  # fmt: skip


def _lane_fit(movers: Movers, lanes: ModeRows) -> np.ndarray:
    """How well the lanes of each object explain its motion together, ``[A]`` in [0, 1]."""
    total = np.zeros(len(movers))
    follows = lanes.kind != ModeKind.STOP
    np.add.at(total, lanes.owner[follows], lanes.weight[follows])
    return total


def _free_base(movers: Movers, config: ForecastConfig) -> np.ndarray:
    return np.where(movers.cyclist, config.cyclist_free_weight, config.free_weight)


def _stop_share(movers: Movers, config: ForecastConfig) -> np.ndarray:
    """How probably a moving object is about to stop, ``[A]``: the slower, the more."""
    usual = np.where(movers.pedestrian, config.walking_stop_share, config.stop_share)
    pace = np.clip(movers.speed / np.where(movers.pedestrian, config.slow_walking, config.slow_speed), 0.0, 1.0)
    return config.slow_stop_share + (usual - config.slow_stop_share) * pace


def _weigh_lanes(movers: Movers, lanes: ModeRows, config: ForecastConfig) -> ModeRows:
    """Lane fits become probabilities: the better the lanes fit, the less is left for the free mode."""
    total = _lane_fit(movers, lanes)
    fit = np.minimum(total, 1.0)
    stop_share = _stop_share(movers, config)
    moving_share = (1 - stop_share) * fit / (fit + _free_base(movers, config))
    share = np.where(movers.moves, moving_share, config.vehicle_start_share)[lanes.owner]
    weight = share * lanes.weight / np.maximum(total[lanes.owner], 1e-12)
    weight = np.where(lanes.kind == ModeKind.STOP, stop_share[lanes.owner], weight)
    return ModeRows(lanes.owner, lanes.kind, weight, lanes.mean)


def _plain_rows(movers: Movers, lanes: ModeRows, time: np.ndarray, config: ForecastConfig) -> ModeRows:
    """The modes that need no lane, weighted by what the lanes leave over."""
    on_lane, stops = np.zeros(len(movers), bool), np.zeros(len(movers), bool)
    on_lane[lanes.owner] = True
    stops[lanes.owner[lanes.kind == ModeKind.STOP]] = True
    fit = np.minimum(_lane_fit(movers, lanes), 1.0)

    def rows(mask: np.ndarray, kind: ModeKind, weight: np.ndarray, mean: np.ndarray) -> ModeRows:
        owner = np.flatnonzero(mask)
        return ModeRows(owner, np.full(len(owner), kind), np.broadcast_to(weight, mask.shape)[mask], mean)

    free = movers.moves
    free_base = _free_base(movers, config)
    stop_share = _stop_share(movers, config)
    free_weight = (1 - stop_share) * free_base / (fit + free_base)
    stop = movers.moves & ~stops
    braking = np.where(movers.pedestrian, config.walking_braking, config.stop_braking)[stop]
    start = movers.pedestrian & ~movers.moves
    stay = ~movers.moves
    stay_weight = np.select([start, on_lane], [1 - config.pedestrian_start_share, 1 - config.vehicle_start_share], 1.0)
    pace = np.broadcast_to(config.walking_start * time, (start.sum(), len(time)))
    who = np.flatnonzero
    return ModeRows.concatenate([
        rows(free, ModeKind.FREE, free_weight, modes.free_mean(movers, who(free), time, config)),
        rows(stop, ModeKind.STOP, stop_share,
             modes.straight(movers, who(stop), modes.stop_distance(movers.speed[stop], braking, time))),
        rows(stay, ModeKind.STAY, stay_weight, modes.straight(movers, who(stay), np.zeros((stay.sum(), len(time))))),
        rows(start, ModeKind.START, np.array(config.pedestrian_start_share),
             modes.straight(movers, who(start), pace)),
    ])  # fmt: skip


def _arrange(movers: Movers, rows: ModeRows, time: np.ndarray, config: ForecastConfig) -> Futures:
    """Sort the rows into ``[A, M]``, most probable first."""
    rows = rows.where(rows.weight >= config.least_probability)
    rows = rows.where(np.lexsort((-rows.weight, rows.owner)))
    slot = _rank_of_sorted(rows.owner)
    rows, slot = rows.where(slot < config.modes), slot[slot < config.modes]
    course, yaw = modes.tangents(movers, rows.owner, rows.mean, time)
    spread = modes.covariances(movers, rows, course, time, config)
    shape, at = (len(movers), config.modes, len(time)), (rows.owner, slot)
    out = Futures(
        mean=np.zeros((*shape, 2)), yaw=np.zeros(shape), covariance=np.zeros((*shape, 2, 2)),
        probability=np.zeros(shape[:2]), time=time, valid=np.zeros(shape, bool),
        kind=np.full(shape[:2], ModeKind.NONE, np.int64),
    )  # fmt: skip
    out.mean[at], out.yaw[at], out.covariance[at] = rows.mean, yaw, spread
    out.probability[at], out.valid[at], out.kind[at] = rows.weight, True, rows.kind
    out.probability /= np.maximum(out.probability.sum(1, keepdims=True), 1e-12)
    return out


def _rank_of_sorted(owner: np.ndarray) -> np.ndarray:
    return np.arange(len(owner)) - np.searchsorted(owner, owner, "left")
