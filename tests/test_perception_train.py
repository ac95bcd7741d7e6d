"""Training: learns, goes on bit by bit after kill -9, and is the same on two processes as on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from perception_samples import SMALL, ideal_outputs, random_agents, sample_of

from perception import heads, heads_lines
from perception.augment import Augmentation
from perception.calibration import Calibration
from perception.config import CLASSES, PerceptionConfig
from perception.data import join
from perception.decode import DecodeConfig, decode
from perception.heads_parts import peaks
from perception.losses import LossWeights
from perception.network import NetworkOutputs, PerceptionNetwork
from perception.perceive import read_checkpoint
from perception.sample import save_sample
from perception.train.config import TrainConfig
from perception.train.planning import PlanningLoss
from perception.train.state import TrainState, indices, learning_rate
from planner.scene import AgentClass

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

from perception.checkpoint import CheckpointError, load_network, read_tensors
from perception.train import TrainingError, loop, train
from perception.train.loop import LOG, NETWORK, STATE

LITTLE = replace(SMALL, channels=(8, 8, 16), neck=8, query=16, agents=8, lines=6, line_points=8)
STILL = Augmentation(
    rotation=0, shift=0, tilt=0, thin=0, shine=0, light=0, drop_lidar=0, drop_past=0, drop_cameras=0, drop_camera=0
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("samples"), np.random.default_rng(1)
    out = [folder / f"{n}.npz" for n in range(8)]
    for n, path in enumerate(out):
        save_sample(path, sample_of(random_agents(rng, 4), seed=n, cameras=n % 3 == 0))
    return out


def small_run(paths: list[Path], run_dir: Path, config: TrainConfig, network: PerceptionConfig = LITTLE) -> list[dict]:
    torch.manual_seed(0)
    steps = train(PerceptionNetwork(network), paths, run_dir, config)
    return [step.numbers for step in steps if step.numbers]


def test_eight_samples_are_learned(paths: list[Path], tmp_path: Path) -> None:
    config = TrainConfig(
        steps=80, batch=4, learning_rate=6e-3, average=0.8, log_every=10, save_every=1000, augment=STILL
    )
    numbers = small_run(paths, tmp_path, config, replace(SMALL, line_points=10))
    assert numbers[-1]["loss"] < 0.3 * numbers[0]["loss"]
    for name in ("heat", "box", "line_heat", "line_shape", "forecast"):
        assert numbers[-1][name] < 0.6 * numbers[0][name], name
    network, facts = load_network(tmp_path / NETWORK)
    rng = np.random.default_rng(1)
    samples = [sample_of(random_agents(rng, 4), seed=n, cameras=n % 3 == 0) for n in range(8)]
    batch = join(samples, network.config)
    with torch.no_grad():
        seen = decode(network(batch.inputs), batch.inputs, network.config, DecodeConfig(existence=0.5))
    found = 0
    for b, targets in enumerate(batch.targets):
        xy = seen.agents.box[b, seen.agents.valid[b], :2].numpy()
        found += sum(len(xy) > 0 and np.hypot(*(xy - place).T).min() < 1.0 for place in targets.box[:, :2])
    assert found >= 0.7 * 32
    assert int(seen.agents.valid.sum()) < 1.5 * 32
    assert facts["step"] == 80
    assert facts["metrics"]["loss"] == pytest.approx(numbers[-1]["loss"])


def test_a_run_is_the_same_when_it_is_cut_in_two(paths: list[Path], tmp_path: Path) -> None:
    config = TrainConfig(steps=6, batch=2, save_every=2, log_every=1)
    small_run(paths, tmp_path / "whole", config)
    torch.manual_seed(0)
    for step in train(PerceptionNetwork(LITTLE), paths, tmp_path / "cut", config):
        if step.step == 3:  # after the state of step 2
            break
    torch.manual_seed(99)  # other weights to begin with: they must not matter
    list(train(PerceptionNetwork(LITTLE), paths, tmp_path / "cut", config))
    _expect_same(tmp_path / "whole", tmp_path / "cut")


def _expect_same(one: Path, two: Path) -> None:
    for name in (STATE, NETWORK):
        (a, _), (b, _) = read_tensors(one / name), read_tensors(two / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    told = [[_without_time(line) for line in (run / LOG).read_text().splitlines()] for run in (one, two)]
    assert told[0] == told[1]


def _without_time(line: str) -> dict[str, float]:
    return {k: v for k, v in json.loads(line).items() if k != "samples_per_s"}


SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_perception_train import LITTLE, TrainConfig, PerceptionNetwork, train
torch.set_num_threads(1)
torch.manual_seed(0)
config = TrainConfig(steps={steps}, batch={batch}, save_every={save}, log_every=1, learning_rate=1e-3)
for step in train(PerceptionNetwork(LITTLE), sorted(Path({data!r}).glob("*.npz")), Path({run!r}), config):
    print(step.step, flush=True)
"""


