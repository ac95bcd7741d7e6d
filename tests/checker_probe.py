"""Where the checker's tests reach into its parts: one place that knows how each part is called."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
import torch
from checker_scenes import F64, make_scene

from planner.checker import Assumptions, CheckerConfig, SceneSets, Violation, prepare
from planner.checker.edges import Segments
from planner.checker.footprint import Boxes
from planner.checker.forecast import swept_boxes
from planner.checker.lanes import LaneGraph
from planner.checker.motion import Motion
from planner.checker.route_frame import Along, RouteFrame
from planner.checker.rules import objects, road, unseen
from planner.checker.rules.finding import Finding
from planner.scene import PolylineType, VectorScene, VehicleParameters

V, C = VehicleParameters(), CheckerConfig()
AWAY = 1e6  # m: where a mode is put here that says nothing about an interval


def projected(frame: RouteFrame, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Station, offset to the left and heading of the route at points."""
    found = frame.project(point)
    return found.station, found.offset, found.heading


def nearest_lanes(
    graph: LaneGraph, point: np.ndarray, heading: float, distance: float, angle: float
) -> list[tuple[int, float, float]]:
    """Lines near a pose: (line, arc length, offset), by number of the line."""
    (found,) = graph.nearest(point[None], np.array([heading]), distance, angle)
    return [(line, *found[line]) for line in sorted(found)]


def lane_ways(
    graph: LaneGraph, point: np.ndarray, heading: float, samples: int, station: float, table: Assumptions
) -> list[np.ndarray]:
    """Ways ``[samples, 3]`` from a pose."""
    owner, ways = graph.paths(point[None], np.array([heading]), samples, station, table)
    assert len(owner) == len(ways)
    assert not owner.any()
    return list(ways)


@dataclass(frozen=True)
class Predicted:
    """The forecasts' boxes ``[K, N]``, with owner and probability ``[N]``."""

    boxes: Boxes
    center: np.ndarray
    owner: np.ndarray
    probability: np.ndarray


def predicted(sets: SceneSets) -> Predicted:
    """Boxes of every mode in every interval."""
    f = sets.forecasts
    pose = np.moveaxis(f.pose, 0, 1)
    boxes = swept_boxes(pose[:-1], pose[1:], np.broadcast_to(f.size, (f.intervals, *f.size.shape)))
    return Predicted(boxes, np.where(f.known.T[..., None], boxes.center, AWAY), f.owner, f.probability)


def _along(sets: SceneSets, motion: Motion) -> Along:
    return sets.relations.frame.project(motion.pose[:, :2])


def nominal_objects(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """The intended motion against the forecasts."""
    return objects.nominal_objects(sets, motion, motion.sweeps(V), _along(sets, motion), config)


def tail_objects(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """A tail against the sets."""
    return objects.tail_objects(sets, motion, motion.sweeps(V), _along(sets, motion), config)


def wrong_way(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """The intended motion against the direction of its route."""
    return road.wrong_way(sets, motion, _along(sets, motion), config)


def phantom_walkers(sets: SceneSets, motion: Motion, config: CheckerConfig = C) -> Finding:
    """The intended motion past whoever may step out."""
    return unseen.phantom_walkers(sets, motion, _along(sets, motion), V, config)


def lines(segments: np.ndarray) -> Segments:
    """Segments ``[S, 2, 2]`` in the form of a scene's boundary, stop lines or lanes."""
    return Segments.of(segments)


def body(pose: np.ndarray) -> shapely.Polygon:
    """Ego's outline at a rear-axle pose."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    corners = np.array([[V.front, 1], [-V.rear, 1], [-V.rear, -1], [V.front, -1]]) * [1, V.width / 2]
    return shapely.Polygon(corners @ np.array([[c, s], [-s, c]]) + pose[:2])


def sets(scene: VectorScene, **config: float) -> SceneSets:
    """What the checker makes of a scene, with some settings changed."""
    return prepare(scene, V, replace(C, **config))


def wide(v: float = 8.0, agents: tuple = (), lines: tuple = (), **more) -> VectorScene:
    """A scene with its edges far away."""
    return make_scene(v, agents, lines=lines, **{"half_width": 60.0, "right_edge": 60.0, **more})


def polyline(points: list, kind: PolylineType) -> tuple[torch.Tensor, PolylineType]:
    """A line of the map."""
    return torch.tensor(points, dtype=F64), kind


def about(found: list[Violation] | tuple[Violation, ...], rule: str) -> Violation:
    """The only violation of a rule."""
    (one,) = (v for v in found if v.rule == rule)
    return one
