"""The `dualdrive` command. Options here, work in `eval.commands`; heavy imports wait until a command needs them."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from eval.cli_options import (
    ConfigOption,
    Dataroot,
    Overrides,
    Report,
    Resume,
    Scenes,
    Version,
    Workers,
    given,
)
from eval.cli_studies import studies_app
from eval.commands.console import EXIT_INTERRUPTED, console, error_console, user_errors

app = typer.Typer(
    name="dualdrive",
    help="Drive scenes closed-loop with a convex planner and an independent safety channel, and judge the result.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Evaluations without simulation.")
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.")
app.add_typer(studies_app)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(data_app, name="data")


class Dataset(StrEnum):
    """Where scenes come from."""

    generated = "generated"
    nuscenes = "nuscenes"


class PerceptionName(StrEnum):
    """What shows the planners the world."""

    oracle = "oracle"
    network = "network"


class Traffic(StrEnum):
    """How other road users move."""

    log_replay = "log_replay"
    idm = "idm"
    both = "both"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dualdrive {metadata.version('dualdrive')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def drive(
    overrides: Overrides = None,
    config: ConfigOption = None,
    dataset: Annotated[Dataset | None, typer.Option(help="Generated towns, or nuScenes scenes.")] = None,
    dataroot: Dataroot = None,
    version: Version = None,
    scene: Scenes = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Only this family of generated scenarios (repeatable).")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds per family: a count (20), a range (10-19) or a list (3,7).")
    ] = None,
    planner: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Who drives (repeatable): dualdrive, expert, constant_velocity, idm, pdm_style; with @oracle or "
            "@network after the name, what shows it the world.",
        ),
    ] = None,
    perception: Annotated[
        PerceptionName | None, typer.Option(help="What shows planners the world whose name does not say.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="The network: tiny (shipped), or a file of `dualdrive train`.", metavar="FILE")
    ] = None,
    traffic: Annotated[Traffic | None, typer.Option(help="How other road users move.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path("runs/drive"),
    workers: Workers = None,
    resume: Resume = True,
    report: Report = None,
) -> None:
    """Drive scenarios closed-loop at 10 Hz, with baselines beside our planner, and judge every drive.

    Stopped in any way, the same command continues; nothing finished is lost or counted twice.

    [bold]Examples[/]

        dualdrive drive --dataset nuscenes --dataroot data/nuscenes --out runs/mini

        dualdrive drive --family cut_in --seeds 20 --planner dualdrive --planner idm

        dualdrive drive --family cut_in --planner dualdrive --perception network

        dualdrive drive --config demo execution.workers=1
    """
    with user_errors():
        from eval.commands.drive import drive as run_drive
        from eval.config import load_config, parse_seeds, updated

        data = {
            "dataset": dataset and dataset.value,
            "dataroot": dataroot,
            "version": version,
            "scenes": scene or None,
            "families": family or None,
            "seeds": list(parse_seeds(seeds)) if seeds is not None else None,
        }
        chosen: dict[str, Any] = {
            "data": data,
            "planners": list(dict.fromkeys(planner)) if planner else None,
            "perception": {"source": perception and perception.value, "network": {"checkpoint": checkpoint}},
            "traffic": traffic and (["log_replay", "idm"] if traffic is Traffic.both else [traffic.value]),
            "execution": {"workers": workers, "report": report},
        }
        settings = updated(load_config(config, overrides or ()), given(chosen))
        raise typer.Exit(run_drive(settings, out, fresh=not resume))


@app.command()
def demo(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path("runs/demo"),
    workers: Workers = None,
    resume: Resume = True,
) -> None:
    """Drive the embedded default: generated towns and traffic, no data set, no internet. Ends with a report.

    Our planner is driven twice: with perfect perception, and end to end (@network): LiDAR and six cameras are rendered
    and a trained network looks at them.
    """
    with user_errors():
        from eval.commands.drive import drive as run_drive
        from eval.commands.drive import with_network_at_hand
        from eval.config import load_config, updated

        settings = updated(load_config("demo", overrides or ()), given({"execution": {"workers": workers}}))
        raise typer.Exit(run_drive(with_network_at_hand(settings), out, fresh=not resume))


@app.command()
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
    seed: Annotated[int, typer.Option(help="Of light, paint, plants and noise.")] = 0,
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


@app.command()
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


@app.command()
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


@app.command("train-tracking")
def train_tracking(
    dataroot: Annotated[Path, typer.Option(help="Folder of the nuScenes tables and maps.", metavar="DIR")],
    checkpoint: Annotated[Path, typer.Option(help="A network that `dualdrive train` wrote.", metavar="FILE")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Checkpoint to write; default: the same.")] = None,
    version: Annotated[str, typer.Option(help="nuScenes table set.")] = "v1.0-sim",
    split: Annotated[str, typer.Option(help="Scenes to learn from: a split's name, or all.")] = "sim_train",
    asked: Annotated[int, typer.Option(help="Scenes whose real detections are learned from too.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the simulated detections and of the training.")] = 0,
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


@evaluate_app.command("open-loop")
def open_loop(
    overrides: Overrides = None,
    config: ConfigOption = None,
    dataroot: Dataroot = None,
    version: Version = None,
    scene: Scenes = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path("runs/open_loop"),
) -> None:
    """nuScenes open-loop planning under both published protocols (UniAD noavg, VAD temavg).

    For our planner, constant velocity, and the recorded human as a self-test of the evaluation.
    """
    with user_errors():
        from eval.commands.open_loop import evaluate_open_loop
        from eval.config import load_config, updated

        data = {"dataset": "nuscenes", "dataroot": dataroot, "version": version, "scenes": scene or None}
        settings = updated(load_config(config, overrides or ()), given({"data": data}))
        raise typer.Exit(evaluate_open_loop(settings, out))


@data_app.command("check")
def data_check(
    dataroot: Annotated[Path, typer.Option(help="Folder of the nuScenes tables and maps.", metavar="DIR")],
    version: Annotated[str, typer.Option(help="nuScenes table set.")] = "v1.0-mini",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write summary.json here.", metavar="DIR")
    ] = None,
) -> None:
    """What of a data set is present, what is missing, what each feature needs, which degraded mode applies."""
    with user_errors():
        from eval.commands.data import check

        raise typer.Exit(check(dataroot, version, out))


@app.command()
def report(run_dir: Annotated[Path, typer.Argument(help="Result directory of `dualdrive drive`.")]) -> None:
    """Write the HTML report of a result directory again."""
    with user_errors():
        from eval.commands.inspect import write_run_report

        raise typer.Exit(write_run_report(run_dir))


@app.command()
def explain(
    run_dir: Annotated[Path, typer.Argument(help="Result directory of `dualdrive drive`.")],
    scenario: Annotated[str, typer.Argument(help="Name of the scenario.")],
    time: Annotated[float | None, typer.Option("--time", "-t", help="Only this moment (s).")] = None,
    planner: Annotated[str, typer.Option(help="Whose drive.", metavar="NAME")] = "dualdrive",
    traffic: Annotated[Traffic | None, typer.Option(help="In which traffic; default: the first there is.")] = None,
) -> None:
    """Why a drive went as it did: what cost score, and at a moment which rules held the plan back and by how much."""
    with user_errors():
        from eval.commands.inspect import explain_drive

        raise typer.Exit(explain_drive(run_dir, scenario, planner, traffic and traffic.value, time))


@app.command()
def doctor() -> None:
    """Check Python, packages and machine; name what is broken, what is missing, and the command that mends it."""
    from eval.doctor import run_doctor

    raise typer.Exit(run_doctor(console))


def _terminate(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except KeyboardInterrupt:
        error_console.print("[bold yellow]Interrupted.[/]")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
