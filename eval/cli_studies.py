"""The commands of `dualdrive` that measure safety: grids, fault injection, ablation, adversary."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.cli_options import ConfigOption, Dataroot, Overrides, Report, Resume, Version, Workers, given
from eval.commands.console import user_errors

studies_app = typer.Typer()
Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="In this cell of a grid, such as CCRs_ego_kmh50_overlap50, too.")
]


class Protocol(StrEnum):
    """Regulation and rating protocols."""

    r157 = "r157"
    ncap = "ncap"


@studies_app.command()
def grid(
    protocol: Annotated[Protocol, typer.Argument(help="r157: UN R157; ncap: Euro NCAP 2026.")],
    overrides: Overrides = None,
    config: ConfigOption = None,
    full: Annotated[
        bool, typer.Option("--full/--coarse", help="All values of the protocol, or a few (minutes).")
    ] = False,
    cell: Annotated[str, typer.Option(help="Only this cell, by its name.")] = "",
    sample: Annotated[int, typer.Option(min=0, help="Only so many cells, drawn at random; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = None,
    workers: Workers = None,
    resume: Resume = True,
    report: Report = None,
) -> None:
    """Regulation and rating grids: every cell driven, and set beside four published careful drivers."""
    with user_errors():
        from eval.commands.grid import grid as run_grid
        from eval.config import load_config, updated

        chosen = {"execution": {"workers": workers, "report": report}}
        settings = updated(load_config(config, overrides or ()), given(chosen))
        folder = out or Path("runs") / (cell or f"grid_{protocol.value}")
        raise typer.Exit(
            run_grid(settings, protocol.value, folder, full=full, cell=cell, sample=sample, seed=seed, fresh=not resume)
        )


@studies_app.command()
def inject(
    overrides: Overrides = None,
    config: ConfigOption = None,
    rows: Annotated[str, typer.Option(help="Rows of the catalogue, such as 1-4,10.")] = "1-19",
    family: Annotated[list[str] | None, typer.Option(help="Inject into this family of generated scenes.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the families: a count, a range or a list.")] = "1",
    dataroot: Dataroot = None,
    version: Version = None,
    scene: Annotated[list[str] | None, typer.Option("--scene", help="Inject into this nuScenes scene, too.")] = None,
    cell: Cells = None,
    full: Annotated[bool, typer.Option("--full/--coarse", help="All sizes and onsets, or a few (minutes).")] = False,
    search: Annotated[int, typer.Option(help="Drives per fault spent on a search for the worst onset and size.")] = 0,
    layers: Annotated[str, typer.Option(help="Safety layers, such as checker,tail; none: the planner alone.")] = "all",
    seconds: Annotated[float, typer.Option(help="Length of a drive (s).")] = 8.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path("runs/inject"),
    workers: Workers = None,
    resume: Resume = True,
    report: Report = None,
) -> None:
    """Fault injection: the catalogue of 19 rows, swept, searched and in pairs, judged against the same drive without.

    [bold]Examples[/]

        dualdrive inject --rows 1-11 --search 16

        dualdrive inject --rows 1,4 --scene scene-0103 --dataroot data/nuscenes

        dualdrive inject --rows 10 --layers none
    """
    with user_errors():
        from eval.commands.inject import inject as run_inject

        settings = _study_config(config, overrides, dataroot, version, workers, report)
        plan = _fault_plan(rows, _study_scenes(family, seeds, scene, cell), full, search, seconds, layers)
        raise typer.Exit(run_inject(settings, out, plan, fresh=not resume))


@studies_app.command()
def ablation(
    overrides: Overrides = None,
    config: ConfigOption = None,
    rows: Annotated[str, typer.Option(help="Rows of the catalogue.")] = "1-18",
    family: Annotated[list[str] | None, typer.Option(help="Inject into this family of generated scenes.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the families: a count, a range or a list.")] = "1",
    dataroot: Dataroot = None,
    version: Version = None,
    scene: Annotated[list[str] | None, typer.Option("--scene", help="Inject into this nuScenes scene, too.")] = None,
    cell: Cells = None,
    full: Annotated[bool, typer.Option("--full/--coarse", help="All sizes and onsets, or a few (minutes).")] = False,
    seconds: Annotated[float, typer.Option(help="Length of a drive (s).")] = 8.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path("runs/ablation"),
    workers: Workers = None,
    resume: Resume = True,
    report: Report = None,
) -> None:
    """What each safety layer is worth: the fault catalogue with the planner alone, then layer by layer."""
    with user_errors():
        from eval.commands.ablation import ablation as run_ablation

        settings = _study_config(config, overrides, dataroot, version, workers, report)
        plan = _fault_plan(rows, _study_scenes(family, seeds, scene, cell), full, 0, seconds, "all")
        raise typer.Exit(run_ablation(settings, out, plan, fresh=not resume))


@studies_app.command()
def adversary(
    overrides: Overrides = None,
    config: ConfigOption = None,
    family: Annotated[list[str] | None, typer.Option(help="Attack in this family of generated scenes.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the families: a count, a range or a list.")] = "1",
    dataroot: Dataroot = None,
    version: Version = None,
    scene: Annotated[list[str] | None, typer.Option("--scene", help="Attack in this nuScenes scene, too.")] = None,
    cell: Cells = None,
    budget: Annotated[float, typer.Option(help="How far the adversary may leave its recorded motion (m).")] = 2.0,
    rounds: Annotated[int, typer.Option(help="Rounds of gradient per scene, each followed by a drive.")] = 3,
    search: Annotated[int, typer.Option(help="Drives of the search per scene.")] = 8,
    seconds: Annotated[float, typer.Option(help="Length of a drive (s).")] = 8.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path("runs/adversary"),
    workers: Workers = None,
    resume: Resume = True,
    report: Report = None,
) -> None:
    """Another road user, within physical bounds and a realism budget, tries to make ego run into it."""
    with user_errors():
        from eval.commands.adversary import adversary as run_adversary

        settings = _study_config(config, overrides, dataroot, version, workers, report)
        named = family or scene or cell
        drawn = family if named else ["cut_in", "car_following", "crossing_pedestrian"]
        scenes = _study_scenes(drawn, seeds, scene, cell)
        code = run_adversary(
            settings, out, list(scenes), budget=budget, rounds=rounds, search=search, seconds=seconds, fresh=not resume
        )  # fmt: skip
        raise typer.Exit(code)


@studies_app.command("perception-loop")
def perception_loop(
    overrides: Overrides = None,
    config: ConfigOption = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="The network: tiny (shipped), or a file of `dualdrive train`.", metavar="FILE")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="This family of generated scenes (repeatable); default: all.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds of the families: a count, a range or a list. Towns below 1000 may be trained on.")
    ] = "1000-1001",
    dataroot: Dataroot = None,
    version: Version = None,
    scene: Annotated[list[str] | None, typer.Option("--scene", help="This nuScenes scene, too.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a drive (s); default: the whole scene.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result directory.", metavar="DIR")] = Path(
        "runs/perception_loop"
    ),
    workers: Workers = None,
    resume: Resume = True,
    report: Report = None,
) -> None:
    """Learned perception in the closed loop: the oracle, the network, and the network beside the second channel."""
    with user_errors():
        from eval.commands.perception_loop import perception_loop as run_loop
        from eval.config import updated
        from eval.simulation.generate import FAMILIES

        settings = _study_config(config, overrides, dataroot, version, workers, report)
        settings = updated(settings, given({"perception": {"network": {"checkpoint": checkpoint}}}))
        if config is None and not any(o.startswith("traffic=") for o in overrides or ()):
            settings = updated(settings, {"traffic": ["log_replay"]})
        drawn = family or ([] if scene else list(FAMILIES))
        scenes = list(_study_scenes(drawn, seeds, scene, None))
        raise typer.Exit(run_loop(settings, out, scenes, seconds=seconds, fresh=not resume))


def _study_config(
    config: str | None, overrides: list[str] | None, dataroot: str | None, version: str | None, workers: int | None,
    report: bool | None,
) -> Any:  # fmt: skip
    from eval.config import load_config, updated

    data = {"dataroot": dataroot, "version": version}
    chosen = {"data": data, "execution": {"workers": workers, "report": report}}
    return updated(load_config(config, overrides or ()), given(chosen))


def _study_scenes(
    family: list[str] | None, seeds: str, scene: list[str] | None, cell: list[str] | None
) -> tuple[Any, ...]:
    """Scenes of the families and seeds, nuScenes scenes, cells of the grids; empty if none is named."""
    from eval.config import parse_seeds
    from eval.studies.drives import Scene
    from eval.studies.grids import cell_scene
    from eval.typed_config import ConfigError

    try:
        cells = [cell_scene(name) for name in cell or []]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    drawn = [Scene("generated", name, (("seed", float(s)),)) for name in family or [] for s in parse_seeds(seeds)]
    return (*drawn, *(Scene("nuscenes", name) for name in scene or []), *cells)


def _fault_plan(
    rows: str, scenes: tuple[Any, ...], full: bool, search: int, seconds: float, layers: str
) -> Any:  # fmt: skip
    from eval.layers import LAYERS
    from eval.studies.faults import SCENES_COARSE, Plan, parse_rows
    from eval.typed_config import ConfigError

    try:
        chosen = parse_rows(rows)
    except ValueError as error:
        raise ConfigError(f"rows: expected something like 1-4,10, got {rows!r}") from error
    wanted = LAYERS if layers == "all" else () if layers == "none" else tuple(layers.split(","))
    if wanted != LAYERS[: len(wanted)]:
        raise ConfigError(f"layers: expected all, none, or the first ones of {','.join(LAYERS)}, got {layers!r}")
    return Plan(chosen, scenes or SCENES_COARSE, full, wanted, search, seconds)
