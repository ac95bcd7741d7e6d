"""The contract planner.scene: what validate() refuses, stacking, storage, and change of frame."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from planner.scene import (
    SCHEMA_VERSION,
    AgentClass,
    AgentFutures,
    AgentTracks,
    EgoProposal,
    EgoState,
    MapPolylines,
    PolylineType,
    Route,
    TensorData,
    Trajectory,
    VectorScene,
    VehicleParameters,
    frames,
)

F64 = torch.float64


def covariances(rng: np.random.Generator, *shape: int) -> Tensor:
    root = torch.as_tensor(rng.normal(size=(*shape, 2, 2)))
    return root @ root.transpose(-1, -2) + 0.01 * torch.eye(2, dtype=F64)


def make_trajectory(rng: np.random.Generator, steps: int = 7) -> Trajectory:
    values = [torch.as_tensor(rng.normal(size=steps)) for _ in range(6)]
    return Trajectory(torch.as_tensor(np.arange(steps) * 0.1), *values)


def make_scene(
    seed: int = 0,
    agents: int = 3,
    lines: int = 4,
    points: int = 5,
    route: int = 6,
    alternatives: int = 0,
    proposal: bool = False,
) -> VectorScene:
    """A valid scene of random content; every number differs from zero."""
    rng = np.random.default_rng(seed)
    real = lambda *shape: torch.as_tensor(rng.normal(size=shape))  # noqa: E731
    modes, steps = 2, 4
    probability = torch.as_tensor(rng.uniform(0.2, 1.0, (agents, modes)))
    valid = torch.ones(lines, points, dtype=torch.bool)
    if lines:
        valid[0, points - 1 :] = False
    return VectorScene(
        ego=EgoState.at_origin(5.0, 0.5, 0.01, time_us=1_532_402_927_647_951, source="simulation"),
        agents=AgentTracks(
            box=torch.cat([10 * real(agents, 3), 1 + real(agents, 2).abs()], -1),
            velocity=real(agents, 2),
            position_covariance=covariances(rng, agents),
            agent_class=torch.as_tensor(rng.integers(0, len(AgentClass), agents)),
            existence=torch.as_tensor(rng.uniform(0, 1, agents)),
            track_id=torch.arange(agents) + 2**40,
            valid=torch.ones(agents, dtype=torch.bool),
        ),
        futures=AgentFutures(
            mean=10 * real(agents, modes, steps, 2),
            yaw=real(agents, modes, steps),
            covariance=covariances(rng, agents, modes, steps),
            probability=probability / probability.sum(-1, keepdim=True),
            time=torch.as_tensor([0.1, 0.5, 1.0, 3.0], dtype=F64),
            valid=torch.ones(agents, modes, steps, dtype=torch.bool),
        ),
        map=MapPolylines(
            xy=10 * real(lines, points, 2),
            kind=torch.as_tensor(rng.integers(0, len(PolylineType), lines)),
            confidence=torch.as_tensor(rng.uniform(0, 1, lines)),
            closed=torch.as_tensor(rng.integers(0, 2, lines) > 0),
            valid=valid,
        ),
        route=Route(
            xy=10 * real(route, 2), speed_limit=real(route).abs(), lane_id=torch.arange(route) - 1,
            left=real(route).abs(), right=real(route).abs(), left_oncoming=real(route).abs(),
            right_oncoming=real(route).abs(), junction=torch.arange(route) % 2 == 0,
            valid=torch.ones(route, dtype=torch.bool),
            alternative=10 * real(alternatives, route, 2) if alternatives else None,
            alternative_valid=torch.ones(alternatives, route, dtype=torch.bool) if alternatives else None,
        ),
        global_from_ego=torch.as_tensor([400.0, 1200.0, 2.0], dtype=F64),
        proposal=EgoProposal(make_trajectory(rng), real(3).abs(), real(5)) if proposal else None,
        name=f"scene-{seed}",
    )  # fmt: skip


def tensors(data: TensorData, prefix: str = "") -> dict[str, Tensor]:
    """All tensors by dotted name."""
    out: dict[str, Tensor] = {}
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if isinstance(value, TensorData):
            out |= tensors(value, f"{prefix}{field.name}.")
        elif isinstance(value, Tensor):
            out[prefix + field.name] = value
    return out


def assert_same(a: TensorData, b: TensorData) -> None:
    """Equal in every bit, dtype included."""
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype, name
        assert value.shape == right[name].shape, name
        assert torch.equal(value, right[name]), name


# -- validate ----------------------------------------------------------------------------------


def test_a_good_scene_validates_and_is_returned() -> None:
    scene = make_scene(alternatives=2, proposal=True)
    assert scene.validate() is scene
    assert scene.batch_shape == ()


@pytest.mark.parametrize("counts", [{"agents": 0}, {"lines": 0}, {"agents": 0, "lines": 0, "route": 2}])
def test_empty_axes_are_valid(counts: dict[str, int]) -> None:
    make_scene(**counts).validate()


def test_empty_constructors_are_valid() -> None:
    AgentTracks.empty().validate()
    AgentFutures.empty(torch.tensor([0.2, 0.4]), modes=3).validate()
    MapPolylines.from_lists([]).validate()


def with_field(scene: VectorScene, part: str, **changes: Tensor) -> VectorScene:
    return scene.replace(**{part: getattr(scene, part).replace(**changes)})


def spoil(part: str, name: str, change: Callable[[Tensor], Tensor]) -> VectorScene:
    scene = make_scene(alternatives=1)
    return with_field(scene, part, **{name: change(getattr(getattr(scene, part), name))})


def put(index: tuple[int, ...], value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        out = tensor.clone()
        out[index] = value
        return out

    return change


VALUE_ERRORS = [
    ("agents", "box", lambda t: t[..., :4], ["VectorScene.agents.box", "(A, 5)", "(3, 4)"]),
    ("agents", "velocity", lambda t: t[:2], ["VectorScene.agents.velocity", "(3, 2)", "(2, 2)"]),
    ("agents", "box", put((0, 0), math.nan), ["VectorScene.agents.box", "finite", "1 NaN or infinite of 15"]),
    ("agents", "velocity", put((1, 0), math.inf), ["VectorScene.agents.velocity", "finite"]),
    ("agents", "box", put((1, 3), 0.0), ["VectorScene.agents.box", "positive length"]),
    ("agents", "existence", put((2,), 1.0 + 1e-6), ["VectorScene.agents.existence", "[0, 1]"]),
    ("agents", "existence", put((2,), -1e-6), ["VectorScene.agents.existence", "[0, 1]"]),
    ("agents", "agent_class", put((0,), len(AgentClass)), ["VectorScene.agents.agent_class", "0 to 6"]),
    ("agents", "position_covariance", put((0, 0, 0), -1.0), ["position_covariance", "semidefinite"]),
    ("agents", "position_covariance", put((0, 0, 1), 9.0), ["position_covariance", "symmetric"]),
    ("futures", "mean", lambda t: t[:2], ["VectorScene.futures", "(2,"]),
    ("futures", "yaw", lambda t: t[..., :3], ["VectorScene.futures.yaw", "(3, 2, 4)", "(3, 2, 3)"]),
    ("futures", "time", put((0,), 0.0), ["VectorScene.futures.time", "after 0"]),
    ("futures", "time", put((2,), 0.5), ["VectorScene.futures.time", "increasing"]),
    ("futures", "probability", lambda t: t * 0.99, ["VectorScene.futures.probability", "summing to 1"]),
    ("futures", "covariance", put((0, 0, 0, 1, 1), -1.0), ["VectorScene.futures.covariance", "semidefinite"]),
    ("map", "kind", put((0,), -1), ["VectorScene.map.kind", "0 to 4"]),
    ("map", "valid", put((1, 0), False), ["VectorScene.map.valid", "come first"]),
    ("route", "left", put((0,), -1e-6), ["VectorScene.route.left", ">= 0"]),
    ("route", "right_oncoming", put((0,), -1e-6), ["VectorScene.route.right_oncoming", ">= 0"]),
    ("route", "speed_limit", put((0,), -1.0), ["VectorScene.route.speed_limit", ">= 0"]),
    ("route", "valid", lambda t: torch.arange(6) < 1, ["VectorScene.route.valid", "at least 2"]),
    ("route", "valid", lambda t: torch.arange(6) > 0, ["VectorScene.route.valid", "come first"]),
    ("route", "alternative", lambda t: t[:, :3], ["VectorScene.route.alternative", "(K, 6, 2)", "(1, 3, 2)"]),
    ("ego", "y", lambda t: t[None], ["VectorScene.ego.y", "()", "(1,)"]),
    ("ego", "v", lambda t: t * math.nan, ["VectorScene.ego.v", "finite"]),
]


@pytest.mark.parametrize(("part", "name", "change", "words"), VALUE_ERRORS)
def test_wrong_values_are_refused_by_name(part: str, name: str, change: Callable, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        spoil(part, name, change).validate()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("part", "name", "change", "words"),
    [
        ("agents", "track_id", lambda t: t.double(), ["VectorScene.agents.track_id", "int", "torch.float64"]),
        ("agents", "valid", lambda t: t.long(), ["VectorScene.agents.valid", "bool", "torch.int64"]),
        ("agents", "box", lambda t: t.long(), ["VectorScene.agents.box", "float", "torch.int64"]),
        ("map", "xy", lambda t: t.numpy(), ["VectorScene.map.xy", "torch.Tensor", "ndarray"]),
        ("route", "valid", lambda t: None, ["VectorScene.route.valid", "None"]),
    ],
)
def test_wrong_types_are_refused_by_name(part: str, name: str, change: Callable, words: list[str]) -> None:
    # Built around the type checker that the test suite switches on for planner.scene.
    scene = make_scene()
    data = getattr(scene, part)
    object.__setattr__(data, name, change(getattr(data, name)))
    with pytest.raises((TypeError, ValueError)) as error:
        scene.validate()
    for word in words:
        assert word in str(error.value)


def test_forecasts_must_be_for_the_same_agents() -> None:
    scene, other = make_scene(agents=3), make_scene(agents=2)
    with pytest.raises(ValueError, match=r"forecasts for 3 agents, got 2"):
        scene.replace(futures=other.futures).validate()


def test_nonsense_behind_a_mask_is_allowed() -> None:
    """Only finiteness is asked of masked entries: padding must not need plausible values."""
    scene = make_scene()
    agents = scene.agents.replace(
        box=put((0, 3), -1.0)(scene.agents.box), valid=torch.tensor([False, True, True]),
        existence=put((0,), 7.0)(scene.agents.existence), agent_class=put((0,), 99)(scene.agents.agent_class),
    )  # fmt: skip
    futures = scene.futures.replace(
        valid=scene.futures.valid & (torch.arange(3) > 0)[:, None, None],
        probability=put((0, 0), 5.0)(scene.futures.probability),
    )
    scene.replace(agents=agents, futures=futures).validate()


def test_probabilities_count_only_modes_that_say_something() -> None:
    scene = make_scene()
    futures = scene.futures.replace(valid=scene.futures.valid & (torch.arange(2) == 0)[:, None])
    with pytest.raises(ValueError, match="summing to 1"):
        futures.validate()
    futures.replace(probability=torch.tensor([[1.0, 0.0]] * 3, dtype=F64)).validate()


@pytest.mark.filterwarnings("error")
def test_huge_covariances_overflow_in_silence() -> None:
    tracks, huge = make_scene().agents, 1e200 * torch.eye(2, dtype=F64)
    tracks.replace(position_covariance=huge.expand(3, 2, 2)).validate()


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_covariances_are_judged_relative_to_their_size(size: float) -> None:
    tracks = make_scene().agents
    inside = size * torch.tensor([[1.0, 1.0 - 1e-9], [1.0 - 1e-9, 1.0]], dtype=F64)
    tracks.replace(position_covariance=inside.expand(3, 2, 2)).validate()
    outside = size * torch.tensor([[1.0, 1.01], [1.01, 1.0]], dtype=F64)
    with pytest.raises(ValueError, match="semidefinite"):
        tracks.replace(position_covariance=outside.expand(3, 2, 2)).validate()


def test_numbers_so_large_that_their_sum_is_not_finite_are_finite() -> None:
    tracks = make_scene().agents
    tracks.replace(velocity=torch.full_like(tracks.velocity, 1.7e308)).validate()
    tracks.replace(velocity=tracks.velocity.float().fill_(3e38)).validate()


def test_the_last_of_very_many_covariances_is_judged_too() -> None:
    futures = AgentFutures.empty(torch.arange(1, 51, dtype=torch.float64), modes=6)
    agents = 40
    shape = (agents, 6, 50)
    covariance = torch.eye(2, dtype=torch.float64).expand(*shape, 2, 2).clone()
    many = AgentFutures(
        torch.zeros(*shape, 2, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64), covariance,
        torch.full((agents, 6), 1 / 6, dtype=torch.float64), futures.time, torch.ones(shape, dtype=torch.bool),
    )  # fmt: skip
    many.validate()
    covariance[-1, -1, -1, 0, 1] = 1e-4
    with pytest.raises(ValueError, match="symmetric"):
        many.validate()
    many.valid[-1, -1, -1] = False
    many.validate()


@pytest.mark.parametrize("sum_error", [0.9e-3, -0.9e-3])
def test_probability_tolerance_inside(sum_error: float) -> None:
    futures = make_scene().futures
    futures.replace(probability=futures.probability * (1 + sum_error)).validate()


def test_trajectory_times_increase_strictly() -> None:
    trajectory = make_trajectory(np.random.default_rng(0))
    trajectory.validate()
    with pytest.raises(ValueError, match=r"Trajectory.time: expected strictly increasing"):
        trajectory.replace(time=put((1,), 0.0)(trajectory.time)).validate()
    assert trajectory.xy.shape == (7, 2)


# -- stacking ----------------------------------------------------------------------------------


def test_stacking_pads_and_masks() -> None:
    small, large = make_scene(1, agents=1, lines=2, points=3, route=3), make_scene(2, agents=4, lines=5, route=6)
    batch = VectorScene.stack([small, large]).validate()
    assert batch.batch_shape == (2,)
    assert batch.agents.box.shape == (2, 4, 5)
    assert batch.futures.mean.shape == (2, 4, 2, 4, 2)
    assert batch.map.xy.shape == (2, 5, 5, 2)
    assert batch.agents.valid.tolist() == [[True, False, False, False], [True] * 4]
    assert batch.route.valid.sum(-1).tolist() == [3, 6]
    assert batch.map.valid[0].sum() == small.map.valid.sum()
    assert not batch.futures.valid[0, 1:].any()
    assert bool((batch.agents.box[0, 1:] == 0).all())
    assert batch.name == ("scene-1", "scene-2")
    assert_same(batch[1], large)
    assert [batch[i].name for i in range(2)] == ["scene-1", "scene-2"]
    for name, value in tensors(small).items():
        corner = tuple(slice(0, n) for n in value.shape)
        assert torch.equal(tensors(batch[0])[name][corner], value), name


def test_stacking_stacks_again() -> None:
    scenes = [make_scene(i, agents=i) for i in range(4)]
    pairs = [VectorScene.stack(scenes[:2]), VectorScene.stack(scenes[2:])]
    batch = VectorScene.stack(pairs).validate()
    assert batch.batch_shape == (2, 2)
    assert batch.agents.valid.sum(-1).tolist() == [[0, 1], [2, 3]]
    assert batch.name == (("scene-0", "scene-1"), ("scene-2", "scene-3"))
    assert batch[1][0].name == "scene-2"
    assert VectorScene.from_json(batch.to_json()).name == batch.name
    same = VectorScene.stack([pairs[0], pairs[0]])
    assert same[1].name == ("scene-0", "scene-1")


def test_sources_of_a_batch_may_differ() -> None:
    states = [EgoState.at_origin(1.0, source=source) for source in ("can_bus", "poses", "poses")]
    batch = EgoState.stack(states).validate()
    assert batch.v_source == ("can_bus", "poses", "poses")
    assert batch[0].v_source == "can_bus"
    assert batch[1:].v_source == ("poses", "poses")
    assert EgoState.stack(states[1:]).v_source == "poses"


def test_stacking_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        VectorScene.stack([])
    with pytest.raises(ValueError, match=r"VectorScene.proposal: present in some items and absent"):
        VectorScene.stack([make_scene(), make_scene(proposal=True)])
    with pytest.raises(ValueError, match="equal numbers of axes"):
        VectorScene.stack([make_scene(), VectorScene.stack([make_scene()])])


def test_stacking_different_time_grids_is_refused_not_padded() -> None:
    """A padded time would be a lie: zero after 3 s."""
    scene = make_scene()
    short = scene.futures.replace(
        **{n: getattr(scene.futures, n)[..., :3, :] for n in ("mean",)},
        yaw=scene.futures.yaw[..., :3], covariance=scene.futures.covariance[..., :3, :, :],
        time=scene.futures.time[:3], valid=scene.futures.valid[..., :3],
    )  # fmt: skip
    with pytest.raises(ValueError, match="time"):
        VectorScene.stack([scene, scene.replace(futures=short)]).validate()


def test_indexing_a_single_scene_is_refused() -> None:
    with pytest.raises(IndexError, match="no batch axis"):
        make_scene()[0]


def test_from_lists_pads_polylines() -> None:
    lines = [(torch.zeros(2, 2), PolylineType.DIVIDER), (torch.ones(4, 2), PolylineType.BOUNDARY)]
    polylines = MapPolylines.from_lists(lines).validate()
    assert polylines.valid.sum(-1).tolist() == [2, 4]
    assert polylines.kind.tolist() == [1, 2]
    assert polylines.xy.dtype == F64


# -- conversion and storage --------------------------------------------------------------------


def test_conversions_touch_every_tensor() -> None:
    scene = make_scene(proposal=True, alternatives=1)
    half = scene.apply(lambda t: t.float() if t.is_floating_point() else t)
    assert {t.dtype for t in tensors(half).values() if t.is_floating_point()} == {torch.float32}
    assert {t.dtype for t in tensors(half.double()).values() if t.is_floating_point()} == {F64}
    tracked = scene.apply(lambda t: t.clone().requires_grad_() if t.is_floating_point() else t)
    assert not any(t.requires_grad for t in tensors(tracked.detach()).values())
    assert_same(scene.to("cpu"), scene)


@pytest.mark.parametrize("ending", [".npz", ".json"])
@pytest.mark.parametrize("kind", ["plain", "rich", "empty", "batch", "float32"])
def test_storage_is_exact(tmp_path: Path, ending: str, kind: str) -> None:
    scene = {
        "plain": make_scene(),
        "rich": make_scene(proposal=True, alternatives=2),
        "empty": make_scene(agents=0, lines=0),
        "batch": VectorScene.stack([make_scene(1, agents=1), make_scene(2)]),
        "float32": make_scene().apply(lambda t: t.float() if t.is_floating_point() else t),
    }[kind]
    path = scene.save(tmp_path / f"scene{ending}")
    loaded = VectorScene.load(path)
    assert_same(loaded, scene)
    assert loaded.name == scene.name
    assert loaded.ego.v_source == "simulation"
    assert list(tmp_path.iterdir()) == [path]


def test_storage_keeps_extreme_numbers(tmp_path: Path) -> None:
    values = torch.tensor([0.1, 1 / 3, 5e-324, -0.0, 1.7976931348623157e308], dtype=F64)
    trajectory = Trajectory(torch.arange(5, dtype=F64), *[values] * 6)
    for ending in (".npz", ".json"):
        back = Trajectory.load(trajectory.save(tmp_path / f"t{ending}"))
        assert torch.equal(back.x.view(torch.int64), trajectory.x.view(torch.int64))


def test_other_schema_versions_and_types_are_refused(tmp_path: Path) -> None:
    scene = make_scene()
    text = scene.to_json()
    for version in (SCHEMA_VERSION + 1, SCHEMA_VERSION - 1):
        other = json.loads(text) | {"schema": version}
        with pytest.raises(ValueError, match=f"expected schema version {SCHEMA_VERSION}, got {version}"):
            VectorScene.from_json(json.dumps(other))
    with pytest.raises(ValueError, match="expected a stored Route, got VectorScene"):
        Route.from_json(text)
    path = tmp_path / "scene.npz"
    np.savez(path, __type__="VectorScene", __schema__=SCHEMA_VERSION + 1, **scene.to_arrays())
    with pytest.raises(ValueError, match=f"expected schema version {SCHEMA_VERSION}"):
        VectorScene.load(path)
    np.savez(path, **scene.to_arrays())
    with pytest.raises(ValueError, match="expected a stored VectorScene"):
        VectorScene.load(path)


def test_a_missing_field_is_refused_by_name() -> None:
    arrays = make_scene().to_arrays()
    del arrays["agents.box"]
    with pytest.raises(ValueError, match=r"lacks the field 'agents.box'"):
        VectorScene.from_arrays(arrays)
    without_ego = {k: v for k, v in make_scene().to_arrays().items() if not k.startswith("ego.")}
    with pytest.raises(ValueError, match=r"lacks the field 'ego'"):
        VectorScene.from_arrays(without_ego)


def test_a_stored_nan_is_refused() -> None:
    arrays = make_scene().to_arrays()
    arrays["agents.box"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"AgentTracks.box: expected finite"):
        VectorScene.from_arrays(arrays)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.npz or \.json, got 'scene.txt'"):
        make_scene().save(tmp_path / "scene.txt")
    assert not list(tmp_path.iterdir())


# -- frames ------------------------------------------------------------------------------------

coordinate = st.floats(-1e4, 1e4)
angle = st.floats(-20.0, 20.0)
pose = st.builds(lambda x, y, yaw: torch.tensor([x, y, yaw], dtype=F64), coordinate, coordinate, angle)
points = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=5).map(lambda p: torch.tensor(p, dtype=F64))


def same_pose(a: Tensor, b: Tensor, tolerance: float = 1e-7) -> bool:
    turned = frames.wrap_angle(a[..., 2] - b[..., 2]).abs().max()
    return bool((a[..., :2] - b[..., :2]).abs().max() < tolerance) and bool(turned < 1e-9)


@settings(max_examples=60, deadline=None)
@given(angle)
def test_wrapped_angles_point_the_same_way(value: float) -> None:
    wrapped = float(frames.wrap_angle(torch.tensor(value, dtype=F64)))
    assert abs(wrapped) <= math.pi + 1e-12
    assert math.cos(wrapped) == pytest.approx(math.cos(value), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(value), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(pose, points)
def test_there_and_back_again(a_from_b: Tensor, xy: Tensor) -> None:
    b_from_a = frames.inverse(a_from_b)
    back = frames.transform_points(b_from_a, frames.transform_points(a_from_b, xy))
    assert torch.allclose(back, xy, rtol=0, atol=1e-7)
    assert same_pose(frames.compose(a_from_b, b_from_a), torch.zeros(3, dtype=F64))
    assert same_pose(frames.inverse(b_from_a), a_from_b)


@settings(max_examples=60, deadline=None)
@given(pose, pose, pose, points)
def test_composition_chains_and_associates(a_from_b: Tensor, b_from_c: Tensor, c_from_d: Tensor, xy: Tensor) -> None:
    a_from_c = frames.compose(a_from_b, b_from_c)
    step_by_step = frames.transform_points(a_from_b, frames.transform_points(b_from_c, xy))
    assert torch.allclose(frames.transform_points(a_from_c, xy), step_by_step, rtol=0, atol=1e-6)
    right = frames.compose(a_from_b, frames.compose(b_from_c, c_from_d))
    assert same_pose(frames.compose(a_from_c, c_from_d), right, 1e-6)


@settings(max_examples=40, deadline=None)
@given(angle, st.integers(0, 1000))
def test_rotation_keeps_lengths_and_mahalanobis_distances(yaw: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, vector, spread = torch.tensor(yaw, dtype=F64), torch.as_tensor(rng.normal(size=2)), covariances(rng)
    turned, wide = frames.transform_vectors(turn, vector), frames.transform_covariance(turn, spread)
    assert float(turned.norm()) == pytest.approx(float(vector.norm()))
    before = vector @ torch.linalg.solve(spread, vector)
    assert float(turned @ torch.linalg.solve(wide, turned)) == pytest.approx(float(before), rel=1e-9)
    assert torch.allclose(frames.rotation(turn) @ vector, turned)


def test_poses_broadcast_over_batches() -> None:
    rng = np.random.default_rng(0)
    world = torch.as_tensor(rng.normal(size=(4, 1, 3)))
    inner = torch.as_tensor(rng.normal(size=(5, 3)))
    both = frames.compose(world, inner)
    assert both.shape == (4, 5, 3)
    assert same_pose(both[2, 3], frames.compose(world[2, 0], inner[3]))


def test_frame_changes_are_differentiable() -> None:
    values = torch.tensor([1.0, -2.0, 0.7], dtype=F64, requires_grad=True)
    xy = torch.tensor([[3.0, 1.0], [0.5, 2.0]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(frames.transform_points, (values, xy))
    assert torch.autograd.gradcheck(frames.inverse, (values,))


# -- the same scene from elsewhere -------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(-100, 100), st.floats(-100, 100), angle)
def test_a_moved_scene_is_the_same_scene(x: float, y: float, yaw: float) -> None:
    scene = make_scene(alternatives=2)
    new_from_old = torch.tensor([x, y, yaw], dtype=F64)
    moved = scene.transformed(new_from_old).validate()
    # In the global frame nothing has changed.
    for a, b in (
        (scene.agents.box[:, :2], moved.agents.box[:, :2]),
        (scene.futures.mean, moved.futures.mean),
        (scene.map.xy, moved.map.xy),
        (scene.route.xy, moved.route.xy),
        (scene.route.alternative, moved.route.alternative),
        (torch.stack([scene.ego.x, scene.ego.y]), torch.stack([moved.ego.x, moved.ego.y])),
    ):
        there = frames.transform_points(moved.global_from_ego, b)
        assert torch.allclose(frames.transform_points(scene.global_from_ego, a), there, rtol=0, atol=1e-8)
    for a, b in (
        (scene.agents.box[:, 2], moved.agents.box[:, 2]),
        (scene.futures.yaw, moved.futures.yaw),
        (scene.ego.yaw, moved.ego.yaw),
    ):
        turned = a + scene.global_from_ego[2] - b - moved.global_from_ego[2]
        assert float(frames.wrap_angle(turned).abs().max()) < 1e-9
    global_velocity = frames.transform_vectors(moved.global_from_ego[2], moved.agents.velocity)
    old_velocity = frames.transform_vectors(scene.global_from_ego[2], scene.agents.velocity)
    assert torch.allclose(global_velocity, old_velocity, atol=1e-9)
    # Distances in units of sigma do not depend on the frame.
    assert torch.allclose(sigmas(moved), sigmas(scene), rtol=1e-7)
    # What has no direction stays as it is.
    for name in ("speed_limit", "left", "right", "left_oncoming", "right_oncoming", "valid", "junction"):
        assert torch.equal(getattr(moved.route, name), getattr(scene.route, name))
    assert_same(moved.ego.replace(x=scene.ego.x, y=scene.ego.y, yaw=scene.ego.yaw), scene.ego)


def sigmas(scene: VectorScene) -> Tensor:
    """Mahalanobis distance of every forecast from the agent's present place."""
    step = scene.futures.mean - scene.agents.box[:, None, None, :2]
    return (step * torch.linalg.solve(scene.futures.covariance, step)).sum(-1)