def _start(
    paths: list[Path], run: Path, steps: int, batch: int, save: int, **environment: str
) -> subprocess.Popen[str]:
    script = SCRIPT.format(
        tests=str(REPOSITORY / "tests"), steps=steps, batch=batch, save=save, data=str(paths[0].parent), run=str(run)
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | environment,
    )  # fmt: skip


def test_a_killed_run_goes_on_bit_by_bit(paths: list[Path], tmp_path: Path) -> None:
    with _start(paths, tmp_path / "killed", steps=8, batch=2, save=1) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 4:
                process.send_signal(signal.SIGKILL)  # between two steps, or while a state is being written
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / NETWORK).exists()
    with (tmp_path / "killed" / LOG).open("a") as file:
        file.write('{"step": 7, "lo')  # a line that was cut off
    config = TrainConfig(steps=8, batch=2, save_every=1, log_every=1, learning_rate=1e-3)
    small_run(paths, tmp_path / "killed", config)
    small_run(paths, tmp_path / "whole", config)
    _expect_same(tmp_path / "whole", tmp_path / "killed")


def test_a_run_killed_between_its_two_last_files_goes_on(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[None] = []

    def only_once(write: Callable[..., None]) -> Callable[..., None]:
        def one(*args: object) -> None:
            if written:
                raise KeyboardInterrupt
            written.append(write(*args))

        return one

    config = TrainConfig(steps=2, batch=2, save_every=2)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_network", only_once(loop.save_network))
        patch.setattr(TrainState, "save", only_once(TrainState.save))
        with pytest.raises(KeyboardInterrupt):
            small_run(paths, tmp_path / "killed", config)
    small_run(paths, tmp_path / "killed", config)
    small_run(paths, tmp_path / "whole", config)
    _expect_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_two_processes_do_what_one_does(paths: list[Path], tmp_path: Path) -> None:
    small_run(paths, tmp_path / "one", TrainConfig(steps=1, batch=4, save_every=1, log_every=1, learning_rate=1e-3))
    port = str(20000 + os.getpid() % 20000)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [_start(paths, tmp_path / "two", 1, 4, 1, RANK=str(rank), **shared) for rank in range(2)]
    deadline = time.monotonic() + 100
    for process in started:
        process.communicate(timeout=max(deadline - time.monotonic(), 1))
        assert process.returncode == 0
    (one, _), (two, _) = (read_tensors(tmp_path / run / STATE) for run in ("one", "two"))
    moments = [key for key in one if key.endswith(".exp_avg")]  # after one step: a tenth of the gradient
    assert len(moments) > 50
    largest = max(float(one[key].abs().max()) for key in moments)
    for key in moments:
        assert torch.allclose(one[key], two[key], rtol=1e-3, atol=1e-5 * largest), key
    logged = [json.loads((tmp_path / run / LOG).read_text().splitlines()[0]) for run in ("one", "two")]
    for name, value in logged[0].items():
        if name not in ("samples_per_s", "sigma"):
            assert logged[1][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_another_run_is_not_continued(paths: list[Path], tmp_path: Path) -> None:
    small_run(paths, tmp_path, TrainConfig(steps=1, batch=2))
    with pytest.raises(CheckpointError, match="another train"):
        small_run(paths, tmp_path, TrainConfig(steps=1, batch=2, seed=5))
    with pytest.raises(CheckpointError, match="another data"):
        small_run(paths[1:], tmp_path, TrainConfig(steps=1, batch=2))


def test_checkpoints_say_what_is_wrong_with_them(paths: list[Path], tmp_path: Path) -> None:
    from perception.checkpoint import write_tensors

    with pytest.raises(CheckpointError, match="cannot be read"):
        load_network(tmp_path / "none.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_network(tmp_path / "half.safetensors")
    small_run(paths, tmp_path, TrainConfig(steps=1, batch=2))
    tensors, facts = read_tensors(tmp_path / NETWORK)
    assert facts["config"]["preprocessing"]["extent"] == SMALL.preprocessing.extent
    assert len(facts["data"]) == 16
    for change, message in (
        ({"preprocessing": "0" * 16}, "not the one it was trained with"),
        ({"config": {**facts["config"], "query": 33}}, "does not fit this version"),
        ({"config": {**facts["config"], "query": 20, "heads": 2}}, "do not fit its configuration: role"),
        ({"config": {**facts["config"], "refinements": 4}}, "do not fit its configuration: lines"),
        ({"calibration": {"existence": [[1.0, 0.0]]}}, "calibration or affinity"),
        ({"calibration": Calibration(future=((1.0, 2.0),) * CLASSES).facts()}, "expected factors for"),
        ({"affinity": {"parameters": {}}}, "calibration or affinity"),
        ({"affinity": {"gate": 4.0, "parameters": {}}}, "its parameters do not fit this version"),
    ):
        write_tensors(tmp_path / "bad.safetensors", tensors, {**facts, **change})
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / "bad.safetensors")
    name = next(iter(tensors))
    write_tensors(tmp_path / "bad.safetensors", {**tensors, name: tensors[name] * torch.nan}, facts)
    with pytest.raises(CheckpointError, match=f"expected finite weights.*{name}"):
        read_checkpoint(tmp_path / "bad.safetensors")


LED = [(14.0, 0.0, 0.0, 2.0, AgentClass.CAR)]
"""A slower car ahead, so that the plan depends on what is said of it."""


def planned(change: float = 0.0, wanted: float = 1.0) -> tuple[NetworkOutputs, torch.Tensor, dict[str, float]]:
    """Imitation and regret of nearly perfect outputs; change: of the leader's raw speed."""
    batch = join([sample_of(LED)], SMALL)
    outputs = ideal_outputs(batch.targets[0])
    outputs.agents.box[0, 0, 8:] = -1.5
    outputs.agents.future[..., 2:] = -1.0
    outputs.agents.class_logit[0, 0, 0] = 2.0
    outputs.agents.box[0, 0, 6] += change
    for value in (outputs.agents.box, outputs.agents.class_logit, outputs.agents.future, *vars(outputs.ego).values()):
        value.requires_grad_()
    loss = PlanningLoss(LossWeights(imitation=wanted, regret=wanted), SMALL)
    terms, numbers = loss(outputs, batch.inputs, batch.scenes)
    return outputs, terms["imitation"].sum() + terms["regret"].sum(), numbers


def test_the_planner_s_gradient_arrives_everywhere_and_is_exact() -> None:
    outputs, value, numbers = planned()
    assert numbers["planner/masked"] == 0.0
    value.backward()
    box, ego = outputs.agents.box.grad, outputs.ego
    assert not box[0, 1:].any()  # nobody is there
    for gradient in (outputs.agents.class_logit.grad, outputs.agents.future.grad, ego.weight.grad, ego.motion.grad):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 1e-5
    step = 2e-4
    measured = (float(planned(step)[1].detach()) - float(planned(-step)[1].detach())) / (2 * step)
    assert float(box[0, 0, 6]) == pytest.approx(measured, rel=0.02)
    assert abs(measured) > 1.0


def test_training_asks_the_planner_when_it_is_time(paths: list[Path], tmp_path: Path) -> None:
    weights = LossWeights(imitation=0.5, regret=0.5)
    config = TrainConfig(steps=4, batch=2, log_every=1, plan_from=0.5, weights=weights)
    numbers = small_run(paths, tmp_path, config)
    assert ["imitation" in n for n in numbers] == [False, False, True, True]
    assert all(np.isfinite(list(n.values())).all() for n in numbers)


def test_a_mirrored_sample_is_masked() -> None:
    batch = join([replace(sample_of(LED), scene=None)], SMALL)
    terms, numbers = PlanningLoss(LossWeights(imitation=1.0), SMALL)(
        ideal_outputs(batch.targets[0]), batch.inputs, batch.scenes
    )
    assert numbers["planner/masked"] == 1.0
    assert not terms["imitation"].any()


def test_lower_precision_trains_nearly_alike(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same places to begin at: of nearly equal peaks of an untrained map, rounding takes another one."""
    chosen: list[tuple[torch.Tensor, ...]] = []

    def run(precision: str, begin: Callable[..., tuple[torch.Tensor, ...]]) -> dict[str, float]:
        for module in (heads, heads_lines):
            monkeypatch.setattr(module, "peaks", begin)
        config = TrainConfig(steps=1, batch=2, log_every=1, precision=precision)  # type: ignore[arg-type]
        return small_run(paths, tmp_path / precision, config)[0]

    def noted(*args: object) -> tuple[torch.Tensor, ...]:
        chosen.append(peaks(*args))  # type: ignore[arg-type]
        return chosen[-1]

    exact = run("float32", noted)
    assert len(chosen) == 2  # agents and lines
    low = run("bfloat16", lambda *_: chosen.pop(0))
    assert low["loss"] != exact["loss"]
    assert low["loss"] == pytest.approx(exact["loss"], rel=0.005)
    assert low["gradient"] == pytest.approx(exact["gradient"], rel=0.03)
    for name in exact.keys() - {"samples_per_s", "loss", "gradient"}:
        assert low[name] == pytest.approx(exact[name], rel=0.1 if "gradient" in name else 0.01), name


def test_tensorboard_gets_every_number(paths: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason='needs tensorboard: pip install "dualdrive[tensorboard]"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    torch.manual_seed(0)
    config = TrainConfig(steps=2, batch=2, log_every=1)
    steps = list(train(PerceptionNetwork(LITTLE), paths, tmp_path, config, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(steps[0].numbers)
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([s.numbers["loss"] for s in steps])


@pytest.mark.parametrize(
    "where", ["ego.read.2.bias", "fusion.fuse.0.weight", "agents.box.2.bias", "lines.shape.2.bias"]
)
def test_gradients_without_numbers_are_skipped_and_end_the_run(paths: list[Path], tmp_path: Path, where: str) -> None:
    network = PerceptionNetwork(LITTLE)
    with torch.no_grad():
        network.get_parameter(where).fill_(float("nan"))
    weights = LossWeights(imitation=0.1)
    before = network.fusion.coarse[0][0].weight.detach().clone()
    with pytest.raises(TrainingError, match="NaN or infinite for 20 steps"):
        list(
            train(network, paths, tmp_path, TrainConfig(steps=30, batch=1, log_every=1, plan_from=0.0, weights=weights))
        )
    assert torch.equal(network.fusion.coarse[0][0].weight, before)
    skipped = [json.loads(line)["skipped"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert skipped == list(range(1, 20))


def test_every_epoch_takes_every_sample_once() -> None:
    config = TrainConfig(batch=4)
    taken = [i for step in range(5) for i in indices(step, 10, config)]
    assert sorted(taken[:10]) == sorted(taken[10:]) == list(range(10))
    assert taken[:10] != taken[10:]
    assert len(set(indices(0, 3, config))) == 3


def test_the_rate_goes_through_one_cycle() -> None:
    config = TrainConfig(steps=1000)
    rates = [learning_rate(step, config) for step in range(1001)]
    assert rates[0] == pytest.approx(config.learning_rate / 25)
    assert max(rates) == pytest.approx(config.learning_rate) == rates[100]
    assert rates[-1] == pytest.approx(config.learning_rate / 1e4)
    assert all(a <= b for a, b in pairwise(rates[:101]))
    assert all(a >= b for a, b in pairwise(rates[100:]))


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"warm_up": 1.0}, {"average": 1.0}])
def test_bad_settings_are_refused(change: dict[str, float], paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        small_run(paths, tmp_path, replace(TrainConfig(), **change))
