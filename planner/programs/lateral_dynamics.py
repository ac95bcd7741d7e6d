"""The linearised lateral motion over fine steps and over whole stages: the definition of what is compiled."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from planner.grid import Grid

SHARPEST = 0.2
"""Least 1 - bend * d that is believed: the path's coordinates end at its centre of curvature."""


def fine_steps(
    motion: tuple[Tensor, Tensor, Tensor],
    bend: Float[Tensor, "R 2 F"],
    about: tuple[Tensor, Tensor],
    start: tuple[Tensor, Tensor],
    grid: Grid,
) -> Float[Tensor, "R 2 5 2 F"]:
    """Fine steps of the motion linearised about (d, psi), exact to third order in the step h.

    motion: v, a, jerk ``[R, 2, F]``. bend (1/m): curvature of the path at the middle of each fine step. about: d, psi
    at the end of each; start: d, psi now ``[R]``. Rows (first axis of 2) are d and psi after the fine step; columns
    what they are linear in: d and psi before it, kappa at the begin of the interval, the curvature rate, and 1.

    With X = h [[0, v cos psi], [dpsi'/dd, dpsi'/dpsi]] = [[0, a], [b, c]] and K = I + X / 2 + X^2 / 6, d and psi go to
    I + K X of themselves, plus K of what kappa and the constants add per step.
    """
    (v, acceleration, jerk), h = motion, grid.step
    late = grid.since - h  # from the begin of the interval to that of the fine step
    # Means over each fine step: exact for the speed up to its jerk term.
    hv = h * (v.clamp(min=0) - acceleration * (h / 2) + jerk * (h**2 / 6))
    d, psi = (_midpoint(x, now) for x, now in zip(about, start))
    cos, sin = torch.cos(psi), torch.sin(psi)
    inverse = 1 / (1 - bend * d).clamp(min=SHARPEST)
    turn, level, level_psi = bend * hv, cos * inverse, -sin * inverse
    level_d = level * bend * inverse
    a, b, c = hv * cos, -turn * level_d, -turn * level_psi
    slip, bias = sin - cos * psi, level - level_d * d - level_psi * psi
    e1, e2 = hv * slip, -turn * bias
    half = c / 6 + 0.5
    k00 = a * b / 6 + 1
    k01, k10, k11 = a * half, b * half, k00 + c * half
    of_d = (k01 * b + 1, k00 * a + k01 * c, k01 * hv, late * (k01 * hv) + (h / 6) * a * hv, k00 * e1 + k01 * e2)
    of_psi = (k11 * b, k10 * a + k11 * c + 1, k11 * hv, late * (k11 * hv) + h * hv * half, k10 * e1 + k11 * e2)
    return torch.stack([torch.stack(of_d, 1), torch.stack(of_psi, 1)], 1)


def whole_stages(steps: Float[Tensor, "R 2 5 2 F"], grid: Grid) -> Float[Tensor, "R n 3 5"]:
    """Rows d, psi and kappa after each stage; columns as in `fine_steps`."""
    flat = steps.flatten(3)
    none = torch.zeros_like(flat[:, :, :2, 0])
    products = []
    for first, last in zip(grid.stage_first.tolist(), grid.stage_last.tolist()):
        total = flat[..., first]
        for f in range(first + 1, last + 1):
            total = flat[:, :, :2, f] @ total + torch.cat([none, flat[:, :, 2:, f]], 2)
        products.append(total)
    curvature = torch.zeros(len(steps), grid.stages, 1, 5, dtype=steps.dtype)
    curvature[..., 2] = 1.0
    curvature[:, :, 0, 3] = grid.stage_dt
    return torch.cat([torch.stack(products, 1), curvature], 2)


def roll_out(steps: Tensor, d: Tensor, psi: Tensor, kappa: Tensor, rate: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """d and psi ``[R, 2, F]`` after every fine step, from their values and kappa's ``[R, 2, N]`` at the begin of the
    intervals and the curvature rate in them. steps: of `fine_steps`."""
    found: list[Tensor] = []
    now, before = torch.stack([d, psi], 1), -1
    for f, i in enumerate(grid.interval_of_fine.tolist()):
        state = now[..., i] if i != before else found[-1]
        step, before = steps[..., f], i
        push = step[:, :, 2] * kappa[:, None, :, i] + step[:, :, 3] * rate[:, None, :, i] + step[:, :, 4]
        found.append(step[:, :, 0] * state[:, :1] + step[:, :, 1] * state[:, 1:] + push)
    both = torch.stack(found, -1)
    return both[:, 0], both[:, 1]


def _midpoint(values: Tensor, start: Tensor) -> Tensor:
    """Means of the values at the begin and the end of each fine step."""
    begin = start[:, None, None].expand(-1, 2, 1)
    return 0.5 * (values + torch.cat([begin, values[..., :-1]], -1))
