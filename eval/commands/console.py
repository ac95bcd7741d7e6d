"""What all commands share: the console, exit codes, and errors that users can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

PIPE_WIDTH = 110  # columns where there is no terminal to ask

console = Console()
if not console.is_terminal:
    console.width = PIPE_WIDTH
error_console = Console(stderr=True)


def fail(message: str, fix: str = "", code: int = EXIT_FAILED) -> typer.Exit:
    """Print an error and what to do about it; returns the exception to raise."""
    error_console.print(f"[bold red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    if fix:
        error_console.print(f"[bold]Fix:[/] {escape(fix)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors a user can cause into one clear message and an exit code; bugs keep their traceback."""
    from eval.run.executor import is_disk_full
    from eval.run.store import RunDirError
    from eval.typed_config import ConfigError

    try:
        yield
    except ConfigError as error:
        raise fail(str(error), code=EXIT_USAGE) from error
    except RunDirError as error:
        raise fail(str(error), error.fix) from error
    except OSError as error:
        if is_disk_full(error):
            where = f" while writing {error.filename}" if error.filename else ""
            raise fail(
                f"nothing more can be written ({error.strerror}{where}); finished scenarios are kept",
                "make room, then run the same command again: it continues where it stopped",
            ) from error
        raise fail(str(error)) from error
    except Exception as error:
        from perception.checkpoint import CheckpointError
        from perception.nuscenes_tables import DatasetError

        if isinstance(error, CheckpointError):
            raise fail(str(error)) from error
        if isinstance(error, DatasetError):
            raise fail(str(error.args[0]), error.fix) from error
        raise
