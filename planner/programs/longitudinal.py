"""The longitudinal program: position, speed and acceleration along the path, jerk as input.

Both branches are one program over a tree of intervals, because they share their first ones. Exact discretisation of
the triple integrator; path progress is ds = rho v dt, with rho = cos(heading error) / (1 - curvature * offset) from the
last pass, so only how s follows from v, a and jerk differs between candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from planner import compiled
from planner.compiled.stage import Tensors, apply, workers
from planner.config import PlannerConfig
from planner.grid import Grid, make_grid
from planner.path.surface import Start
from planner.programs.arrays import library
from planner.programs.longitudinal_constants import (
    JERK,
    TAIL_BRAKING,
    TAIL_WEIGHT,
    S,
    V,
    longitudinal_constants,
    stop_after,
)
from planner.programs.safe_distance import CHORDS, SafeDistance, chords, full_braking, within_reach
from planner.programs.tracking import TrackingReference, per_node
from planner.qp.problem import StageProgram

LIMIT_RULES = ("obstacle ahead", "speed", "acceleration", "jerk", "", "", "", "")
"""Rules by limit: bounds on s, v, a, jerk, gap excess, then the three rows of the comfortable gap ("": no hard rule).
On tail stages the upper side of "speed" and, at the last one, both sides of "acceleration" state `REST_RULE`."""
REST_RULE = "rest at the end of the tail"
SAFE_RULE = "safe distance"
"""Of the rows after those, where the bounds have safe distances."""
SPARE_SPEED = 0.05
"""m/s: how far beyond what full braking reaches a cap on the speed stays away at least."""


@dataclass
class LongitudinalBounds:
    """What the decisions ask of the longitudinal motion. R candidates, 2 branches, N nodes; s of the rear axle, m.

    s_upper, s_lower ``[R, 2, N]``: hard; infinite where there is none; upper_id, lower_id: track id that sets them.
    gap_s ``[R, N]``: comfortable limit on s + headway * v (infinite: none); gap_headway ``[R, N]`` s;
    gap_speed ``[R, N]`` m/s: speed of what sets it (0 if it stands).
    v_ref, v_cap ``[R, N]`` m/s: speed to aim for and hard cap of the nominal branch.
    safe: hard safe distances in the nominal branch, if wanted.
    """

    s_upper: Float[Tensor, "R 2 N"]
    s_lower: Float[Tensor, "R 2 N"]
    upper_id: Int[Tensor, "R 2 N"]
    lower_id: Int[Tensor, "R 2 N"]
    gap_s: Float[Tensor, "R N"]
    gap_headway: Float[Tensor, "R N"]
    gap_speed: Float[Tensor, "R N"]
    v_ref: Float[Tensor, "R N"]
    v_cap: Float[Tensor, "R N"]
    safe: SafeDistance | None = field(default=None, kw_only=True)

    def part(self, rows: Int[Tensor, " R2"]) -> LongitudinalBounds:
        """Those of some of the candidates."""
        return LongitudinalBounds(
            self.s_upper[rows], self.s_lower[rows], self.upper_id[rows], self.lower_id[rows], self.gap_s[rows],
            self.gap_headway[rows], self.gap_speed[rows], self.v_ref[rows], self.v_cap[rows],
            safe=self.safe and replace(self.safe, s=self.safe.s[rows], track_id=self.safe.track_id[rows]),
        )  # fmt: skip


@dataclass
class LongitudinalMotion:
    """s (m), v (m/s), a (m/s^2) at the fine times ``[R, 2, F]`` and jerk (m/s^3) during the fine steps."""

    s: Float[Tensor, "R 2 F"]
    v: Float[Tensor, "R 2 F"]
    a: Float[Tensor, "R 2 F"]
    jerk: Float[Tensor, "R 2 F"]


def build_longitudinal(
    bounds: LongitudinalBounds,
    start: Start,
    rho: Float[Tensor, "R 2 F"] | None,
    weights: Float[Tensor, "R W"],
    config: PlannerConfig,
    reference: TrackingReference | None = None,
) -> StageProgram:
    """The programs of all R candidates: states (s - start.s, v, a), inputs (jerk, excess of the comfortable gap).

    start: per candidate ``[R]``. rho: None for 1 everywhere, whose matrices are shared by all candidates. weights: in
    the order of CostWeights, ``[R, W]`` or, shared by all, ``[W]``. reference: a proposal to stay close to instead of
    v_ref.
    """
    grid, fixed = make_grid(config.horizon), longitudinal_constants(config)
    count, n, nodes = len(start.v), grid.stages, len(grid.node)
    H = _quadratic_cost(weights, reference, grid, config, count)
    if reference is None:
        aims: tuple[Any, ...] = (bounds.v_ref, weights[..., :1].expand(count, nodes), None, None)
    else:
        of_v, of_s = (per_node(x, reference.s) for x in (reference.weight_v, reference.weight_s))
        aims = (reference.v, of_v, reference.s, of_s)
    stage = _Program(config)
    build = stage.plain if _BUILD is None else lambda *inputs: apply(stage, *inputs)
    x0, g, z_lower, z_upper, C, upper = build(
        bounds.s_lower, bounds.s_upper, bounds.v_cap, bounds.gap_s, bounds.gap_headway, bounds.gap_speed,
        start.s, start.v, start.a, *aims,
    )  # fmt: skip
    if bounds.safe is not None:
        more = _safe_rows(bounds.safe, bounds.v_cap, start, rho, grid, config)
        C, upper = torch.cat([C, more[0]], 2), torch.cat([upper, more[1]], 2)
    rows = upper.shape[2]
    A, B = (fixed.transition.expand(count, n, 3, 3), fixed.response.expand(count, n, 3, 2))
    c, hard = fixed.zero.expand(count, n, 3), fixed.zero.expand(count, n, rows)
    lower = fixed.minus_infinity.expand(count, n, rows)
    program = StageProgram(grid.parent, x0, A, B, c, H, g, z_lower, z_upper, C, lower, upper, hard)
    return program if rho is None else _with_progress(program, rho, config)


def with_progress(program: StageProgram, rho: Float[Tensor, "R 2 F"], config: PlannerConfig) -> StageProgram:
    """The same program for another path progress per metre driven; shares everything but its dynamics.

    Raises ValueError for programs with safe distances, whose limits depend on the progress too.
    """
    if program.upper.shape[2] != len(LIMIT_RULES) - 5:
        raise ValueError("with_progress: programs with safe distances have to be built anew")
    return _with_progress(program, rho, config)


def _with_progress(program: StageProgram, rho: Tensor, config: PlannerConfig) -> StageProgram:
    A, B = progress_plain(rho, config) if _PROGRESS is None else apply(_Progress(config), rho)
    return replace(program, A=A, B=B)


def progress_plain(rho: Float[Tensor, "R 2 F"], config: PlannerConfig) -> tuple[Tensor, Tensor]:
    """A and B for a path progress per metre driven."""
    fixed = longitudinal_constants(config)
    count, n = len(rho), len(fixed.dt)
    gains = (rho.reshape(count, -1) @ fixed.progress).reshape(count, 3, n)
    A, B = fixed.transition.repeat(count, 1, 1, 1), fixed.response.repeat(count, 1, 1, 1)
    A[:, :, 0, 1], A[:, :, 0, 2], B[:, :, 0, 0] = gains[:, 0], gains[:, 1], gains[:, 2]
    return A, B


def longitudinal_motion(
    z: Float[Tensor, "R n 5"], start: Start, rho: Float[Tensor, "R 2 F"] | None, config: PlannerConfig
) -> LongitudinalMotion:
    """Motion of both branches at the fine times for the jerks of a solution."""
    inputs = (z, start.s, start.v, start.a, rho)
    if _MOTION is None:
        return LongitudinalMotion(*motion_plain(*inputs, config=config))
    return LongitudinalMotion(*apply(_Motion(config), *inputs))


def motion_plain(
    z: Tensor, s0: Tensor, v0: Tensor, a0: Tensor, rho: Tensor | None, config: PlannerConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """s, v, a, jerk ``[R, 2, F]``."""
    inputs = torch.cat([z[..., JERK], v0[:, None], a0[:, None]], 1)
    a, v, ds, jerk = (inputs @ longitudinal_constants(config).motion).reshape(len(z), 4, 2, -1).unbind(1)
    return s0[:, None, None] + (ds if rho is None else ds * rho).cumsum(-1), v, a, jerk


def limit_ids(bounds: LongitudinalBounds, grid: Grid) -> tuple[Int[Tensor, "R n L"], Int[Tensor, "R n L"]]:
    """Track ids behind the lower and the upper side of every limit, -1 where nobody's."""
    shape = (len(bounds.upper_id), grid.stages, len(limit_rules(bounds)))
    lower, upper = torch.full(shape, -1), torch.full(shape, -1)
    lower[..., S], upper[..., S] = (grid.at_stages(bounds.lower_id), grid.at_stages(bounds.upper_id))
    if bounds.safe is not None:
        upper[:, : len(grid.node), len(LIMIT_RULES) :] = bounds.safe.track_id[..., None]
    return lower, upper


