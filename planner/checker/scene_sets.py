"""What the checker needs of a scene, computed once and used for every candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker.config import CheckerConfig, OccupancyAssumptions
from planner.checker.footprint import (
    Boxes,
    Sweeps,
    boxes_from_poses,
    sweep,
    sweep_box_distance,
    sweep_segment_separation,
)
from planner.checker.lanes import LaneGraph
from planner.checker.occupancy import Objects, Occupancy
from planner.scene import AgentClass, PolylineType, VectorScene, VehicleParameters

_OBJECT_RANGE = 100.0  # m around ego; what is farther cannot matter within the tail of a 25 m/s vehicle


@dataclass
class SceneSets:
    """A scene as float64 arrays and sets. Ego frame of the scene; ``A`` objects that are near and likely enough.

    ego: x, y, yaw, v, a, curvature. objects: see `Objects`. gap ``[A]`` m: exact distance of ego's rectangle
    now, whose footprint is `still`. touching ``[A]``: the gap is already below the clearance. behind, following
    ``[A]``: wholly behind ego's rear; and in ego's own track. predicted: boxes ``[K, N]`` swept over the nominal
    grid intervals, predicted_owner, predicted_probability ``[N]``. occupancy: worst-case sets. boundary ``[S, 2, 2]``:
    segments, surface on the left; over_edge, beyond_edge (m): ego stands on or beyond it, and how far. stop_line
    ``[Z, 2, 2]``: closed ones that ego is not on. lane: centrelines. route_*: the
    route's valid points.
    """

    ego: np.ndarray
    objects: Objects
    still: Sweeps
    gap: np.ndarray
    touching: np.ndarray
    behind: np.ndarray
    following: np.ndarray
    predicted: Boxes
    predicted_owner: np.ndarray
    predicted_probability: np.ndarray
    occupancy: Occupancy
    boundary: np.ndarray
    over_edge: bool
    beyond_edge: float
    stop_line: np.ndarray
    lane: np.ndarray
    route_xy: np.ndarray
    route_limit: np.ndarray


def prepare(scene: VectorScene, vehicle: VehicleParameters, config: CheckerConfig) -> SceneSets:
    """Everything about the scene that does not depend on the plan.

    Raises ValueError unless the scene is a single one (no batch axes).
    """
    if scene.batch_shape != ():
        raise ValueError(f"checker: expected a single scene, got batch shape {scene.batch_shape}")
    e = scene.ego
    ego = np.array([float(f) for f in (e.x, e.y, e.yaw, e.v, e.a, e.curvature)])
    kept, objects, centers = _objects(scene, config)
    footprint = boxes_from_poses(ego[None, :3], vehicle.length, vehicle.width, vehicle.rear_axle_to_center)
    still = sweep(np.repeat(footprint.corners, 2, 0), np.zeros(1))
    now = boxes_from_poses(objects.pose, objects.size[:, 0], objects.size[:, 1])
    gap = sweep_box_distance(still, np.zeros(len(objects), np.int64), now)
    behind, following = _rear(ego, now, objects, vehicle, config)
    xy, kind, count = _array(scene.map.xy).astype(np.float64), _array(scene.map.kind), _array(scene.map.valid).sum(-1)
    predicted, owner, probability = _predicted(scene, kept, objects, centers, config)
    lane = (kind == int(PolylineType.CENTERLINE)) & (count >= 2)
    joint = config.assumptions.lane_joint
    lanes = LaneGraph(xy[lane], count[lane], joint) if lane.any() else LaneGraph.from_lists([], joint)
    reach = min(_OBJECT_RANGE, 40.0 + 4.0 * abs(ego[3]))
    boundary = _segments(xy, count, kind == int(PolylineType.BOUNDARY))
    stop_line = _segments(xy, count, (kind == int(PolylineType.STOP_LINE)) & _array(scene.map.closed))
    # Only the surroundings tell the side; a corner's nearest edge beyond 30 m leaves it inside or far out alike.
    around = boundary[np.abs(boundary - ego[:2]).max((1, 2)) < 30.0]
    beyond = float(beyond_boundary(around, ego[None, :3], vehicle)[0]) if len(around) else -np.inf
    ok = _array(scene.route.valid)
    route_xy = _array(scene.route.xy)[ok].astype(np.float64)
    return SceneSets(
        ego=ego,
        objects=objects,
        still=still,
        gap=gap,
        touching=gap < config.clearance,
        behind=behind,
        following=following,
        predicted=predicted,
        predicted_owner=owner,
        predicted_probability=probability,
        occupancy=Occupancy(
            objects,
            config.assumptions,
            lanes,
            config.step,
            reach,
            _gives_way(ego, route_xy, objects, config.assumptions),
            _waits(route_xy, objects, config.assumptions),
        ),
        boundary=boundary,
        over_edge=bool(_under(still, boundary).any()) or beyond > 0,
        beyond_edge=beyond,
        stop_line=stop_line[~_under(still, stop_line)],
        lane=_segments(xy, count, lane),
        route_xy=route_xy,
        route_limit=_array(scene.route.speed_limit)[ok].astype(np.float64),
    )


def _gives_way(ego: np.ndarray, route_xy: np.ndarray, objects: Objects, table: OccupancyAssumptions) -> np.ndarray:
    """``[A]``: oncoming vehicles that may not turn across ego's way, and do not do so yet."""
    step = np.diff(route_xy, axis=0)
    heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    here = int(np.hypot(*(route_xy[:-1] - ego[:2]).T).argmin())
    ahead = np.cumsum(np.hypot(*step[here:].T)) < table.priority_ahead
    if not ahead.any() or np.abs(heading[here:][ahead] - heading[here]).max() > table.priority_turn:
        return np.zeros(len(objects), bool)
    against = np.abs(np.angle(np.exp(1j * (objects.pose[:, 2] - heading[here])))) > table.priority_angle
    vehicle = np.isin(objects.kind, [int(c) for c in AgentClass if c.is_vehicle])
    return against & vehicle & (np.abs(objects.turn_rate) < table.priority_rate)


