"""Where the checker's tests reach into its parts: one place that knows how each part is called."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import shapely

from planner.checker import Assumptions, CheckerConfig, SceneSets, forecast
from planner.checker import lanes as lanes_module
from planner.checker.motion import Motion
from planner.checker.route_frame import RouteFrame
from planner.checker.rules import objects, road, unseen
from planner.checker.rules.finding import Finding
from planner.scene import VehicleParameters

V, C = VehicleParameters(), CheckerConfig()
AWAY = 1e6  # m: where a mode is put here that says nothing about an interval


def projected(frame: RouteFrame, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Station, offset to the left and heading of the route at points."""
    found: Any = frame.project(point)
    return found if isinstance(found, tuple) else (found.station, found.offset, found.heading)


def nearest_lanes(graph: Any, point: np.ndarray, heading: float, distance: float, angle: float) -> list[tuple]:
    """Lines near a pose: (line, arc length, offset), by number of the line."""
    if "m, 2" in (lanes_module.LaneGraph.nearest.__doc__ or ""):
        (found,) = graph.nearest(point[None], np.array([heading]), distance, angle)
        return [(line, *found[line]) for line in sorted(found)]
    return graph.nearest(point, heading, distance, angle)


def lane_ways(
    graph: Any, point: np.ndarray, heading: float, samples: int, station: float, table: Assumptions
) -> list[np.ndarray]:
    """Ways ``[samples, 3]`` from a pose."""
    if "m, 2" in (lanes_module.LaneGraph.paths.__doc__ or ""):
        owner, ways = graph.paths(point[None], np.array([heading]), samples, station, table)
        assert not owner.any()
        return list(ways)
    return graph.paths(point, heading, samples, station, table)


def predicted(sets: Any) -> Any:
    """The forecasts' boxes ``[K, N]``, with owner and probability ``[N]``."""
    if hasattr(sets, "predicted"):
        boxes, owner, probability = sets.predicted, sets.predicted_owner, sets.predicted_probability
        center = boxes.center
    else:
        f, module = sets.forecasts, cast(Any, forecast)
        pose = np.moveaxis(f.pose, 0, 1)
        boxes = module.swept_boxes(pose[:-1], pose[1:], np.broadcast_to(f.size, (f.intervals, *f.size.shape)))
        owner, probability = f.owner, f.probability
        center = np.where(f.known.T[..., None], boxes.center, AWAY)
    return SimpleNamespace(
        center=center, axis=boxes.axis, half=boxes.half, disc=boxes.disc, corners=boxes.corners, owner=owner,
        probability=probability,
    )  # fmt: skip


def _with_route(rule: Any, sets: SceneSets, motion: Motion, *before: Any, config: CheckerConfig) -> Finding:
    if "along" in inspect.signature(rule).parameters:
        before = (*before, sets.relations.frame.project(motion.pose[:, :2]))
    return rule(sets, motion, *before, config)


def nominal_objects(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """The intended motion against the forecasts."""
    return _with_route(objects.nominal_objects, sets, motion, motion.sweeps(V), config=config)


def tail_objects(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """A tail against the sets."""
    return _with_route(objects.tail_objects, sets, motion, motion.sweeps(V), config=config)


def wrong_way(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """The intended motion against the direction of its route."""
    return _with_route(road.wrong_way, sets, motion, config=config)


def phantom_walkers(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """The intended motion past whoever may step out."""
    return _with_route(unseen.phantom_walkers, sets, motion, V, config=config)


def lines(segments: np.ndarray, like: Any) -> Any:
    """Segments ``[S, 2, 2]`` in the form of a scene's boundary, stop lines or lanes."""
    return segments if isinstance(like, np.ndarray) else type(like).of(segments)


def ends(segments: Any) -> np.ndarray:
    """``[S, 2, 2]`` of a scene's boundary, stop lines or lanes."""
    return segments if isinstance(segments, np.ndarray) else segments.ends


def body(pose: np.ndarray) -> shapely.Polygon:
    """Ego's outline at a rear-axle pose."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    corners = np.array([[V.front, 1], [-V.rear, 1], [-V.rear, -1], [V.front, -1]]) * [1, V.width / 2]
    return shapely.Polygon(corners @ np.array([[c, s], [-s, c]]) + pose[:2])
