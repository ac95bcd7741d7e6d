"""`planner.decisions.conflicts` compiled: one call for the bounds of all rows, one for their derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planner import compiled
from planner.compiled.records import obstacles_record, start_record, stored
from planner.compiled.stage import apply, workers
from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.decisions.right_of_way import band_half
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start, Surface
from planner.scene import VehicleParameters

_forward = compiled.kernel("dds_conflicts", "SSSS J R R C C J n")
_backward = compiled.kernel("dds_conflicts_back", "SSSS II TTTT RRRRR n")
_WAYS = compiled.record("Ways", "nn T I B T B")
_RULES = compiled.record("Rules", "fff f ffffff ffff ff ffff")


class ConflictRows:
    """C rows of `planner.decisions.conflicts.Longitudinal`: a `planner.compiled.stage.Stage`, then constants.

    who ``[3, C]``: scene, manoeuvre, agent. flags ``[4, C]``: conflict, passable, theirs, courtesy. moving ``[C, N]``;
    first_time ``[C]`` s; count ``[S]``: rows of each scene.
    """

    def __init__(
        self,
        obstacles: Obstacles,
        manoeuvres: Manoeuvres,
        surface: Surface,
        start: Start,
        vehicle: VehicleParameters,
        config: PlannerConfig,
    ) -> None:
        self._records = (
            obstacles_record(obstacles),
            _ways_record(manoeuvres, surface),
            start_record(start),
            _rules_record(vehicle, config),
        )
        self.scenes, self.agents, _, self.nodes, _ = obstacles.s_lo.shape
        self._room = self.agents * manoeuvres.profile.shape[1]
        self._threads = config.solver.threads

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """From the obstacles' s_lo, s_hi, sigma_s, weight, speed_s: yield, worst, pass ``[C, N]``, caution ``[C]``."""
        room, nodes = self.scenes * self._room, self.nodes - 1
        who = torch.empty(3, room, dtype=torch.int64)
        fronts, numbers = torch.empty(3, room, nodes, dtype=torch.float64), torch.empty(2, room, dtype=torch.float64)
        moving, flags = torch.empty(room, nodes, dtype=torch.bool), torch.empty(4, room, dtype=torch.bool)
        self.count = torch.empty(self.scenes, dtype=torch.int64)
        assert _forward is not None
        threads = workers(self.scenes * self.agents, self._threads, 8.0)
        _forward(*self._records, who, fronts, numbers, moving, flags, self.count, threads)
        rows = int(self.count.sum())
        self.who, self.flags, self.moving = who[:, :rows], flags[:, :rows], moving[:rows]
        self.first_time = numbers[1, :rows]
        return *fronts[:, :rows].unbind(0), numbers[0, :rows]

    def backward(self, inputs: Any, outputs: Any, gradients: Any) -> tuple[Tensor, ...]:
        found = [torch.zeros(stored(x).shape if x.ndim == 5 else x.shape, dtype=torch.float64) for x in inputs]
        assert _backward is not None
        threads = workers(self.scenes * self.agents, self._threads, 16.0)
        _backward(*self._records, self.who, self.count, *gradients, *found, threads)
        return found[0].movedim(2, -1), found[1].movedim(2, -1), *found[2:]


def conflict_rows(
    obstacles: Obstacles,
    manoeuvres: Manoeuvres,
    surface: Surface,
    start: Start,
    vehicle: VehicleParameters,
    config: PlannerConfig,
) -> tuple[ConflictRows, tuple[Tensor, ...]] | None:
    """The rows and, with history, their bounds: yield, worst, pass ``[C, N]``, caution ``[C]``. None: not compiled."""
    if _forward is None:
        return None
    rows, o = ConflictRows(obstacles, manoeuvres, surface, start, vehicle, config), obstacles
    return rows, apply(rows, o.s_lo, o.s_hi, o.sigma_s, o.weight, o.speed_s)


def _ways_record(manoeuvres: Manoeuvres, surface: Surface) -> ctypes.Structure:
    """The ways to go and the grid they stand on."""
    m = manoeuvres
    return _WAYS(*m.profile.shape[1:], m.profile, m.side, m.valid, surface.s, surface.straight)


def _rules_record(vehicle: VehicleParameters, config: PlannerConfig) -> ctypes.Structure:
    """What conflicts are judged by."""
    limits, worst, margins = config.limits, config.worst_case, config.margins
    return _RULES(
        vehicle.front, vehicle.rear, vehicle.width, band_half(vehicle, config),
        limits.acceleration_max, limits.braking_max, limits.jerk_max, limits.tail_braking_max, limits.tail_jerk_max,
        config.horizon.shared, worst.lateral, worst.pedestrian_acceleration, worst.vehicle_braking, worst.probability,
        config.risk.hit_probability, config.risk.longitudinal_max,
        margins.ahead, margins.behind, margins.zone_time, margins.zone_time_walking,
    )  # fmt: skip
