"""`dualdrive train`: prepare a data set's key frames, train the perception network, keep everything to go on from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import distributed

from eval.commands.console import EXIT_INTERRUPTED, console, error_console, fail
from eval.commands.progress import RunView, short
from eval.run.executor import Work, run_tasks
from eval.run.store import locked, write_atomic
from eval.typed_config import ConfigError, to_mapping, with_override
from perception.calibrate import calibrate
from perception.checkpoint import CheckpointError, load_network, save_network
from perception.config import SIZES, PerceptionConfig
from perception.data import load_batch
from perception.losses import line_targets, losses, total
from perception.network import PerceptionNetwork, channels_last
from perception.train import TrainConfig, TrainingError, train
from perception.train.loop import NETWORK, join_processes
from perception.training_data import prepare_scene, split_scenes


@dataclass(frozen=True)
class TrainRun:
    """perception: the network. train: how it is trained."""

    perception: PerceptionConfig = field(default_factory=PerceptionConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def train_command(
    dataroot: Path,
    version: str,
    out: Path,
    *,
    split: str,
    held_out: str,
    size: str,
    overrides: Iterable[str] = (),
    cache: Path | None = None,
    workers: int = 0,
    tensorboard: bool = False,
) -> int:
    """Train in `out`, going on where a run of the same settings was stopped. Returns the exit code.

    Raises ConfigError (settings), DatasetError (data), RunDirError (another command trains there), OSError (disk).
    """
    if size not in SIZES:
        raise ConfigError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    run = TrainRun(SIZES[size])
    for assignment in overrides:
        run = with_override(run, assignment)
    train_scenes = split_scenes(dataroot, version, split)
    held_scenes = split_scenes(dataroot, version, held_out) if held_out else []
    if shared := set(train_scenes) & set(held_scenes):
        raise ConfigError(f"held_out: expected scenes that are not trained on, got {sorted(shared)[0]} in both splits")
    dataset = {"version": version, "split": split, "held_out": held_out}
    prepare = partial(_prepare_one, dataroot=dataroot, version=version, folder=cache or out / "samples", run=run)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out) if _rank() == 0 else nullcontext():
        paths = _prepare([*train_scenes, *held_scenes], prepare, workers)
        return _train(run, out, paths, train_scenes, held_scenes, dataset, tensorboard)


def _train(
    run: TrainRun, out: Path, paths: dict[str, list[Path]], train_scenes: list[str], held_scenes: list[str],
    dataset: dict[str, str], tensorboard: bool,
) -> int:  # fmt: skip
    """paths: prepared samples of all scenes. dataset: what they are of, for the checkpoint."""
    samples = [path for scene in train_scenes for path in paths[scene]]
    held = [path for scene in held_scenes[::2] for path in paths[scene]]
    for_calibration = [path for scene in held_scenes[1::2] for path in paths[scene]]
    _say(
        f"{len(samples)} samples of {len(train_scenes)} scenes; held out: {len(held)} to watch, "
        f"{len(for_calibration)} to calibrate, of {len(held_scenes)} scenes."
    )

    torch.manual_seed(run.train.seed)
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")
    network = channels_last(PerceptionNetwork(run.perception).to(device))
    validate = partial(held_out_loss, paths=held, run=run) if held else None
    facts = {"dataset": dataset, "seed": run.train.seed}
    if _rank() == 0:
        write_atomic(out / "config.json", json.dumps(to_mapping(run), indent=1) + "\n")
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal or _rank() > 0) as bar:
            task = bar.add_task("training", total=run.train.steps)
            for step in train(network, samples, out, run.train, validate, facts, tensorboard and _rank() == 0):
                loss = step.numbers.get("loss")
                bar.update(task, completed=step.step)
                if loss is None:
                    continue
                bar.update(task, description=f"loss {loss:.3f}")
                if not console.is_terminal:
                    pace = step.numbers["samples_per_s"]
                    _say(f"step {step.step}/{step.steps}  loss {loss:.3f}  {pace:.1f} samples/s")
    except KeyboardInterrupt:
        error_console.print(f"[bold yellow]Interrupted.[/] The same command goes on from the last state in {out}.")
        return EXIT_INTERRUPTED
    except CheckpointError as error:
        raise fail(str(error)) from error
    except TrainingError as error:
        raise fail(str(error), "lower train.learning_rate, or look at log.jsonl for the term that grew") from error
    if _rank() == 0 and for_calibration:
        _calibrate(out / NETWORK, for_calibration, f"{dataset['version']} {dataset['held_out']}, every second scene")
    _say(f"Trained: {out / NETWORK}  (log.jsonl beside it; the checkpoint carries settings, data hash and metrics)")
    return 0


def _calibrate(path: Path, samples: list[Path], found_on: str) -> None:
    """Put the calibration into the checkpoint."""
    network, facts = load_network(path)
    calibration, numbers = calibrate(network, samples, found_on)
    metrics = facts["metrics"] | {f"calibration/{name}": value for name, value in numbers.items()}
    save_network(path, network, {**facts, "metrics": metrics, "calibration": calibration.facts()})
    before, after = numbers["existence_error_before"], numbers["existence_error_after"]
    _say(f"Calibrated: existence error {before:.3f} before, {after:.3f} after, {numbers['answers']:.0f} answers.")


def held_out_loss(network: PerceptionNetwork, paths: list[Path], run: TrainRun) -> dict[str, float]:
    """Mean loss terms on samples that were not trained on, without augmentation."""
    device = next(network.parameters()).device
    sums: dict[str, float] = {}
    for first in range(0, len(paths), run.train.batch):
        chosen = paths[first : first + run.train.batch]
        batch = load_batch(chosen, run.perception, with_scenes=False)
        inputs = batch.inputs.to(device)
        with torch.no_grad():
            lines = line_targets(batch.targets, run.perception, device)
            terms = losses(network(inputs), batch.targets, lines, inputs, run.perception)
            terms["loss"] = total(terms, run.train.weights)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.sum())
    return {name: value / len(paths) for name, value in sums.items()}


def _prepare(scenes: list[str], work: Work, workers: int) -> dict[str, list[Path]]:
    """Prepared samples of all scenes; under torchrun every process but the first waits until they are there."""
    rank, world = join_processes()
    out: dict[str, list[Path]] = {}
    if rank > 0:
        distributed.barrier()
        return {scene: work(scene, lambda _: None) for scene in scenes}
    events = run_tasks(scenes, work, workers=workers)
    with RunView(console, len(scenes), 0) as view, closing(events):
        for event in events:
            if event.kind == "finished":
                out[event.task] = event.value
            elif event.kind == "failed":
                raise fail(f"{event.task}: {short(event.value)}")
            view.show(event, f"samples of {event.task}", "")
    if world > 1:
        distributed.barrier()
    return out


def _prepare_one(
    scene: str, progress: Callable[[float], None], dataroot: Path, version: str, folder: Path, run: TrainRun
) -> list[Path]:
    return prepare_scene(dataroot, version, scene, folder, run.perception, progress)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _say(text: str) -> None:
    if _rank() == 0:
        console.print(text, highlight=False, soft_wrap=True)
