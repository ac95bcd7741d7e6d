"""Any proposed trajectory -> the nearest safe one, as a torch module: the planner as a projection.

proposal -> Frenet references -> the planner's decisions, each a convex program that stays close to the proposal
-> the solved one that is closest -> certificate. Gradients reach the proposal and the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from planner.batch_plan import BatchPlan
from planner.certificate import certificate
from planner.checker import CheckerConfig, check_prepared, prepare
from planner.config import PlannerConfig, Tracking
from planner.grid import make_grid
from planner.path.reference_path import build_reference_path
from planner.path.surface import start_state
from planner.plan import PlannerMemory, plan_scenes
from planner.programs.proposed_motion import ProposedMotion, follow, from_points, from_trajectory
from planner.programs.tracking import TrackingReference, per_node
from planner.result import Certificate
from planner.scene import Trajectory, VectorScene, VehicleParameters

CLOSE = Tracking(position=50.0, speed=25.0, offset=50.0, heading=50.0, comfort=0.05)
"""How a projection weighs deviations (see Tracking): the planner's own wishes fill in what the proposal leaves open."""
GAP = 0.01
"""Factor on the weight of the comfortable gap: how close to follow is the proposal's choice, within the hard rows."""


@dataclass
class SafeTrajectory:
    """Of S scenes; of a single scene without the scene axis (`decision` and `certificate` keep theirs).

    trajectory, tail ``[S, F + 1]``: the motion to drive, and how it comes to rest; zero but for `time` where not safe.
    safe ``[S]``: there is one that meets every hard row (and that the checker accepts, if it was asked).
    changed ``[S]``: largest distance (m) to the proposal at the proposal's own times; zero where not safe. No gradient.
    decision: the decision each obeys, "" where not safe. trusted ``[S]``: the gradient is exact; where it is False, it
    is zero or one-sided. plan: all candidates of all scenes. row ``[S]``: the one taken, -1 where not safe.
    """

    trajectory: Trajectory
    tail: Trajectory
    safe: Bool[Tensor, " S"]
    changed: Float[Tensor, " S"]
    trusted: Bool[Tensor, " S"]
    decision: list[str]
    plan: BatchPlan
    row: Int[Tensor, " S"]

    def certificate(self, scene: int = 0, tail: bool = False) -> Certificate | None:
        """Residuals and active rows of one scene's answer, recomputed outside the solver; None where not safe."""
        row = int(self.row.reshape(-1)[scene])
        return None if row < 0 else certificate(self.plan.programs, row, tail)


class SafetyLayer(torch.nn.Module):
    """Projects proposals onto what the planner's hard rows allow. Has no parameters.

    close: weights of the distance, unless `forward` is given others. check: of the candidates, in the order of their
    distance, take the first that `planner.checker` accepts with its tail (slower; no gradient of its own).
    """

    def __init__(
        self,
        config: PlannerConfig | None = None,
        vehicle: VehicleParameters | None = None,
        *,
        close: Tracking = CLOSE,
        check: bool = False,
        checker: CheckerConfig | None = None,
    ) -> None:
        super().__init__()
        config = config or PlannerConfig()
        weights = replace(config.weights, gap=GAP * config.weights.gap)
        # Where to be is the proposal's to say, beside somebody who drifts over, too.
        decisions = replace(config.decisions, room=0.0)
        self.config = replace(config, weights=weights, decisions=decisions)
        self.vehicle = vehicle or VehicleParameters()
        self.config.horizon.validate()
        self.close, self.checker = close, (checker or CheckerConfig()) if check else None

    def forward(
        self,
        scenes: VectorScene,
        proposed: Trajectory | Tensor,
        time: Tensor | None = None,
        weight: Tensor | None = None,
        memories: Sequence[PlannerMemory] | None = None,
    ) -> SafeTrajectory:
        """The safe trajectories closest to what is proposed, in the scenes' frames.

        scenes: S of them, or one without batch axis; then the other arguments have no scene axis either.
        proposed: trajectories of the rear axle on any time grid, or positions ``[S, T, 2]`` (m) at `time` ``[T]`` or
        ``[S, T]`` (s). Entries at time 0 are left out; beyond the last entry nothing is asked.
        weight ``[4]`` or ``[S, 4]``: on the squared distances in s (m), v (m/s), d (m) and psi (rad), per second.
        memories: of earlier cycles, one per scene; they decide for how long others have stood.

        Raises ValueError or TypeError for malformed input, NaN included. Never for a hard scene: `safe` tells.
        """
        scenes = scenes.validate()
        single = not scenes.batch_shape
        if single:
            scenes, proposed = scenes.apply(lambda t: t[None]), _with_axis(proposed)
        if len(scenes.batch_shape) != 1:
            raise ValueError(f"scenes: expected one batch axis or none, got {scenes.batch_shape}")
        scenes = scenes.double()
        motion = _motion(proposed, time, scenes)
        path = build_reference_path(scenes.route)
        reference = follow(motion, path, weight, self.close, self.config)
        memories = memories or [PlannerMemory()] * len(motion.time)
        plan = plan_scenes(scenes, memories, self.config, self.vehicle, tracking=reference)
        away = squared_distances(plan, reference, start_state(scenes, path).s, self.config)
        # Where the proposal does not care (standing still or driving on after its end), the planner's yardstick does.
        row = self._choose(scenes, plan, away + self.close.comfort * plan.cost.detach())
        answer = _answer(plan, row, motion)
        return _without_axis(answer) if single else answer

    def _choose(self, scenes: VectorScene, plan: BatchPlan, away: Float[Tensor, " R"]) -> Int[Tensor, " S"]:
        """Per scene the closest candidate that is solved (and accepted), -1 where there is none."""
        order = [i for i in away.argsort().tolist() if torch.isfinite(away[i])]
        of_scene: list[list[int]] = [[] for _ in range(plan.count)]
        for i, scene in zip(order, plan.scene[order].tolist()):
            of_scene[scene].append(i)
        if self.checker is None:
            return torch.tensor([rows[0] if rows else -1 for rows in of_scene])
        return torch.tensor([self._first_accepted(scenes[s], plan, rows) for s, rows in enumerate(of_scene)])

    def _first_accepted(self, scene: VectorScene, plan: BatchPlan, rows: list[int]) -> int:
        assert self.checker is not None
        scene = scene.apply(Tensor.detach)
        sets = prepare(scene, self.vehicle, self.checker)
        for row in rows:
            trajectory, tail = (t[row].apply(Tensor.detach) for t in (plan.trajectory, plan.tail))
            if check_prepared(sets, trajectory, tail, self.vehicle, self.checker).accepted:
                return row
        return -1


