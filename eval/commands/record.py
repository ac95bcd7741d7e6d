"""`dualdrive record`: simulated drives as a nuScenes data set, or rendered sensors for one that lacks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from eval.commands.console import EXIT_FAILED, EXIT_INTERRUPTED, console, error_console, fail
from eval.commands.progress import RunView, short
from eval.config import parse_seeds
from eval.run.executor import run_tasks
from eval.simulation.generate import FAMILIES
from eval.simulation.record.config import RecordConfig
from eval.simulation.record.dataset import join_parts, part_path, plan_scenes, record_part
from eval.simulation.record.existing import RenderConfig, finish_root, render_part
from eval.simulation.record.root_folder import RootFolder
from eval.simulation.record.scene import ScenePlan
from eval.simulation.sensing.conditions import KINDS
from eval.simulation.sensing.rendered_cameras import CameraConfig
from eval.simulation.sensors import SensorConfig
from eval.typed_config import ConfigError
from perception.nuscenes import list_scenes
from perception.nuscenes_tables import unknown_scene


def record_command(
    out: Path,
    *,
    families: tuple[str, ...],
    seeds: str | None,
    val_seeds: str | None,
    dataroot: str | None,
    version: str | None,
    scenes: tuple[str, ...],
    size: str,
    sweeps: int,
    weather: str,
    seed: int,
    workers: int,
    fresh: bool,
) -> int:
    """The command's options as a configuration, then `record` or `render`. Raises ConfigError for wrong settings."""
    try:
        height, width = (int(side) for side in size.lower().split("x"))
    except ValueError:
        raise ConfigError(f"size: expected height x width such as 96x160, got {size!r}") from None
    if min(height, width) < 8 or max(height, width) > 4000:
        raise ConfigError(f"size: expected 8 to 4000 pixels, got {size!r}")
    if weather not in (*KINDS, "any"):
        raise ConfigError(f"weather: expected one of {', '.join(KINDS)} or any, got {weather!r}")
    sensors = SensorConfig(seed=seed, cameras=CameraConfig(height=height, width=width, weather=weather))
    idle = (
        {"family": families, "seeds": seeds, "val-seeds": val_seeds, "sweeps": sweeps}
        if dataroot
        else {"scene": scenes}
    )
    if useless := [name for name, value in idle.items() if value]:
        where = "with --dataroot: its own key frames are rendered" if dataroot else "without --dataroot"
        raise ConfigError(f"{useless[0]}: means nothing {where}")
    if dataroot is not None:
        config = RenderConfig(str(Path(dataroot).resolve()), version or "v1.0-mini", sensors=sensors)
        return render(config, out, scenes, workers=workers, fresh=fresh)
    if unknown := [family for family in families if family not in FAMILIES]:
        raise ConfigError(f"family: expected one of {', '.join(FAMILIES)}, got {unknown[0]!r}")
    try:
        drives = RecordConfig(
            families=families, train_seeds=parse_seeds(seeds or "10"), val_seeds=parse_seeds(val_seeds or "1000-1001"),
            version=version or "v1.0-sim", past_sweeps=sweeps, sensors=sensors,
        ).validate()  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return record(drives, out, workers=workers, fresh=fresh)


def record(config: RecordConfig, out: Path, *, workers: int = 0, fresh: bool = False) -> int:
    """Record generated drives into `out`; scenes already there are kept. Returns the exit code.

    Raises ValueError (settings), RunDirError (the folder), OSError (disk).
    """
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("laying out towns", total=1.0)
        plans = plan_scenes(config, lambda done: bar.update(task, completed=done))
    names = [plan.name for plan in plans]
    with RootFolder.claim(out, config, names, config.sensors.seed, config.version, fresh=fresh) as folder:
        code = _scenes(plans, partial(_record_task, config=config, root=out), folder, workers)
        if code == 0:
            with console.status("joining tables and maps"):
                join_parts(plans, config, out)
            folder.note("completed")
            splits = ", ".join(
                f"{sum(p.split == s for p in plans)} in sim_{s}" for s in dict.fromkeys(p.split for p in plans)
            )
            _say(f"Recorded {len(plans)} scenes ({splits}) in {out}, version {config.version}.")
            _say(f"Look at it: dualdrive data check --dataroot {out} --version {config.version}")
    return code


def render(config: RenderConfig, out: Path, scenes: Sequence[str], *, workers: int = 0, fresh: bool = False) -> int:
    """Render the sensor files that a data set lacks into the new root `out`. Returns the exit code.

    scenes: their names, all of them where empty. Raises DatasetError, RunDirError, OSError.
    """
    source = Path(config.dataroot).resolve()
    if out.resolve() == source or source in out.resolve().parents:
        raise fail(f"{out} lies in the data set that is read", "choose an --out outside of it: it is never written to")
    known = list_scenes(config.dataroot, config.version)
    for name in scenes:
        if name not in known:
            raise unknown_scene(name, known, config.version)
    chosen = list(scenes) or known
    with RootFolder.claim(out, config, chosen, config.sensors.seed, config.version, fresh=fresh) as folder:
        code = _scenes(chosen, partial(_render_task, config=config, root=out), folder, workers)
        if code == 0:
            count = finish_root(chosen, config, out)
            folder.note("completed")
            _say(f"Rendered {count} sensor files of {len(chosen)} scenes in {out}.")
            _say(f"It is derived from {source}, whose licence holds for it.")
    return code


def _record_task(task: ScenePlan, progress: Callable[[float], None], config: RecordConfig, root: Path) -> None:
    record_part(task, config, root, progress)


def _render_task(task: str, progress: Callable[[float], None], config: RenderConfig, root: Path) -> None:
    render_part(task, config, root, progress)


def _scenes(tasks: Sequence[Any], work: Any, folder: RootFolder, workers: int) -> int:
    """Do what is not done yet; the exit code is not 0 where something is left."""
    missing = [task for task in tasks if not part_path(folder.root, _name(task)).is_file()]
    if kept := len(tasks) - len(missing):
        _say(f"Resuming in {folder.root}: {kept} of {len(tasks)} scenes are there and kept.")
    failed = 0
    events = run_tasks(missing, work, workers=workers)
    try:
        with RunView(console, len(tasks), kept) as view, closing(events):
            for event in events:
                failed += event.kind == "failed"
                note = short(event.value) if event.kind == "failed" else ""
                view.show(event, _name(event.task), note)
    except BaseException as error:
        folder.note("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        if not isinstance(error, KeyboardInterrupt):
            raise
        error_console.print(
            f"[bold yellow]Interrupted.[/] Finished scenes are kept in {folder.root}; the same command continues.",
            highlight=False,
            soft_wrap=True,
        )
        return EXIT_INTERRUPTED
    if failed:
        folder.note("failed")
        _say(f"{failed} scenes failed; tables are written when none is missing. The same command tries them again.")
        return EXIT_FAILED
    return 0


def _name(task: Any) -> str:
    return str(getattr(task, "name", task))


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
