"""The benchmark problem over the inputs alone, in dense matrices, for solvers that do not know stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.problem import NU, NX, WEIGHTS, Instance, Parameters

BOUNDED = (1, 2, 3, 5)
"""States with bounds: v, a, d, kappa."""


@dataclass
class DenseProgram:
    """min 1/2 u'Pu + q'u  s.t.  lower <= G u <= upper, u_lower <= u <= u_upper; all with a leading batch axis.

    The first 4T rows of G are the bounded states, the others (lower = -inf) the half-planes.
    """

    P: Tensor
    q: Tensor
    G: Tensor
    lower: Tensor
    upper: Tensor
    u_lower: Tensor
    u_upper: Tensor

    def one_sided(self) -> tuple[Tensor, Tensor]:
        """(G ``[B, M, n]``, h ``[B, M]``) of all finite sides, bounds on u included."""
        k = self.state_rows
        eye = torch.eye(self.G.shape[2], dtype=self.G.dtype).expand(len(self.G), -1, -1)
        state = self.G[:, :k]
        rows = torch.cat([eye, -eye, state, -state, self.G[:, k:]], 1)
        bounds = torch.cat([self.u_upper, -self.u_lower, self.upper[:, :k], -self.lower[:, :k], self.upper[:, k:]], 1)
        return rows, bounds

    @property
    def state_rows(self) -> int:
        return len(BOUNDED) * (self.G.shape[2] // NU)

    def numpy(self) -> DenseProgram:
        parts = (getattr(self, name).detach().numpy() for name in self.__dataclass_fields__)
        return DenseProgram(*(np.ascontiguousarray(part) for part in parts))


class Condenser:
    """Maps of one instance from inputs to states, made once; `program` fills in the parameters."""

    def __init__(self, instance: Instance) -> None:
        b, n = instance.batch, instance.horizon
        gain = torch.zeros(b, n, NX, n * NU, dtype=torch.float64)
        free = torch.zeros(b, n, NX, dtype=torch.float64)
        x, dx = instance.x0, torch.zeros(b, NX, n * NU, dtype=torch.float64)
        for t in range(n):
            x = (instance.A[:, t] @ x[..., None])[..., 0] + instance.c[:, t]
            dx = instance.A[:, t] @ dx
            dx[:, :, t * NU : (t + 1) * NU] += instance.B[:, t]
            free[:, t], gain[:, t] = x, dx
        self.horizon, self.gain, self.free = n, gain, free
        weight = torch.tensor(WEIGHTS, dtype=torch.float64)
        self.weight = weight
        flat = gain.flatten(1, 2)
        self.P = flat.transpose(1, 2) @ (weight[:NX].repeat(n)[:, None] * flat) + torch.diag(weight[NX:].repeat(n))
        self.state_cost = (weight[:NX] * free).flatten(1)
        self.base_q = (flat.transpose(1, 2) @ self.state_cost[..., None])[..., 0]
        self.position_gain, self.position_free = gain[:, :, [0, 3]], free[:, :, [0, 3]]
        self.state_rows = gain[:, :, BOUNDED].flatten(1, 2)
        value = free[:, :, BOUNDED].flatten(1)
        self.state_lower = instance.z_lower[:, :, BOUNDED].flatten(1) - value
        self.state_upper = instance.z_upper[:, :, BOUNDED].flatten(1) - value
        self.u_lower = instance.z_lower[..., NX:].flatten(1)
        self.u_upper = instance.z_upper[..., NX:].flatten(1)

    def program(self, parameters: Parameters) -> DenseProgram:
        """Differentiable with respect to the parameters."""
        weight = self.weight[[0, 3]]
        pull = (weight * parameters.reference).flatten(1)
        flat = self.position_gain.flatten(1, 2)
        q = self.base_q - (flat.transpose(1, 2) @ pull[..., None])[..., 0]
        planes = (parameters.normal @ self.position_gain).flatten(1, 2)
        offset = parameters.offset - (parameters.normal @ self.position_free[..., None])[..., 0]
        upper = torch.cat([self.state_upper, offset.flatten(1)], 1)
        lower = torch.cat([self.state_lower, torch.full_like(offset.flatten(1), -torch.inf)], 1)
        rows = torch.cat([self.state_rows, planes], 1)
        return DenseProgram(self.P, q, rows, lower, upper, self.u_lower, self.u_upper)

    def positions(self, u: Tensor) -> Tensor:
        """(s, d) ``[B, T, 2]`` of inputs ``[B, 2T]``."""
        moved = self.position_gain.flatten(1, 2) @ u[..., None]
        return self.position_free + moved.reshape(len(u), self.horizon, 2)
