"""The quadratic program that the solver benchmark solves: one horizon of a planner, random and reproducible.

T stages of 0.2 s. Longitudinal states s (m), v (m/s), a (m/s^2) with the jerk (m/s^3) as input; lateral states d (m),
psi (rad), kappa (1/m) with the curvature rate (1/(m s)) as input. The lateral dynamics are linear in a reference speed
that changes over time and differs between members. Cost: tracking of a reference (s, d) and comfort. Limits of each
stage: speed, acceleration, jerk, curvature (the smaller of the vehicle's and the one that the lateral acceleration
leaves at the reference speed), curvature rate, a corridor on d, and half-planes in (s, d).

The parameters that are differentiated are the reference and the half-planes' normals and offsets. Every member has an
admissible trajectory by construction: limits are drawn around it, the reference away from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from planner.qp.problem import StageProgram

DT = 0.2
STATES = ("s", "v", "a", "d", "psi", "kappa")
INPUTS = ("jerk", "kappa_rate")
NX, NU = len(STATES), len(INPUTS)
NZ = NX + NU
POSITIONS = slice(0, 4, 3)
"""s and d."""

SPEED_LIMIT = 20.0  # m/s
ACCELERATION_LIMITS = (-4.0, 2.5)  # m/s^2
JERK_LIMIT = 8.0  # m/s^3
CURVATURE_LIMIT = 0.2  # 1/m
CURVATURE_RATE_LIMIT = 0.15  # 1/(m s)
LATERAL_ACCELERATION_LIMIT = 3.5  # m/s^2

WEIGHTS = (0.1, 0.0, 0.5, 1.0, 0.5, 2.0, 0.05, 10.0)
"""Diagonal of the stage cost over (states, inputs); the reference acts on s and d."""


@dataclass
class Parameters:
    """What is differentiated. reference ``[B, T, 2]``: (s, d) to track, m. normal ``[B, T, m, 2]`` and offset
    ``[B, T, m]`` (m): half-planes normal @ (s, d) <= offset.
    """

    reference: Tensor
    normal: Tensor
    offset: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.reference, self.normal, self.offset

    def members(self, index: slice | list[int]) -> Parameters:
        return Parameters(*(t[index] for t in self.tensors()))

    def leaves(self) -> Parameters:
        """Copies that require gradients."""
        return Parameters(*(t.detach().clone().requires_grad_() for t in self.tensors()))


@dataclass
class Instance:
    """The data of B members that are not differentiated.

    x0 ``[B, 6]``; A ``[B, T, 6, 6]``, B ``[B, T, 6, 2]``, c ``[B, T, 6]``: dynamics; z_lower, z_upper ``[B, T, 8]``:
    bounds on (states, inputs).
    """

    x0: Tensor
    A: Tensor
    B: Tensor
    c: Tensor
    z_lower: Tensor
    z_upper: Tensor

    @property
    def horizon(self) -> int:
        return self.A.shape[1]

    @property
    def batch(self) -> int:
        return self.A.shape[0]

    def members(self, index: slice | list[int]) -> Instance:
        return Instance(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def generate(batch: int, horizon: int = 30, half_planes: int = 4, seed: int = 0) -> tuple[Instance, Parameters]:
    """Random members: the same numbers for the same arguments. (Another batch size gives other members.)"""
    draw = _Draw(batch, horizon, 1_000_003 * seed + 1009 * horizon + half_planes)
    x0 = torch.zeros(batch, NX, dtype=torch.float64)
    x0[:, 1] = draw.uniform(5.0, 15.0)
    x0[:, 2] = draw.uniform(-0.5, 0.5)
    x0[:, 3] = draw.uniform(-0.3, 0.3)
    x0[:, 4] = draw.uniform(-0.005, 0.005)
    base = _longitudinal_base(x0, draw)
    road = draw.uniform(-0.3, 0.3) * _curvature_bound(base.v).amin(1)
    x0[:, 5] = road
    A, B, c = dynamics(_previous(x0[:, 1], base.v), road)
    z_lower, z_upper = _vehicle_bounds(base.v)
    instance = Instance(x0, A, B, c, z_lower, z_upper)
    base = _lateral_base(base, instance, draw)
    room = 0.05 + 1.5 * draw.wave(2).abs()
    z_lower[..., 3], z_upper[..., 3] = base.d - room[..., 0], base.d + room[..., 1]
    return instance, _parameters(base, half_planes, draw)


class _Draw:
    """A stream of random quantities for the members of a batch."""

    def __init__(self, batch: int, horizon: int, seed: int) -> None:
        self.batch, self.horizon = batch, horizon
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """``[B, *shape]``."""
        return low + (high - low) * torch.rand(self.batch, *shape, generator=self.generator, dtype=torch.float64)

    def wave(self, *shape: int) -> Tensor:
        """``[B, T, *shape]``: smooth functions of time with root mean square 0.7; their periods are 3 to 12 s."""
        time = (DT * torch.arange(1, self.horizon + 1, dtype=torch.float64)).reshape(1, -1, *[1] * (len(shape) + 1))
        period, phase = self.uniform(3.0, 12.0, 1, *shape, 3), self.uniform(0.0, 2 * torch.pi, 1, *shape, 3)
        wave = (self.uniform(0.3, 1.0, 1, *shape, 3) * torch.sin(2 * torch.pi * time / period + phase)).sum(-1)
        return 0.7 * wave / wave.square().mean(1, keepdim=True).sqrt()


@dataclass
class _Base:
    """An admissible trajectory: s, v ``[B, T]`` and, once known, d ``[B, T]``."""

    s: Tensor
    v: Tensor
    jerk: Tensor
    d: Tensor


def _longitudinal_base(x0: Tensor, draw: _Draw) -> _Base:
    """Acceleration to zero within a second, and random jerks, scaled down until acceleration and speed keep well within
    their limits.
    """
    calm = torch.zeros(draw.batch, draw.horizon, dtype=torch.float64)
    calm[:, :5] = -x0[:, 2:3]
    free = _roll_longitudinal(x0, calm)
    jerk = 3.0 * draw.wave()
    per_jerk = [with_jerk - none for with_jerk, none in zip(_roll_longitudinal(x0, calm + jerk), free)]
    scale = _largest_scale(per_jerk[2], free[2], ACCELERATION_LIMITS[0] / 1.5, ACCELERATION_LIMITS[1] / 1.5)
    scale = torch.minimum(scale, _largest_scale(per_jerk[1], free[1], 2.0, SPEED_LIMIT - 2.0))
    jerk = calm + scale[:, None] * jerk
    s, v, _ = _roll_longitudinal(x0, jerk)
    return _Base(s, v, jerk, torch.zeros_like(s))


def _lateral_base(base: _Base, instance: Instance, draw: _Draw) -> _Base:
    """Random curvature rates on top of the road's curvature, scaled down until the curvature keeps within its bound."""
    rate = 0.02 * draw.wave()
    free = roll_out(instance, torch.stack([base.jerk, torch.zeros_like(rate)], -1))
    moved = roll_out(instance, torch.stack([base.jerk, rate], -1)) - free
    bend = instance.z_upper[..., 5] / 1.25
    scale = _largest_scale(moved[..., 5], free[..., 5], -bend, bend)
    scale = torch.minimum(scale, _largest_scale(moved[..., 3], 0 * moved[..., 3], -2.5, 2.5))
    return replace(base, d=free[..., 3] + scale[:, None] * moved[..., 3])


