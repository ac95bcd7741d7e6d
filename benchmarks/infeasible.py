"""What a solver does with a batch of 16 of which one member has no solution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import OutOfTimeError, time_limit
from benchmarks.problem import Instance, Parameters, make_infeasible, violation
from benchmarks.solvers import Answer, Solver

BATCH, MEMBER = 16, 5
RIGHT = 1e-2
"""m: a neighbour whose positions are further off than this has been harmed."""


def behaviour(solver: Solver, instance: Instance, parameters: Parameters, cotangent: Tensor, optimum: Tensor,
              limit: float) -> dict[str, Any]:  # fmt: skip
    """instance and parameters: 16 members with solutions, optimum ``[16, T, 2]`` their positions.

    outcome: "flagged" (the solver says which member it is), "silent" (numbers without a word), "raised" or "timed out"
    (the batch is lost). neighbours_harmed: other members with wrong or missing answers. gradient_finite, and
    gradient_norm of the member without a solution.
    """
    empty = make_infeasible(parameters, MEMBER)
    try:
        with time_limit(limit):
            bound = solver.bind(instance)
            prepared = solver.prepare(bound, empty)
            gradient: tuple[Tensor, ...] | None = None
            if solver.differentiable:
                answer, gradient = solver.gradient(bound, prepared, cotangent)
            else:
                answer = solver.forward(bound, prepared)
            answer = solver.report(bound, answer)
    except OutOfTimeError:
        return {"outcome": "timed out", "detail": f"after {limit:.0f} s"}
    except Exception as error:
        return {"outcome": "raised", "detail": f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"}
    return _describe(answer, gradient, instance, empty, optimum)


def _describe(answer: Answer, gradient: tuple[Tensor, ...] | None, instance: Instance, parameters: Parameters,
              optimum: Tensor) -> dict[str, Any]:  # fmt: skip
    others = [i for i in range(BATCH) if i != MEMBER]
    position = answer.positions.detach()
    off = (position - optimum).abs().flatten(1).amax(1)
    harmed = ~(off[others] < RIGHT)
    refused = answer.refused if answer.refused is not None else torch.zeros(BATCH, dtype=torch.bool)
    broken = float(violation(instance, parameters, answer.inputs.detach())[MEMBER])
    result: dict[str, Any] = {
        "outcome": "flagged" if bool(refused[MEMBER]) else "silent",
        "finite": bool(torch.isfinite(position[MEMBER]).all()),
        "violation": broken if broken == broken else None,
        "neighbours_harmed": int(harmed.sum()),
        "neighbours_flagged": int(refused[others].sum()),
    }
    if gradient is not None:
        parts = torch.cat([g.detach().flatten(1) for g in gradient], 1)
        norm = float(parts[MEMBER].norm())
        result["gradient_norm"] = norm if norm == norm and norm != float("inf") else None
        result["gradient_finite"] = bool(torch.isfinite(parts).all())
    return result
