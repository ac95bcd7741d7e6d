"""What the checker needs of a scene, computed once and used for every candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.checker.arrays import array
from planner.checker.config import CheckerConfig
from planner.checker.edges import Segments, beyond_boundary, segments
from planner.checker.footprint import Sweeps, boxes_from_poses, standing, sweep_box_distance
from planner.checker.forecast import Forecasts, forecasts_of
from planner.checker.lanes import LaneGraph
from planner.checker.objects import Objects, scene_objects, unexplained
from planner.checker.occupancy import Occupancy
from planner.checker.priority import gives_way, goes_straight, waits
from planner.checker.relations import Relations, relate
from planner.checker.route_frame import RouteFrame
from planner.checker.sight import Phantoms, Sight, phantoms, sight_of
from planner.scene import PolylineType, RawObstacles, VectorScene, VehicleParameters


@dataclass
class SceneSets:
    """A scene as float64 arrays and sets. Ego frame of the scene; ``A`` objects that are near and likely enough,
    raw obstacles that the scene does not explain among them.

    ego: x, y, yaw, v, a, curvature. objects: see `Objects`. gap ``[A]`` m: exact distance of ego's rectangle
    now, whose footprint is `still`. touching ``[A]``: the gap is already below the clearance. behind, following
    ``[A]``: wholly behind ego's rear; and in ego's own track. forecasts: over the nominal grid. occupancy: worst-case
    sets. boundary: surface on the left; over_edge, beyond_edge (m): ego stands on or beyond it, and how far. stop_line:
    closed ones that ego is not on. lane: pieces of centrelines. crosswalks: outlines ``[n, 2]``.
    route_*: the route's valid points; route_left, route_right (m): how far the surface that ego may use reaches, that
    of oncoming traffic included; own_side: left and right of where ego is, without it. relations: the objects
    relative to the route. sight, phantoms: see `sight`. waits ``[A]``: who lets ego go first. raw_note: why the raw
    channel says nothing; empty where it does.
    """

    ego: np.ndarray
    objects: Objects
    still: Sweeps
    gap: np.ndarray
    touching: np.ndarray
    behind: np.ndarray
    following: np.ndarray
    forecasts: Forecasts
    occupancy: Occupancy
    boundary: Segments
    over_edge: bool
    beyond_edge: float
    stop_line: Segments
    lane: Segments
    crosswalks: list[np.ndarray]
    route_xy: np.ndarray
    route_limit: np.ndarray
    route_left: np.ndarray
    route_right: np.ndarray
    own_side: tuple[float, float]
    relations: Relations
    sight: Sight
    phantoms: Phantoms
    waits: np.ndarray
    raw_note: str


def prepare(
    scene: VectorScene, vehicle: VehicleParameters, config: CheckerConfig, raw: RawObstacles | None = None
) -> SceneSets:
    """Everything about the scene that does not depend on the plan.

    raw: the second perception channel at the scene's time, in the frame of the scene's ego; its obstacles count beside
    the scene's, except for those that a scene object explains, and its sight limits where a plan may lead.
    Raises ValueError unless scene and raw are single ones (no batch axes).
    """
    if scene.batch_shape != () or (raw is not None and raw.batch_shape != ()):
        batch = scene.batch_shape or (raw.batch_shape if raw is not None else ())
        raise ValueError(f"checker: expected a single scene, got batch shape {batch}")
    e, table = scene.ego, config.assumptions
    ego = np.array([float(f) for f in (e.x, e.y, e.yaw, e.v, e.a, e.curvature)])
    kept, objects = scene_objects(scene, config)
    objects = objects.joined(unexplained(raw, objects, ego, config))
    footprint = boxes_from_poses(ego[None, :3], vehicle.length, vehicle.width, vehicle.rear_axle_to_center)
    still = standing(footprint.corners)
    gap = sweep_box_distance(still, np.zeros(len(objects), np.int64), objects.boxes)
    behind, following = _rear(ego, objects, vehicle, config)
    kind, count = array(scene.map.kind), array(scene.map.valid).sum(-1)
    xy = array(scene.map.xy)[:, : max(int(count.max(initial=0)), 2)].astype(np.float64)  # without what is padding
    lane = (kind == int(PolylineType.CENTERLINE)) & (count >= 2)
    lanes = (
        LaneGraph(xy[lane], count[lane], table.lane_joint) if lane.any() else LaneGraph.from_lists([], table.lane_joint)
    )
    reach = min(100.0, 40.0 + 4.0 * abs(ego[3]))
    boundary = Segments.of(segments(xy, count, kind == int(PolylineType.BOUNDARY)))
    stop_line = Segments.of(segments(xy, count, (kind == int(PolylineType.STOP_LINE)) & array(scene.map.closed)))
    # Only the surroundings tell the side; a corner's nearest edge beyond 30 m leaves it inside or far out alike.
    around = boundary.ends[np.abs(boundary.ends - ego[:2]).reshape(-1, 4).max(1) < 30.0]
    beyond = float(beyond_boundary(around, ego[None, :3], vehicle)[0]) if len(around) else -np.inf
    r = scene.route
    ok = array(r.valid)
    route_xy = array(r.xy)[ok].astype(np.float64)
    frame = RouteFrame.of(route_xy, ego)
    yielding, waiting = gives_way(ego, route_xy, objects, table), waits(route_xy, objects, table)
    relations = relate(frame, objects, ego, vehicle, table)
    sight = sight_of(objects, relations, ego, raw)
    return SceneSets(
        ego=ego,
        objects=objects,
        still=still,
        gap=gap,
        touching=gap < config.clearance,
        behind=behind,
        following=following,
        forecasts=forecasts_of(scene.futures, kept, objects, config),
        occupancy=Occupancy(objects, table, lanes, config.step, reach, yielding, waiting, config.widening),
        boundary=boundary,
        over_edge=bool(boundary.under(still).any()) or beyond > 0,
        beyond_edge=beyond,
        stop_line=stop_line.take(~stop_line.under(still)),
        lane=Segments.of(segments(xy, count, lane)),
        crosswalks=[xy[i, : count[i]] for i in np.flatnonzero((kind == int(PolylineType.CROSSING)) & (count >= 3))],
        route_xy=route_xy,
        route_limit=array(r.speed_limit)[ok].astype(np.float64),
        route_left=(array(r.left) + array(r.left_oncoming))[ok].astype(np.float64),
        route_right=(array(r.right) + array(r.right_oncoming))[ok].astype(np.float64),
        own_side=_own_side(route_xy, ego, array(r.left)[ok], array(r.right)[ok]),
        relations=relations,
        sight=sight,
        phantoms=phantoms(
            objects, relations, lanes, sight, ego, vehicle.width / 2, goes_straight(ego, route_xy, table), table.phantom
        ),
        waits=yielding | waiting,
        raw_note="" if raw is None or not raw.reason else f"raw channel {raw.status}: {raw.reason}",
    )


def _own_side(route_xy: np.ndarray, ego: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """How far (m) ego's own direction of travel reaches to the left and right of the route, where ego is."""
    if not len(route_xy):
        return np.inf, np.inf
    here = int(np.hypot(*(route_xy - ego[:2]).T).argmin())
    return float(left[here]), float(right[here])


def _rear(
    ego: np.ndarray, objects: Objects, vehicle: VehicleParameters, config: CheckerConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Which objects lie wholly behind ego's rear within the rear bearing; which of them in its own track."""
    c, s = np.cos(ego[2]), np.sin(ego[2])
    to = objects.boxes.corners - ego[:2]
    forward = to[..., 0] * c + to[..., 1] * s
    center = objects.pose[:, :2] - ego[:2]
    bearing = np.abs(np.arctan2(-s * center[:, 0] + c * center[:, 1], c * center[:, 0] + s * center[:, 1]))
    side = np.abs(-s * center[:, 0] + c * center[:, 1])
    behind = (forward.max(-1) < -vehicle.rear) & (bearing > config.rear_bearing)
    return behind, behind & (side < (vehicle.width + objects.size[:, 1]) / 2 + 0.5)
