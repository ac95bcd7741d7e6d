"""Tasks for the executor's tests; imports nothing heavy, so that worker processes start at once."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

MARKS = "DUALDRIVE_TEST_MARKS"


def light_work(task: str, progress: Callable[[float], None]) -> str:
    """The task in capitals; its first word says what happens: "raise", "kill", "kill-once", "hang", "full"."""
    progress(0.5)
    kind = task.split()[0]
    if kind == "raise":
        raise ValueError(f"no road in {task}")
    if kind in ("kill", "kill-once"):
        mark = Path(os.environ[MARKS]) / task
        if kind == "kill" or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(60)
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "traces")
    return task.upper()