def squared_distances(
    plan: BatchPlan, reference: TrackingReference, start: Float[Tensor, " S"], config: PlannerConfig
) -> Float[Tensor, " R"]:
    """Of all candidates to the reference ``[S, N]`` of their scenes, in its weighted norm; infinite where not solved.

    start: s (m) of ego, from where the programs count.
    """
    grid, scene = make_grid(config.horizon), plan.scene
    nodes = slice(len(grid.node))
    with torch.no_grad():
        along, across = (p.solution.z[:, nodes] for p in plan.programs)
        found = {
            "s": along[..., 0] + start[scene, None],
            "v": along[..., 1],
            "d": across[..., 0],
            "psi": across[..., 1],
        }
        square = torch.zeros(len(scene), dtype=torch.float64)
        for name, value in found.items():
            wish = getattr(reference, name)
            weight = per_node(getattr(reference, "weight_" + name), wish)
            square += (weight[scene] * (value - wish[scene]) ** 2) @ grid.node_dt
        return torch.where(plan.solved, square, torch.inf)


def _answer(plan: BatchPlan, row: Int[Tensor, " S"], motion: ProposedMotion) -> SafeTrajectory:
    safe, pick = row >= 0, row.clamp(min=0)
    pair = []
    for whole in (plan.trajectory, plan.tail):
        taken = whole.apply(lambda t: t[pick])
        pair.append(replace(taken.apply(lambda t: torch.where(safe[:, None], t, 0.0)), time=taken.time))
    trajectory, tail = pair
    return SafeTrajectory(
        trajectory, tail, safe, torch.where(safe, _change(trajectory, motion), 0.0), plan.trusted[pick] & safe,
        [plan.candidates.text[i] if i >= 0 else "" for i in row.tolist()], plan, row,
    )  # fmt: skip


def _change(trajectory: Trajectory, motion: ProposedMotion) -> Float[Tensor, " S"]:
    """m: largest distance at the proposal's times, as far as the plan reaches."""
    with torch.no_grad():
        heading = torch.stack([torch.cos(trajectory.yaw), torch.sin(trajectory.yaw)], -1)
        driven = ProposedMotion(trajectory.time.contiguous(), trajectory.xy, trajectory.v[..., None] * heading)
        apart = (driven.at(motion.time)[0] - motion.xy).norm(dim=-1)
        return torch.where(motion.time <= trajectory.time[:, -1:] + 1e-6, apart, 0.0).amax(1)


def _motion(proposed: Trajectory | Tensor, time: Tensor | None, scenes: VectorScene) -> ProposedMotion:
    if isinstance(proposed, Trajectory):
        if time is not None:
            raise ValueError("time: expected None with a Trajectory, which has its own")
        return from_trajectory(proposed, scenes.ego)
    if time is None:
        raise ValueError("time: expected the times (s) of the proposed positions, got None")
    return from_points(proposed, time, scenes.ego)


def _with_axis(value: Trajectory | Tensor) -> Trajectory | Tensor:
    return value[None] if isinstance(value, Tensor) else value.apply(lambda t: t[None])


def _without_axis(answer: SafeTrajectory) -> SafeTrajectory:
    return replace(
        answer, trajectory=answer.trajectory[0], tail=answer.tail[0], safe=answer.safe[0], changed=answer.changed[0],
        trusted=answer.trusted[0], row=answer.row[0],
    )  # fmt: skip
