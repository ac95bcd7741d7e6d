"""Sound starting points, and what came of a mutated input."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import StrEnum

import torch

from eval.simulation.generate import FAMILIES, generate
from eval.simulation.rollout import oracle_observer
from eval.simulation.world import World
from planner.plan import ConvexPlanner
from planner.result import PlanResult
from planner.scene import Trajectory, VectorScene
from planner.supervise import SupervisedPlan, Supervisor


class Verdict(StrEnum):
    """REFUSED: noticed. HARMLESS: not refused and nothing wrong came of it. ESCAPED, CRASHED: what must not happen."""

    REFUSED = "refused"
    HARMLESS = "harmless"
    ESCAPED = "escaped"
    CRASHED = "crashed"


@dataclass
class Base:
    """A scene, its plan, and a supervisor that has accepted it one millisecond before."""

    scene: VectorScene
    plan: PlanResult
    primed: Supervisor

    def supervisor(self) -> Supervisor:
        """A copy whose memory may be spoilt."""
        out = copy.copy(self.primed)
        out._states, out._door = copy.deepcopy(self.primed._states), copy.copy(self.primed._door)
        return out

    def later(self, ms: float) -> VectorScene:
        """The scene with another stamp: ms after the one that was accepted."""
        time_us = self.scene.ego.time_us + round(1e3 * ms)
        return self.scene.replace(ego=self.scene.ego.replace(time_us=time_us))


def bases(count: int = 8) -> list[Base]:
    """Moving starts of generated scenarios whose plan is accepted."""
    out: list[Base] = []
    seed = 0
    while len(out) < count:
        recording = generate(list(FAMILIES)[seed % len(FAMILIES)], seed)
        seed += 1
        world = World(recording, "log_replay")
        scene = oracle_observer(recording)(world.ego_state(), world.objects(), recording.name)
        plan = ConvexPlanner(vehicle=recording.vehicle).plan(scene)
        supervisor = Supervisor(recording.vehicle)
        first = supervisor.supervise(scene, plan, elapsed=0.0)
        if first.source == "candidate" and float(scene.ego.v) > 2.0:
            base = Base(scene, plan, supervisor)
            again = base.supervisor().supervise(base.later(1), plan, elapsed=0.0)
            if again.source == "candidate":
                out.append(base)
    return out


def driveable(out: SupervisedPlan) -> str:
    """What is wrong with a published motion; empty if nothing is: finite, from now on, ending at rest."""
    for motion in (out.trajectory, out.tail):
        if not isinstance(motion, Trajectory):
            return f"published {type(motion).__name__}"
        try:
            motion.validate()
        except (ValueError, TypeError) as error:
            return str(error)
        if abs(float(motion.time[0])) > 1e-9 or float(motion.time[-1]) > 60.0:
            return "does not begin now, or never ends"
    values = torch.stack([getattr(out.tail, n) for n in ("x", "y", "yaw", "v", "a", "curvature")])
    if float(values.abs().amax()) > 1e4:
        return "absurd numbers"
    return "" if abs(float(out.tail.v[-1])) < 0.05 else "the tail does not end at rest"
