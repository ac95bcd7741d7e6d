"""Equilibration: the same program in units in which curvatures, rows and the cost are about one.

Per member one unit for each entry of z, one factor for each row and one for the cost. Kernels assume data of ordinary
size; this brings others there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from planner.qp.kernel import KernelSolution
from planner.qp.problem import StageProgram

RANGE = 1e8
"""Units stay within this factor of each other: beyond it they would only move the trouble elsewhere."""


@dataclass
class Scaled:
    """problem: in the new units. unit ``[B, 1, nz]``: z = unit * new z. row ``[B, N, m]``: new row = row * C * unit.
    cost ``[B, 1, 1]``: new cost = cost * old."""

    problem: StageProgram
    unit: Tensor
    row: Tensor
    cost: Tensor

    def back(self, s: KernelSolution) -> KernelSolution:
        """A solution of the scaled problem in the original units."""
        nx = s.costate.shape[-1]
        limit = torch.cat([1 / self.unit.expand_as(s.z), self.row], -1) / self.cost
        return replace(
            s, z=s.z * self.unit, costate=s.costate / (self.unit[..., :nx] * self.cost),
            dual_lower=s.dual_lower * limit, dual_upper=s.dual_upper * limit,
        )  # fmt: skip

    def weights_back(self, weight: Tensor) -> Tensor:
        """Weights of limits ``[B, N, L]`` whose sum means the same in the original units."""
        nz = self.unit.shape[-1]
        return weight * torch.cat([(1 / self.unit).expand(-1, weight.shape[1], nz), self.row], -1)


def equilibrated(p: StageProgram) -> Scaled:
    """p: float64 without gradients. Units from the curvature, for entries without cost from the bounds' widths."""
    nx = p.x0.shape[-1]
    curvature = p.H.diagonal(dim1=-2, dim2=-1).amax(1)
    largest = curvature.amax(-1, keepdim=True).clamp(min=1e-300)
    width = (p.z_upper - p.z_lower).nan_to_num(posinf=torch.inf).amin(1)
    known = curvature > largest / RANGE**2
    unit = torch.where(known, (largest / curvature.clamp(min=1e-300)).sqrt(), torch.inf)
    # The unit of the stiffest entry is 1 so far; where all bounds tell a common size, that is taken instead.
    sized = known & torch.isfinite(width) & (width > 0)
    common = torch.where(sized, width / unit, torch.inf).amin(-1, keepdim=True)
    unit = torch.where(torch.isfinite(common), common.clamp(1 / RANGE, RANGE), 1.0) * unit
    unit = torch.where(known, unit, torch.where(torch.isfinite(width) & (width > 0), width, 1.0))
    unit = unit.clamp(1 / RANGE, RANGE)[:, None]
    x, u = unit[..., :nx], unit[..., nx:]
    slope = p.C * unit[:, :, None]
    size = slope.abs().amax(-1)
    row = torch.where(size > 0, 1 / size.clamp(min=1e-300), 1.0)
    H, g = p.H * unit[..., None] * unit[:, :, None], p.g * unit
    price = torch.maximum(H.diagonal(dim1=-2, dim2=-1).amax((1, 2)), g.abs().amax((1, 2)))
    cost = torch.where(price > 0, 1 / price.clamp(min=1e-300), 1.0)[:, None, None]
    scaled = StageProgram(
        p.parent, p.x0 / x[:, 0], p.A * x[..., None, :] / x[..., None], p.B * u[..., None, :] / x[..., None], p.c / x,
        H * cost[..., None], g * cost, p.z_lower / unit, p.z_upper / unit, slope * row[..., None],
        p.lower * row, p.upper * row, p.compliance * row**2 / cost,
    )  # fmt: skip
    return Scaled(scaled, unit, row, cost)