def _waits(route_xy: np.ndarray, objects: Objects, table: OccupancyAssumptions) -> np.ndarray:
    """``[A]``: slow vehicles beside ego's route that point at it."""
    if len(route_xy) < 2 or not len(objects):
        return np.zeros(len(objects), bool)
    gap = objects.pose[:, None, :2] - route_xy[None, :-1]
    near = np.hypot(gap[..., 0], gap[..., 1]).argmin(1)
    along = np.diff(route_xy, axis=0)[near]
    heading = np.arctan2(along[:, 1], along[:, 0])
    angle = np.angle(np.exp(1j * (objects.pose[:, 2] - heading)))
    off = gap[np.arange(len(objects)), near]
    aside = np.cos(heading) * off[:, 1] - np.sin(heading) * off[:, 0]
    # Nearest corner, not centre: what already reaches into the way no longer waits.
    reach = np.abs(np.sin(angle)) * objects.size[:, 0] / 2 + np.abs(np.cos(angle)) * objects.size[:, 1] / 2
    vehicle = np.isin(objects.kind, [int(c) for c in AgentClass if c.is_vehicle])
    slow = np.hypot(objects.velocity[:, 0], objects.velocity[:, 1]) < table.waiting_speed
    points_at = (np.abs(np.sin(angle)) > np.sin(table.waiting_angle)) & (np.sin(angle) * aside < 0)
    return vehicle & slow & points_at & (np.abs(aside) - reach > table.waiting_offset)


def _under(still: Sweeps, segments: np.ndarray) -> np.ndarray:
    """``[S]``: segments that ego's rectangle stands on."""
    middle, half = segments.mean(1), np.hypot(*(segments[:, 1] - segments[:, 0]).T) / 2
    near = np.flatnonzero(np.hypot(*(middle - still.center[0]).T) < half + still.reach[0])
    touched = np.zeros(len(segments), bool)
    touched[near] = sweep_segment_separation(still, np.zeros_like(near), segments[near]) < 0
    return touched


def _array(tensor: object) -> np.ndarray:
    return tensor.detach().cpu().numpy()  # type: ignore[attr-defined]


def _objects(scene: VectorScene, config: CheckerConfig) -> tuple[np.ndarray, Objects, np.ndarray]:
    """Indices of the objects that matter, the objects, and their mode means ``[A, M, T, 2]``."""
    agents, futures = scene.agents, scene.futures
    box = _array(agents.box).astype(np.float64)
    at = _array(scene.ego.x), _array(scene.ego.y)
    near = np.hypot(box[:, 0] - at[0], box[:, 1] - at[1]) < _OBJECT_RANGE
    kept = np.flatnonzero(_array(agents.valid) & near & (_array(agents.existence) >= config.existence))
    yaw = _array(futures.yaw)[kept].astype(np.float64)
    valid, probability = _array(futures.valid)[kept], _array(futures.probability)[kept].astype(np.float64)
    turn_rate = np.zeros(len(kept))
    time = _array(futures.time).astype(np.float64)
    if len(kept) and len(time):
        # Perception reports no yaw rate; the beginning of its forecast is its estimate of the present one.
        early = min(int(np.searchsorted(time, 0.5)), len(time) - 1)
        change = np.angle(np.exp(1j * (yaw[:, :, early] - box[kept, 2][:, None])))
        weight = probability * valid[:, :, early]
        turn_rate = (weight * change).sum(1) / np.maximum(weight.sum(1), 1e-9) / time[early]
    objects = Objects(
        pose=box[kept, :3],
        size=box[kept, 3:5],
        velocity=_array(agents.velocity)[kept].astype(np.float64),
        kind=_array(agents.agent_class)[kept],
        track_id=_array(agents.track_id)[kept],
        turn_rate=turn_rate,
    )
    return kept, objects, _array(futures.mean)[kept].astype(np.float64)


