"""Imitation through the layer: a small network proposes, the layer makes it safe, the loss is on what comes out.

The gradient passes the layer, so the network learns what its proposals become.
"""

from __future__ import annotations

import torch
from road import road_scene
from torch import Tensor

from planner import ConvexPlanner, PlannerConfig
from planner.config import SolverConfig
from planner.safety_layer import SafeTrajectory, SafetyLayer
from planner.scene import VectorScene

TIME = torch.arange(1, 7, dtype=torch.float64) / 2  # s, of the proposals
BATCH, STEPS = 16, 40


def draw_scenes(count: int, random: torch.Generator) -> tuple[VectorScene, Tensor]:
    """Scenes with a leader in the lane or a car parked at its side, and what the network sees of them ``[S, 4]``."""
    rows = []
    for i in range(count):
        u = torch.rand(3, generator=random).tolist()
        v = 5.0 + 4.0 * u[0]
        rows.append((v, 24.0 + 12.0 * u[1], 0.0, 3.0 + 4.0 * u[2]) if i % 2 else (v, 20.0 + 15.0 * u[1], -1.9, 0.0))
    return VectorScene.stack([road_scene(v, x, y, vx) for v, x, y, vx in rows]), torch.tensor(rows)


class Imitator(torch.nn.Module):
    """Features -> positions ``[S, T, 2]`` as corrections of constant velocity; a new one proposes just that."""

    def __init__(self) -> None:
        super().__init__()
        last = torch.nn.Linear(32, 2 * len(TIME))
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), last)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> Tensor:
        scaled = (features - torch.tensor([7.0, 28.0, -1.0, 3.0])) / torch.tensor([2.0, 5.0, 1.0, 2.5])
        correction = self.layers(scaled).unflatten(1, (-1, 2)) * TIME[:, None].float()
        straight = torch.stack([features[:, :1] * TIME.float(), torch.zeros(len(features), len(TIME))], -1)
        return straight + correction


def expert(scenes: VectorScene) -> Tensor:
    """``[S, T, 2]``: what is imitated, here the planner's own plans."""
    with torch.no_grad():
        plans = ConvexPlanner().plan_batch(scenes)
    assert bool((plans.chosen >= 0).all())
    return plans.trajectory.xy[plans.chosen][:, (TIME * 10).round().long()]


def error(answer: SafeTrajectory, wanted: Tensor) -> Tensor:
    """Mean square distance (m^2); scenes that have no safe answer or no exact gradient do not count."""
    found = answer.trajectory.xy[:, (TIME * 10).round().long()]
    square = (found - wanted).square().sum(-1).mean(-1)
    counts = answer.safe & answer.trusted if square.requires_grad else answer.safe
    return (square * counts).sum() / counts.sum().clamp(min=1)


def main() -> dict[str, float]:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    layer, network = SafetyLayer(), Imitator()
    # In training on the central path: rows that are nearly active have a say, and no gradient is one-sided.
    smooth = SafetyLayer(PlannerConfig(solver=SolverConfig(smoothing=1e-3)))
    scenes, features = draw_scenes(BATCH, random)
    unseen, unseen_features = draw_scenes(BATCH, random)
    wanted, unseen_wanted = expert(scenes), expert(unseen)

    def judge() -> tuple[float, SafeTrajectory]:
        with torch.no_grad():
            answer = layer(unseen, network(unseen_features), TIME)
        return float(error(answer, unseen_wanted)), answer

    before, _ = judge()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for step in range(STEPS):
        optimiser.zero_grad()
        answer = smooth(scenes, network(features), TIME)
        loss = error(answer, wanted)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % 10 == 0 or step == STEPS - 1:
            print(f"step {step:3d}: loss {losses[-1]:.4f} m^2, safe {int(answer.safe.sum())} of {BATCH}")
    after, answer = judge()
    residuals = [c.primal_residual for i in range(BATCH) if (c := answer.certificate(i)) is not None]
    print(f"unseen scenes: error {before:.4f} m^2 before, {after:.4f} m^2 after training")
    print(f"unseen scenes: {len(residuals)} of {BATCH} safe; hard rows met to {max(max(residuals), 0.0):.0e}")
    return {
        "first": losses[0], "last": losses[-1], "before": before, "after": after, "safe": len(residuals) / BATCH,
        "residual": max(residuals),
    }  # fmt: skip


if __name__ == "__main__":
    main()
