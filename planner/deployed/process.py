"""The supervisor's side of the planner's process: start, ask, watch, kill, restart. Never waits beyond what it is told.

STARTING --ready--> SERVING (the first) or PROBATION (every later one) --accepted plans in a row--> SERVING
any --dead, hung, too large--> killed --restarts left?--> STARTING, else DOWN until `reset`
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from enum import StrEnum
from typing import IO

from planner.config import PlannerConfig
from planner.deployed import shared_block
from planner.deployed.messages import plan_from_bytes, scene_to_bytes, unpack
from planner.deployed.settings import ProcessConfig, WorkerSettings
from planner.deployed.shared_block import Message, Reader, Writer
from planner.result import PlanResult
from planner.scene import VectorScene, VehicleParameters

_LOG = logging.getLogger("dualdrive.planner_process")
WORKER = "planner.deployed.worker"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


class Status(StrEnum):
    """Of the planner's process."""

    STARTING = "starting"
    PROBATION = "on probation"
    SERVING = "serving"
    DOWN = "down"


class _Incarnation:
    """One process with its blocks and pipes; a new one shares nothing with the one before."""

    def __init__(self, settings: WorkerSettings, capacity: int, age_max: float) -> None:
        streams = secrets.randbits(63), secrets.randbits(63)
        scene_fd, plan_fd = shared_block.create(capacity), shared_block.create(capacity)
        wake_read, self.wake_fd = os.pipe()
        self.answer_fd, answer_write = os.pipe()
        os.set_blocking(self.answer_fd, False)
        given = (shared_block.read_only(scene_fd), plan_fd, wake_read, answer_write)
        self.errors: IO[bytes] = tempfile.TemporaryFile()
        command = [sys.executable, "-m", WORKER, *map(str, (*given, *streams))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, pass_fds=given, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors,
            env=environment,
        )  # fmt: skip
        self.scenes, self.plans = Writer(scene_fd, streams[0]), Reader(plan_fd, streams[1], age_max)
        for fd in (*given, scene_fd):
            os.close(fd)
        stored = pickle.dumps(settings)
        os.write(self.wake_fd, len(stored).to_bytes(8, "little") + stored)
        os.set_blocking(self.wake_fd, False)
        self._end = weakref.finalize(self, _end, self.process, self.wake_fd, self.answer_fd)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wake(self) -> None:
        """Tell it that there is a scene. A full pipe means that it has been told often enough."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self.wake_fd, b"w")

    def wait(self, seconds: float) -> None:
        """Until it wakes us, dies, or the time is over."""
        select.select([self.answer_fd], [], [], max(seconds, 0.0))
        with contextlib.suppress(BlockingIOError):
            if not os.read(self.answer_fd, 4096):  # its end is closed: it is dead, or all but
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.02)

    def death(self) -> str:
        """How it ended; empty while it lives."""
        code = self.process.poll()
        if code is None:
            return ""
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        with contextlib.suppress(OSError, ValueError):
            self.errors.seek(max(0, os.fstat(self.errors.fileno()).st_size - 500))
            if last := self.errors.read().decode(errors="replace").strip().splitlines()[-1:]:
                how += f" ({last[0][:200]})"
        return how

    def memory(self) -> int:
        """Resident bytes; 0 where the system does not tell."""
        try:
            with open(f"/proc/{self.pid}/statm") as statm:
                return int(statm.read().split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0

    def end(self) -> None:
        """Kill it, stopped or not, and close what belongs to it."""
        self._end()
        self.scenes.close()
        self.plans.close()
        self.errors.close()


def _end(process: subprocess.Popen[bytes], *fds: int) -> None:
    if process.poll() is None:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class PlannerProcess:
    """Plans in another process: every cycle `plan`, then, when it is decided what to drive, `judged`.

    `plan` is the counterpart of `ConvexPlanner.plan`, with reasons instead of exceptions. status, restarts; log: what
    happened to the processes, newest last.
    """

    def __init__(
        self,
        planner: PlannerConfig | None = None,
        vehicle: VehicleParameters | None = None,
        config: ProcessConfig | None = None,
    ) -> None:
        self.config = config or ProcessConfig()
        limit = self.config.memory_max * _MIB
        self._settings = WorkerSettings(planner or PlannerConfig(), vehicle or VehicleParameters(), limit)
        self.log: list[str] = []
        self._now: _Incarnation | None = None
        self._reset_wanted = True
        self.restarts = self._accepted = self._memory = self._answered = 0
        self.status = Status.DOWN
        self._begin()

    # -- life ----------------------------------------------------------------------------
    @property
    def pid(self) -> int | None:
        """Of the present process."""
        return None if self._now is None else self._now.pid

    @property
    def probation(self) -> str:
        """Why its plans are not driven yet; empty if they are."""
        if self.status is not Status.PROBATION:
            return ""
        return f"planner restarted, {self._accepted} of {self.config.probation} plans"

    @property
    def vehicle(self) -> VehicleParameters:
        """The vehicle that is planned for."""
        return self._settings.vehicle

    def wait_until_ready(self) -> None:
        """At the beginning of a drive. Raises TimeoutError when the process does not come up."""
        by = time.monotonic() + self.config.start_timeout
        while self.status is Status.STARTING and time.monotonic() < by:
            if self._now is not None:
                self._now.wait(0.2)
            self.look_after()
        if self.status in (Status.STARTING, Status.DOWN):
            raise TimeoutError(f"planner process: not ready after {self.config.start_timeout:g} s; {self.log[-1:]}")

    def reset(self) -> None:
        """A new drive begins: no memory of decisions, and all restarts are granted again."""
        self._reset_wanted, self.restarts = True, 0
        if self.status is Status.DOWN:
            self._begin()

    def close(self) -> None:
        """End the process."""
        if self._now is not None:
            self._now.end()
        self._now, self.status = None, Status.DOWN

    def look_after(self) -> None:
        """Notice death, hanging and growth; restart where that is still allowed.

        Starting a process takes milliseconds, so this belongs after a cycle's decision, not before it.
        """
        if (now := self._now) is None:
            return
        self._greet(now)
        if death := now.death():
            self._replace(death)
        elif self._waiting_since is not None and time.monotonic() - self._waiting_since > self.config.hang_after:
            self._replace(f"hung: no answer for {time.monotonic() - self._waiting_since:.1f} s")
        elif self._grown(now):
            self._replace(f"memory grew from {self._memory / _MIB:.0f} to {now.memory() / _MIB:.0f} MiB")

    def judged(self, accepted: bool) -> None:
        """The checker's verdict on the last answer, at the end of a cycle: the health check of a replacement."""
        if self.status is Status.PROBATION:
            self._accepted = self._accepted + 1 if accepted else 0
            if self._accepted >= self.config.probation:
                self.status = Status.SERVING
                self._say(f"serving again after {self._accepted} accepted plans")
        self.look_after()

    def _begin(self) -> None:
        self._now = _Incarnation(self._settings, self.config.block * _MIB, self.config.hang_after)
        self.status, self._accepted, self._memory, self._answered = Status.STARTING, 0, 0, 0
        self._waiting_since: float | None = None
        self._reset_wanted = True

    def _greet(self, now: _Incarnation) -> None:
        if self.status is not Status.STARTING:
            return
        message = now.plans.read()
        if message is not None and _kind(message) == "ready":
            self.status = Status.PROBATION if self.restarts else Status.SERVING

    def _grown(self, now: _Incarnation) -> bool:
        # The first answers fill caches; what comes after them is growth.
        if self._answered < 20 or self._answered % 10:
            return False
        self._memory = self._memory or now.memory()
        return now.memory() > (1.0 + self.config.growth_max) * self._memory > 0

    def _replace(self, why: str) -> None:
        assert self._now is not None
        self._now.end()
        self._now = None
        if self.restarts >= self.config.restarts:
            self.status = Status.DOWN
            self._say(f"{why}; no restart left")
            return
        self.restarts += 1
        self._say(f"{why}; restart {self.restarts} of {self.config.restarts}")
        self._begin()

    def _say(self, text: str) -> None:
        self.log.append(text)
        del self.log[:-100]
        _LOG.info(text)

    # -- asking --------------------------------------------------------------------------
    def plan(self, scene: VectorScene, deadline: float | None = None) -> tuple[PlanResult | None, str]:
        """The plan for this scene, or why there is none. Never raises, never waits longer than `deadline` (s; where
        None: `ProcessConfig.patience`).
        """
        began = time.monotonic()
        if self._now is not None:
            self._greet(self._now)
        if self._now is None or self.status in (Status.DOWN, Status.STARTING):
            return None, f"planner process {self.status}: {self.log[-1] if self.log else 'not ready yet'}"
        try:
            values = {"reset": self._reset_wanted, "deadline": deadline}
            asked = self._now.scenes.write(scene_to_bytes(scene, values))
        except Exception as error:  # a scene that cannot even be sent
            return None, f"scene cannot be sent: {type(error).__name__}: {error}"
        self._reset_wanted = False
        self._now.wake()
        if self._waiting_since is None:
            self._waiting_since = began
        return self._await(self._now, asked, began + (self.config.patience if deadline is None else deadline))

    def _await(self, now: _Incarnation, asked: int, by: float) -> tuple[PlanResult | None, str]:
        refusal = ""
        while True:
            message = now.plans.read()
            refusal = now.plans.refusal or refusal
            if message is not None:
                self._waiting_since = None
                self._answered += 1
                if message.answers == asked:
                    return _decode(message)
                self._waiting_since = time.monotonic()  # alive, but late: this answers an earlier scene
            if death := now.death():
                return None, f"planner process died: {death}"
            if time.monotonic() >= by:
                return None, f"planner did not answer in time{f' ({refusal})' if refusal else ''}"
            now.wait(by - time.monotonic())


def _decode(message: Message) -> tuple[PlanResult | None, str]:
    try:
        return plan_from_bytes(message.payload), ""
    except RuntimeError as error:
        return None, f"planner raised {error}"
    except ValueError as error:
        return None, f"malformed plan: {error}"


def _kind(message: Message) -> str:
    try:
        return str(unpack(message.payload)[0].get("kind"))
    except ValueError:
        return ""
