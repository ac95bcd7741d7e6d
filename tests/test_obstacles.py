"""Obstacles: where others are along and across our path, how sure we are, and what that is worth."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_scenes import F64, Other, agent_rectangles, make_scene
from scipy.stats import norm

from planner.config import PlannerConfig, Risk
from planner.grid import make_grid
from planner.objects.obstacles import REACH_LATERAL, Obstacles, project_obstacles, risk_quantile
from planner.path.reference_path import build_reference_path
from planner.scene import AgentClass, VectorScene

CONFIG = PlannerConfig(risk=Risk(hit_probability=0.25, sigma_floor=0.05, longitudinal_max=3.0, lateral_max=0.5))
TIME = torch.cat([torch.zeros(1, dtype=F64), make_grid(CONFIG.horizon).node_time])
ORIGIN = 25.0
"""s of ego on the test road (m): it begins 25 m behind."""


def project(scene: VectorScene, config: PlannerConfig = CONFIG, time: torch.Tensor = TIME) -> Obstacles:
    """Of a single scene, seen without the axis of scenes."""
    batch = scene.apply(lambda t: t[None])
    o = project_obstacles(batch, build_reference_path(batch.route), time, config)
    names = (f.name for f in fields(o) if f.name != "node_time")
    return replace(o, **{name: getattr(o, name)[0] for name in names})


def one(other: Other, config: PlannerConfig = CONFIG, **road) -> Obstacles:
    return project(make_scene(8.0, (other,), **road), config)


def test_a_car_on_a_straight_road_takes_up_its_length_and_width() -> None:
    """With hit probability 0.25 the interval grows sideways by 0.67 sigma; now sigma is 0.1 m, plus the floor."""
    o = one(Other(30.0, 1.0, v=5.0, sigma=0.1, spread=0.0))
    first = o.s_lo[0, 0, 0].amin(), o.s_hi[0, 0, 0].amax(), o.d_lo[0, 0, 0].amin(), o.d_hi[0, 0, 0].amax()
    grown = 0.6745 * math.sqrt(0.1**2 + 0.05**2)
    half_step = 5.0 * float(TIME[1]) / 2
    expected = (ORIGIN + 27.75, ORIGIN + 32.25 + half_step, 1.0 - 0.95 - grown, 1.0 + 0.95 + grown)
    assert [float(v) for v in first] == pytest.approx(expected, abs=1e-3)
    assert float(o.speed_s[0]) == pytest.approx(5.0)
    assert float(o.relative_heading[0, 0, 3]) == pytest.approx(0.0, abs=1e-9)
    assert not bool(o.standing[0])
    at = 4
    middle = (o.s_lo[0, 0, at].amin() + o.s_hi[0, 0, at].amax()) / 2
    gaps = TIME[at + 1] - TIME[at], TIME[at] - TIME[at - 1]
    shift = 5.0 * float(gaps[0] - gaps[1]) / 4
    assert float(middle) == pytest.approx(ORIGIN + 30.0 + 5.0 * float(TIME[at]) + shift, abs=1e-3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    x=st.floats(0, 60), y=st.floats(-5, 5), yaw=st.floats(-3.1, 3.1), v=st.floats(0, 8),
    bend=st.sampled_from([0.0, 0.02, -0.02]), long=st.booleans(),
)  # fmt: skip
def test_the_pieces_cover_the_forecast_box_at_every_node(x, y, yaw, v, bend, long) -> None:
    """Every point of the mean box lies in a piece's interval: sampled corners, edges and interior.

    Exact on a straight road. At 1/50 m a piece's own extent is neither bent nor stretched, which leaves 0.3 m at 6 m
    beside the path.
    """
    slack = 1e-6 if bend == 0.0 else 0.3
    size = (12.0, 2.9) if long else (4.5, 1.9)
    scene = make_scene(8.0, (Other(x, y, yaw, v, size=size, sigma=0.0, spread=0.0),), bend=bend)
    path, o = build_reference_path(scene.route.apply(lambda t: t[None])), project(scene)
    if int(o.agent_index[0]) < 0:
        return
    boxes = agent_rectangles(scene, 0, 0, TIME.numpy())
    for n, box in enumerate(boxes):
        if not bool(o.active[0, 0, n]):
            continue
        corner = np.array(box.exterior.coords)[:4]
        weights = np.array(
            [[i * j, i * (1 - j), (1 - i) * (1 - j), (1 - i) * j] for i in (0, 0.5, 1) for j in (0, 0.3, 0.7, 1)]
        )
        # The order of corners goes round, so these weights blend opposite edges.
        s, d, valid = (x[0] for x in path.project(torch.from_numpy(weights @ corner)[None]))
        inside = (
            (s[:, None] >= o.s_lo[0, 0, n] - slack) & (s[:, None] <= o.s_hi[0, 0, n] + slack)
            & (d[:, None] >= o.d_lo[0, 0, n] - slack) & (d[:, None] <= o.d_hi[0, 0, n] + slack)
        ).any(1)  # fmt: skip
        assert bool(inside[valid & (d.abs() < 6)].all()), (n, float(TIME[n]))


def test_a_long_vehicle_at_an_angle_does_not_fill_its_bounding_interval() -> None:
    """A bus across at 45 degrees: its pieces follow the diagonal."""
    o = one(Other(30.0, 0.0, math.pi / 4, kind=AgentClass.BUS, sigma=0.0, spread=0.0))
    s, d = (o.s_lo + o.s_hi)[0, 0, 0] / 2 - ORIGIN, (o.d_lo + o.d_hi)[0, 0, 0] / 2
    assert (s - 30.0).numpy() == pytest.approx(d.numpy(), abs=1e-6)
    assert float(d[-1] - d[0]) == pytest.approx(8.0 * math.sin(math.pi / 4), abs=1e-6)
    area = ((o.s_hi - o.s_lo) * (o.d_hi - o.d_lo))[0, 0, 0].sum()
    whole = (o.s_hi[0, 0, 0].amax() - o.s_lo[0, 0, 0].amin()) * (o.d_hi[0, 0, 0].amax() - o.d_lo[0, 0, 0].amin())
    assert float(area) < 0.75 * float(whole)


def test_a_long_bus_on_a_bend_follows_the_bend() -> None:
    """Parallel to the path in its own middle, the ends of a 12 m bus bow out by about l^2 / 8R."""
    radius = 50.0
    angle = 30.0 / radius
    x, y = radius * math.sin(angle), radius * (1 - math.cos(angle))
    o = one(Other(x, y, angle, kind=AgentClass.BUS, sigma=0.0, spread=0.0), bend=1 / radius, left=4.0, right=4.0)
    d = (o.d_lo + o.d_hi)[0, 0, 0] / 2
    outward = float(d[1] - d[0])
    assert outward == pytest.approx(4.0**2 / (2 * radius), rel=0.15)  # the outer pieces' centres are 4 m away
    assert float(d[1] - d[2]) == pytest.approx(outward, abs=0.03)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(weight=st.floats(0.01, 1.0), accepted=st.floats(0.01, 0.5))
def test_the_quantile_keeps_the_promised_probability(weight: float, accepted: float) -> None:
    """P(exists in this mode) x P(beyond q sigma | mode) <= accepted, and not needlessly less."""
    q = float(risk_quantile(torch.tensor(weight, dtype=F64), accepted))
    if weight * (1 - 1.35e-3) > accepted:
        assert weight * norm.sf(q) == pytest.approx(accepted, rel=1e-6)
    else:
        assert q == pytest.approx(norm.ppf(1.35e-3), abs=0.01)  # fades out: three standard deviations inward


def test_the_quantile_falls_with_the_weight_and_has_a_finite_gradient() -> None:
    weight = torch.linspace(0, 1, 101, dtype=F64, requires_grad=True)
    q = risk_quantile(weight, 0.25)
    assert bool((q.diff() >= 0).all())
    q.sum().backward()
    assert bool(weight.grad.isfinite().all())


def test_no_covariance_counts_as_less_than_the_floor() -> None:
    sure = one(Other(30.0, 0.0, sigma=0.0, spread=0.0))
    assert sure.sigma_s.numpy() == pytest.approx(0.05, abs=1e-9)
    # Perception that learns to be certain gains nothing but what lies above the floor.
    for sigma in (0.001, 0.01, 0.04):
        assert float(one(Other(30.0, 0.0, sigma=sigma, spread=0.0)).sigma_s.amin()) >= 0.05
    unsure = one(Other(30.0, 0.0, sigma=0.5, spread=0.0))
    assert float(unsure.sigma_s[0, 0, 0]) == pytest.approx(math.hypot(0.5, 0.05), rel=1e-6)


def test_sideways_growth_is_capped() -> None:
    wild = one(Other(30.0, 0.0, sigma=5.0, spread=0.0))
    assert float(wild.d_hi[0, 0, 0].amax()) == pytest.approx(0.95 + 0.5, abs=1e-6)
    halved = replace(CONFIG, risk=replace(CONFIG.risk, lateral_max=0.2))
    assert float(one(Other(30.0, 0.0, sigma=5.0), halved).d_hi[0, 0, 0].amax()) == pytest.approx(0.95 + 0.2, abs=1e-6)


def test_sigma_is_taken_along_and_across_the_path_not_along_x_and_y() -> None:
    """Uncertain along its own way, which crosses ours: that is uncertainty across."""
    scene = make_scene(8.0, (Other(30.0, -6.0, math.pi / 2, 4.0, sigma=0.1, spread=0.0),))
    cov = torch.zeros_like(scene.futures.covariance)
    cov[..., 0, 0], cov[..., 1, 1] = 0.2**2, 0.7**2
    o = project(scene.replace(futures=scene.futures.replace(covariance=cov)))
    assert float(o.sigma_s[0, 0, 5]) == pytest.approx(math.hypot(0.2, 0.05), rel=1e-6)
    assert float((o.d_hi - o.d_lo)[0, 0, 5].amax()) > 0.9


def test_weights_multiply_mode_and_existence() -> None:
    o = one(Other(30.0, 0.0, v=5.0, existence=0.8, modes=((0.7, 5.0), (0.3, 2.0))))
    assert o.weight[0].tolist() == pytest.approx([0.56, 0.24])
    assert bool((o.s_lo[0, 1, -1] < o.s_lo[0, 0, -1]).all())


def test_modes_that_say_nothing_are_inactive() -> None:
    scene = make_scene(
        8.0,
        (Other(30.0, 0.0, v=5.0, modes=((1.0, 5.0),)), Other(35.0, 1.0, track_id=2, modes=((0.5, 0.0), (0.5, 1.0)))),
    )
    o = project(scene)
    assert bool(o.active[0, 0].all())
    assert not bool(o.active[0, 1].any())
    assert bool(o.active[1].all())
    silent = scene.futures.valid.clone()
    silent[0, 0, 15:] = False  # speaks for three seconds only
    o = project(scene.replace(futures=scene.futures.replace(valid=silent)))
    assert bool(o.active[0, 0, TIME <= 3.0 - 1e-6].all())
    assert not bool(o.active[0, 0, TIME > 3.0 + 1e-6].any())


def test_who_cannot_come_near_is_left_out_and_who_can_is_not() -> None:
    near, far = REACH_LATERAL - 1.0, REACH_LATERAL + 20.0
    assert one(Other(30.0, near)).agent_index.tolist() == [0]
    assert one(Other(30.0, far)).agent_index.tolist() == [-1]
    assert one(Other(30.0, -far, math.pi / 2, 6.0)).agent_index.tolist() == [0]  # comes from far, but comes


def test_nobody_is_one_who_does_nothing() -> None:
    o = project(make_scene(8.0))
    assert o.present.tolist() == [False]
    assert o.track_id.tolist() == o.agent_class.tolist() == [-1]
    assert not bool(o.active.any())
    assert not bool(o.weight.any())


@pytest.mark.parametrize(
    ("other", "standing"),
    [
        (Other(30.0, 0.0), True),
        (Other(30.0, 0.0, v=3.0), False),
        (Other(30.0, 0.0, v=0.0, modes=((1.0, 2.0),)), False),  # stands, about to go
        (Other(30.0, 0.0, v=2.0, kind=AgentClass.STATIC), True),  # what cannot move stands, whatever was measured
    ],
)
def test_standing_is_slow_now_and_soon(other: Other, standing: bool) -> None:
    assert bool(one(other).standing[0]) is standing


def test_nodes_between_forecast_times_are_interpolated_from_the_box_of_now() -> None:
    scene = make_scene(8.0, (Other(30.0, -8.0, math.pi / 2, 4.0, sigma=0.0, spread=0.0),))
    nodes = torch.tensor([0.0, 0.1, 0.3], dtype=F64)
    o = project(scene, time=nodes)
    middle = (o.d_lo[0, 0].amin(-1) + o.d_hi[0, 0].amax(-1)) / 2
    assert middle[1].item() == pytest.approx(-8.0 + 4.0 * 0.1 + (0.2 - 0.1) / 4 * 4.0, abs=1e-6)


def many(bend: float = 0.01, empty: bool = False) -> VectorScene:
    """Some that turn, spread and stand, one out of reach; or nobody."""
    others = (
        Other(20.3, 1.2, 0.2, 4.0, track_id=1, modes=((0.6, 4.0), (0.4, 1.0)), spread=0.3),
        Other(35.7, -8.0, math.pi / 2, 3.0, AgentClass.PEDESTRIAN, track_id=2, sigma=0.2),
        Other(30.0, 60.0, track_id=3),
        Other(48.2, 2.4, -2.8, 0.0, AgentClass.BUS, track_id=4),
    )
    return make_scene(8.0, () if empty else others, bend=bend)


def test_a_batch_of_scenes_is_each_scene_alone() -> None:
    """Different roads, numbers of agents and modes, and forecast times; nobody; padding does nothing."""
    scenes = [many(), make_scene(8.0, (Other(30.0, 1.0, v=2.0, track_id=9),)), many(-0.02), many(empty=True)]
    later = scenes[2].futures
    scenes[2] = scenes[2].replace(futures=later.replace(time=later.time + 0.05))
    scenes[3] = scenes[3].replace(futures=scenes[3].futures.replace(time=later.time))
    batch = VectorScene.stack(scenes)
    together = project_obstacles(batch, build_reference_path(batch.route), TIME, CONFIG)
    assert together.present.sum(1).tolist() == [3, 1, 2, 0]
    for k, scene in enumerate(scenes):
        alone, here = project(scene), together.present[k]
        assert not bool(together.active[k, ~here].any() | together.standing[k, ~here].any())
        assert not bool(together.weight[k, ~here].any())
        assert together.track_id[k, ~here].tolist() == [-1] * int((~here).sum())
        assert bool((together.extents[k, ~here, 0] > together.extents[k, ~here, 1]).all())
        if not bool(here.any()):
            continue
        for field in fields(alone):
            if field.name in ("node_time", "present"):
                continue
            single = getattr(alone, field.name)
            value = getattr(together, field.name)[k, here]
            value = value[:, : single.shape[1]] if single.ndim > 1 else value
            assert value.double().numpy() == pytest.approx(single.double().numpy(), abs=1e-9), field.name


def test_extents_are_what_is_taken_up_soon() -> None:
    """A mover within three seconds, a standing one now."""
    scene = make_scene(8.0, (Other(20.0, 1.0, v=2.0, sigma=0.0, spread=0.0), Other(40.0, -1.0, track_id=2)))
    batch = scene.apply(lambda t: t[None])
    o = project_obstacles(batch, build_reference_path(batch.route), TIME, CONFIG)
    s_lo, s_hi, d_lo, d_hi = o.extents[0].unbind(-1)
    coarse = float(TIME[TIME > 3.0][0]) + 3.0
    assert s_lo[0].item() == pytest.approx(ORIGIN + 20 - 2.25, abs=1e-3)
    assert s_hi[0].item() == pytest.approx(ORIGIN + 22.25 + 2.0 * coarse / 2, abs=1e-3)
    assert (s_lo[1].item(), s_hi[1].item()) == pytest.approx((ORIGIN + 37.75, ORIGIN + 42.25), abs=1e-3)
    assert bool((d_lo < d_hi).all())


FIELDS = ("s_lo", "s_hi", "d_lo", "d_hi", "sigma_s", "relative_heading", "speed_s", "weight")


@pytest.mark.parametrize(
    "name",
    ["agents.box", "agents.position_covariance", "agents.velocity", "agents.existence", "futures.mean", "futures.yaw",
     "futures.covariance", "futures.probability", "route.xy"],
)  # fmt: skip
def test_gradients_are_those_that_differences_measure(name: str) -> None:
    """Of everything that bounds are made of, at once, where it counts; off the kinks of intervals and of resampling."""
    part, leaf = name.split(".")
    rng = torch.Generator().manual_seed(2)
    jitter = lambda x: x + 0.02 * torch.randn(x.shape, dtype=F64, generator=rng)  # noqa: E731
    batch = VectorScene.stack([many(0.013), many(-0.011)])
    batch = batch.replace(
        futures=batch.futures.replace(mean=jitter(batch.futures.mean), yaw=jitter(batch.futures.yaw)),
        route=batch.route.replace(xy=0.9871 * batch.route.xy),
    )
    value = getattr(getattr(batch, part), leaf)
    weights: dict[str, torch.Tensor] = {}

    def total(x: torch.Tensor) -> torch.Tensor:
        moved = batch.replace(**{part: getattr(batch, part).replace(**{leaf: x})})
        o = project_obstacles(moved, build_reference_path(moved.route), TIME, CONFIG)
        out = []
        for field in FIELDS:
            tensor = getattr(o, field)
            if field not in weights:
                weights[field] = torch.randn(tensor.shape, dtype=F64, generator=rng)
                counts = o.active.clone()
                counts[..., 1:] &= o.active[..., :-1]
                counts[..., :-1] &= o.active[..., 1:]
                if tensor.ndim >= 4:
                    weights[field] *= counts[..., None] if tensor.ndim == 5 else counts
            out.append((tensor * weights[field]).sum())
        return torch.stack(out)

    leaf_value = value.clone().requires_grad_(True)
    results = total(leaf_value)
    # Directions that keep what is symmetric so, and the route smooth.
    direction = torch.randn(value.shape, dtype=F64, generator=rng)
    if "covariance" in leaf:
        direction = direction + direction.transpose(-1, -2)
    if part == "route":
        direction = torch.sin(torch.linspace(0, 5, value.shape[1], dtype=F64))[:, None] * direction[:, :1]
    step = 1e-6
    measured = (total(value + step * direction) - total(value - step * direction)) / (2 * step)
    for k, field in enumerate(FIELDS):
        (grad,) = torch.autograd.grad(results[k], leaf_value, retain_graph=True, allow_unused=True)
        claimed = 0.0 if grad is None else float((grad * direction).sum())
        assert claimed == pytest.approx(float(measured[k]), rel=2e-4, abs=2e-6), field
    assert float(measured.abs().amax()) > 1e-3
