"""Losses through the planner: perceive, plan with what was perceived, and judge the plan by what was really there.

imitation: how far the plan is from what the expert drove. regret: how much closer the plan comes to the true others
than a plan made with perfect perception. Gradients reach boxes, existence, futures and the ego's proposal through the
convex programs (`planner.qp.layer`); candidates whose gradient cannot be trusted are masked and counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perception.calibration import Calibration
from perception.config import PerceptionConfig
from perception.decode import DecodeConfig, decode_agents, decode_ego
from perception.losses import LossWeights
from perception.network import NetworkInputs, NetworkOutputs
from planner.batch_plan import BatchPlan
from planner.plan import ConvexPlanner
from planner.scene import VectorScene, VehicleParameters

MOST_AGENTS = 24
"""Of each scene: the most certain ones; the planner's time grows with their number."""
MARGIN = 1.0
"""m: closer than this to somebody costs."""
TEMPERATURE = 1.0


class PlanningLoss:
    """Asks the planner; nothing is learned in here."""

    def __init__(
        self, weights: LossWeights, config: PerceptionConfig, vehicle: VehicleParameters | None = None
    ) -> None:
        self.wanted = weights.imitation > 0 or weights.regret > 0
        self.config, self.vehicle = config, vehicle or VehicleParameters()
        self.settings = DecodeConfig(existence=0.05, most=MOST_AGENTS)
        self.planner = ConvexPlanner(vehicle=self.vehicle)

    def __call__(
        self, outputs: NetworkOutputs, inputs: NetworkInputs, scenes: list[VectorScene | None]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Terms `imitation` and `regret` ``[B]`` (zero where masked), and the share of masked samples."""
        zero = outputs.agents.box.new_zeros(len(scenes), dtype=torch.float32)
        sound = torch.stack([x.detach().flatten(1).isfinite().all(1) for x in _raw(outputs)]).all(0).tolist()
        able = [
            b
            for b, s in enumerate(scenes)
            if sound[b] and s is not None and s.proposal is not None and s.proposal.reference is not None
        ]
        if not able:
            return {"imitation": zero, "regret": zero.clone()}, {"planner/masked": 1.0}
        true = VectorScene.stack([scenes[b].replace(proposal=None, name="") for b in able])  # type: ignore[union-attr]
        perceived = self._perceived(outputs, inputs, true, able)
        plans = self.planner.plan_batch(perceived)
        with torch.no_grad():
            best = self.planner.plan_batch(true)
        share, told = _shares(plans)
        expert, valid = self._expert([scenes[b] for b in able])  # type: ignore[misc]
        index = (true.futures.time[0] / 0.1).round().long()
        away = (plans.trajectory.xy[:, index] - expert[plans.scene]).norm(dim=-1) * valid[plans.scene]
        apart = away.sum(1) / valid[plans.scene].sum(1).clamp(min=1)
        imitation = _per_scene(share * torch.where(share > 0, apart, 0.0), plans)
        danger = _per_scene(share * torch.where(share > 0, self._danger(plans, true, index), 0.0), plans)
        with torch.no_grad():
            own, _ = _shares(best)
            least = _per_scene(own * torch.where(own > 0, self._danger(best, true, index), 0.0), best)
        where = torch.tensor(able)
        out = {
            "imitation": zero.clone().index_put((where,), (imitation * told).float().to(zero.device)),
            "regret": zero.clone().index_put((where,), ((danger - least) * told).float().to(zero.device)),
        }
        return out, {"planner/masked": 1.0 - float(told.sum()) / len(scenes)}

    def _perceived(
        self, outputs: NetworkOutputs, inputs: NetworkInputs, true: VectorScene, able: list[int]
    ) -> VectorScene:
        """The true scenes with agents, futures and proposal exchanged for what the network says; on the CPU."""
        agents, ahead = decode_agents(outputs.agents, self.config, self.settings, Calibration())
        proposal = decode_ego(outputs.ego, inputs, self.config)
        agents, ahead, proposal = agents[able].to("cpu"), ahead[able].to("cpu"), proposal[able].to("cpu")
        number = torch.arange(agents.valid.shape[1]).expand_as(agents.track_id).contiguous()
        return true.replace(agents=agents.replace(track_id=number), futures=ahead, proposal=proposal)

    def _expert(self, scenes: list[VectorScene]) -> tuple[Tensor, Tensor]:
        """Where the expert was at the forecasts' times ``[S, T, 2]`` (m), and whether it is known ``[S, T]``."""
        time = scenes[0].futures.time
        xy, valid = [], []
        for scene in scenes:
            assert scene.proposal is not None
            assert scene.proposal.reference is not None
            reference = scene.proposal.reference
            step = (time / (reference.time[1] - reference.time[0])).round().long()
            inside = step < len(reference.time)
            xy.append(reference.xy[step.clamp(max=len(reference.time) - 1)])
            valid.append(inside.double())
        return torch.stack(xy), torch.stack(valid)

    def _danger(self, plans: BatchPlan, true: VectorScene, index: Tensor) -> Tensor:
        """``[R]``: mean over time of the squared lack of MARGIN (m) between ego's disks and the others' true boxes."""
        motion, vehicle = plans.trajectory, self.vehicle
        yaw = motion.yaw[:, index]
        reach = torch.linspace(-vehicle.rear + vehicle.width / 2, vehicle.front - vehicle.width / 2, 3).double()
        ahead = torch.stack([yaw.cos(), yaw.sin()], -1)
        disk = motion.xy[:, index, None] + reach[:, None] * ahead[:, :, None]  # [R, T, 3, 2]
        future, scene = true.futures, plans.scene
        center, turn = future.mean[:, :, 0][scene], future.yaw[:, :, 0][scene]  # [R, A, T, ...]
        half = true.agents.box[scene, :, None, None, 3:] / 2
        away = disk[:, None] - center[:, :, :, None]
        cos, sin = turn.cos()[..., None], turn.sin()[..., None]
        local = (
            torch.stack([cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]], -1).abs()
            - half
        )
        outside = local.clamp(min=0).square().sum(-1).add(1e-9).sqrt()
        gap = outside + local.amax(-1).clamp(max=0) - vehicle.width / 2
        there = (future.valid[:, :, 0] & true.agents.valid[..., None])[scene]
        lack = (MARGIN - gap.amin(-1)).clamp(min=0).square() * there
        return lack.sum(1).mean(-1)


def _shares(plans: BatchPlan) -> tuple[Tensor, Tensor]:
    """Softmin weights ``[R]`` over the trusted candidates, and which scenes have any ``[S]``."""
    weight = plans.weights(TEMPERATURE) * plans.trusted
    whole = _per_scene(weight, plans)
    told = (whole > 1e-3).double()
    return weight / whole.clamp(min=1e-3)[plans.scene] * told[plans.scene], told


def _per_scene(values: Tensor, plans: BatchPlan) -> Tensor:
    return values.new_zeros(plans.count).index_add(0, plans.scene, values)


def _raw(outputs: NetworkOutputs) -> list[Tensor]:
    """What goes into the plan, batch first: the planner refuses scenes that hold NaN."""
    agents, ego = outputs.agents, outputs.ego
    return [agents.class_logit, agents.box, agents.future, agents.mode_logit, ego.weight, ego.decision, ego.motion]
