"""Compiled surface and free-flow speed do what their definitions do: values, gradients, padding, closed roads."""

from __future__ import annotations

import pytest
import torch
from planner_scenes import CONFIG, SCENES, VEHICLE
from test_build_path import ragged
from torch import Tensor
from twins import assert_twins, by_twin, needs_library, with_gradients

from benchmarks.crowded import crowded_scene
from planner.grid import make_grid
from planner.path import speed_profile, surface
from planner.path.reference_path import ReferencePath, build_reference_path
from planner.path.speed_profile import free_speed
from planner.path.surface import Start, start_state, usable_surface
from planner.scene import VectorScene

NODES = make_grid(CONFIG.horizon).node_time
SPEED = ((speed_profile, "_free_speed"), (speed_profile, "_free_speed_back"))
ROOM = ((surface, "_usable_surface"), (surface, "_usable_surface_back"))


def paths() -> list[tuple[ReferencePath, Start]]:
    """Bends, corners, rooms that close and paths of different lengths; ego at their begin, middle and end."""
    batch = build_reference_path(ragged())
    zero = torch.zeros_like(batch.length)
    out = []
    for share, v in ((0.0, 0.0), (0.4, 6.0), (0.97, 14.0)):
        out.append((batch, Start(share * batch.length, zero, zero, zero, zero + v, zero, zero)))
    for scenes in ([crowded_scene(2)], [crowded_scene(k) for k in range(3)], list(SCENES.values())[:4]):
        scene = VectorScene.stack([s.replace(name="") for s in scenes])
        path = build_reference_path(scene.route)
        out.append((path, start_state(scene, path)))
    return out


def of_parts(path: ReferencePath, cubics: Tensor, attributes: Tensor) -> ReferencePath:
    own = ReferencePath(path.knots, path.moments, attributes, path.junction, path.count)
    own.__dict__["cubics"] = cubics
    return own


@needs_library
@pytest.mark.parametrize("number", range(6))
def test_free_speed(number: int) -> None:
    path, start = paths()[number]

    def found(cubics: Tensor, attributes: Tensor) -> list[Tensor]:
        return [free_speed(of_parts(path, cubics, attributes), start, CONFIG, NODES)]

    assert_twins(lambda: found(path.cubics, path.attributes), SPEED[0])
    assert_twins(with_gradients(found, path.cubics, path.attributes), *SPEED)


@needs_library
@pytest.mark.parametrize("number", range(6))
def test_surface(number: int) -> None:
    path, start = paths()[number]

    def found(attributes: Tensor) -> list[Tensor]:
        s = usable_surface(of_parts(path, path.cubics, attributes), start, VEHICLE, CONFIG)
        return [s.s, s.lower, s.upper, s.lower_all, s.upper_all, s.straight, s.count]

    assert_twins(lambda: found(path.attributes), ROOM[0])
    assert_twins(with_gradients(found, path.attributes), *ROOM)
    one = with_gradients(lambda a: found(a)[3:4], path.attributes)
    assert_twins(one, *ROOM)


def test_without_kernels_the_definitions_serve() -> None:
    path, start = paths()[1]
    speed = by_twin(lambda: free_speed(path, start, CONFIG, NODES), *SPEED)
    assert speed.shape == (len(path.count), len(NODES))
    assert bool(by_twin(lambda: usable_surface(path, start, VEHICLE, CONFIG), *ROOM).straight.any())
