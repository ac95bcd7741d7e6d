"""`dualdrive train-tracking`: learn how tracks and detections fit together, and put it into a checkpoint."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.commands.console import console, fail
from eval.perception.run import Seen, answered, answers_path, read_seen, see_scene, write_seen
from perception.checkpoint import checkpoint_hash, load_network, save_network
from perception.nuscenes import load_recording
from perception.perceive import Perception
from perception.recording import Recording
from perception.track import KEY_FRAMES, TrackConfig
from perception.train.detections import NamedDrive, named, simulated
from perception.train.tracking import AffinityTraining, train_affinity
from perception.training_data import split_scenes

KEY_FRAME = 5
"""Recordings have ten times a second, key frames two."""
WINDOW = 50
"""Frames of a drive at ten per second that are looked at."""


def train_tracking_command(
    checkpoint: Path, dataroot: Path, version: str, split: str, *, asked: int, seed: int, out: Path, answers: Path
) -> int:
    """Train on a split and write the checkpoint with the affinity inside to `out`. Returns the exit code.

    asked: of how many scenes the checkpoint's own detections are learned from; all scenes are simulated. answers:
    folder in which those are kept. Raises CheckpointError, DatasetError, OSError.
    """
    _writable(out)  # an hour later would be late
    network, facts = load_network(checkpoint)
    scenes = split_scenes(dataroot, version, split)
    chosen = set(scenes[:: max(len(scenes) // asked, 1)][:asked]) if asked else set()
    perception, digest = Perception.from_checkpoint(checkpoint), checkpoint_hash(checkpoint)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    drives: list[NamedDrive] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading drives", total=len(scenes))
        for number, scene in enumerate(scenes):
            recording = load_recording(dataroot, version, scene)
            drives += simulated_drives(recording, (seed, number))
            if scene in chosen:
                path = answers_path(answers, dataroot, version, scene, digest)
                if not answered(path, dataroot, scene):
                    write_seen(path, see_scene(dataroot, version, scene, perception))
                drives.append(detected_drive(read_seen(path), recording, perception.settings.existence))
            bar.update(task, completed=number + 1)
        task = bar.add_task("training", total=100)
        losses: list[float] = []

        def progress(share: float, loss: float) -> None:
            losses.append(loss)
            bar.update(task, completed=100 * share, description=f"loss {np.mean(losses[-20:]):.4f}")

        try:
            affinity = train_affinity(drives, AffinityTraining(seed=seed), progress)
        except ValueError as error:
            raise fail(f"nothing can be learned from split {split!r}: {error}", "choose one with traffic") from error
    about = {"version": version, "split": split, "scenes": len(scenes), "asked": len(chosen), "seed": seed}
    about["loss"] = round(float(np.mean(losses[-20:])), 5)
    save_network(out, network, {**facts, "affinity": {**affinity.to_facts(), "found_on": about}})
    console.print(f"Trained on {len(drives)} drives, loss {about['loss']:.4f}: {out}", highlight=False, soft_wrap=True)
    return 0


def _writable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file's name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=path.parent):
        pass


def simulated_drives(recording: Recording, seed: tuple[int, ...]) -> list[NamedDrive]:
    """A recording as a mediocre detector tells it: its key frames, and a while of it at ten frames a second."""
    slow, fast = (np.random.default_rng([*seed, k]) for k in range(2))
    frames = simulated(recording, 1, fast)
    first = int(fast.integers(0, max(len(frames) - WINDOW, 0) + 1))
    return [
        NamedDrive(simulated(recording, KEY_FRAME, slow), KEY_FRAMES),
        NamedDrive(frames[first : first + WINDOW], TrackConfig()),
    ]


def detected_drive(seen: list[Seen], recording: Recording, existence: float) -> NamedDrive:
    """A network's own detections at key frames, those that a tracker is given in driving."""
    frames = []
    for s in seen:
        sure = s.detections.existence >= existence
        agents = s.detections.apply(lambda t: t[sure])  # noqa: B023
        frames.append(named(agents, s.global_from_ego, s.time_us, recording))
    return NamedDrive(frames, KEY_FRAMES)