def limit_rules(bounds: LongitudinalBounds) -> tuple[str, ...]:
    """LIMIT_RULES, with those of the safe distances if there are any."""
    return LIMIT_RULES if bounds.safe is None else (*LIMIT_RULES, *(SAFE_RULE,) * CHORDS)


def stop_time(v0: Any, config: PlannerConfig) -> Any:
    """When the tail shall be at rest (s), by start speeds: after the shared part, building up and releasing the brake
    included. For tensors (without history) and arrays."""
    fastest = v0 + config.limits.acceleration_max * config.horizon.shared
    return fastest / TAIL_BRAKING + stop_after(config)


def _safe_rows(
    safe: SafeDistance, v_cap: Tensor, start: Start, rho: Tensor | None, grid: Grid, config: PlannerConfig
) -> tuple[Float[Tensor, "R n Q 5"], Float[Tensor, "R n Q"]]:
    """Rows of the safe distances and their upper limits; see `planner.programs.safe_distance`."""
    xp = library(safe.s, start.s)
    count, nodes = len(start.v), len(grid.node)
    v0, a0, cap = (x.detach().numpy() for x in (start.v, start.a, v_cap))
    top = np.maximum(v0, cap.max(1))[:, None] + 1.0
    gain, offset = chords(top, safe.response, safe.braking)
    C = np.zeros((count, grid.stages, CHORDS, 5))
    C[:, :nodes, :, S], C[:, :nodes, :, V] = 1.0, gain[:, None]
    z = torch.zeros(count, grid.stages, 5, dtype=torch.float64)
    z[:, :nodes, JERK] = torch.from_numpy(full_braking(v0, a0, grid, config)[0])
    with torch.no_grad():
        braking = longitudinal_motion(z, start, rho, config)
    s, v = (x.detach().numpy()[:, 0, grid.node.numpy()] for x in (braking.s, braking.v))
    s0 = start.s.detach().numpy()[:, None]
    upper = xp.full((count, grid.stages, CHORDS), torch.inf)
    limit = xp.of(safe.s) - xp.of(start.s)[:, None]
    upper[:, :nodes] = within_reach(xp, limit, s - s0, v, gain, offset)
    return torch.from_numpy(C), xp.tensor(upper)


