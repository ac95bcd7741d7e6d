"""Costs from a network: positive factors on the planner's weights, and a reference to stay close to, per scene.

    head = CostHead(features=64)
    batch = planner.plan_batch(scenes.replace(proposal=head(encoder(scenes))))

What a network says here ranks and weighs; the hard rows of the programs stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from planner.config import CostWeights, PlannerConfig
from planner.grid import make_grid
from planner.path.reference_path import build_reference_path
from planner.path.surface import start_state
from planner.scene import EgoProposal, Trajectory, VectorScene

WEIGHTS = tuple(f.name for f in fields(CostWeights))
"""Names of the cost terms, in the order of `EgoProposal.cost_weight`."""
SPEED_TIME = 2.0
"""s: over which the reference's speed approaches the one asked for (time constant)."""
OFFSET_TIME = 4.0
"""s: after which the reference is at the offset asked for."""


class CostHead(torch.nn.Module):
    """One linear layer from features ``[S, D]`` to an `EgoProposal` of S scenes; at first all factors are 1.

    span: factors lie in [1 / span, span], however large the features: log factor = log(span) tanh(raw / log(span)).
    references: also propose a speed, of 0 to 2 times the speed limit where ego is (at first 1), and an offset from the
    reference path within +-offset_max m (at first 0), as a trajectory that leads there (`cruise`); its weights
    are those of `PlannerConfig.tracking`.
    """

    def __init__(
        self,
        features: int,
        *,
        references: bool = False,
        span: float = 10.0,
        offset_max: float = 1.5,
        config: PlannerConfig | None = None,
    ) -> None:
        super().__init__()
        if not span > 1:
            raise ValueError(f"CostHead: expected span > 1, got {span}")
        self.references, self.span, self.offset_max = references, span, offset_max
        self.config = config or PlannerConfig()
        self.linear = torch.nn.Linear(features, len(WEIGHTS) + (2 if references else 0))
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, features: Float[Tensor, "S D"], scenes: VectorScene | None = None) -> EgoProposal:
        """The proposal of S scenes. scenes: needed for references; raises ValueError without them."""
        raw = self.linear(features).double()
        factors = positive(raw[:, : len(WEIGHTS)], self.span)
        if not self.references:
            return EgoProposal(cost_weight=factors)
        if scenes is None:
            raise ValueError("CostHead: references need the scenes")
        speed, offset = 2 * torch.sigmoid(raw[:, -2]), self.offset_max * torch.tanh(raw[:, -1] / self.offset_max)
        return EgoProposal(cruise(scenes, speed, offset, self.config), factors)


def positive(raw: Tensor, span: float) -> Tensor:
    """Factors in [1 / span, span], 1 at 0, of slope 1 in the logarithm there."""
    limit = math.log(span)
    return torch.exp(limit * torch.tanh(raw / limit))


def cruise(
    scenes: VectorScene, speed: Float[Tensor, " S"], offset: Float[Tensor, " S"], config: PlannerConfig
) -> Trajectory:
    """Trajectories ``[S, F + 1]`` that approach `speed` (times the speed limit where ego is) and `offset` (m, left)."""
    scenes = scenes.double()
    path = build_reference_path(scenes.route)
    start = start_state(scenes, path)
    time = torch.cat([torch.zeros(1, dtype=torch.float64), make_grid(config.horizon).time]).expand(len(speed), -1)
    aim = (speed * path.attribute("speed_limit", start.s[:, None].detach())[:, 0])[:, None]
    change, fade = start.v[:, None] - aim, torch.exp(-time / SPEED_TIME)
    v, a = aim + change * fade, -change * fade / SPEED_TIME
    s = start.s[:, None] + aim * time + change * SPEED_TIME * (1 - fade)
    x = (time / OFFSET_TIME).clamp(max=1.0)
    ease = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    slope = -30 * x**2 * (1 - x) ** 2 / OFFSET_TIME
    aside = (start.d - offset)[:, None]
    _, heading, bend = path.evaluate(s)
    xy = path.to_cartesian(s, offset[:, None] + aside * ease)
    yaw = heading + torch.atan2(aside * slope, v.clamp(min=1.0))
    return Trajectory(time, xy[..., 0], xy[..., 1], yaw, v, a, bend)
