"""cvxpylayers, with the solvers, the derivative modes and two ways to write the problem down.

Over the stages' states and inputs the forward pass is fastest; over the inputs and the positions, the other states
eliminated, the default solver and the dense derivative are several times faster. Each variant uses what suits it.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import problem as p
from benchmarks.condensed import Condenser
from benchmarks.problem import NX, Instance, Parameters
from benchmarks.solvers.base import Answer, Solver


class _Layer(Solver):
    """Shared by both forms: what is differentiated, cost and limits."""

    solver: str | None = None
    arguments: dict[str, Any] = {}  # noqa: RUF012

    def build(self, states: list[Any], inputs: list[Any], rows: list[Any], data: list[Any]) -> None:
        """states: s, v, a, d, psi, kappa as expressions ``[T]``; inputs: jerk and rate; rows: of the dynamics; data:
        the parameters that `bind` gives values, but for the limits.
        """
        import cvxpy as cp
        from cvxpylayers.torch import CvxpyLayer

        n, m = self.horizon, self.half_planes
        reference, offset = cp.Parameter((n, 2)), cp.Parameter((n, m))
        along, across = cp.Parameter((n, m)), cp.Parameter((n, m))
        upper_d, lower_d, curvature = (cp.Parameter(n) for _ in range(3))
        s, v, a, d, _, kappa = states
        jerk, rate = inputs
        limits = [
            v >= 0, v <= p.SPEED_LIMIT, a >= p.ACCELERATION_LIMITS[0], a <= p.ACCELERATION_LIMITS[1],
            cp.abs(jerk) <= p.JERK_LIMIT, cp.abs(rate) <= p.CURVATURE_RATE_LIMIT,
            d <= upper_d, d >= lower_d, kappa <= curvature, -kappa <= curvature,
        ]  # fmt: skip
        limits += [cp.multiply(along[:, k], s) + cp.multiply(across[:, k], d) <= offset[:, k] for k in range(m)]
        weights = zip(p.WEIGHTS, [*states, *inputs])
        cost = sum(0.5 * weight * cp.sum_squares(value) for weight, value in weights if weight)
        cost -= p.WEIGHTS[0] * reference[:, 0] @ s + p.WEIGHTS[3] * reference[:, 1] @ d
        self.layer = CvxpyLayer(
            cp.Problem(cp.Minimize(cost), rows + limits),
            parameters=[reference, along, across, offset, upper_d, lower_d, curvature, *data],
            variables=[s, d, jerk, rate],
            **({"solver": self.solver} if self.solver else {}),
        )

    def limits_of(self, instance: Instance) -> tuple[Tensor, Tensor, Tensor]:
        return instance.z_upper[..., 3], instance.z_lower[..., 3], instance.z_upper[..., 5]

    def forward(self, bound: tuple[Tensor, ...], prepared: Parameters) -> Answer:
        normal, arguments = prepared.normal, self.arguments
        if not normal.requires_grad:  # without a gradient the layer refuses the gradient's mode
            arguments = {k: v for k, v in arguments.items() if k != "mode"}
        s, d, jerk, rate = self.layer(
            prepared.reference, normal[..., 0], normal[..., 1], prepared.offset, *bound, solver_args=arguments
        )
        return Answer(torch.stack([jerk, rate], -1), torch.stack([s, d], -1))


class _Stages(_Layer):
    """States and inputs as variables, the dynamics as equations."""

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        import cvxpy as cp

        n = horizon
        x, u = [cp.Variable(n) for _ in range(NX)], [cp.Variable(n) for _ in range(2)]
        turn, bend, steer_d, steer_psi = (cp.Parameter(n) for _ in range(4))
        # What a stage adds whatever the states before it; at the first stage that includes the initial state's part,
        # because a product of two parameters is not allowed.
        shift = [cp.Parameter(n) for _ in range(NX)]
        s0, v0, a0, d0, psi0, kappa0 = (cp.hstack([np.zeros(1), value[:-1]]) for value in x)
        dt, half = p.DT, p.DT**2 / 2
        step = [
            s0 + dt * v0 + half * a0 + p.DT**3 / 6 * u[0],
            v0 + dt * a0 + half * u[0],
            a0 + dt * u[0],
            d0 + cp.multiply(turn, psi0) + cp.multiply(bend, kappa0) + cp.multiply(steer_d, u[1]),
            psi0 + cp.multiply(turn, kappa0) + cp.multiply(steer_psi, u[1]),
            kappa0 + dt * u[1],
        ]
        rows = [value == after + add for value, after, add in zip(x, step, shift)]
        self.build(x, u, rows, [turn, bend, steer_d, steer_psi, *shift])

    def bind(self, instance: Instance) -> tuple[Tensor, ...]:
        A, B, shift = instance.A, instance.B, instance.c.clone()
        shift[:, 0] += (A[:, 0] @ instance.x0[..., None])[..., 0]
        dynamics = (A[..., 3, 4], A[..., 3, 5], B[..., 3, 1], B[..., 4, 1])
        return *self.limits_of(instance), *dynamics, *shift.unbind(-1)


class _Inputs(_Layer):
    """Inputs and positions as variables, the other states as their functions."""

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        import cvxpy as cp

        n = horizon
        s, d, jerk, rate = (cp.Variable(n) for _ in range(4))
        to_d, to_psi = cp.Parameter((n, n)), cp.Parameter((n, n))
        free = [cp.Parameter(n) for _ in range(NX)]
        # The answers of s, v, a and kappa to the inputs are the same for all members.
        gain = Condenser(p.generate(1, n, half_planes)[0]).gain[0].numpy()
        (to_s, to_v, to_a), to_kappa = (gain[:, i, 0::2] for i in range(3)), gain[:, 5, 1::2]
        x = [s, to_v @ jerk + free[1], to_a @ jerk + free[2], d, to_psi @ rate + free[4], to_kappa @ rate + free[5]]
        rows = [s == to_s @ jerk + free[0], d == to_d @ rate + free[3]]
        self.build(x, [jerk, rate], rows, [to_d, to_psi, *free])

    def bind(self, instance: Instance) -> tuple[Tensor, ...]:
        maps = Condenser(instance)
        gains = (maps.gain[:, :, i, 1::2].contiguous() for i in (3, 4))
        return *self.limits_of(instance), *gains, *(f.contiguous() for f in maps.free.unbind(-1))


class CvxpyLayers(_Inputs):
    """All defaults: SCS forward, LSQR backward."""

    name = "cvxpylayers"


class CvxpyLayersClarabel(_Stages):
    """Clarabel forward, the default backward (LSQR)."""

    name = "cvxpylayers+clarabel"
    arguments = {"solve_method": "Clarabel"}  # noqa: RUF012


class CvxpyLayersClarabelDense(_Inputs):
    """Clarabel forward, dense backward."""

    name, same_forward_as = "cvxpylayers+clarabel-dense", "cvxpylayers+clarabel"
    arguments = {"solve_method": "Clarabel", "mode": "dense"}  # noqa: RUF012


class CvxpyLayersClarabelLsmr(_Inputs):
    """Clarabel forward, LSMR backward."""

    name, same_forward_as = "cvxpylayers+clarabel-lsmr", "cvxpylayers+clarabel"
    arguments = {"solve_method": "Clarabel", "mode": "lsmr"}  # noqa: RUF012


class CvxpyLayersMoreau(_Stages):
    """moreau under cvxpylayers 1.2 or later, which needs numpy 2."""

    name = "cvxpylayers+moreau"
    solver = "MOREAU"

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        if tuple(int(v) for v in metadata.version("cvxpylayers").split(".")[:2]) < (1, 2):
            raise ImportError("needs cvxpylayers >= 1.2, which needs numpy 2")
        super().__init__(batch, horizon, half_planes)
