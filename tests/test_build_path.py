"""The compiled making of reference paths does what its definition does: values, gradients, padding, odd routes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_reference_path import WAYS, kinked, route_of, winding
from torch import Tensor
from twins import assert_twins, by_twin, needs_library, with_gradients

from benchmarks.crowded import crowded_scene
from planner.path import reference_path
from planner.path.path_points import ATTRIBUTES
from planner.path.reference_path import build_reference_path
from planner.scene import Route

F64 = torch.float64
BUILD, BACK = (reference_path, "_build"), (reference_path, "_build_back")


def ragged() -> Route:
    """Of different lengths and spacings; doubled and invalid points; room that the corner's shift eats up."""
    rng = np.random.default_rng(4)
    routes = []
    for k, way in enumerate(WAYS):
        room = {name: rng.uniform(0.0, 3.0, len(way)) for name in ATTRIBUTES}
        routes.append(route_of(way, **{n: torch.from_numpy(x) for n, x in room.items()}))
        routes[-1].junction[k::5] = True
    doubled = np.repeat(winding([0.01, -0.05, 0.03, 0.02], step=0.83), 2, axis=0)
    routes.append(route_of(doubled))
    narrow = route_of(kinked(0.9), left=0.02, right=0.01)
    narrow.valid[-3:] = False
    routes.append(narrow)
    return Route.stack(routes)


def parts(route: Route) -> list[Tensor]:
    path = build_reference_path(route)
    return [path.knots, path.moments, path.attributes, path.cubics, path.junction, path.count]


@needs_library
def test_values() -> None:
    assert_twins(lambda: parts(ragged()), BUILD)
    for k in range(6):
        alone = ragged()[k : k + 1]
        assert_twins(lambda r=alone: parts(r), BUILD)
    assert_twins(lambda: parts(crowded_scene(1).route.apply(lambda t: t[None])), BUILD)


@needs_library
@pytest.mark.parametrize("moved", [slice(0, 6), slice(2, 3)])
def test_gradients(moved: slice) -> None:
    route = ragged()[moved]

    def found(xy: Tensor, *attributes: Tensor) -> list[Tensor]:
        return parts(route.replace(xy=xy, **dict(zip(ATTRIBUTES, attributes))))

    values = [getattr(route, name) for name in ATTRIBUTES]
    assert_twins(with_gradients(found, route.xy, *values), BUILD, BACK)
    # One output at a time: the others bring nothing.
    for k in range(4):
        assert_twins(with_gradients(lambda *x, k=k: [found(*x)[k]], route.xy, *values), BUILD, BACK)


@needs_library
def test_alone_in_a_batch_and_on_threads_to_the_last_bit() -> None:
    route = ragged()
    together = build_reference_path(Route.stack([route[k % 6] for k in range(60)]), threads=3)
    for k in range(6):
        alone = build_reference_path(route[k : k + 1])
        n = int(alone.count)
        for row in (k, 54 + k):
            assert int(together.count[row]) == n
            assert torch.equal(together.knots[row, :n], alone.knots[0])
            assert torch.equal(together.cubics[row, : n - 1], alone.cubics[0])
            assert torch.equal(together.attributes[row, :n], alone.attributes[0])


@needs_library
def test_a_path_longer_than_its_route_finds_room() -> None:
    """Points that go to and fro are smoothed to something shorter, never longer; the loop that makes room is reached by

    a kernel that is told of too little.
    """
    route = ragged()
    whole = parts(route)
    lengths = reference_path._lengths

    def short(xy: Tensor, valid: Tensor, out: Tensor, scenes: int, points: int) -> None:
        lengths(xy, valid, out, scenes, points)
        out *= 0.5

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_path, "_lengths", short)
        assert all(torch.equal(a, b) for a, b in zip(parts(route), whole))


def test_without_kernels_the_definition_serves_and_refuses_alike() -> None:
    short = route_of(np.stack([np.linspace(0, 4.9, 11), np.zeros(11)], -1)).apply(lambda t: t[None])
    with pytest.raises(ValueError, match=r"at least 5 m of path, got 4\.0 m"):
        by_twin(lambda: parts(short), BUILD)
    assert by_twin(lambda: parts(ragged()), BUILD)[5].tolist() == build_reference_path(ragged()).count.tolist()
