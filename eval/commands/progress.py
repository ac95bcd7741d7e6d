"""Live status of a run: one bar for the whole, one line per worker; plain lines where there is no terminal."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from eval.run.executor import Event

MARKS = {"finished": "[green]done[/]", "failed": "[bold red]failed[/]", "retried": "[yellow]again[/]"}


class RunView:
    """Shows the events of `eval.run.executor.run_tasks`. A context manager."""

    def __init__(self, console: Console, total: int, kept: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=True),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total, self._done = total, kept
        self._whole = self._progress.add_task("[bold]all[/]", total=total, completed=kept, count=f"{kept}/{total}")
        self._lines: dict[int, TaskID] = {}

    def __enter__(self) -> RunView:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: Event, name: str, note: str = "") -> None:
        """Show one event of the task called `name`; note: a few words about a result."""
        if event.kind == "started":
            self._lines[event.worker] = self._progress.add_task(escape(name), total=1.0, count="  0 %")
        elif event.kind == "progress":
            fraction = min(max(float(event.value), 0.0), 1.0)
            self._progress.update(self._lines[event.worker], completed=fraction, count=f"{fraction:4.0%}")
        else:
            if event.worker in self._lines:
                self._progress.remove_task(self._lines.pop(event.worker))
            if event.kind in ("finished", "failed"):
                self._done += 1
                self._progress.update(self._whole, completed=self._done, count=f"{self._done}/{self._total}")
            mark = MARKS[event.kind]
            self._console.print(
                f"{self._done:4d}/{self._total} {mark}  {escape(name)}  {escape(note)}", highlight=False
            )


def short(value: Any) -> str:
    """The last line of a traceback without the module of its exception, or the text itself."""
    lines = str(value).strip().splitlines()
    return re.sub(r"^(?:\w+\.)+(?=\w+: )", "", lines[-1]) if lines else ""
