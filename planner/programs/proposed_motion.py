"""A proposed motion as something the programs can follow: Frenet references and weights at the nodes.

What is proposed is joined to ego's present state and read between its points as a cubic Hermite curve.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.config import PlannerConfig, Tracking
from planner.grid import make_grid
from planner.path.reference_path import ReferencePath
from planner.programs.lateral import LateralBounds
from planner.programs.longitudinal import LongitudinalBounds
from planner.programs.tracking import TrackingReference
from planner.scene import EgoState, Trajectory, VectorScene
from planner.scene.frames import wrap_angle

WALKING = 1.0
"""m/s: below about this speed the direction of motion says little, and the weight on the heading fades out."""
_TINY = 1e-9


@dataclass
class ProposedMotion:
    """K points of S proposals, ego's state first: time ``[S, K]`` s, xy ``[S, K, 2]`` m, velocity ``[S, K, 2]`` m/s."""

    time: Float[Tensor, "S K"]
    xy: Float[Tensor, "S K 2"]
    velocity: Float[Tensor, "S K 2"]

    def at(self, time: Float[Tensor, "S N"]) -> tuple[Tensor, Tensor]:
        """Position (m) and velocity (m/s) ``[S, N, 2]``; beyond the last point those of the last."""
        i = torch.searchsorted(self.time.detach(), time.detach().contiguous(), right=True) - 1
        i = i.clamp(0, self.time.shape[1] - 2)
        begin, length = self.time.gather(1, i), self.time.diff(dim=1).gather(1, i)
        u, h = ((time - begin) / length).clamp(0, 1)[..., None], length[..., None]
        pick = i[..., None].expand(-1, -1, 2)
        p0, p1 = self.xy.gather(1, pick), self.xy.gather(1, pick + 1)
        m0, m1 = h * self.velocity.gather(1, pick), h * self.velocity.gather(1, pick + 1)
        square, cubic = 3 * (p1 - p0) - 2 * m0 - m1, 2 * (p0 - p1) + m0 + m1
        return p0 + u * (m0 + u * (square + u * cubic)), (m0 + u * (2 * square + 3 * u * cubic)) / h


def from_trajectory(proposed: Trajectory, ego: EgoState) -> ProposedMotion:
    """Of S trajectories. Entries at time 0 are left out: ego is where it is.

    Raises ValueError naming the field for NaN, times that do not increase after 0, and shapes that do not fit.
    """
    if proposed.batch_shape != ego.batch_shape:
        raise ValueError(f"proposed: expected batch axes {ego.batch_shape} as the scenes, got {proposed.batch_shape}")
    proposed = proposed.validate().double()
    heading = torch.stack([torch.cos(proposed.yaw), torch.sin(proposed.yaw)], -1)
    return _joined(proposed.time, proposed.xy, proposed.v[..., None] * heading, ego)


def from_points(xy: Float[Tensor, "S T 2"], time: Tensor, ego: EgoState) -> ProposedMotion:
    """Of positions (m) ``[S, T, 2]`` at times (s) ``[T]`` or ``[S, T]``; velocities by differences. Errors as above."""
    count = len(ego.x)
    if xy.ndim != 3 or xy.shape[0] != count or xy.shape[-1] != 2:
        raise ValueError(f"proposed: expected shape ({count}, T, 2), got {tuple(xy.shape)}")
    if time.shape not in (xy.shape[1:2], xy.shape[:2]):
        raise ValueError(f"time: expected shape ({xy.shape[1]},) or {tuple(xy.shape[:2])}, got {tuple(time.shape)}")
    for name, value in (("proposed", xy), ("time", time)):
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ValueError(f"{name}: expected finite numbers, got {bad} NaN or infinite of {value.numel()}")
    return _joined(time.double().expand(xy.shape[:2]), xy.double(), None, ego)


def _joined(time: Tensor, xy: Tensor, velocity: Tensor | None, ego: EgoState) -> ProposedMotion:
    """Ego's state, then what is proposed after it."""
    skip = int(time.shape[1] > 0 and bool((time[:, 0] == 0).all()))
    time, xy = time[:, skip:], xy[:, skip:]
    if not time.shape[1]:
        raise ValueError("proposed: expected at least one entry after time 0, got none")
    zero = torch.zeros_like(time[:, :1])
    if not bool((time.diff(dim=1, prepend=zero) > 0).all()):
        raise ValueError("time: expected increasing times (s), the first 0 in all proposals or in none")
    here = ego.v[:, None] * torch.stack([torch.cos(ego.yaw), torch.sin(ego.yaw)], -1)
    time = torch.cat([zero, time], 1)
    xy = torch.cat([torch.stack([ego.x, ego.y], -1)[:, None], xy], 1)
    after = _differences(time, xy, here) if velocity is None else velocity[:, skip:]
    return ProposedMotion(time.contiguous(), xy, torch.cat([here[:, None], after], 1))


