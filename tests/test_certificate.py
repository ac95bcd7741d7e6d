"""The row that a certificate names as nearest: not rounding but the price decides between equal margins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from planner.certificate import SolvedProgram, certificate
from planner.qp.problem import StageProgram, StageSolution

RULES = ("speed", "jerk", "")


def solved(upper: list[float], dual: list[float], at: float = 1.0) -> SolvedProgram:
    """One candidate, one stage with z = (at, at) and a row of sum 2 at that is no hard rule; limits above it only."""
    eye, inf = torch.eye(2, dtype=torch.float64), torch.full((1, 1, 2), float("inf"), dtype=torch.float64)
    high = torch.tensor([[upper]], dtype=torch.float64)
    row = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    problem = StageProgram(
        (-1,), row[:, 0, :, 0] * 0, eye[None, None, :1, :1], eye[None, None, :1, :1], row[..., 0] * 0,
        eye[None, None], torch.zeros(1, 1, 2).double(), -inf, high[..., :2], row, -inf[..., :1], high[..., 2:],
        torch.zeros(1, 1, 1).double(),
    ).validate()  # fmt: skip
    price, nothing = torch.tensor([[dual]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    z: Tensor = torch.full((1, 1, 2), at, dtype=torch.float64)
    solution = StageSolution(
        z, torch.zeros_like(price), price, torch.zeros(1, 1, 1).double(), nothing.long(), nothing.long(), nothing,
        nothing, nothing, torch.zeros_like(price), nothing,
    )  # fmt: skip
    nobody = torch.full((1, 1, 3), -1)
    return SolvedProgram(problem, solution, RULES, (0.5,), (False,), nobody, nobody)


@pytest.mark.parametrize("rounding", [1e-13, -1e-13, 0.0])
def test_of_equal_margins_the_dearest_is_named(rounding: float) -> None:
    program = solved([1.0, 1.0 + rounding, 0.0], [0.5, 2.0, 9.0])
    found = certificate((program,), 0, tail=False)
    assert found.worst.rule == "jerk"
    assert found.worst_margin == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rounding", [1e-13, -1e-13, 0.0])
def test_between_two_programs_too(rounding: float) -> None:
    cheap, dear = solved([1.0 + rounding, 5.0, 9.0], [0.5, 0.0, 0.0]), solved([5.0, 1.0, 9.0], [0.0, 2.0, 0.0])
    for programs in ((cheap, dear), (dear, cheap)):
        assert certificate(programs, 0, tail=False).worst.rule == "jerk"


def test_a_smaller_margin_comes_before_a_price() -> None:
    assert certificate((solved([1.0, 1.1, 9.0], [0.0, 3.0, 0.0]),), 0, tail=False).worst.rule == "speed"
    near, dear = solved([1.0, 5.0, 9.0], [0.0, 0.0, 0.0]), solved([5.0, 1.1, 9.0], [0.0, 3.0, 0.0])
    found = certificate((dear, near), 0, tail=False)
    assert (found.worst.rule, found.worst_margin) == ("speed", 0.0)


def test_where_none_has_a_price_the_first_is_named_and_comfort_never_is() -> None:
    found = certificate((solved([1.0, 1.0 - 1e-13, 0.0], [0.0, 1e-9, 9.0]),), 0, tail=False)
    assert found.worst.rule == "speed"
