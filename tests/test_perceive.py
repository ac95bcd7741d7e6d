"""The page: any set of sensors gives a valid scene; the exported network says what the network says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from perception_samples import SMALL, frame_of, random_agents, sample_of, scene_of, straight_route

from perception.config import BASE, TINY, PerceptionConfig
from perception.data import join
from perception.decode import DecodeConfig
from perception.export import INPUTS, OUTPUTS, Flat, example_inputs, export_onnx, export_program, flat
from perception.heads_parts import peaks, sample
from perception.network import Hints, NetworkInputs, PerceptionNetwork
from perception.perceive import Perception
from perception.sensor_frame import SensorFrame
from perception.track import TrackConfig
from planner.scene import AgentClass

CAR = (12.0, 3.0, 0.0, 5.0, AgentClass.CAR)


@pytest.fixture(scope="module")
def network() -> PerceptionNetwork:
    torch.manual_seed(0)
    return PerceptionNetwork(SMALL).eval()


def later(frame: SensorFrame, seconds: float) -> SensorFrame:
    """The same frame at another time."""
    us = round(seconds * 1e6)
    lidar = frame.lidar and replace(frame.lidar, time_us=frame.lidar.time_us + us)
    return replace(frame, time_us=frame.time_us + us, lidar=lidar)


@pytest.mark.parametrize("lidar", [True, False])
@pytest.mark.parametrize("cameras", ["all", "one", "none"])
def test_any_set_of_sensors_gives_a_valid_scene(network: PerceptionNetwork, lidar: bool, cameras: str) -> None:
    frame = frame_of(scene_of([CAR]), cameras=cameras != "none")
    if cameras == "one":
        c = frame.cameras
        frame = replace(
            frame,
            cameras=replace(
                c, channel=c.channel[:1], image=c.image[:1], intrinsics=c.intrinsics[:1],
                ego_from_camera=c.ego_from_camera[:1], global_from_ego=c.global_from_ego[:1], time_us=c.time_us[:1],
            ),
        )  # fmt: skip
    if not lidar:
        frame = replace(frame, lidar=None)
    tracking = TrackConfig(birth=0.0)
    perception = Perception(network, settings=DecodeConfig(existence=0.0, line=0.0), tracking=tracking)
    scene = perception.observe(frame, straight_route())
    assert scene.futures.mean.shape[1:] == (SMALL.modes, SMALL.steps, 2)
    assert scene.agents.box.dtype == torch.float64
    told = len(scene.agents.track_id)
    assert told == 0 if not lidar and cameras == "none" else told > 0
    assert len(set(scene.agents.track_id.tolist())) == told


def test_without_any_sensor_known_tracks_coast(network: PerceptionNetwork) -> None:
    perception = Perception(network, settings=DecodeConfig(existence=0.0))
    frame = frame_of(scene_of([CAR]))
    known = perception.observe(frame, straight_route()).agents.track_id.tolist()
    blind = replace(later(frame, 0.1), lidar=None)
    scene = perception.observe(blind, straight_route())
    assert scene.agents.track_id.tolist() == known
    perception.reset()
    assert len(perception.observe(blind, straight_route()).agents.track_id) == 0


def test_tracks_and_headings_are_told_where_ego_is(network: PerceptionNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise everybody who stands seems to drive as ego does."""
    perception = Perception(network, settings=DecodeConfig(existence=0.0))
    frame = frame_of(scene_of([CAR]))
    c, s = np.cos(0.3), np.sin(0.3)
    moved = np.array([[c, -s, 0.0, 40.0], [s, c, 0.0, 7.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert frame.lidar is not None
    lidar = replace(frame.lidar, global_from_ego=moved @ frame.lidar.global_from_ego)
    poses = []
    for part in (perception.tracker, perception.headings):
        update = part.update

        def told(*args: Any, update: Any = update) -> Any:
            poses.append((args[-2].tolist(), args[-1]))
            return update(*args)

        monkeypatch.setattr(part, "update", told)
    scene = perception.observe(replace(frame, global_from_ego=moved, lidar=lidar), straight_route())
    assert poses == [(pytest.approx([40.0, 7.0, 0.3]), frame.time_us)] * 2
    assert scene.global_from_ego.tolist() == pytest.approx([40.0, 7.0, 0.3])
    assert scene.proposal is not None


def test_the_past_is_kept_as_long_as_it_is_asked_for(network: PerceptionNetwork) -> None:
    perception = Perception(network)
    frame = frame_of(scene_of([CAR]))
    for k in range(15):
        perception.observe(later(frame, 0.1 * k), straight_route())
    ages = [(frame.time_us + 1_400_000 - sweep.time_us) / 1e6 for sweep in perception._past]
    assert max(ages) == pytest.approx(max(SMALL.preprocessing.lidar_lags) + 0.3)
    assert min(ages) == 0.0


def test_a_broken_frame_is_refused(network: PerceptionNetwork) -> None:
    frame = frame_of(scene_of([CAR]))
    frame.lidar.points[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"LIDAR_TOP.points: expected finite"):
        Perception(network).observe(frame, straight_route())


def test_what_one_scene_of_a_batch_gets_does_not_depend_on_the_others(network: PerceptionNetwork) -> None:
    rng = np.random.default_rng(0)
    samples = [sample_of(random_agents(rng, n), seed=n, cameras=n == 2) for n in (2, 0, 5)]
    with torch.no_grad():
        together = flat(network(join(samples, SMALL).inputs))
        for b, sample in enumerate(samples):
            alone = flat(network(join([sample], SMALL).inputs))
            for name, one, all_ in zip(OUTPUTS, alone, together):
                if name in ("agents.heat", "lines.heat", "lines.near"):  # the rest follows the order of equal peaks
                    assert torch.allclose(one[0], all_[b], atol=1e-4), name


def test_hints_change_nothing_for_the_others(network: PerceptionNetwork) -> None:
    batch = join([sample_of([CAR])], SMALL)
    hints = Hints(torch.tensor([[[12.0, 3.0], [0.0, 0.0]]]), torch.tensor([[[0.0, 6.0]]]))
    with torch.no_grad():
        plain, hinted = network(batch.inputs), network(batch.inputs, hints)
    assert torch.allclose(plain.agents.future, hinted.agents.future[:, : SMALL.agents], atol=1e-5)
    assert torch.allclose(plain.lines.points, hinted.lines.points[:, :, : SMALL.lines], atol=1e-5)
    assert torch.allclose(plain.ego.motion, hinted.ego.motion, atol=1e-5)
    assert hinted.agents.place[0, SMALL.agents].tolist() == [12.0, 3.0]


def test_what_a_missing_sensor_holds_is_not_looked_at(network: PerceptionNetwork) -> None:
    inputs = join([sample_of([CAR], cameras=True)], SMALL).inputs
    blind = replace(inputs, lidar_seen=torch.zeros_like(inputs.lidar_seen), camera_seen=torch.tensor([[1.0, 0.0]]))
    other = replace(blind, pillars=blind.pillars + 3.0, images=blind.images.clone())
    other.images[:, 1] = 0.5
    with torch.no_grad():
        one, two = network(blind), network(other)
    assert torch.equal(one.agents.heat, two.agents.heat)
    seen = replace(other, lidar_seen=inputs.lidar_seen)
    with torch.no_grad():
        assert not torch.equal(network(seen).agents.heat, one.agents.heat)


def test_a_camera_reaches_the_cells_it_sees_and_no_others(network: PerceptionNetwork) -> None:
    inputs = join([sample_of([CAR], cameras=True)], SMALL).inputs
    features = torch.zeros(1, 2, network.fusion.camera.out, 4, 6)
    ones = features.clone()
    ones[:, 0] = 1.0  # only the front camera sees something
    with torch.no_grad():
        lifted = [_before_norm(network, x, inputs) for x in (features, ones)]
    changed = (lifted[1] - lifted[0]).abs().amax(0) > 1e-6
    side = changed.shape[0]
    assert changed[side // 2 + 3 :, side // 2].all()  # straight ahead
    assert not changed[: side // 2].any()  # behind


def _before_norm(network: PerceptionNetwork, features: torch.Tensor, inputs: NetworkInputs) -> torch.Tensor:
    """The lifted features before the group normalisation mixes all cells: ``[O, H, W]``."""
    kept: list[torch.Tensor] = []
    handle = network.fusion.lift.join[0].register_forward_hook(lambda _m, _i, out: kept.append(out))
    network.fusion.lift(features, inputs.image_from_ego, inputs.camera_seen)
    handle.remove()
    return kept[0][0]


def test_lower_precision_does_not_move_places(network: PerceptionNetwork) -> None:
    inputs = join([sample_of([CAR], cameras=True)], SMALL).inputs
    ramp = torch.linspace(-1, 1, 128).reshape(1, 1, 128, 1).expand(1, 1, 128, 128).contiguous()
    place = torch.tensor([[[33.37, 1.0], [-47.11, 2.0]]])
    kept: list[torch.Tensor] = []
    for low in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            there = sample(ramp, place, 51.2)
            assert there[0, :, 0].tolist() == pytest.approx((place[0, :, 0] / 51.2 * 128 / 127).tolist(), abs=1e-4)
            kept.append(network(inputs).lines.place)
    assert torch.cdist(kept[1], kept[0]).amin(2).median() < 1e-3


def test_peaks_are_the_highest_local_maxima() -> None:
    heat = torch.full((1, 2, 8, 8), -5.0)
    heat[0, 0, 2, 3], heat[0, 0, 2, 4], heat[0, 1, 6, 1] = 2.0, 1.5, 1.0
    cell, kind = peaks(heat, 2, 3)
    assert cell.tolist() == [[2 * 8 + 3, 6 * 8 + 1]]
    assert kind.tolist() == [[0, 1]]


@pytest.mark.parametrize(("config", "most"), [(TINY, 10.0), (BASE, 100.0)])
def test_the_weights_fit_into_a_checkpoint(config: PerceptionConfig, most: float) -> None:
    with torch.device("meta"):
        network = PerceptionNetwork(config)
    assert sum(p.numel() for p in network.parameters()) * 4 / 1e6 < most


@pytest.mark.slow
def test_a_cycle_of_tiny_fits_into_its_memory() -> None:
    """Started by a process that holds more than the limit, as a test suite's does: what counts is the cycle's own."""
    ballast = np.ones(100_000_000)  # 800 MB
    command = [
        sys.executable,
        "-m",
        "benchmarks.perception_speed",
        "--size",
        "tiny",
        "--threads",
        "1",
        "--repeats",
        "3",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=True)
    peak = re.search(r"peak memory of the process: (\d+) MB", done.stdout)
    assert peak is not None, done.stdout
    assert 200 < int(peak[1]) < 600
    assert ballast.nbytes == 800_000_000


# -- export ---------------------------------------------------------------------------------------
def test_the_network_part_can_be_exported(network: PerceptionNetwork) -> None:
    program = export_program(PerceptionNetwork(SMALL).eval())
    assert len(program.graph_signature.user_outputs) == len(OUTPUTS)
    own = export_program(network).module()
    inputs = example_inputs(SMALL, seed=5)
    with torch.no_grad():
        for name, want, got in zip(OUTPUTS, Flat(network)(*inputs.tensors()), own(*inputs.tensors())):
            assert torch.allclose(want, got, atol=1e-5), name


def test_onnxruntime_says_the_same(network: PerceptionNetwork, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "dualdrive[onnx]"')
    pytest.importorskip("onnxscript", reason='needs onnxscript: pip install "dualdrive[onnx]"')
    path = export_onnx(network, tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(INPUTS)
    for seed in range(3):
        inputs = example_inputs(SMALL, seed)
        got = session.run(None, {name: t.numpy() for name, t in zip(INPUTS, inputs.tensors())})
        with torch.no_grad():
            wanted = flat(network(inputs))
        for name, want, have in zip(OUTPUTS, wanted, got):
            assert np.abs(want.numpy() - have).max() <= 1e-4, name
