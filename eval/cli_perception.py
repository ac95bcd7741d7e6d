"""The commands of `dualdrive` around learned perception: record what it learns from, train it, judge it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import Overrides, Resume, Scenes, Workers
from eval.commands.console import user_errors

perception_app = typer.Typer()


@perception_app.command()
def record(
    out: Annotated[Path, typer.Option("--out", "-o", help="Root of the new data set: an empty or new folder.")],
    family: Annotated[list[str] | None, typer.Option(help="Only this family of towns (repeatable).")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Training towns per family: a count (20), a range or a list; default 10.")
    ] = None,
    val_seeds: Annotated[
        str | None, typer.Option(help="Held-out towns per family, never the training ones; default 1000-1001.")
    ] = None,
    dataroot: Annotated[
        str | None,
        typer.Option(help="Instead: render what this annotated nuScenes root lacks; it is only read.", metavar="DIR"),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Table set: v1.0-sim to write, v1.0-mini to read.")] = None,
    scene: Scenes = None,
    size: Annotated[str, typer.Option(help="Height x width of the rendered images.")] = "96x160",
    sweeps: Annotated[int, typer.Option(help="LiDAR turns kept before each key frame, 0 to 9.")] = 0,
    weather: Annotated[str, typer.Option(help="clear, overcast, low_sun, rain, dusk, night, or any.")] = "any",
    seed: Annotated[int, typer.Option(min=0, help="Of light, paint, plants and noise.")] = 0,
    workers: Workers = None,
    resume: Resume = True,
) -> None:
    """Record simulated drives as a nuScenes v1.0 data set: tables, LiDAR, six cameras, maps, splits.

    Stopped in any way, the same command continues.

    [bold]Examples[/]

        dualdrive record --out data/sim --seeds 20 --val-seeds 1000-1003

        dualdrive record --dataroot data/nuscenes --version v1.0-mini --out data/mini-rendered
    """
    with user_errors():
        from eval.commands.record import record_command

        raise typer.Exit(
            record_command(
                out,
                families=tuple(family or ()),
                seeds=seeds,
                val_seeds=val_seeds,
                dataroot=dataroot,
                version=version,
                scenes=tuple(scene or ()),
                size=size,
                sweeps=sweeps,
                weather=weather,
                seed=seed,
                workers=workers or 0,
                fresh=not resume,
            )
        )


@perception_app.command()
def train(
    dataroot: Annotated[Path, typer.Option(help="Folder of the nuScenes tables and maps.", metavar="DIR")],
    overrides: Overrides = None,
    version: Annotated[str, typer.Option(help="nuScenes table set.")] = "v1.0-sim",
    split: Annotated[str, typer.Option(help="Scenes to train on: a split's name, or all.")] = "sim_train",
    held_out: Annotated[str, typer.Option(help="Split to watch, never trained on; empty for none.")] = "sim_val",
    size: Annotated[str, typer.Option(help="Size of the network: tiny or base.")] = "tiny",
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory.", metavar="DIR")] = Path("runs/train"),
    cache: Annotated[Path | None, typer.Option(help="Prepared samples; default: samples/ in the run.")] = None,
    workers: Workers = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's files.")] = False,
) -> None:
    """Train the perception network on a data set in nuScenes schema.

    Killed in any way, the same command goes on from the last saved state, bit by bit. Settings are train.KEY=VALUE and
    perception.KEY=VALUE. Under torchrun, each process takes its share of every batch.

    [bold]Examples[/]

        dualdrive train --dataroot data/sim --out runs/tiny

        torchrun --nproc-per-node 2 -m eval.cli train --dataroot data/sim train.steps=6000
    """
    with user_errors():
        from eval.commands.train import train_command

        raise typer.Exit(
            train_command(
                dataroot,
                version,
                out,
                split=split,
                held_out=held_out,
                size=size,
                overrides=overrides or (),
                cache=cache,
                workers=workers or 0,
                tensorboard=tensorboard,
            )
        )


@perception_app.command()
def perception(
    dataroot: Annotated[Path, typer.Option(help="Folder of the nuScenes tables and maps.", metavar="DIR")],
    version: Annotated[str, typer.Option(help="nuScenes table set.")] = "v1.0-mini",
    split: Annotated[str, typer.Option(help="Scenes to judge on: a split's name, or all.")] = "mini_val",
    scene: Annotated[
        list[str] | None, typer.Option("--scene", help="Only this scene of the split (repeatable).")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="A network of `dualdrive train`; default: the shipped one. Repeatable: seeds of one training.",
            metavar="FILE",
        ),
    ] = None,
    keyframe: Annotated[
        str | None,
        typer.Option(
            help="Only draw detections beside annotations: a key frame's token, or a scene for its first.",
            metavar="TOKEN",
        ),
    ] = None,
    tracking: Annotated[
        bool, typer.Option("--tracking/--no-tracking", help="Judge tracks too (AMOTA, switches): takes minutes.")
    ] = True,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path(
        "runs/perception"
    ),
    workers: Workers = None,
    resume: Resume = True,
) -> None:
    """Judge the learned perception by the published definitions.

    Detections are judged by the nuScenes devkit (mAP, NDS), forecasts by its prediction metrics beside constant
    velocity and lane following, the map by MapTR's Chamfer AP. Writes results.json, a page with pictures, and a
    submission in the devkit's format. Works on any data set in nuScenes schema. Stopped in any way, the same command
    continues.

    [bold]Examples[/]

        dualdrive perception --dataroot data/nuscenes --version v1.0-trainval --split val --out runs/val

        dualdrive perception --dataroot data/sim --version v1.0-sim --split sim_val --checkpoint my.safetensors

        dualdrive perception --dataroot data/nuscenes --keyframe scene-0061
    """
    with user_errors():
        from eval.commands.perception import perception_command

        raise typer.Exit(
            perception_command(
                dataroot,
                version,
                out,
                split=split,
                scenes=scene or (),
                checkpoints=checkpoint or (),
                keyframe=keyframe,
                tracks=tracking,
                workers=workers or 0,
                fresh=not resume,
            )
        )


@perception_app.command("train-tracking")
def train_tracking(
    dataroot: Annotated[Path, typer.Option(help="Folder of the nuScenes tables and maps.", metavar="DIR")],
    checkpoint: Annotated[Path, typer.Option(help="A network that `dualdrive train` wrote.", metavar="FILE")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Checkpoint to write; default: the same.")] = None,
    version: Annotated[str, typer.Option(help="nuScenes table set.")] = "v1.0-sim",
    split: Annotated[str, typer.Option(help="Scenes to learn from: a split's name, or all.")] = "sim_train",
    asked: Annotated[int, typer.Option(min=0, help="Scenes whose real detections are learned from too.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated detections and of the training.")] = 0,
    answers: Annotated[Path, typer.Option(help="Folder that keeps what the network said.")] = Path("runs/answers"),
) -> None:
    """Learn how tracks and detections fit together, and put that into a checkpoint.

    From drives with known objects: as a simulated detector tells them, and as the checkpoint's own network does.

    [bold]Example[/]

        dualdrive train-tracking --dataroot data/sim --checkpoint runs/tiny/network.safetensors
    """
    with user_errors():
        from eval.commands.train_tracking import train_tracking_command

        raise typer.Exit(
            train_tracking_command(
                checkpoint, dataroot, version, split, asked=asked, seed=seed, out=out or checkpoint, answers=answers
            )
        )
