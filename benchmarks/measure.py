"""Times solvers side by side: in rounds, every solver a short block in each, so that all meet the same machine."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.problem import Instance, Parameters
from benchmarks.solvers import Answer, Solver

BLOCK = 0.02
"""Seconds after which a block of calls ends, and with it a solver's turn."""
TRIALS = 5
"""Calls by which a solver's number of torch threads is chosen, per number; and at most TRIAL_TIME (s) of them."""
TRIAL_TIME = 1.0


class OutOfTimeError(Exception):
    """A call took longer than its limit."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTimeError in the body; between two steps of the interpreter only, and in the main thread only."""

    def stop(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Contestant:
    """A solver bound to its problems. With a batch of one the calls go round several members in turn.

    torch_threads: what torch's own operations may use during its calls. They contend with a solver's own threads, and
    whether they are worth it differs: each solver gets what suits it.
    """

    name: str
    solver: Solver
    problems: list[tuple[Any, Any, Tensor]]
    torch_threads: int = 1
    forward: list[float] = field(default_factory=list)
    forward_cold: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    both_cold: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    gradients: list[tuple[Tensor, ...]] = field(default_factory=list)
    spent: float = 0.0
    failure: str = ""

    def warm_up(self, limit: float, torch_threads: list[int]) -> None:
        """Solve every problem once, and keep the answers and gradients; then choose among the numbers of threads."""
        begun = time.perf_counter()
        try:
            with time_limit(limit):
                for number, (bound, prepared, cotangent) in enumerate(self.problems):
                    if self.solver.differentiable:
                        if number == 0:  # some compile their forward pass on its own
                            self.solver.forward(bound, prepared)
                        answer, gradient = self.solver.gradient(bound, prepared, cotangent)
                        self.gradients.append(gradient)
                    else:
                        answer = self.solver.forward(bound, prepared)
                    self.answers.append(self.solver.report(bound, answer))
            with time_limit(limit):
                self._choose(torch_threads)
        except OutOfTimeError:
            self.failure = f"not done within {limit:.0f} s"
        except Exception as error:  # a peer's failure is a result
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        self.spent = time.perf_counter() - begun

    def turn(self, number: int) -> None:
        """One block of forward calls and one of forward + backward."""
        torch.set_num_threads(self.torch_threads)
        begun = time.perf_counter()
        self._block(self.forward, self.forward_cold, number, self.solver.forward)
        if self.solver.differentiable:
            self._block(self.both, self.both_cold, number, self.solver.gradient, with_cotangent=True)
        self.spent += time.perf_counter() - begun

    def _choose(self, torch_threads: list[int]) -> None:
        """Keeps the number of torch threads under which the median of a few calls is the least."""
        bound, prepared, cotangent = self.problems[0]
        medians = {}
        for threads in torch_threads:
            torch.set_num_threads(threads)
            times: list[float] = []
            while len(times) < TRIALS and sum(times) < TRIAL_TIME:
                start = time.perf_counter()
                if self.solver.differentiable:
                    self.solver.gradient(bound, prepared, cotangent)
                else:
                    self.solver.forward(bound, prepared)
                times.append(time.perf_counter() - start)
            medians[threads] = float(np.median(times[1:] or times))
        self.torch_threads = min(torch_threads, key=medians.__getitem__)

    def _block(
        self, times: list[float], cold: list[float], number: int, call: Callable[..., Any], with_cotangent: bool = False
    ) -> None:
        begun = time.perf_counter()
        count = 0
        while True:
            bound, prepared, cotangent = self.problems[(number + count) % len(self.problems)]
            arguments = (bound, prepared, cotangent) if with_cotangent else (bound, prepared)
            start = time.perf_counter()
            call(*arguments)
            end = time.perf_counter()
            # The first call of a block finds the caches full of the other solvers' data.
            (cold if count == 0 else times).append(end - start)
            count += 1
            if end - begun > BLOCK and (count > 1 or end - begun > 10 * BLOCK):
                break


def bind(
    name: str, solver: Solver, instance: Instance, parameters: Parameters, cotangent: Tensor, problems: int
) -> Contestant:
    """problems: how many batches to take from the instance, one after the other."""
    size = solver.batch
    bound = []
    for k in range(problems):
        part = slice(k * size, (k + 1) * size)
        data = solver.bind(instance.members(part))
        bound.append((data, solver.prepare(data, parameters.members(part)), cotangent[part]))
    return Contestant(name, solver, bound)


def race(contestants: list[Contestant], rounds: int, budget: float) -> None:
    """Rounds of turns, the order turning by one each time; who has spent budget (s) sits out the rest."""
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            shift = number % max(1, len(contestants))
            for contestant in contestants[shift:] + contestants[:shift]:
                if contestant.failure or (contestant.spent > budget and contestant.forward_cold):
                    continue
                try:
                    contestant.turn(number)
                except Exception as error:
                    contestant.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            gc.collect()
    finally:
        gc.enable()


def spread(times: list[float], cold: list[float], label: str) -> dict[str, float | int | None]:
    """Median and quartiles in ms over the warm calls, or over the cold ones where a block had a single call."""
    values = 1e3 * np.array(times or cold)
    if not len(values):
        return {f"{label}_ms": None}
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {
        f"{label}_ms": float(middle), f"{label}_ms_q25": float(low), f"{label}_ms_q75": float(high),
        f"{label}_cold_ms": float(1e3 * np.median(cold)), f"{label}_calls": len(values),
    }  # fmt: skip