def _quadratic_cost(
    weights: Tensor, reference: TrackingReference | None, grid: Grid, config: PlannerConfig, count: int
) -> Float[Tensor, "R n 5 5"]:
    """H; of shared weights without a proposal it is shared as well."""
    fixed, n, nodes = longitudinal_constants(config), grid.stages, len(grid.node)
    w = weights[..., :4]
    if reference is not None:
        w = w * (fixed.comfort_terms * reference.comfort)
    H = (w @ fixed.cost_scales + fixed.cost_base).reshape(-1, n, 5, 5).expand(count, n, 5, 5)
    if reference is not None:
        H = H.clone()
        for entry, weight in ((S, reference.weight_s), (V, reference.weight_v)):
            H[:, :nodes, entry, entry] = per_node(weight, reference.s) * fixed.dt[:nodes]
    return H


class _Program:
    """The data of the programs: `plain` is the definition, `forward` and `backward` are compiled.

    A `planner.compiled.stage.Stage`.
    """

    def __init__(self, config: PlannerConfig) -> None:
        self.config, self.grid, self.fixed = config, make_grid(config.horizon), longitudinal_constants(config)

    def plain(
        self, s_lower: Tensor, s_upper: Tensor, v_cap: Tensor, gap_s: Tensor, gap_headway: Tensor, gap_speed: Tensor,
        s0: Tensor, v0: Tensor, a0: Tensor, aim_v: Tensor, weight_v: Tensor, aim_s: Any, weight_s: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """x0, g, z_lower, z_upper, C (of the gap) and upper of a `StageProgram`.

        aim, weight ``[R, N]``: nominal references with weights; those of s may be None.
        """
        x0 = torch.stack([torch.zeros_like(v0), v0, a0], -1)
        g = self._linear_cost(s0, v0, aim_v, weight_v, aim_s, weight_s)
        limits = self._limits(s_lower, s_upper, v_cap, s0, v0.detach()[:, None], a0.detach()[:, None])
        return x0, g, *limits, *self._gap_rows(gap_s, gap_headway, gap_speed, s0, v0.detach())

    def _linear_cost(
        self, s0: Tensor, v0: Tensor, aim_v: Tensor, weight_v: Tensor, aim_s: Any, weight_s: Any
    ) -> Tensor:
        """The tail counts only weakly, but it shall not dawdle: the longer it moves, the more room the others' worst
        case takes."""
        fixed, nodes = self.fixed, len(self.grid.node)
        dt = fixed.dt
        g = torch.zeros(len(v0), self.grid.stages, 5, dtype=torch.float64)
        g[:, :nodes, V] = aim_v * weight_v * -dt[:nodes]
        if aim_s is not None:
            g[:, :nodes, S] = weight_s * (aim_s - s0[:, None]) * -dt[:nodes]
        slowing = v0[:, None] - TAIL_BRAKING * (fixed.time[nodes:] - self.config.horizon.shared)
        g[:, nodes:, V] = slowing.clamp(min=0) * (-TAIL_WEIGHT * dt[nodes:])
        return g

    def _limits(
        self, s_lower: Tensor, s_upper: Tensor, v_cap: Tensor, s0: Tensor, v0: Tensor, a0: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bounds on (s - start.s, v, a, jerk, excess), widened to what the actuators can reach: they never contradict
        the start.

        Speed: below zero only where easing off the brake as fast as allowed still undershoots; no cap below what full
        braking reaches. Acceleration: on its way back into its limits. The tail: at rest as early as braking firmly
        allows, at its end in any case.
        """
        fixed, config, time, nodes = self.fixed, self.config, self.fixed.time, len(self.grid.node)
        jerk = config.limits.jerk_max
        ease = torch.minimum(time, a0.clamp(max=0) * (-1 / jerk))
        v_low = (v0 + ease * (a0 + ease * (jerk / 2))).clamp(max=0) - 1e-3
        braked = torch.from_numpy(full_braking(v0[:, 0].numpy(), a0[:, 0].numpy(), self.grid, config)[1])
        cap = torch.maximum(v_cap, braked.clamp(min=0) + SPARE_SPEED)
        rest = torch.where(time[nodes:] >= stop_time(v0, config), fixed.rest_limit, fixed.rest_speed)
        ramp = jerk * time
        a_low = torch.maximum(torch.minimum(a0 + ramp, fixed.a_low), -fixed.rest)
        a_high = torch.minimum((a0 - ramp).clamp(min=config.limits.acceleration_max), fixed.rest)
        both = []
        for s, v, a, sign in ((s_lower, v_low, a_low, -1), (s_upper, torch.cat([cap, rest], 1), a_high, 1)):
            hard = sign * fixed.jerk.expand_as(a)
            both.append(
                torch.stack([self.grid.at_stages(s) - s0[:, None], v, a, hard, sign * fixed.none.expand_as(a)], -1)
            )
        return both[0], both[1]

    def _gap_rows(
        self, gap_s: Tensor, gap_headway: Tensor, gap_speed: Tensor, s0: Tensor, v0: Tensor
    ) -> tuple[Float[Tensor, "R n 3 5"], Float[Tensor, "R n 3"]]:
        """Rows and their upper limits. Headway, plus the room that slowing to the other's speed takes,
        s + T v + (v^2 - v_o^2) / 2b.

        v^2 is replaced by tangents (a cost, so an outer approximation is enough); all share one excess per node.
        """
        fixed, braking, nodes = self.fixed, self.config.comfort.braking, len(self.grid.node)
        touch = fixed.tangents
        tangent = (v0.clamp(min=3.0)[:, None] * touch)[:, None]
        other = gap_speed[..., None]
        C = fixed.gap_rows.repeat(len(v0), 1, 1, 1)
        C[:, :nodes, :, V] = gap_headway[..., None] + tangent * (1 / braking)
        room = (tangent**2 + other**2) * (fixed.curved / (2 * braking))
        upper = torch.full((len(v0), self.grid.stages, 3), torch.inf, dtype=torch.float64)
        limit = (gap_s - s0[:, None])[..., None] + room
        upper[:, :nodes] = torch.where((other < tangent) | (touch == 0), limit, torch.inf)
        return C, upper

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        count, n = len(inputs[0]), self.grid.stages
        shapes = ((3,), (n, 5), (n, 5), (n, 5), (n, 3, 5), (n, 3))
        outputs = tuple(torch.empty(count, *shape, dtype=torch.float64) for shape in shapes)
        assert _BUILD is not None
        _BUILD(*self._constants(), *inputs, *outputs, *self._sizes(count))
        return outputs

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        found = tuple(None if x is None else torch.zeros(x.shape, dtype=torch.float64) for x in inputs)
        assert _BUILD_ADJOINT is not None
        _BUILD_ADJOINT(*self._constants(), *inputs, *gradients, *found, *self._sizes(len(inputs[0])))
        return found

    def constant(self, outputs: tuple[Tensor, ...], needed: tuple[bool, ...]) -> tuple[Tensor, ...]:
        return () if needed[4] else (outputs[4],)  # C depends on the headway alone

    def _constants(self) -> tuple[Tensor, ...]:
        return self.grid.fine_per_interval, self.fixed.settings, self.fixed.at_stage

    def _sizes(self, count: int) -> tuple[int, ...]:
        threads = workers(count, self.config.solver.threads, 1.5)
        return count, len(self.grid.node), self.grid.stages, len(self.grid.time), threads


class _Steps:
    """What the two stages below have in common."""

    def __init__(self, config: PlannerConfig) -> None:
        self.grid = make_grid(config.horizon)
        self.given = (self.grid.step, self.grid.fine_per_interval)

    def sizes(self, count: int) -> tuple[int, ...]:
        return count, len(self.grid.node), self.grid.stages, len(self.grid.time)


class _Progress(_Steps):
    """`progress_plain`, compiled; a `planner.compiled.stage.Stage`."""

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (rho,), n = inputs, self.grid.stages
        A, B = (torch.empty(len(rho), n, 3, k, dtype=torch.float64) for k in (3, 2))
        assert _PROGRESS is not None
        _PROGRESS(*self.given, rho, A, B, *self.sizes(len(rho)))
        return A, B

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        (rho,) = inputs
        found = torch.zeros(rho.shape, dtype=torch.float64)
        assert _PROGRESS_ADJOINT is not None
        _PROGRESS_ADJOINT(*self.given, *gradients, found, *self.sizes(len(rho)))
        return (found,)


class _Motion(_Steps):
    """`motion_plain`, compiled; a `planner.compiled.stage.Stage`."""

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        count, fine = len(inputs[0]), len(self.grid.time)
        outputs = tuple(torch.empty(4, count, 2, fine, dtype=torch.float64).unbind(0))
        assert _MOTION is not None
        _MOTION(*self.given, *inputs, *outputs, *self.sizes(count))
        return outputs

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> Tensors:
        found = tuple(None if x is None else torch.zeros(x.shape, dtype=torch.float64) for x in inputs)
        assert _MOTION_ADJOINT is not None
        _MOTION_ADJOINT(*self.given, *inputs, *outputs[1:3], *gradients, *found, *self.sizes(len(inputs[0])))
        return found


_BUILD = compiled.kernel("dds_longitudinal_program", "ITT TTTTTT TTT TTTT RRRRRR nnnnn")
_BUILD_ADJOINT = compiled.kernel("dds_longitudinal_program_adjoint", "ITT TTTTTT TTT TTTT TTTTTT RRRRRR RRR RRRR nnnnn")
_PROGRESS = compiled.kernel("dds_progress", "fI T RR nnnn")
_PROGRESS_ADJOINT = compiled.kernel("dds_progress_adjoint", "fI TT R nnnn")
_MOTION = compiled.kernel("dds_longitudinal_motion", "fI TTTTT RRRR nnnn")
_MOTION_ADJOINT = compiled.kernel("dds_longitudinal_motion_adjoint", "fI TTTTT TT TTTT RRRRR nnnn")