def _differences(time: Tensor, xy: Tensor, here: Tensor) -> Tensor:
    """Velocities at all points but the first, by parabolas through three; the last continues the parabola before it."""
    h = time.diff(dim=1)[..., None]
    slope = xy.diff(dim=1) / h
    inner = (h[:, 1:] * slope[:, :-1] + h[:, :-1] * slope[:, 1:]) / (h[:, 1:] + h[:, :-1])
    before = inner[:, -1] if inner.shape[1] else here
    return torch.cat([inner, (2 * slope[:, -1] - before)[:, None]], 1)


def follow(
    motion: ProposedMotion,
    path: ReferencePath,
    weight: Float[Tensor, "*S 4"] | None,
    tracking: Tracking,
    config: PlannerConfig,
) -> TrackingReference:
    """References at the nodes of S scenes, with weights on the squares of s (m), v (m/s), d (m) and psi (rad).

    weight: in place of those of `tracking`, for all scenes or for each; zero beyond the end of what is proposed.
    Raises ValueError for weights that are negative or not finite, and for motions that end before the first node.
    """
    if weight is None:
        numbers = [tracking.position, tracking.speed, tracking.offset, tracking.heading]
        weight = torch.tensor(numbers, dtype=torch.float64)
    if weight.shape[-1:] != (4,) or not bool((torch.isfinite(weight) & (weight >= 0)).all()):
        raise ValueError(f"weight: expected 4 finite numbers >= 0 for s, v, d and psi, got {weight.tolist()}")
    count = len(motion.time)
    node = make_grid(config.horizon).node_time.expand(count, -1)
    if bool((motion.time[:, -1] < node[:, 0] - 1e-6).any()):
        raise ValueError(f"time: expected proposals that reach {float(node[0, 0])} s")
    xy, velocity = motion.at(node)
    frenet = path.locate(xy)
    speed = (velocity.square().sum(-1) + _TINY).sqrt()
    moves = speed > 1e-3
    yaw = torch.atan2(torch.where(moves, velocity[..., 1], 0.0), torch.where(moves, velocity[..., 0], 1.0))
    psi = wrap_angle(yaw - frenet.heading)
    said = (node <= motion.time[:, -1:] + 1e-6).double()
    w_s, w_v, w_d, w_psi = (weight.double().expand(count, 4)[..., None] * said[:, None]).unbind(1)
    w_psi = w_psi * speed**2 / (speed**2 + WALKING**2)
    return TrackingReference(frenet.s, speed, frenet.d, psi, w_s, w_v, w_d, w_psi, tracking.comfort)


def proposed_reference(scenes: VectorScene, path: ReferencePath, config: PlannerConfig) -> TrackingReference | None:
    """Of the scenes' own learned references (`EgoProposal.reference`); None where they have none."""
    if scenes.proposal is None or scenes.proposal.reference is None:
        return None
    motion = from_trajectory(scenes.proposal.reference, scenes.ego)
    return follow(motion, path, None, config.tracking, config)


def of_candidates(
    reference: TrackingReference, scene: Int[Tensor, " R"], hold: Bool[Tensor, " R"]
) -> TrackingReference:
    """The references of the scenes, for each candidate; one that means to stand still follows nothing."""
    goes = (~hold).double()[:, None]
    picked: dict[str, Any] = {}
    for field in fields(reference):
        value = getattr(reference, field.name)
        if isinstance(value, Tensor):
            picked[field.name] = value[scene] * goes if field.name.startswith("weight") else value[scene]
    return replace(reference, **picked)


def beside_own_speed(
    reference: TrackingReference, weights: Float[Tensor, "R W"], bounds: LongitudinalBounds
) -> TrackingReference:
    """Also stay close to the planner's own speed: w (x - a)^2 + u (x - b)^2 is one square and a constant."""
    weight, v = _two_squares(reference.weight_v, reference.v, reference.comfort * weights[:, :1], bounds.v_ref)
    return replace(reference, weight_v=weight, v=v)


def beside_own_offset(
    reference: TrackingReference, weights: Float[Tensor, "R W"], bounds: LateralBounds
) -> TrackingReference:
    """Also stay close to the planner's own offset and heading."""
    own = reference.comfort * weights[:, 4:6, None]
    weight_d, d = _two_squares(reference.weight_d, reference.d, own[:, 0], bounds.d_ref[:, 0])
    weight_psi, psi = _two_squares(reference.weight_psi, reference.psi, own[:, 1], bounds.slope_ref[:, 0])
    return replace(reference, weight_d=weight_d, d=d, weight_psi=weight_psi, psi=psi)


def _two_squares(one: Tensor, a: Tensor, two: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    weight = one + two
    return weight, (one * a + two * b) / weight
