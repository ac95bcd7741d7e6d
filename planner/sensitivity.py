"""How a plan changes with one road user's state: the gradient of the whole planner, written for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import PlannerConfig
from planner.result import PlanResult
from planner.scene import VectorScene, VehicleParameters
from planner.scene.frames import rotation

if TYPE_CHECKING:
    from planner.plan import PlannerMemory

PARAMETERS = ("x", "y", "yaw", "speed")
TIMES = (1.0, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Sensitivity:
    """Derivatives of the chosen plan with respect to one road user's state, in the scene's frame.

    The state is (x m, y m, yaw rad, speed m/s) in the order of PARAMETERS; its box and all its futures move with it:
    shifted, turned about its centre, and driven along faster. cost ``[4]``. time ``[P]`` s; x, y (m), v (m/s)
    ``[P, 4]``: of ego at these times.
    trusted: the gradient is exact; False where a row is at a kink or the solver's gradient was refused (zeros).
    """

    track_id: int
    cost: Float[Tensor, " 4"]
    time: Float[Tensor, " P"]
    x: Float[Tensor, "P 4"]
    y: Float[Tensor, "P 4"]
    v: Float[Tensor, "P 4"]
    trusted: bool

    def explain(self) -> str:
        """One sentence: the strongest effect on cost, and what a metre of it does to ego's speed."""
        per_metre = self.cost[:2]
        norm = float(per_metre.norm())
        if norm < 1e-9 and float(self.cost.abs().max()) < 1e-9:
            return f"The plan does not depend on object {self.track_id}."
        direction = per_metre / max(norm, 1e-12)
        slower = (self.v[:, :2] @ direction).tolist()
        strongest = max(range(len(slower)), key=lambda i: abs(slower[i]))
        return (
            f"One metre of error in the position of object {self.track_id}, in the worst direction, costs {norm:.2f} "
            f"and changes ego's speed by {slower[strongest]:+.2f} m/s at {float(self.time[strongest]):.0f} s."
        )


def replay_sensitivity(
    scene: VectorScene,
    memory: PlannerMemory,
    config: PlannerConfig,
    vehicle: VehicleParameters,
    result: PlanResult,
    track_id: int,
) -> Sensitivity:
    """Plan the scene again with gradients, under the chosen decision. Raises ValueError for an unknown track."""
    from planner.plan import plan_scenes

    with torch.enable_grad():
        shift = torch.zeros(len(PARAMETERS), dtype=torch.float64, requires_grad=True)
        moved = displaced(scene.double().detach(), track_id, shift)
        batch = plan_scenes(moved.apply(lambda t: t[None]), [memory], config, vehicle)
        assert result.chosen is not None
        row = batch.candidates.text.index(result.chosen.decision)
        path = batch.trajectory[row]
        at = [int(torch.searchsorted(path.time.detach(), t - 1e-6)) for t in TIMES if t <= float(path.time[-1]) + 1e-6]
        columns = [batch.cost[row : row + 1], path.x[at], path.y[at], path.v[at]]
        values = torch.cat(columns)
        rows = [_gradient(value, shift) for value in values]
    table = torch.stack(rows)
    count = len(at)
    return Sensitivity(
        track_id, table[0], path.time[at].detach(), table[1 : 1 + count], table[1 + count : 1 + 2 * count],
        table[1 + 2 * count :], bool(batch.trusted[row]),
    )  # fmt: skip


def displaced(scene: VectorScene, track_id: int, shift: Float[Tensor, " 4"]) -> VectorScene:
    """A single scene with one road user moved by (dx, dy, dyaw, dspeed), box and futures alike; differentiable.

    Raises ValueError for an unknown track id.
    """
    match = (scene.agents.track_id == track_id) & scene.agents.valid
    if not bool(match.any()):
        raise ValueError(f"track_id: no valid road user {track_id} in the scene")
    one = match.double()
    agents, futures = scene.agents, scene.futures
    center = agents.box[match, :2][0]
    turn = rotation(shift[2])
    box_shift = torch.cat([shift[:3], torch.zeros(2, dtype=shift.dtype)])
    faced = agents.box[..., 2] + shift[2]
    velocity = agents.velocity @ turn.T + shift[3] * torch.stack([torch.cos(faced), torch.sin(faced)], -1)
    ahead = torch.stack([torch.cos(futures.yaw + shift[2]), torch.sin(futures.yaw + shift[2])], -1)
    mean = (futures.mean - center) @ turn.T + center + shift[:2] + shift[3] * futures.time[:, None] * ahead
    pick = one[:, None]
    return scene.replace(
        agents=agents.replace(
            box=agents.box + pick * box_shift, velocity=torch.where(pick > 0, velocity, agents.velocity)
        ),
        futures=futures.replace(
            mean=torch.where(pick[..., None, None] > 0, mean, futures.mean),
            yaw=futures.yaw + pick[..., None] * shift[2],
        ),
    )


def _gradient(value: Tensor, shift: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(shift)
    (gradient,) = torch.autograd.grad(value, shift, retain_graph=True, allow_unused=True)
    return torch.zeros_like(shift) if gradient is None else gradient
