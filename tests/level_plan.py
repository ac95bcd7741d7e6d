"""Plans and differentiates a few crowded scenes: `python level_plan.py FILE` saves what comes out."""

from __future__ import annotations

import os
import sys

import torch
from torch import Tensor

from benchmarks.crowded import crowded_scene
from planner import ConvexPlanner, compiled
from planner.qp import native
from planner.scene import VectorScene


def planned() -> dict[str, Tensor]:
    """Status, cost and trajectories of all candidates, and the gradients of a loss on them."""
    scenes = VectorScene.stack([crowded_scene(seed, agents=8) for seed in range(3)])
    mean, box = (x.clone().requires_grad_() for x in (scenes.futures.mean, scenes.agents.box))
    moved = scenes.replace(futures=scenes.futures.replace(mean=mean), agents=scenes.agents.replace(box=box))
    plan = ConvexPlanner().plan_batch(moved)
    loss = torch.where(plan.solved, plan.cost + plan.trajectory.x.sum(1) + plan.tail.y.sum(1), 0.0).sum()
    by_mean, by_box = torch.autograd.grad(loss, (mean, box))
    found = {"status": plan.status, "cost": plan.cost, "x": plan.trajectory.x, "y": plan.trajectory.y}
    return {name: x.detach() for name, x in {**found, "by_mean": by_mean, "by_box": by_box}.items()}


if __name__ == "__main__":
    library = os.path.basename(compiled._library()[0]._name)
    torch.save({"level": int(native.best_level()), "library": library, "planned": planned()}, sys.argv[1])
