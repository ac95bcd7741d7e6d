"""Faults behind perception: messages, map, localisation, planner, clock, process, road and brakes (rows 5, 6, 8 to 11,
18)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from eval.studies.fault_base import Faulty, moved_to
from perception.recording import ObjectStates, Recording
from planner.limiter import Command
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import EgoState, PolylineType, Trajectory, VectorScene, VehicleParameters


class Corrupt(Faulty):
    """Row 6: with probability `size` per cycle one number of the scene, or one shape, is broken."""

    values = (float("nan"), float("inf"), -float("inf"), 1e300, 5e-324)

    def reset(self, recording: Recording) -> None:
        super().reset(recording)
        self.broken: list[float] = []
        """Times (s) at which a scene was broken so that it must be refused (a denormal is a valid number)."""

    def scene(self, scene: VectorScene) -> VectorScene:
        if not self.active or self.rng.uniform() >= self.size:
            return scene
        places = [("ego", n) for n in ("v", "a", "curvature", "yaw_rate")]
        places += [("route", n) for n in ("xy", "speed_limit")] + [("map", "xy")]
        if len(scene.agents.track_id):
            places += [("agents", n) for n in ("box", "velocity", "position_covariance", "existence")]
            places += [("futures", n) for n in ("mean", "yaw", "covariance", "probability")]
        part, name = places[int(self.rng.integers(len(places)))]
        holder = getattr(scene, part)
        tensor = getattr(holder, name).clone()
        if tensor.ndim and self.rng.uniform() < 0.2:
            bad, wrong = tensor[..., :-1] if tensor.shape[-1] > 1 else tensor[None, None], True
        else:
            value = self.values[int(self.rng.integers(len(self.values)))]
            bad, wrong = tensor.reshape(-1), value != 5e-324
            bad[0] = value  # the first entry is a valid one in every field
            bad = bad.reshape(tensor.shape)
        if wrong:
            self.broken.append(self.time)
        return scene.replace(**{part: holder.replace(**{name: bad})})


class MapShift(Faulty):
    """Row 8: map and route lie `size` metres too far left."""

    def scene(self, scene: VectorScene) -> VectorScene:
        if not self.active:
            return scene
        shift = torch.tensor([0.0, self.size], dtype=torch.float64)
        route = scene.route.replace(xy=scene.route.xy + shift)
        if route.alternative is not None:
            route = route.replace(alternative=route.alternative + shift)
        return scene.replace(map=scene.map.replace(xy=scene.map.xy + shift), route=route)


class NoBoundary(Faulty):
    """Row 8: the edges of the drivable area are missing from the map for `size` seconds."""

    def scene(self, scene: VectorScene) -> VectorScene:
        if not self.active or self.since >= self.size - 1e-9:
            return scene
        kept = scene.map.kind != int(PolylineType.BOUNDARY)
        m = scene.map
        return scene.replace(
            map=m.replace(
                xy=m.xy[kept], kind=m.kind[kept], confidence=m.confidence[kept], closed=m.closed[kept],
                valid=m.valid[kept],
            )
        )  # fmt: skip


class Jump(Faulty):
    """Row 9: localisation is `size` metres too far left from the onset on. What is measured from ego moves along."""

    def offset(self) -> float:
        return self.size if self.active else 0.0

    def localised(self, ego: EgoState) -> EgoState:
        left = self._left(float(ego.yaw))
        return ego.replace(x=ego.x + float(left[0]), y=ego.y + float(left[1]))

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        return moved_to(objects, objects.pose[:, :2] + self._left(float(ego.yaw)))

    def _left(self, yaw: float) -> np.ndarray:
        return self.offset() * np.array([-math.sin(yaw), math.cos(yaw)])


class Drift(Jump):
    """Row 9: localisation drifts to the left by `size` m/s, up to 3 m."""

    def offset(self) -> float:
        return min(self.size * max(self.since, 0.0), 3.0) if self.active else 0.0


# -- planner, solver, process, clock ---------------------------------------------------------------


class WrongSuccess(Faulty):
    """Row 10: the solver claims success, but its positions are off by up to `size` metres (size also in m/s)."""

    def plan(self, plan: PlanResult | None, failure: str) -> tuple[PlanResult | None, str]:
        if plan is None or not self.active:
            return plan, failure
        return replace(plan, candidates=[self._lie(c) for c in plan.candidates]), failure

    def _lie(self, candidate: Candidate) -> Candidate:
        if candidate.status is not PlanStatus.SOLVED or candidate.trajectory is None or candidate.tail is None:
            return candidate
        return Candidate(
            candidate.decision, candidate.kind, candidate.duties, candidate.status, candidate.cost,
            self._shake(candidate.trajectory), self._shake(candidate.tail), candidate.certificate,
            candidate.tail_certificate,
        )  # fmt: skip

    def _shake(self, motion: Trajectory) -> Trajectory:
        def noise(values: torch.Tensor) -> torch.Tensor:
            drawn = torch.from_numpy(self.rng.uniform(-self.size, self.size, values.shape)).to(values)
            drawn[..., 0] = 0.0  # the start is given, no solver touches it
            return values.detach() + drawn

        return motion.replace(x=noise(motion.x), y=noise(motion.y), v=noise(motion.v).clamp(min=0.0))


class NoSolution(Faulty):
    """Row 10: for `size` seconds every program ends at its iteration limit."""

    def plan(self, plan: PlanResult | None, failure: str) -> tuple[PlanResult | None, str]:
        if plan is None or not self.active or self.since >= self.size - 1e-9:
            return plan, failure
        lost = [Candidate(c.decision, c.kind, c.duties, PlanStatus.ITERATION_LIMIT) for c in plan.candidates]
        return replace(plan, status=PlanStatus.ITERATION_LIMIT, candidates=lost), failure


class Late(Faulty):
    """Rows 5 and 10: the planner takes `size` seconds."""

    def elapsed(self, seconds: float) -> float:
        return self.size if self.active else seconds


class Dead(Faulty):
    """Row 11: the planner gives no answer for `size` seconds and is then there again."""

    def plan(self, plan: PlanResult | None, failure: str) -> tuple[PlanResult | None, str]:
        dead = self.active and self.since < self.size - 1e-9
        return (None, "planner process died (injected)") if dead else (plan, failure)


class BadCommand(Faulty):
    """Row 6 at the command door: with probability `size` per cycle the command is not a number or huge."""

    def command(self, command: Command) -> Command:
        if not self.active or self.rng.uniform() >= self.size:
            return command
        value = (float("nan"), float("inf"), -float("inf"), 1e300)[int(self.rng.integers(4))]
        return (
            Command(value, command.curvature_rate) if self.rng.uniform() < 0.5 else Command(command.acceleration, value)
        )


# -- road and brakes -------------------------------------------------------------------------------


class Friction(Faulty):
    """Row 18: the road gives `size` (0.3 to 1) of the grip that the vehicle is believed to have, all the time."""

    def vehicle(self, vehicle: VehicleParameters) -> VehicleParameters:
        return replace(
            vehicle, braking_max=vehicle.braking_max * self.size,
            lateral_acceleration_max=vehicle.lateral_acceleration_max * self.size,
        )  # fmt: skip


class Downhill(Faulty):
    """Row 18: a slope of `size` per cent takes its share of the braking, all the time."""

    def vehicle(self, vehicle: VehicleParameters) -> VehicleParameters:
        return replace(vehicle, braking_max=vehicle.braking_max - 9.81 * self.size / 100)


class BrakeFade(Faulty):
    """Row 18: `size` per cent of the braking are gone, all the time."""

    def vehicle(self, vehicle: VehicleParameters) -> VehicleParameters:
        return replace(vehicle, braking_max=vehicle.braking_max * (1 - self.size / 100))
