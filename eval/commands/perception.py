"""`dualdrive perception`: ask a network about every key frame of a split, judge the answers, write tables, a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from rich.status import Status

from eval.commands.console import EXIT_FAILED, EXIT_INTERRUPTED, console, error_console, fail
from eval.commands.perception_tables import print_results
from eval.commands.progress import RunView, short
from eval.perception.detection import devkit_knows
from eval.perception.evaluate import DataSet, data_label, evaluate, headline
from eval.perception.keyframe import draw_detections
from eval.perception.page import write_perception_page
from eval.perception.run import answered, answers_path, read_seen, see_scene, write_seen
from eval.perception.truth import scene_truth
from eval.run.executor import run_tasks
from eval.run.manifest import code_hash, sample_list_hash, start_manifest, write_manifest
from eval.run.store import locked, write_atomic
from perception.checkpoint import CheckpointError, checkpoint_hash, read_tensors, shipped
from perception.nuscenes import list_scenes
from perception.nuscenes_tables import unknown_scene
from perception.perceive import Perception
from perception.training_data import split_scenes

SCHEMA = 1
"""Version of results.json."""
ANSWERS = "answers"
"""Folder of what the networks said, per scene; removing it asks them again."""
Task = tuple[str, str, str]  # checkpoint, scene, file of the answers


def perception_command(
    dataroot: Path,
    version: str,
    out: Path,
    *,
    split: str,
    scenes: Sequence[str] = (),
    checkpoints: Sequence[Path] = (),
    keyframe: str | None = None,
    tracks: bool = True,
    workers: int = 0,
    fresh: bool = False,
) -> int:
    """Judge checkpoints (several: seeds of one training) on a split, or draw one key frame. Returns the exit code.

    tracks: judge them too, which takes the devkit minutes.
    Raises DatasetError (data), RunDirError (the folder), OSError (disk).
    """
    try:
        paths = list(dict.fromkeys(checkpoints)) or [shipped()]
        facts = [read_tensors(path)[1] for path in paths]
        for path in paths:
            Perception.from_checkpoint(path)  # a file that cannot be used is refused before anything is done
    except CheckpointError as error:
        raise fail(str(error), "pass --checkpoint, a network.safetensors that `dualdrive train` wrote") from error
    if keyframe is not None and (scenes or len(paths) > 1):
        raise fail("--keyframe draws one key frame with one network", "leave out --scene, pass one --checkpoint")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if keyframe is not None:
            return _keyframe(dataroot, version, keyframe, paths[0], out)
        whole = split_scenes(dataroot, version, split)
        for name in scenes:
            if name not in whole:
                raise unknown_scene(name, whole, f"split {split!r} of {version}")
        chosen = [name for name in whole if not scenes or name in scenes]
        return _evaluate(
            DataSet(
                dataroot, version, split, chosen, whole,
                whole=chosen == whole and devkit_knows(dataroot, version, split), label=data_label(dataroot, version),
                tracks=tracks,
            ),
            paths, facts, out, workers, fresh,
        )  # fmt: skip


def _evaluate(
    data: DataSet,
    paths: list[Path],
    facts: list[dict[str, Any]],
    out: Path,
    workers: int,
    fresh: bool,
) -> int:
    hashes = [checkpoint_hash(path) for path in paths]
    identity = {
        "data": f"{data.dataroot.resolve()} {data.version} {data.split} {' '.join(data.scenes)}",
        "checkpoints": " ".join(hashes),
        "code version": code_hash(),
    }
    manifest = start_manifest(identity, seed=0, samples=data.scenes, total=len(paths) * len(data.scenes))
    write_manifest(out, manifest, "running")
    status = "failed"
    try:
        files = {
            (str(path), scene): answers_path(out / ANSWERS, data.dataroot, data.version, scene, digest)
            for path, digest in zip(paths, hashes)
            for scene in data.scenes
        }
        if fresh:
            for file in files.values():
                file.unlink(missing_ok=True)
        failed = _ask(data, [(*key, str(file)) for key, file in files.items()], workers)
        if failed:
            error_console.print(f"[bold red]{failed} scenes failed.[/] The same command tries them again.")
            return EXIT_FAILED
        with console.status("reading annotations") as shown:
            data.truth = {scene: scene_truth(data.dataroot, data.version, scene) for scene in data.scenes}
            data.load_roads()
            parts, seen = [], {}
            for number, (path, fact) in enumerate(zip(paths, facts)):
                seen = {scene: read_seen(files[str(path), scene]) for scene in data.scenes}
                folder = out / f"devkit{number or ''}"
                parts.append(evaluate(data, seen, fact, folder, partial(_judging, shown, path.name)))
        results = _results(data, paths, hashes, facts, parts, manifest)
        write_atomic(out / "results.json", json.dumps(_plain(results), indent=1, allow_nan=False) + "\n")
        page = write_perception_page(out / "perception.html", results, seen, data)
        print_results(console, results)
        console.print(f"Results: {out / 'results.json'}  Page: {page}", highlight=False, soft_wrap=True)
        status = "completed"
        return 0
    except KeyboardInterrupt:
        status = "interrupted"
        error_console.print(
            f"[bold yellow]Interrupted.[/] Finished scenes are kept in {out}; the same command goes on."
        )
        return EXIT_INTERRUPTED
    finally:
        write_manifest(out, manifest, status)


def _judging(shown: Status, name: str, what: str) -> None:
    shown.update(f"judging {what} of {name}")


def _ask(data: DataSet, tasks: list[Task], workers: int) -> int:
    """Answers of all scenes that have none yet; how many scenes failed."""
    missing = [task for task in tasks if not answered(Path(task[2]), data.dataroot, task[1])]
    work = partial(_see, dataroot=data.dataroot, version=data.version)
    failed = 0
    events = run_tasks(missing, work, workers=workers)
    with RunView(console, len(tasks), len(tasks) - len(missing)) as view, closing(events):
        for event in events:
            failed += event.kind == "failed"
            view.show(event, event.task[1], short(event.value) if event.kind in ("failed", "retried") else "")
    return failed


def _see(task: Task, progress: Callable[[float], None], dataroot: Path, version: str) -> None:
    checkpoint, scene, file = task
    write_seen(Path(file), see_scene(dataroot, version, scene, _perception(checkpoint), progress))


@lru_cache(1)
def _perception(checkpoint: str) -> Perception:
    return Perception.from_checkpoint(checkpoint)


def _results(
    data: DataSet, paths: list[Path], hashes: list[str], facts: list[dict[str, Any]], parts: list[dict[str, Any]],
    manifest: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    tokens = [true.token for frames in data.truth.values() for true in frames]
    kept = ("config", "preprocessing", "version", "dataset", "data", "seed", "step", "metrics", "calibration")
    return {
        "schema": SCHEMA,
        "data": {
            "dataroot": str(data.dataroot), "version": data.version, "split": data.split, "sensors": data.label,
            "scenes": data.scenes, "key_frames": len(tokens), "sample_list_hash": sample_list_hash(tokens),
            "devkit_split": data.whole,
        },
        "checkpoints": [
            {"path": str(path), "sha256": digest, "facts": {k: fact[k] for k in kept if k in fact}, **part}
            for path, digest, fact, part in zip(paths, hashes, facts, parts)
        ],
        "headline": headline(parts),
        "run": {key: manifest[key] for key in ("command", "started", "identity", "versions")},
    }  # fmt: skip


def _keyframe(dataroot: Path, version: str, keyframe: str, checkpoint: Path, out: Path) -> int:
    if keyframe in list_scenes(dataroot, version):
        from perception.nuscenes import first_sample

        keyframe = first_sample(dataroot, version, keyframe)
    path, facts = draw_detections(dataroot, version, keyframe, Perception.from_checkpoint(checkpoint), out)
    facts |= {
        "checkpoint": {"path": str(checkpoint), "sha256": checkpoint_hash(checkpoint)},
        "sensors": data_label(dataroot, version),
    }
    write_atomic(out / f"keyframe-{keyframe}.json", json.dumps(_plain(facts), indent=1) + "\n")
    from eval.commands.perception_tables import print_keyframe

    print_keyframe(console, facts)
    console.print(f"Picture: {path}  (data under the data set's licence)", highlight=False, soft_wrap=True)
    return 0


def _plain(value: Any) -> Any:
    """JSON has no NaN: None instead."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
