"""The vectorised scene: everything the planner knows, and all that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from planner.scene import frames
from planner.scene.agents import AgentFutures, AgentTracks
from planner.scene.ego import EgoState
from planner.scene.polylines import MapPolylines, Route
from planner.scene.tensor_data import TensorData
from planner.scene.trajectory import Trajectory


@dataclass
class EgoProposal(TensorData):
    """What a network may suggest; it can rank and weigh, never enlarge what is allowed.

    reference: a trajectory that pulls (`planner.config.Tracking`). cost_weight: positive factors on the planner's
    cost terms, in the order of `planner.config.CostWeights`, ``W`` of them.
    decision_logit: preference per kind of decision, in the order yield, hold, pass, left, right,
    oncoming; it moves the candidates' costs (`planner.config.Decisions.proposal_cost`), never what is allowed.
    """

    reference: Trajectory | None = None
    cost_weight: Float[Tensor, "*batch W"] | None = None
    decision_logit: Float[Tensor, "*batch D"] | None = None

    def transformed(self, new_from_old: Float[Tensor, " 3"]) -> EgoProposal:
        """The same proposal seen from another frame."""
        if (path := self.reference) is None:
            return self
        xy = frames.transform_points(new_from_old, path.xy)
        yaw = frames.wrap_angle(path.yaw + new_from_old[2])
        return self.replace(reference=path.replace(x=xy[..., 0], y=xy[..., 1], yaw=yaw))


@dataclass
class VectorScene(TensorData):
    """One scene, or a batch of scenes, in the ego frame at the scene's time.

    ego frame: origin on the ground under the rear axle, x forward, y left.
    global_from_ego: pose ``[..., 3]`` (x m, y m, yaw rad) that leads back to the map's frame.
    `ego.x`, `ego.y`, `ego.yaw` are therefore zero; `ego.time_us` is the scene's time.
    futures: same agents, same order as `agents`.
    """

    ego: EgoState
    agents: AgentTracks
    futures: AgentFutures
    map: MapPolylines
    route: Route
    global_from_ego: Float[Tensor, "*batch 3"]
    proposal: EgoProposal | None = None
    name: str | tuple[Any, ...] = ""

    def _validate_values(self, path: str) -> None:
        tracks, futures = self.agents.box.shape[-2], self.futures.mean.shape[-4]
        if tracks != futures:
            raise ValueError(f"{path}.futures: expected forecasts for {tracks} agents, got {futures}")

    def transformed(self, new_from_old: Float[Tensor, " 3"]) -> VectorScene:
        """The same scene seen from another frame: every coordinate moved, `global_from_ego` adjusted.

        Used to test invariance: a plan must move with its scene.
        """
        pose, yaw = new_from_old, new_from_old[2]
        point = lambda xy: frames.transform_points(pose, xy)  # noqa: E731
        turn = lambda angle: frames.wrap_angle(angle + yaw)  # noqa: E731
        ego_xy = point(torch.stack([self.ego.x, self.ego.y], -1))
        box = self.agents.box
        r = self.route
        old_from_new = frames.inverse(new_from_old)
        return self.replace(
            ego=self.ego.replace(x=ego_xy[..., 0], y=ego_xy[..., 1], yaw=turn(self.ego.yaw)),
            agents=self.agents.replace(
                box=torch.cat([point(box[..., :2]), turn(box[..., 2:3]), box[..., 3:]], -1),
                velocity=frames.transform_vectors(yaw, self.agents.velocity),
                position_covariance=frames.transform_covariance(yaw, self.agents.position_covariance),
            ),
            futures=self.futures.replace(
                mean=point(self.futures.mean),
                yaw=turn(self.futures.yaw),
                covariance=frames.transform_covariance(yaw, self.futures.covariance),
            ),
            map=self.map.replace(xy=point(self.map.xy)),
            route=r.replace(xy=point(r.xy), alternative=None if r.alternative is None else point(r.alternative)),
            global_from_ego=frames.compose(self.global_from_ego, old_from_new.expand_as(self.global_from_ego)),
            proposal=None if self.proposal is None else self.proposal.transformed(new_from_old),
        )
