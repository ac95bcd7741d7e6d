"""An adversary who drives another road user so that ego runs into it: by gradient, and by search.

The adversary's controls are displacements (m) along and across its recorded motion at the knots of a cubic B-spline, in
torch. **What is differentiated:** the soft minimum over time of the distance between its discs and those of ego as ego
last drove, with respect to the controls. Ego's reaction is not differentiated: after each round ego is driven again in
closed loop against the new motion, and the gradient is taken anew. The search (`eval.studies.search`) needs no gradient
and sees only the margins of such drives.

Bounds, kept exactly by shrinking the controls: displacement at most `budget` (m; the spline stays in the hull of its
controls), added acceleration and braking of the class, 3 m/s^2 sideways, and a realism budget: root mean square of the
added acceleration at most `REALISM`. The first instants are as recorded. Nobody drives backwards because of this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from eval.simulation.trace import Trace
from eval.studies.fault_base import Fault
from perception.recording import AgentLog, Recording
from planner.scene import AgentClass

KNOT = 0.8  # s between knots
SIDEWAYS = 3.0  # m/s^2
REALISM = 1.5  # m/s^2, root mean square
STEPS, RATE = 80, 0.15  # of the gradient descent
SHARPNESS = 2.0  # m, of the soft minimum over time
_BOUNDS = {AgentClass.PEDESTRIAN: (1.5, 3.0), AgentClass.BICYCLE: (1.5, 4.0)}  # acceleration, braking, m/s^2
_VEHICLE_BOUNDS = (2.5, 8.0)


@dataclass(frozen=True)
class Rollout:
    """The adversary's recorded motion: arc ``[T]``, path ``[P, 2]`` with its arc ``[P]``. bounds: largest added
    acceleration and braking (m/s^2)."""

    agent: int
    arc: Tensor
    path: Tensor
    path_arc: Tensor
    dt: float
    bounds: tuple[float, float]

    @property
    def knots(self) -> int:
        """Number of free controls per direction."""
        return max(int(np.ceil((len(self.arc) - 1) * self.dt / KNOT)), 1)

    @cached_property
    def basis(self) -> Tensor:
        """``[K, T]``: uniform cubic B-splines; those that move the first instants are left out."""
        u = torch.arange(len(self.arc), dtype=torch.float64) * self.dt / KNOT
        x = (u[None] - torch.arange(self.knots, dtype=torch.float64)[:, None] - 2.0).abs()
        inner, outer = 2 / 3 - x**2 + x**3 / 2, (2 - x) ** 3 / 6
        return torch.where(x < 1, inner, torch.where(x < 2, outer, torch.zeros_like(x)))

    def deviation(self, controls: Tensor) -> tuple[Tensor, Tensor]:
        """Controls ``[2, K]`` (m) -> displacement ``[2, T]`` (m) and added acceleration ``[2, T - 2]`` (m/s^2)."""
        moved = controls @ self.basis
        return moved, torch.diff(moved, n=2, dim=1) / self.dt**2

    def motion(self, controls: Tensor) -> Tensor:
        """Box centres ``[T, 2]``, differentiable in the controls."""
        moved, _ = self.deviation(controls)
        return self.place(torch.cummax(self.arc + moved[0], 0).values, moved[1])

    def place(self, arc: Tensor, left: Tensor) -> Tensor:
        """Points on the path at arc lengths, shifted to the left (m); beyond its ends straight on."""
        i = torch.searchsorted(self.path_arc, arc.detach().contiguous()).clamp(1, len(self.path_arc) - 1)
        step = self.path[i] - self.path[i - 1]
        length = self.path_arc[i] - self.path_arc[i - 1]
        unit = step / length[:, None]
        along = self.path[i - 1] + unit * (arc - self.path_arc[i - 1])[:, None]
        return along + left[:, None] * torch.stack([-unit[:, 1], unit[:, 0]], -1)

    def bounded(self, controls: Tensor, budget: float) -> Tensor:
        """The controls, shrunk until every bound holds: displacement and acceleration are linear in them."""
        accelerates, brakes = self.bounds
        _, a = self.deviation(controls.detach())
        shares = [
            budget / controls.detach().norm(dim=0).max().clamp(min=1e-9),
            REALISM / (a**2).sum(0).mean().sqrt().clamp(min=1e-9),
            accelerates / a[0].max().clamp(min=1e-9),
            brakes / (-a[0]).max().clamp(min=1e-9),
            SIDEWAYS / a[1].abs().max().clamp(min=1e-9),
        ]
        return controls * min(1.0, *(float(share) for share in shares))


def adversary_of(recording: Recording, driven: Trace) -> Rollout | None:
    """The moving road user that came nearest to ego, None where nobody moves."""
    agents, steps = recording.agents, len(driven.time)
    best, found = np.inf, None
    for i in range(len(agents)):
        there = agents.valid[i, :steps]
        if not there.all() or agents.agent_class[i] == AgentClass.STATIC:
            continue
        xy = agents.pose[i, :, :2]
        if np.hypot(*np.diff(xy[:steps], axis=0).T).sum() < 2.0:
            continue
        away = xy[:steps] - driven.pose[:, :2]
        forward = (away * np.stack([np.cos(driven.pose[:, 2]), np.sin(driven.pose[:, 2])], -1)).sum(1)
        nearest = np.where(forward > 0.0, np.hypot(*away.T), np.inf).min()
        if nearest < best:
            best, found = nearest, i
    return None if found is None else _rollout(recording, found)


def _rollout(recording: Recording, agent: int) -> Rollout:
    agents = recording.agents
    there = np.flatnonzero(agents.valid[agent])
    xy = agents.pose[agent, there, :2]
    step = np.hypot(*np.diff(xy, axis=0).T)
    arc = np.concatenate([[0.0], np.cumsum(step)])
    distinct = np.concatenate([[True], step > 1e-3])
    path, path_arc = xy[distinct], arc[distinct]
    # Straight on beyond the recorded end, so that hurrying does not lead off the path.
    unit = (path[-1] - path[-2]) / np.hypot(*(path[-1] - path[-2]))
    path, path_arc = np.concatenate([path, [path[-1] + 50 * unit]]), np.append(path_arc, path_arc[-1] + 50)
    f = lambda x: torch.from_numpy(np.ascontiguousarray(x)).double()  # noqa: E731
    kind = AgentClass(int(agents.agent_class[agent]))
    bounds = _BOUNDS.get(kind, _VEHICLE_BOUNDS)
    return Rollout(agent, f(arc), f(path), f(path_arc), recording.dt, bounds)


def worst_controls(
    recording: Recording, driven: Trace, rollout: Rollout, budget: float, start: Tensor | None = None
) -> Tensor:
    """Controls ``[2, K]`` that bring the adversary nearest to ego as driven, by projected gradient descent (Adam)."""
    controls = torch.zeros(2, rollout.knots, dtype=torch.float64) if start is None else start.clone()
    controls.requires_grad_(True)
    optimiser = torch.optim.Adam([controls], lr=RATE)
    best, worst = controls.detach().clone(), np.inf
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = soft_distance(recording, driven, rollout, controls)
        loss.backward()  # type: ignore[no-untyped-call]
        if (now := float(loss.detach())) < worst:
            worst, best = now, controls.detach().clone()
        optimiser.step()
        with torch.no_grad():
            controls.copy_(rollout.bounded(controls, budget))
    return rollout.bounded(best, budget)


def soft_distance(recording: Recording, driven: Trace, rollout: Rollout, controls: Tensor) -> Tensor:
    """Soft minimum (m) over time and discs of the gap between the adversary's motion and ego's driven one."""
    steps = min(len(driven.time), len(rollout.arc))
    centre = rollout.motion(controls)[:steps]
    heading = torch.from_numpy(recording.agents.pose[rollout.agent, :steps, 2].copy())
    length, width = recording.agents.size[rollout.agent]
    theirs, radius = _discs(centre, heading, float(length), float(width))
    pose = torch.from_numpy(driven.pose[:steps].copy())
    vehicle = recording.vehicle
    middle = pose[:, :2] + vehicle.rear_axle_to_center * torch.stack([pose[:, 2].cos(), pose[:, 2].sin()], -1)
    ours, own = _discs(middle, pose[:, 2], vehicle.length, vehicle.width)
    gap = (theirs[:, :, None] - ours[:, None, :]).norm(dim=-1) - radius - own
    return -SHARPNESS * torch.logsumexp(-gap.flatten() / SHARPNESS, 0)


def _discs(centre: Tensor, yaw: Tensor, length: float, width: float) -> tuple[Tensor, float]:
    """Three discs ``[T, 3, 2]`` that cover a rectangle, and their radius (m)."""
    offsets = torch.tensor([-length / 3, 0.0, length / 3], dtype=torch.float64)
    unit = torch.stack([yaw.cos(), yaw.sin()], -1)
    return centre[:, None] + offsets[:, None] * unit[:, None], float(np.hypot(length / 6, width / 2))


def perturbed(recording: Recording, rollout: Rollout, controls: Tensor) -> Recording:
    """The recording with the adversary on its new motion; heading and velocity follow the way it goes."""
    a, i = recording.agents, rollout.agent
    there = np.flatnonzero(a.valid[i])
    xy = rollout.motion(controls.detach()).numpy()
    pose, velocity = a.pose.copy(), a.velocity.copy()
    moved = np.gradient(xy, recording.dt, axis=0)
    old = np.gradient(a.pose[i, there, :2], recording.dt, axis=0)
    turn = np.where(
        (np.hypot(*moved.T) > 0.5) & (np.hypot(*old.T) > 0.5),
        np.arctan2(moved[:, 1], moved[:, 0]) - np.arctan2(old[:, 1], old[:, 0]), 0.0,
    )  # fmt: skip
    pose[i, there, :2], velocity[i, there] = xy, moved
    pose[i, there, 2] += (turn + np.pi) % (2 * np.pi) - np.pi
    agents = AgentLog(a.id, a.track_id, a.agent_class, a.size, a.height, pose, velocity, a.valid)
    return replace(recording, agents=agents).validate()


def attacked(recording: Recording, driven: Trace, fault: Fault) -> Recording:
    """Row 17 of the fault catalogue: one round of the gradient, with the fault's size as budget."""
    rollout = adversary_of(recording, driven)
    if rollout is None:
        return recording
    return perturbed(recording, rollout, worst_controls(recording, driven, rollout, fault.size))