def _predicted(
    scene: VectorScene, kept: np.ndarray, objects: Objects, mean: np.ndarray, config: CheckerConfig
) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """Every likely mode's box over each interval of the nominal grid, today's box at time 0."""
    f = scene.futures
    steps = int(np.ceil(config.nominal_horizon / config.step - 1e-9))
    grid = config.step * np.arange(steps + 1)
    time = np.concatenate([[0.0], _array(f.time).astype(np.float64)])
    valid = _array(f.valid)[kept]
    weight = _array(f.probability)[kept].astype(np.float64)
    use = (weight >= config.mode_probability) & valid.any(-1)
    agent, mode = np.nonzero(use)
    if len(agent) == 0 or len(time) < 2:
        empty = np.zeros((steps, 0))
        return (
            Boxes(np.zeros((steps, 0, 2)), np.zeros((steps, 0, 2)), np.zeros((steps, 0, 2)), empty),
            agent,
            np.zeros(0),
        )
    xy = np.concatenate([objects.pose[agent, None, :2], mean[agent, mode]], 1)
    turn = np.concatenate([objects.pose[agent, None, 2], _array(f.yaw)[kept][agent, mode].astype(np.float64)], 1)
    turn = np.unwrap(turn, axis=1)
    said = np.concatenate([np.ones((len(agent), 1), bool), valid[agent, mode]], 1)
    i = np.clip(np.searchsorted(time, grid, side="right") - 1, 0, len(time) - 2)
    u = (grid - time[i]) / (time[i + 1] - time[i])
    blend = lambda g, w: (1 - w) * g[:, i] + w * g[:, i + 1]  # noqa: E731
    at, heading = blend(xy, u[:, None]), blend(turn, u)
    known = said[:, i] & said[:, i + 1] & (u <= 1.0 + 1e-9)
    middle = 0.5 * (heading[:, 1:] + heading[:, :-1])
    axis = np.stack([np.cos(middle), np.sin(middle)], -1)
    across = np.stack([-axis[..., 1], axis[..., 0]], -1)
    moved = at[:, 1:] - at[:, :-1]
    half_turn = 0.5 * np.abs(heading[:, 1:] - heading[:, :-1])
    c, s = np.cos(half_turn), np.sin(half_turn)
    half_length, half_width = (objects.size[agent, j][:, None] / 2 for j in (0, 1))
    half = np.stack(
        [
            c * half_length + s * half_width + 0.5 * np.abs((moved * axis).sum(-1)),
            s * half_length + c * half_width + 0.5 * np.abs((moved * across).sum(-1)),
        ],
        -1,
    )
    center = 0.5 * (at[:, 1:] + at[:, :-1])
    # A mode that says nothing about an interval claims no space there: it is moved out of reach.
    center = np.where((known[:, 1:] & known[:, :-1])[..., None], center, 1e6)
    order = lambda g: np.ascontiguousarray(np.moveaxis(g, 0, 1))  # noqa: E731
    return Boxes(order(center), order(axis), order(half), np.zeros((steps, len(agent)))), agent, weight[agent, mode]


def _rear(
    ego: np.ndarray, now: Boxes, objects: Objects, vehicle: VehicleParameters, config: CheckerConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Which objects lie wholly behind ego's rear within the rear bearing; which of them in its own track."""
    c, s = np.cos(ego[2]), np.sin(ego[2])
    to = now.corners - ego[:2]
    forward = to[..., 0] * c + to[..., 1] * s
    center = objects.pose[:, :2] - ego[:2]
    bearing = np.abs(np.arctan2(-s * center[:, 0] + c * center[:, 1], c * center[:, 0] + s * center[:, 1]))
    side = np.abs(-s * center[:, 0] + c * center[:, 1])
    behind = (forward.max(-1) < -vehicle.rear) & (bearing > config.rear_bearing)
    return behind, behind & (side < (vehicle.width + objects.size[:, 1]) / 2 + 0.5)


def _segments(xy: np.ndarray, count: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """``[S, 2, 2]``: the segments of the chosen polylines."""
    xy, count = xy[chosen], count[chosen]
    real = np.arange(xy.shape[1] - 1) < count[:, None] - 1
    return np.stack([xy[:, :-1][real], xy[:, 1:][real]], 1)


def beyond_boundary(boundary: np.ndarray, pose: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """``[K]`` m: how far the outermost point of the outline lies beyond the boundary; negative inside."""
    corners = boxes_from_poses(pose, vehicle.length, vehicle.width, vehicle.rear_axle_to_center).corners
    outline = np.concatenate([corners, 0.5 * (corners + corners[:, [1, 2, 3, 0]])], 1).reshape(-1, 2)
    start, along = boundary[:, 0], boundary[:, 1] - boundary[:, 0]
    size = np.maximum(np.hypot(*along.T), 1e-9)
    to = outline[:, None] - start
    u = np.clip((to * along).sum(-1) / size**2, 0.0, 1.0)
    gap = np.linalg.norm(to - u[..., None] * along, axis=-1)
    to_right = (to[..., 0] * along[:, 1] - to[..., 1] * along[:, 0]) / size
    # At a shared end point both pieces are nearest; the one seen less obliquely knows the side.
    nearest = gap.min(1, keepdims=True)
    side = np.where(gap <= nearest + 1e-6, to_right, 0.0)
    rows = np.arange(len(side))
    sign = np.sign(side[rows, np.abs(side).argmax(1)])
    return (sign * nearest[:, 0]).reshape(len(pose), -1).max(1)