def _largest_scale(change: Tensor, value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """``[B]``: the largest factor <= 1 with low <= value + factor * change <= high at all times."""
    room = torch.where(change > 0, high - value, value - low) / change.abs().clamp(min=1e-12)
    return room.amin(1).clamp(0.0, 1.0)


def _roll_longitudinal(x0: Tensor, jerk: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a = x0[:, 2:3] + DT * jerk.cumsum(1)
    a_before = a - DT * jerk
    v = x0[:, 1:2] + (DT * a_before + DT**2 / 2 * jerk).cumsum(1)
    v_before = v - DT * a_before - DT**2 / 2 * jerk
    s = x0[:, :1] + (DT * v_before + DT**2 / 2 * a_before + DT**3 / 6 * jerk).cumsum(1)
    return s, v, a


def _previous(first: Tensor, value: Tensor) -> Tensor:
    return torch.cat([first[:, None], value[:, :-1]], 1)


def _curvature_bound(speed: Tensor) -> Tensor:
    return (LATERAL_ACCELERATION_LIMIT / speed.clamp(min=1.0) ** 2).clamp(max=CURVATURE_LIMIT)


def dynamics(speed: Tensor, road: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exact steps of two triple integrators; the lateral one moves at the reference speed ``[B, T]`` along a road of
    curvature road ``[B]``.
    """
    b, n = speed.shape
    A, B = torch.zeros(b, n, NX, NX, dtype=torch.float64), torch.zeros(b, n, NX, NU, dtype=torch.float64)
    c = torch.zeros(b, n, NX, dtype=torch.float64)
    A[..., range(NX), range(NX)] = 1.0
    A[..., 0, 1] = A[..., 1, 2] = DT
    A[..., 0, 2] = DT**2 / 2
    B[..., 0, 0], B[..., 1, 0], B[..., 2, 0] = DT**3 / 6, DT**2 / 2, DT
    A[..., 3, 4] = A[..., 4, 5] = speed * DT
    A[..., 3, 5] = (speed * DT) ** 2 / 2
    B[..., 3, 1], B[..., 4, 1], B[..., 5, 1] = speed**2 * DT**3 / 6, speed * DT**2 / 2, DT
    c[..., 3], c[..., 4] = -A[..., 3, 5] * road[:, None], -A[..., 4, 5] * road[:, None]
    return A, B, c


def _vehicle_bounds(speed: Tensor) -> tuple[Tensor, Tensor]:
    b, n = speed.shape
    upper = torch.full((b, n, NZ), torch.inf, dtype=torch.float64)
    lower = -upper
    lower[..., 1], upper[..., 1] = 0.0, SPEED_LIMIT
    lower[..., 2], upper[..., 2] = ACCELERATION_LIMITS
    bend = _curvature_bound(speed)
    lower[..., 5], upper[..., 5] = -bend, bend
    lower[..., 6], upper[..., 6] = -JERK_LIMIT, JERK_LIMIT
    lower[..., 7], upper[..., 7] = -CURVATURE_RATE_LIMIT, CURVATURE_RATE_LIMIT
    return lower, upper


def _parameters(base: _Base, half_planes: int, draw: _Draw) -> Parameters:
    """Half-planes in turn ahead, to the left, to the right and behind, each near the base only for a while."""
    ramp = torch.linspace(0, 1, draw.horizon, dtype=torch.float64)
    wish = 11.0 * draw.wave() + 9.0 * draw.uniform(-0.5, 1.0, 1) * ramp
    reference = torch.stack([base.s + wish, base.d + 1.8 * draw.wave()], -1)
    turn = torch.tensor([0.0, torch.pi / 2, -torch.pi / 2, torch.pi], dtype=torch.float64)
    angle = turn.repeat(half_planes // 4 + 1)[:half_planes] + 0.12 * draw.wave(half_planes)
    normal = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    far = torch.tensor([10.0, 1.7, 1.7, 10.0], dtype=torch.float64).repeat(half_planes // 4 + 1)[:half_planes]
    margin = 0.02 + far * (draw.wave(half_planes) + 0.62).clamp(min=0.0)
    offset = (normal * torch.stack([base.s, base.d], -1)[..., None, :]).sum(-1) + margin
    return Parameters(reference, normal, offset)


def roll_out(instance: Instance, inputs: Tensor) -> Tensor:
    """States ``[B, T, 6]`` of inputs ``[B, T, 2]``."""
    x, states = instance.x0, []
    for t in range(instance.horizon):
        x = (instance.A[:, t] @ x[..., None] + instance.B[:, t] @ inputs[:, t, :, None])[..., 0] + instance.c[:, t]
        states.append(x)
    return torch.stack(states, 1)


class StageForm:
    """The stage-structured form of an instance; `program` fills in the parameters."""

    def __init__(self, instance: Instance, half_planes: int) -> None:
        b, n = instance.batch, instance.horizon
        weight = torch.tensor(WEIGHTS, dtype=torch.float64)
        self.instance, self.parent = instance, tuple(range(-1, n - 1))
        self.H = torch.diag(weight).repeat(1, n, 1, 1).expand(b, n, NZ, NZ)
        self.pull = -weight[POSITIONS]
        zero = torch.zeros(1, n, half_planes, dtype=torch.float64)
        self.lower, self.compliance = (zero - torch.inf).expand(b, n, half_planes), zero.expand(b, n, half_planes)

    def program(self, parameters: Parameters) -> StageProgram:
        """Differentiable with respect to the parameters."""
        i = self.instance
        return StageProgram(
            self.parent, i.x0, i.A, i.B, i.c, self.H, _placed(parameters.reference * self.pull), i.z_lower, i.z_upper,
            _placed(parameters.normal), self.lower, parameters.offset, self.compliance,
        )  # fmt: skip


def _placed(pair: Tensor) -> Tensor:
    """``[..., 8]``: numbers ``[..., 2]`` at s and d, else zero. A product with a matrix would wake torch's threads."""
    z = pair.new_zeros(*pair.shape[:-1], NZ)
    return torch.slice_scatter(z, pair, -1, POSITIONS.start, POSITIONS.stop, POSITIONS.step)


def stage_program(instance: Instance, parameters: Parameters) -> StageProgram:
    """The stage-structured form, with gradients to the parameters."""
    return StageForm(instance, parameters.offset.shape[2]).program(parameters)


def positions(z: Tensor) -> Tensor:
    """(s, d) ``[B, T, 2]`` of z ``[B, T, 8]``: what the benchmark's loss looks at."""
    return z[..., POSITIONS]


def cotangent(batch: int, horizon: int, seed: int = 7) -> Tensor:
    """``[B, T, 2]``: the loss is its inner product with the positions."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(batch, horizon, 2, generator=rng, dtype=torch.float64)


def make_infeasible(parameters: Parameters, member: int) -> Parameters:
    """One member whose half-planes exclude each other in the middle of the horizon by 2 m."""
    normal, offset = parameters.normal.clone(), parameters.offset.clone()
    t = offset.shape[1] // 2
    normal[member, t, 0], normal[member, t, 1] = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    offset[member, t, 1] = -(offset[member, t, 0] + 2.0)
    return Parameters(parameters.reference, normal, offset)


def violation(instance: Instance, parameters: Parameters, inputs: Tensor) -> Tensor:
    """``[B]``: largest excess over a limit when the inputs are rolled out, over 1 + |limit|."""
    z = torch.cat([roll_out(instance, inputs), inputs], -1)
    upper = torch.cat([instance.z_upper, -instance.z_lower], -1)
    excess = (torch.cat([z, -z], -1) - upper) / (1 + upper.abs())
    excess = torch.where(torch.isinf(upper), -torch.inf, excess)
    row = (parameters.normal * positions(z)[..., None, :]).sum(-1)
    row = (row - parameters.offset) / (1 + parameters.offset.abs())
    return torch.maximum(excess.flatten(1).amax(1), row.flatten(1).amax(1))
