"""Options that several commands of `dualdrive` share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as planner.horizon=8; see docs/configuration.md."),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="YAML", help="A YAML file, or a shipped one: demo, nuscenes, families."),
]
Dataroot = Annotated[str | None, typer.Option(help="Folder of the nuScenes tables and maps.", metavar="DIR")]
Version = Annotated[str | None, typer.Option(help="nuScenes table set, such as v1.0-mini.")]
Scenes = Annotated[list[str] | None, typer.Option("--scene", help="Only this nuScenes scene (repeatable).")]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=0, help="Processes side by side; 0: one per CPU.")]
Resume = Annotated[
    bool,
    typer.Option("--resume/--fresh", help="Keep finished results of the same run, or throw them away and start again."),
]
Report = Annotated[bool | None, typer.Option("--report/--no-report", help="Write the HTML report at the end.")]


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Without what was not given on the command line."""
    nested = {key: given(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}
