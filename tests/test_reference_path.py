"""Reference path: smooth, honest about where it is valid, exact there and back, differentiable."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.path.foot_point import TUBE
from planner.path.reference_path import ATTRIBUTES, SPACING, Frenet, ReferencePath, build_reference_path
from planner.scene import Route

F64 = torch.float64


class OnePath:
    """The path of a single route, seen without the axis of scenes."""

    def __init__(self, route: Route) -> None:
        self.batch = build_reference_path(route.apply(lambda t: t[None]))
        self.length = float(self.batch.length)
        self.knots = self.batch.knots[0]

    def derivatives(self, s: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(x[0] for x in self.batch.derivatives(s[None]))

    def evaluate(self, s: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(x[0] for x in self.batch.evaluate(s[None]))

    def to_cartesian(self, s: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return self.batch.to_cartesian(s[None], d[None])[0]

    def project(self, xy: torch.Tensor, guess: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        return tuple(x[0] for x in self.batch.project(xy[None], None if guess is None else guess[None]))

    def attribute(self, name: str, s: torch.Tensor) -> torch.Tensor:
        return self.batch.attribute(name, s[None])[0]


def route_of(xy: np.ndarray | torch.Tensor, **attributes: float | torch.Tensor) -> Route:
    """A route through the points; 2 m to each side, 10 m/s, unless told otherwise."""
    xy = torch.as_tensor(np.asarray(xy), dtype=F64)
    count = len(xy)
    default = {"speed_limit": 10.0, "left": 2.0, "right": 2.0, "left_oncoming": 0.0, "right_oncoming": 0.0}
    values = {k: torch.zeros(count, dtype=F64) + v for k, v in (default | attributes).items() if k in default}
    none = torch.zeros(count, dtype=torch.bool)
    return Route(
        xy,
        lane_id=torch.zeros(count, dtype=torch.int64),
        junction=attributes.get("junction", none),
        valid=~none,
        **values,
    )


def winding(curvature: list[float], step: float = 0.5) -> np.ndarray:
    """Points of a curve whose curvature (1/m) takes the given values 20 m apart, linearly in between."""
    s = np.arange(0, 20.0 * (len(curvature) - 1), step)
    heading = np.cumsum(np.interp(s, 20.0 * np.arange(len(curvature)), curvature)) * step
    return np.stack([np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))], -1) * step


def kinked(angle: float, before: float = 40.0, after: float = 60.0) -> np.ndarray:
    """Two straight lanes that meet at an angle (rad), points 2 m apart: a lane joint."""
    first = np.stack([np.arange(-before, 0, 2.0), 0 * np.arange(-before, 0, 2.0)], -1)
    r = np.arange(0, after, 2.0)
    return np.concatenate([first, np.stack([r * math.cos(angle), r * math.sin(angle)], -1)])


curvatures = st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=7)
fractions = st.lists(st.floats(-1.0, 1.0), min_size=40, max_size=40)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(curvatures, fractions)
def test_to_frenet_and_back_is_exact_inside_the_tube(curvature: list[float], across: list[float]) -> None:
    """Every (s, d) within the tube and 4 m of the path comes back."""
    path = OnePath(route_of(winding(curvature)))
    s = torch.linspace(1.0, path.length - 1.0, len(across), dtype=F64)
    bend = path.evaluate(s)[2]
    d = torch.tensor(across, dtype=F64) * torch.minimum(0.85 * TUBE / bend.abs().clamp(min=1e-9), torch.tensor(4.0))
    xy = path.to_cartesian(s, d)
    s_back, d_back, valid = path.project(xy, guess=s + 0.5)
    assert bool(valid.all())
    assert s_back.numpy() == pytest.approx(s.numpy(), abs=1e-6)
    assert d_back.numpy() == pytest.approx(d.numpy(), abs=1e-6)
    # Without a guess another part of the path may be nearer; whatever is valid maps back to the point.
    s_free, d_free, valid = path.project(xy)
    again = path.to_cartesian(s_free, d_free)
    assert again[valid].numpy() == pytest.approx(xy[valid].numpy(), abs=1e-6)
    assert bool((d_free.abs() <= d.abs() + 1e-6)[valid].all())
    assert bool(valid[d.abs() < 0.5].all())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(curvatures, st.lists(st.tuples(st.floats(-80, 160), st.floats(-120, 120)), min_size=20, max_size=20))
def test_anywhere_in_the_plane_there_is_an_answer_or_a_mask_never_nan(curvature, points) -> None:
    path = OnePath(route_of(winding(curvature)))
    xy = torch.tensor(points, dtype=F64, requires_grad=True)
    s, d, valid = path.project(xy)
    assert bool((s >= 0).all() & (s <= path.length).all() & d.isfinite().all())
    assert path.to_cartesian(s, d).detach()[valid].numpy() == pytest.approx(xy.detach()[valid].numpy(), abs=1e-6)
    (s + d).sum().backward()
    assert bool(xy.grad.isfinite().all())


def test_outside_the_tube_and_beyond_the_ends_is_masked() -> None:
    radius = 15.0
    angle = np.arange(0, 4.0, 0.05)
    path = OnePath(route_of(radius * np.stack([np.sin(angle), 1 - np.cos(angle)], -1)))
    middle = torch.tensor(path.length / 2, dtype=F64)
    bend = float(path.evaluate(middle)[2])
    assert bend == pytest.approx(1 / radius, rel=0.03)
    for factor, expected in ((0.5, True), (TUBE - 0.02, True), (TUBE + 0.02, False), (1.0, False), (1.5, False)):
        xy = path.to_cartesian(middle, torch.tensor(factor / bend, dtype=F64))
        assert bool(path.project(xy, guess=middle)[2]) is expected, factor
    assert bool(path.project(path.to_cartesian(middle, torch.tensor(-20.0, dtype=F64)))[2])  # outside of the bend
    straight = OnePath(route_of(np.stack([np.arange(0, 50.0), np.zeros(50)], -1)))
    ends = torch.tensor([[-0.1, 1.0], [0.1, 1.0], [48.9, 1.0], [60.0, 1.0]], dtype=F64)
    assert straight.project(ends)[2].tolist() == [False, True, True, False]


def knots_and_between(path: OnePath) -> torch.Tensor:
    """From the second to the last but one knot, a tenth of a spacing apart."""
    return torch.arange(SPACING, path.length - SPACING, SPACING / 10, dtype=F64)


@pytest.mark.parametrize("angle", [0.1, -0.3, 0.7])
def test_curvature_is_continuous_and_bounded_at_a_lane_joint(angle: float) -> None:
    """A kink becomes a bend that a vehicle can drive. The raw polyline turns by `angle` in no distance at all."""
    path = OnePath(route_of(kinked(angle)))
    s = knots_and_between(path)
    bend = path.evaluate(s)[2]
    jump = bend.diff().abs().amax()
    # Continuous: a tenth of the step, a tenth of the change. A spline that is C1 only jumps at its knots instead.
    knot = torch.arange(2 * SPACING, path.length - 2 * SPACING, SPACING, dtype=F64)
    across = path.evaluate(knot + 1e-7)[2] - path.evaluate(knot - 1e-7)[2]
    assert float(across.abs().amax()) < 1e-5
    assert float(jump) < 0.3 * float(bend.abs().amax())
    assert 0.2 * abs(angle) / 8.0 < float(bend.abs().amax()) < 0.25 * abs(angle)
    # It turns by the angle, once, and stays near the joint.
    heading = path.evaluate(torch.tensor([5.0, path.length - 5.0], dtype=F64))[1]
    assert float(heading[1] - heading[0]) == pytest.approx(angle, abs=1e-3)
    assert float(path.project(torch.zeros(2, dtype=F64))[1].abs()) < 0.8


def test_noise_of_a_decimetre_in_the_route_does_not_steer() -> None:
    rng = np.random.default_rng(0)
    xy = np.stack([np.arange(0, 100.0), rng.normal(0, 0.1, 100)], -1)
    path = OnePath(route_of(xy))
    assert float(path.evaluate(knots_and_between(path))[2].abs().amax()) < 0.05
    raw = np.abs(np.diff(xy[:, 1], 2)).max()
    assert raw > 0.3  # the polyline itself bends like this


@settings(max_examples=20, deadline=None, derandomize=True)
@given(curvatures)
def test_a_metre_of_s_is_a_metre_of_way(curvature: list[float]) -> None:
    path = OnePath(route_of(winding(curvature)))
    _, first, _ = path.derivatives(knots_and_between(path))
    assert first.norm(dim=-1).numpy() == pytest.approx(1.0, abs=2e-3)


def test_heading_and_curvature_are_the_derivatives_they_claim_to_be() -> None:
    path = OnePath(route_of(winding([0.0, 0.08, -0.05, 0.02])))
    s, step = torch.linspace(3, path.length - 3, 57, dtype=F64), 1e-4
    ahead, behind = path.evaluate(s + step), path.evaluate(s - step)
    chord = ahead[0] - behind[0]
    assert torch.atan2(chord[:, 1], chord[:, 0]).numpy() == pytest.approx(path.evaluate(s)[1].numpy(), abs=1e-7)
    turn = (ahead[1] - behind[1]) / chord.norm(dim=-1)
    assert turn.numpy() == pytest.approx(path.evaluate(s)[2].numpy(), abs=1e-4)


def test_dense_gradients_of_the_projection_are_those_of_the_implicit_function() -> None:
    """With respect to the point, and to the route's points, against central differences."""
    # Points 0.73 m apart: none lies where the resampling cuts, which is at every metre and has a kink there.
    xy = torch.from_numpy(winding([0.0, 0.06, 0.06, -0.04], step=0.73)).requires_grad_(True)
    point = torch.tensor([17.0, 3.0], dtype=F64, requires_grad=True)

    def coordinates(route_xy: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        s, d, valid = OnePath(route_of(np.zeros((len(xy), 2))).replace(xy=route_xy)).project(at)
        assert bool(valid)
        return torch.stack([s, d])

    rng = np.random.default_rng(3)
    for component in (0, 1):
        grads = torch.autograd.grad(coordinates(xy, point)[component], (xy, point))
        for which, grad in enumerate(grads):
            for _ in range(4):
                # Route points move together in smooth waves; single points would change where resampling cuts.
                phase = torch.linspace(0, 3 * float(rng.uniform(0.5, 2)), len(xy), dtype=F64)[:, None]
                shape = torch.from_numpy(rng.normal(size=2))
                direction = (torch.sin(phase + float(rng.uniform(0, 6))) * shape) if which == 0 else shape
                step = 1e-5
                moved = [
                    [xy.detach() + sign * step * direction, point.detach()]
                    if which == 0
                    else [xy.detach(), point.detach() + sign * step * direction]
                    for sign in (1, -1)
                ]
                up, down = (coordinates(*m)[component] for m in moved)
                measured = float(up - down) / (2 * step)
                assert float((grad * direction).sum()) == pytest.approx(measured, rel=1e-5, abs=1e-6), (
                    component,
                    which,
                )


def test_sideways_and_along_are_the_gradients_of_a_straight_path() -> None:
    path = OnePath(route_of(np.stack([np.arange(0, 60.0), np.zeros(60)], -1)))
    xy = torch.tensor([20.3, 1.5], dtype=F64, requires_grad=True)
    s, d, _ = path.project(xy)
    assert torch.autograd.grad(s, xy, retain_graph=True)[0].tolist() == pytest.approx([1, 0], abs=1e-9)
    assert torch.autograd.grad(d, xy)[0].tolist() == pytest.approx([0, 1], abs=1e-9)


def test_attributes_are_found_where_they_were_put() -> None:
    x = np.arange(0, 80.0)
    ramp = torch.from_numpy(1.0 + x / 40)
    route = route_of(
        np.stack([x, 0 * x], -1), left=ramp, right=3.0, left_oncoming=1.5, right_oncoming=0.5, speed_limit=7 + ramp,
        junction=torch.from_numpy((x >= 30) & (x < 50)),
    )  # fmt: skip
    path = OnePath(route)
    s = torch.tensor([10.0, 20.25, 29.0, 40.0, 60.5], dtype=F64)
    assert path.attribute("left", s).numpy() == pytest.approx(1 + s.numpy() / 40, abs=1e-6)
    assert path.attribute("speed_limit", s).numpy() == pytest.approx(8 + s.numpy() / 40, abs=1e-6)
    assert path.attribute("right", s).numpy() == pytest.approx(3.0, abs=1e-6)
    assert path.attribute("left_oncoming", s).tolist() == pytest.approx([1.5] * 5)
    assert path.attribute("right_oncoming", s).tolist() == pytest.approx([0.5] * 5)
    assert path.attribute("junction", s).tolist() == [False, False, False, True, False]
    beyond = torch.tensor([-5.0, 500.0], dtype=F64)
    assert path.attribute("left", beyond).tolist() == pytest.approx([1.0, 1 + path.length / 40], abs=1e-6)


def test_smoothing_a_corner_takes_the_shift_off_the_room() -> None:
    """The edges of the surface stay where they are while the path cuts the corner: left + right is kept, and the

    path's left edge lies on the polyline's left edge.
    """
    path = OnePath(route_of(kinked(0.5), left=3.0, right=4.0))
    s = torch.linspace(20, path.length - 20, 81, dtype=F64)
    left, right = path.attribute("left", s), path.attribute("right", s)
    corner = path.project(torch.zeros(2, dtype=F64))
    # Turning left, the smoothed path runs left of the corner by this much; the corner is d < 0.
    shift = -float(corner[1])
    assert shift > 0.1
    at = corner[0]
    assert float(path.attribute("left", at)) == pytest.approx(3.0 - shift, abs=0.1)
    assert float(path.attribute("right", at)) == pytest.approx(4.0 + shift, abs=0.1)
    assert (left + right).numpy() == pytest.approx(7.0, abs=1e-6)
    assert bool((left >= 0).all() & (right >= 0).all())


def test_invalid_and_doubled_points_are_left_out() -> None:
    x = np.arange(0, 40.0)
    clean = OnePath(route_of(np.stack([x, 0 * x], -1)))
    doubled = np.repeat(np.stack([x, 0 * x], -1), 2, axis=0)
    assert torch.allclose(OnePath(route_of(doubled)).knots, clean.knots)
    padded = route_of(np.concatenate([np.stack([x, 0 * x], -1), np.full((5, 2), 999.0)]))
    padded.valid[-5:] = False
    assert torch.allclose(OnePath(padded).knots, clean.knots)


@pytest.mark.parametrize("length", [1.0, 4.0, 4.9])
def test_a_route_that_is_too_short_is_refused_with_numbers(length: float) -> None:
    xy = np.stack([np.linspace(0, length, 11), np.zeros(11)], -1)
    with pytest.raises(ValueError, match=rf"at least 5 m of path, got {int(length)}\.\d m"):
        OnePath(route_of(xy))


def test_five_metres_are_enough() -> None:
    path = OnePath(route_of(np.stack([np.linspace(0, 5.0001, 11), np.zeros(11)], -1)))
    assert path.length >= 4.0
    assert bool(path.evaluate(torch.tensor(2.5, dtype=F64))[2].abs() < 1e-9)


WAYS = (
    winding([0.0, 0.05, -0.03, 0.0]),
    winding([0.02, 0.02]),
    winding([0.0, -0.06, 0.06, 0.0, 0.0, 0.01]),
    kinked(0.4),
)


def ragged() -> tuple[ReferencePath, list[OnePath]]:
    """Paths of different lengths in one batch, and each of them alone."""
    routes = [
        route_of(way, left=1.0 + 0.1 * np.arange(len(way)) % 3, speed_limit=5.0 + k) for k, way in enumerate(WAYS)
    ]
    return build_reference_path(Route.stack(routes)), [OnePath(route) for route in routes]


def test_a_batch_of_paths_of_any_lengths_is_each_path_alone() -> None:
    """Knots, moments and attributes; coordinates there and back; up to and beyond every path's own end."""
    batch, alone = ragged()
    assert len({p.length for p in alone}) == len(alone)
    assert batch.length.tolist() == [p.length for p in alone]
    s = torch.linspace(-5.0, 1.2 * max(p.length for p in alone), 90, dtype=F64).expand(len(alone), -1)
    xy = torch.stack([p.to_cartesian(row, torch.sin(row)) for p, row in zip(alone, s)])
    found, values = batch.locate(xy), batch.evaluate(s)
    around, junction = batch.surroundings(s.numpy()), batch.attribute("junction", s)
    for k, own in enumerate(alone):
        n = len(own.knots)
        for name in ("knots", "moments", "attributes"):
            assert torch.allclose(getattr(batch, name)[k, :n], getattr(own.batch, name)[0], rtol=0, atol=1e-11), name
        for together, single in zip((*values, *found), (*own.evaluate(s[k]), *own.batch.locate(xy[k][None]))):
            assert together[k].double().numpy() == pytest.approx(
                single.double().reshape(together[k].shape).numpy(), abs=1e-9
            )
        for j, name in enumerate(ATTRIBUTES):
            assert around[k, :, j].numpy() == pytest.approx(own.attribute(name, s[k]).numpy(), abs=1e-10)
        assert torch.equal(junction[k], own.attribute("junction", s[k]))


def test_rows_choose_the_path_of_every_row() -> None:
    batch, alone = ragged()
    scene = torch.tensor([2, 0, 3, 3, 1, 0])
    view = batch.rows(scene)
    assert view.length.tolist() == [alone[k].length for k in scene]
    s = torch.linspace(0.0, 60.0, 11, dtype=F64).expand(len(scene), -1)
    points = view.to_cartesian(s, 0.5 * torch.ones_like(s))
    found = view.locate(points, guess=s + 0.3)
    for row, k in enumerate(scene.tolist()):
        inside = s[row] < alone[k].length
        assert torch.equal(points[row], batch.to_cartesian(s[:1].expand(len(alone), -1), 0 * s[:1] + 0.5)[k])
        assert found.s[row][inside].numpy() == pytest.approx(s[row][inside].numpy(), abs=1e-6)
        assert bool(found.valid[row][inside].all())
    again = view.rows(torch.tensor([4]))
    assert again.length.tolist() == [alone[1].length]


@pytest.mark.parametrize("rows", [None, [2, 0, 3, 3, 1, 0]])
def test_the_bend_is_the_curvature_with_and_without_a_gradient(rows: list[int] | None) -> None:
    """Of all lengths of path, before and beyond their ends; and of a single one."""
    batch, alone = ragged()
    single = alone[0].batch
    for path in (batch if rows is None else batch.rows(torch.tensor(rows)), single):
        s = torch.linspace(-5.0, 90.0, 3 * 2 * 37, dtype=F64).reshape(3, 2, 37)[:1].expand(len(path.count), -1, -1)
        expected = path.evaluate(s)[2]
        assert torch.allclose(path.bend(s), expected, rtol=1e-12, atol=1e-15)
        assert float(expected.abs().amax()) > 0.01
        moved = s.clone().requires_grad_()
        slope = torch.autograd.grad(path.bend(moved).sum(), moved)[0]
        step = 1e-6
        steps = (path.bend(s + step) - path.bend(s - step)) / (2 * step)
        inside = (s > 1.0) & (s < 20.0) & ((s - s.round()).abs() > 1e-3)
        assert slope[inside].numpy() == pytest.approx(steps[inside].numpy(), abs=1e-6)


@pytest.mark.parametrize("rows", [None, [1, 1, 0]])
def test_all_frenet_coordinates_have_the_derivatives_they_claim(rows: list[int] | None) -> None:
    """s, d, heading and curvature with respect to points and to the splines, against central differences."""
    batch = build_reference_path(Route.stack([route_of(WAYS[0]), route_of(WAYS[1])]))
    rng = torch.Generator().manual_seed(5)
    count = 2 if rows is None else len(rows)
    at = torch.rand(count, 12, dtype=F64, generator=rng) * 15 + 2
    view = batch if rows is None else batch.rows(torch.tensor(rows))
    xy = view.to_cartesian(at, torch.rand(count, 12, dtype=F64, generator=rng) * 4 - 2)

    def coordinates(points: torch.Tensor, cubics: torch.Tensor) -> Frenet:
        view.__dict__["cubics"] = cubics
        return view.locate(points)

    points, cubics = xy.clone().requires_grad_(True), batch.cubics.clone().requires_grad_(True)
    found = coordinates(points, cubics)
    assert bool(found.valid.all())
    for index in (0, 1, 3, 4):
        weight = torch.randn(found.s.shape, dtype=F64, generator=rng)
        grads = torch.autograd.grad((coordinates(points, cubics)[index] * weight).sum(), (points, cubics))
        for which, grad in enumerate(grads):
            step = 1e-6 * torch.randn(grad.shape, dtype=F64, generator=rng)
            by = (step, 0.0) if which == 0 else (0.0, step)
            moved = [coordinates(xy + sign * by[0], cubics.detach() + sign * by[1]) for sign in (1, -1)]
            measured = float(((moved[0][index] - moved[1][index]) * weight).sum()) / 2
            assert float((grad * step).sum()) == pytest.approx(measured, rel=1e-5, abs=1e-11), (index, which)
