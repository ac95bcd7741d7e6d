"""All faults by name, alone and together.

What the size of each means, and which sizes are swept, is in `eval.studies.fault_catalogue`.
"""

from __future__ import annotations

from eval.simulation.injection import Injection
from eval.studies import perception_faults as seen
from eval.studies import system_faults as done
from eval.studies.fault_base import Fault, Faulty
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep
from planner.limiter import Command
from planner.result import PlanResult
from planner.scene import EgoState, VectorScene, VehicleParameters


class Together(Injection):
    """Row 19: several faults at once, applied in order; of two clocks the later one counts."""

    def __init__(self, parts: list[Injection]) -> None:
        self.parts = parts

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "time":
            for part in self.parts:
                part.time = float(value)  # type: ignore[arg-type]

    def reset(self, recording: Recording) -> None:
        for part in self.parts:
            part.reset(recording)

    def vehicle(self, vehicle: VehicleParameters) -> VehicleParameters:
        for part in self.parts:
            vehicle = part.vehicle(vehicle)
        return vehicle

    def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
        for part in self.parts:
            objects = part.objects(objects, ego)
        return objects

    def localised(self, ego: EgoState) -> EgoState:
        for part in self.parts:
            ego = part.localised(ego)
        return ego

    def scene(self, scene: VectorScene) -> VectorScene:
        for part in self.parts:
            scene = part.scene(scene)
        return scene

    def sweep(self, sweep: LidarSweep) -> LidarSweep | None:
        arrived: LidarSweep | None = sweep
        for part in self.parts:
            arrived = None if arrived is None else part.sweep(arrived)
        return arrived

    def plan(self, plan: PlanResult | None, failure: str) -> tuple[PlanResult | None, str]:
        for part in self.parts:
            plan, failure = part.plan(plan, failure)
        return plan, failure

    def elapsed(self, seconds: float) -> float:
        return max(part.elapsed(seconds) for part in self.parts)

    def command(self, command: Command) -> Command:
        for part in self.parts:
            command = part.command(command)
        return command


MODELS: dict[str, type[Faulty]] = {
    "missed": seen.Missed,
    "ghost": seen.Ghost,
    "position_bias": seen.PositionBias,
    "speed_bias": seen.SpeedBias,
    "yaw_bias": seen.YawBias,
    "frame_drop": seen.FrameDrop,
    "frozen": seen.Frozen,
    "frozen_sweep": seen.FrozenSweep,
    "latency": seen.Latency,
    "out_of_order": seen.OutOfOrder,
    "corrupt": done.Corrupt,
    "bad_command": done.BadCommand,
    "calibration": seen.Calibration,
    "focal_length": seen.FocalLength,
    "map_shift": done.MapShift,
    "no_boundary": done.NoBoundary,
    "jump": done.Jump,
    "drift": done.Drift,
    "wrong_success": done.WrongSuccess,
    "no_solution": done.NoSolution,
    "late": done.Late,
    "dead": done.Dead,
    "blackout": seen.Blackout,
    "total_blackout": seen.TotalBlackout,
    "friction": done.Friction,
    "downhill": done.Downhill,
    "brake_fade": done.BrakeFade,
}


def make_injection(faults: tuple[Fault, ...]) -> Injection:
    """The injection of one or several faults. Raises KeyError for an unknown kind."""
    made: list[Injection] = [MODELS[fault.kind](fault) for fault in faults]
    return made[0] if len(made) == 1 else Together(made)
