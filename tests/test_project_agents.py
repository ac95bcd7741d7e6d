"""The compiled projection of agents does what its definition does: values, masks, labels and gradients."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from planner_scenes import SCENES
from test_obstacles import CONFIG, TIME, many
from torch import Tensor
from twins import assert_twins, by_twin, needs_library, with_gradients

from benchmarks.crowded import crowded_scene
from planner.objects import obstacles
from planner.objects.obstacles import Obstacles, project_obstacles
from planner.path import foot_point
from planner.path.reference_path import build_reference_path
from planner.scene import AgentFutures, AgentTracks, VectorScene

F64 = torch.float64
FORWARD = ((obstacles, "_near_path"), (obstacles, "_project_agents"))
BACKWARD = (obstacles, "_project_agents_back")
NAMES = ("box", "velocity", "position_covariance", "existence", "mean", "yaw", "covariance", "probability")


def results(o: Obstacles) -> list[Tensor]:
    return [getattr(o, f.name) for f in fields(o) if f.name != "node_time"]


def project(scenes: VectorScene) -> list[Tensor]:
    return results(project_obstacles(scenes, build_reference_path(scenes.route), TIME, CONFIG))


def ragged() -> VectorScene:
    """Different roads, numbers of agents and modes, forecast times and silences; one scene with nobody."""
    scenes = [many(0.013), many(-0.02), many(empty=True), many(0.0)]
    later = scenes[1].futures
    scenes[1] = scenes[1].replace(futures=later.replace(time=later.time + 0.05))
    scenes[2] = scenes[2].replace(futures=scenes[2].futures.replace(time=later.time))
    said = scenes[3].futures.valid.clone()
    said[0, 0, 12:], said[1, 0, ::3], said[2, 0, 0] = False, False, False
    scenes[3] = scenes[3].replace(futures=scenes[3].futures.replace(valid=said))
    return VectorScene.stack(scenes)


@needs_library
@pytest.mark.parametrize("name", SCENES)
def test_values_on_golden_scenes(name: str) -> None:
    assert_twins(lambda: project(SCENES[name].apply(lambda t: t[None])), *FORWARD)


@needs_library
@pytest.mark.parametrize("scenes", [1, 5])
def test_values_on_crowded_scenes(scenes: int) -> None:
    batch = VectorScene.stack([crowded_scene(40 + k, agents=7 + 2 * k) for k in range(scenes)])
    assert_twins(lambda: project(batch), *FORWARD)


@needs_library
@pytest.mark.parametrize("batch", [ragged(), VectorScene.stack([crowded_scene(3)])], ids=["ragged", "crowded"])
def test_values_and_gradients(batch: VectorScene) -> None:
    draw = torch.Generator().manual_seed(1)

    def found(route: Tensor, *tensors: Tensor) -> list[Tensor]:
        given = dict(zip(NAMES, tensors))
        own = lambda part: {n: x for n, x in given.items() if hasattr(part, n)}  # noqa: E731
        agents, futures = batch.agents.replace(**own(batch.agents)), batch.futures.replace(**own(batch.futures))
        return project(batch.replace(agents=agents, futures=futures, route=batch.route.replace(xy=route)))

    tensors = [getattr(batch.agents if hasattr(batch.agents, n) else batch.futures, n) for n in NAMES]
    # Off the kinks: nothing stands still exactly, nothing is level with a neighbour.
    tensors[4] = tensors[4] + 0.01 * torch.randn(tensors[4].shape, dtype=F64, generator=draw)
    assert_twins(with_gradients(found, batch.route.xy, *tensors), *FORWARD, BACKWARD)


@needs_library
def test_who_stands_still_shares_the_gradient_of_both_ways() -> None:
    """Equal neighbours in time: the kernel shares as the definition does."""
    still = crowded_scene(5, agents=3)
    future = still.futures
    still = still.replace(
        futures=future.replace(mean=still.agents.box[:, None, None, :2].expand_as(future.mean).clone())
    )
    batch = VectorScene.stack([still])
    work = with_gradients(
        lambda box: project(batch.replace(agents=batch.agents.replace(box=box)))[:4], batch.agents.box
    )
    assert_twins(work, *FORWARD, BACKWARD)


@needs_library
def test_nobody_nobody_valid_and_no_modes() -> None:
    time = torch.arange(1, 11, dtype=F64) * 0.4
    empty = many(empty=True)
    scenes = [empty, empty.replace(agents=AgentTracks.empty(), futures=AgentFutures.empty(time, modes=0))]
    unseen = many()
    scenes.append(unseen.replace(agents=unseen.agents.replace(valid=torch.zeros(4, dtype=torch.bool))))
    for scene in scenes:
        batch = scene.apply(lambda t: t[None])
        assert_twins(lambda b=batch: project(b), FORWARD[0])
        assert not bool(project_obstacles(batch, build_reference_path(batch.route), TIME, CONFIG).present.any())


@needs_library
def test_the_same_to_the_last_bit_for_any_number_of_threads_and_in_any_batch() -> None:
    scenes = [crowded_scene(60 + k) for k in range(5)]
    batch = VectorScene.stack(scenes)
    found = []
    for threads in (1, 2, 3):
        config = replace(CONFIG, solver=replace(CONFIG.solver, threads=threads))
        mean = batch.futures.mean.clone().requires_grad_(True)
        moved = batch.replace(futures=batch.futures.replace(mean=mean))
        o = project_obstacles(moved, build_reference_path(moved.route), TIME, config)
        (grad,) = torch.autograd.grad((o.s_lo * o.d_hi + o.sigma_s[..., None]).sum(), mean)
        found.append([*results(o), grad])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))
    alone = project(scenes[3].apply(lambda t: t[None]))
    for together, single in zip(found[0], alone):
        assert torch.equal(together[3][: single.shape[1]], single[0])


def test_without_kernels_the_definition_serves() -> None:
    batch = VectorScene.stack([many()])
    kernels = [*FORWARD, BACKWARD, (foot_point, "_locate"), (foot_point, "_locate_back")]
    assert by_twin(lambda: project(batch), *kernels)[-1].sum() == 3