def test_moving_back_restores_the_scene() -> None:
    scene = make_scene(alternatives=1, proposal=True)
    there = torch.tensor([30.0, -7.0, 2.5], dtype=F64)
    back = scene.transformed(there).transformed(frames.inverse(there))
    for name, value in tensors(scene).items():
        if name.endswith("yaw") or name == "agents.box":
            continue  # compared modulo 2 pi below
        assert torch.allclose(tensors(back)[name].double(), value.double(), rtol=0, atol=1e-9), name
    assert float(frames.wrap_angle(back.futures.yaw - scene.futures.yaw).abs().max()) < 1e-12
    assert float(frames.wrap_angle(back.agents.box[:, 2] - scene.agents.box[:, 2]).abs().max()) < 1e-12


def test_a_proposal_moves_with_its_scene() -> None:
    scene = make_scene(proposal=True)
    turn = torch.tensor([5.0, 1.0, math.pi / 2], dtype=F64)
    moved = scene.transformed(turn)
    before, after = scene.proposal.reference, moved.proposal.reference
    assert torch.allclose(after.xy, frames.transform_points(turn, before.xy))
    assert torch.allclose(frames.wrap_angle(after.yaw - before.yaw), torch.tensor(math.pi / 2, dtype=F64))
    assert torch.equal(after.v, before.v)


def test_moving_a_batch_moves_each_scene() -> None:
    scenes = [make_scene(1), make_scene(2)]
    there = torch.tensor([3.0, 4.0, -1.0], dtype=F64)
    batch = VectorScene.stack(scenes).transformed(there).validate()
    for i, scene in enumerate(scenes):
        assert_same(batch[i].replace(name=""), scene.transformed(there).replace(name=""))


# -- small things ------------------------------------------------------------------------------


def test_vehicle_bumpers_span_its_length() -> None:
    vehicle = VehicleParameters()
    assert vehicle.front + vehicle.rear == pytest.approx(vehicle.length)
    assert vehicle.front == pytest.approx(1.4 + 4.084 / 2)


def test_agent_classes() -> None:
    assert [c.is_vehicle for c in AgentClass] == [True] * 5 + [False] * 2
    assert {c.name for c in AgentClass if c.is_vulnerable} == {"MOTORCYCLE", "BICYCLE", "PEDESTRIAN"}


def test_ego_yaw_rate_is_speed_times_curvature() -> None:
    ego = EgoState.at_origin(4.0, curvature=0.05).validate()
    assert float(ego.yaw_rate) == pytest.approx(0.2)
    assert re.fullmatch("unknown", ego.v_source)
