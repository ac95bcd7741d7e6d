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
from eval.cli_perception import perception_app
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
app.add_typer(perception_app)
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
