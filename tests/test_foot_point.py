"""The compiled search for foot points does what its definition does: values, masks, gradients, odd inputs, threads."""

from __future__ import annotations

import math

import pytest
import torch
from test_reference_path import WAYS, route_of
from torch import Tensor
from twins import assert_twins, needs_library, with_gradients

from planner.path import foot_point
from planner.path.foot_point import Splines, foot_points
from planner.path.reference_path import ReferencePath, build_reference_path
from planner.scene import Route

F64 = torch.float64
KERNELS = ((foot_point, "_locate"), (foot_point, "_locate_back"))


def paths() -> ReferencePath:
    """Of different lengths, padded."""
    return build_reference_path(Route.stack([route_of(way) for way in WAYS]))


def points_near(path: ReferencePath, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """xy and s ``[L, count]``: beside the path, beyond its ends and far out."""
    draw = torch.Generator().manual_seed(seed)
    s = torch.rand(len(path.count), count, dtype=F64, generator=draw) * (path.length[:, None] + 20) - 10
    d = 3 * torch.randn(s.shape, dtype=F64, generator=draw)
    # Off the normals at the ends, where rounding would decide whether s may move.
    xy = path.to_cartesian(s, d) + 0.3 * torch.randn(*s.shape, 2, dtype=F64, generator=draw)
    xy[:, ::7] += 40 * torch.randn(xy[:, ::7].shape, dtype=F64, generator=draw)
    return xy, s


@needs_library
@pytest.mark.parametrize("rows", [None, [2, 0, 3, 3, 1, 0], [1]])
@pytest.mark.parametrize("guessed", [False, True])
@pytest.mark.parametrize("count", [1, 8, 61])
def test_values_and_gradients(rows: list[int] | None, guessed: bool, count: int) -> None:
    path = paths()
    path = path if rows is None else path.rows(torch.tensor(rows))
    xy, s = points_near(path, count)
    guess = s + 0.7 if guessed else None

    def found(xy: Tensor, cubics: Tensor) -> list[Tensor]:
        return list(foot_points(xy, Splines(cubics, path.knots, path.count, path.row), guess))

    assert_twins(with_gradients(found, xy, path.cubics), *KERNELS)
    assert_twins(lambda: found(xy, path.cubics), KERNELS[0])


@needs_library
def test_numbers_that_are_none_stay_where_they_are() -> None:
    """A point or a guess that is NaN or infinite spoils its own result only, and never the memory."""
    path = paths()
    splines = path.splines()
    xy, s = points_near(path, 16)
    for k, value in enumerate((math.nan, math.inf, -math.inf)):
        spoilt, guess = xy.clone(), s.clone()
        spoilt[k, 5], guess[k + 1, 3] = value, value
        assert_twins(lambda at=spoilt, at_s=guess: list(foot_points(at, splines, at_s)), KERNELS[0])
        found, clean = foot_points(spoilt, splines), foot_points(xy, splines)
        assert not bool(found.valid[k, 5])
        others = torch.ones(s.shape, dtype=torch.bool)
        others[k, 5] = False
        assert torch.equal(found.d[others], clean.d[others])


@needs_library
def test_the_same_to_the_last_bit_for_any_number_of_threads_and_in_any_batch() -> None:
    path = paths().rows(torch.tensor([0, 1, 2, 3] * 40))
    xy, _ = points_near(path, 60)
    assert xy[..., 0].numel() > foot_point._MANY
    results = []
    for threads in (1, 2, 3):
        leaf, cubics = xy.clone().requires_grad_(True), path.cubics.clone().requires_grad_(True)
        found = foot_points(leaf, Splines(cubics, path.knots, path.count, path.row, threads))
        results.append(
            [found.s, found.d, *torch.autograd.grad((found.s + found.d * found.heading).sum(), (leaf, cubics))]
        )
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    alone = foot_points(xy[5:6], Splines(path.cubics, path.knots, path.count[5:6], path.row[5:6]))
    assert torch.equal(alone.s[0], results[0][0][5])


@needs_library
def test_no_points_at_all() -> None:
    path = paths()
    assert_twins(lambda: list(foot_points(torch.zeros(4, 0, 2, dtype=F64), path.splines())), KERNELS[0])
