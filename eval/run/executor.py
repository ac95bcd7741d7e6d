"""Tasks in local processes: live progress, exceptions as values, and no hang when a process dies.

A pool of the standard library breaks as a whole when one of its processes is killed, and cannot say which task
did it; here every worker has a pipe of its own. Workers are started fresh ("spawn") with one computing thread
each, and end by themselves when the parent process is gone.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, Protocol

PROGRESS_INTERVAL_S = 0.2
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Work(Protocol):
    """What a worker does with a task; must be importable in a fresh process."""

    def __call__(self, task: Any, progress: Callable[[float], None]) -> Any: ...


@dataclass(frozen=True)
class Event:
    """Something happened to a task.

    kind: "started", "progress" (value: fraction in [0, 1]), "retried" (value: why), "finished" (value: the result)
    or "failed" (value: traceback or reason). worker: index of the process.
    """

    kind: str
    task: Any
    worker: int
    value: Any = None


@dataclass
class _Worker:
    index: int
    process: Any
    pipe: connection.Connection
    task: Any = None
    attempt: int = 0
    started: float = field(default=0.0)


def default_workers() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def run_tasks(
    tasks: Sequence[Any], work: Work, *, workers: int = 0, timeout_s: float = 3600.0, retries: int = 1
) -> Generator[Event, None, None]:
    """Run `work(task, progress)` for every task, in the given order of starting; yield what happens.

    workers: number of processes, 0 for one per CPU. A task that raises is "failed" with its traceback. A task
    whose process dies is tried again `retries` times in a new process and then "failed"; one that runs longer than
    `timeout_s` is stopped and "failed". OSError for a full disk is raised here: going on would lose results.
    Leaving the iteration early stops the workers.
    """
    waiting = deque((task, 0) for task in tasks)
    staff: list[_Worker | None] = [None] * max(1, min(workers or default_workers(), len(tasks)))
    try:
        while waiting or any(w is not None and w.task is not None for w in staff):
            for index in range(len(staff)):
                worker = staff[index]
                if waiting and (worker is None or worker.task is None):
                    worker = worker or _start(index, work)
                    staff[index] = worker
                    if not _assign(worker, *waiting[0]):
                        staff[index] = None  # died while idle: a new one takes the task in the next round
                        continue
                    waiting.popleft()
                    yield Event("started", worker.task, index)
            busy = {w.pipe: w for w in staff if w is not None and w.task is not None}
            for pipe in connection.wait(list(busy), timeout=0.5):
                worker = busy[pipe]  # type: ignore[index]
                event = _receive(worker)
                if event.kind == "died":
                    staff[worker.index] = None
                    event = _after_death(worker, event, retries, waiting)
                yield event
            for worker in busy.values():
                if worker.task is not None and staff[worker.index] is worker:
                    if time.monotonic() - worker.started > timeout_s:
                        staff[worker.index] = None
                        _stop(worker)
                        yield Event("failed", worker.task, worker.index, f"stopped: it ran longer than {timeout_s:g} s")
    finally:
        for remaining in staff:
            if remaining is not None:
                _stop(remaining)


def _start(index: int, work: Work) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker_main, args=(theirs, work), name=f"dualdrive-{index}", daemon=True)
    saved = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)  # read by the numerical libraries when the child loads them
    try:
        process.start()
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    theirs.close()
    return _Worker(index, process, ours)


def _assign(worker: _Worker, task: Any, attempt: int) -> bool:
    try:
        worker.pipe.send(task)
    except OSError:
        _stop(worker)
        return False
    worker.task, worker.attempt, worker.started = task, attempt, time.monotonic()
    return True


def _receive(worker: _Worker) -> Event:
    task = worker.task
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(timeout=2)  # to learn its own exit code
        _stop(worker)
        code = worker.process.exitcode
        why = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return Event("died", task, worker.index, f"its process ended unexpectedly ({why})")
    if kind == "disk":
        raise OSError(*value)
    if kind in ("finished", "failed"):
        worker.task = None
    return Event(kind, task, worker.index, value)


def _after_death(worker: _Worker, event: Event, retries: int, waiting: deque[tuple[Any, int]]) -> Event:
    if worker.attempt < retries:
        waiting.appendleft((worker.task, worker.attempt + 1))
        return Event("retried", event.task, event.worker, event.value)
    return Event("failed", event.task, event.worker, f"{event.value}, {worker.attempt + 1} times")


def _stop(worker: _Worker) -> None:
    """End the process at once: what it has finished is stored, what it has not is written atomically or not at all."""
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


def is_disk_full(error: BaseException) -> bool:
    """Whether the error says that nothing more can be written (full disk, quota, file size limit)."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _worker_main(pipe: connection.Connection, work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while True:
            _run_one(pipe, work, pipe.recv())
    except (EOFError, BrokenPipeError):
        return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run_one(pipe: connection.Connection, work: Work, task: Any) -> None:
    last = 0.0

    def progress(fraction: float) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= PROGRESS_INTERVAL_S:
            last = now
            pipe.send(("progress", float(fraction)))

    try:
        answer = ("finished", work(task, progress))
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            raise
        if is_disk_full(error):
            sys.unraisablehook = lambda _: None  # half-written files complain once more when they are collected
            answer = ("disk", (error.errno, error.strerror, error.filename))  # type: ignore[attr-defined]
        else:
            answer = ("failed", traceback.format_exc())
    pipe.send(answer)
