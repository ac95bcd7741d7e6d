"""Reactive traffic: recorded vehicles that keep their recorded way but not their recorded timing.

Every vehicle that moves in the recording follows its recorded path (continued along the lanes) and
reacts to whoever is on it. Pedestrians, objects, parked vehicles, and vehicles that both drive
forwards and back up are replayed.

**Free driving.** The recorded speed at each place is the upper limit there, so an undisturbed vehicle
reproduces its recording (annotated ones are noisy and smoothed, see `RecordingQuality`). It speeds up at most with the
recorded acceleration at that place or the IDM's, whichever is larger.

**Stops.** nuScenes has no traffic lights. Nobody runs ahead of its recorded self: where the recorded vehicle
stood, there is a virtual stop line that opens at the time when the recorded vehicle left; whoever comes later
passes. One that stood to the end of its recording stays. So no vehicle runs a (probably) red light because the ego
behaves differently from the recorded driver, but it also waits out a stop whose cause is gone. Near its recorded self,
the target speed is v_rec + (s_rec - s) / 1 s, and further behind at most the speed from which the comfortable
deceleration reaches the recorded one.

**Others.** Acceleration towards the most restrictive other road user, with gap s, own speed v, and speed of
the other along the path v_l: a_int = a (1 - (s*/s)^2), s* = s0 + v T + v (v - v_l) / (2 sqrt(a b)); the smaller
of a_int and free driving holds (with the plain sum of the original IDM nobody reaches the recorded speed).
Parameters as in nuPlan's reactive agents. The other counts if its box intrudes into the corridor that the own box
will cover, now or, if it moves, within `anticipation` seconds: reactive vehicles along their paths, the ego along
its present curvature, everybody else straight on. An extrapolated conflict is left alone if the vehicle gets there
first; between two reactive vehicles that are about as early, the recorded order holds. It asks for at most twice the
comfortable deceleration, what is there now for up to `braking_max`.
Standing boxes that already overlap the recorded corridor are noise of the annotation and ignored.

**Coming and going.** A vehicle appears at its first recorded pose; if the ego or a delayed vehicle is there, it
waits, and is left out if the place is not free before its recording ends. It appears with its recorded speed, or
slower if that would need more than comfortable braking. After its recorded end it drives on until it is `range`
metres from the ego or its path ends. Whoever is gone stays gone. No random numbers.
"""

from __future__ import annotations

import numpy as np

from eval.simulation.agent_path import ANNOTATED, EXACT, SPACING, AgentPath, build_path
from eval.simulation.corridor import rectangles_touch
from eval.simulation.interaction import (
    Boxes,
    PathTable,
    Reactive,
    boxes_now_and_soon,
    ego_boxes,
    entry_speed,
    leaders,
)
from eval.simulation.simulation_config import IdmConfig
from eval.simulation.vehicle import VehicleState
from perception.recording import Recording
from planner.scene import AgentClass, VehicleParameters

_STILL = 1.0  # m; recorded objects that stay within this do not move
_CATCH_UP = 1.0  # s
_ENTRY_MARGIN = 0.5  # m around the ego that must be free where a vehicle appears


class ReactiveTraffic:
    """See the module's docstring. Implements `eval.simulation.traffic.Traffic`."""

    def __init__(self, recording: Recording, config: IdmConfig) -> None:
        agents = recording.agents
        self._agents, self._config = agents, config
        self._dt, self._index = recording.dt, 0
        self._half = agents.size / 2
        self._quality = EXACT if recording.source == "generated" else ANNOTATED
        built = {
            i: path
            for i in range(len(agents))
            if AgentClass(int(agents.agent_class[i])).is_vehicle and (path := self._path(recording, i))
        }
        rows = np.array(sorted(built), dtype=np.int64)
        self._paths = [built[int(i)] for i in rows]
        self.reactive = Reactive(
            agent=rows,
            driving=np.array([path.first == 0 for path in self._paths], dtype=bool),
            s=np.zeros(len(rows)),
            v=np.array([float(path.schedule_speed[path.first]) for path in self._paths]),
            half=self._half[rows],
            table=PathTable(self._paths),
        )
        self._schedule = np.array([path.schedule for path in self._paths]).reshape(len(rows), len(recording.time))
        self._schedule_speed = np.array([path.schedule_speed for path in self._paths]).reshape(
            len(rows), len(recording.time)
        )
        self._gone = np.zeros(len(rows), bool)
        self._waits = np.zeros(len(rows), bool)
        self._ignored = self._overlapped_in_recording()
        self.events: list[str] = []
        self._show()

    def _path(self, recording: Recording, i: int) -> AgentPath | None:
        a = recording.agents
        return build_path(a.pose[i], a.valid[i], recording.time, recording.road, self._config, self._quality)

    def step(self, ego: VehicleState, vehicle: VehicleParameters) -> None:
        """Everybody decides on what is there now, then all move; afterwards newcomers appear."""
        self.events = []
        r = self.reactive
        acceleration = np.where(r.driving, self._accelerations(ego, vehicle), 0.0)
        v = r.v + acceleration * self._dt
        # A vehicle that stops within the step covers v^2 / (2 b).
        way = np.where(v < 0, r.v**2 / np.maximum(-2 * acceleration, 1e-9), (r.v + v) / 2 * self._dt)
        r.s = np.minimum(r.s + np.where(r.driving, way, 0.0), r.table.end)
        r.v = np.where(r.driving, np.maximum(v, 0.0), r.v)
        self._index += 1
        self._leave(ego)
        self._show()
        self._enter(ego, vehicle)

    def _accelerations(self, ego: VehicleState, vehicle: VehicleParameters) -> np.ndarray:
        """``[R]`` m/s^2, as the module's docstring says."""
        c, r, dt = self._config, self.reactive, self._dt
        row = np.arange(len(r.agent))
        target = r.table.look("speed", r.s + r.v * dt, row)
        target = np.minimum(target, self._speed_behind_recorded())
        rise = np.maximum(r.table.look("acceleration", r.s, row), c.acceleration)
        free = np.clip((target - r.v) / dt, -self._quality.braking, rise)
        ahead = leaders(r, self._boxes(ego, vehicle), self._ignored, c)
        interaction = np.where(ahead.ratio < 1, rise, c.acceleration) * (1 - ahead.ratio**2)
        return np.maximum(np.minimum(free, interaction), -c.braking_max)

    def _speed_behind_recorded(self) -> np.ndarray:
        """``[R]`` m/s: the highest speed with which a vehicle does not run ahead of its recorded self."""
        r, k = self.reactive, self._index
        behind = self._schedule[:, k] - r.s
        pace = self._schedule_speed[:, k]
        brake = np.sqrt(pace**2 + 2 * self._config.deceleration * np.maximum(behind, 0.0))
        return np.maximum(np.minimum(pace + behind / _CATCH_UP, brake), 0.0)

    def _boxes(self, ego: VehicleState, vehicle: VehicleParameters) -> Boxes:
        return boxes_now_and_soon(
            self.present, self.pose, self.velocity, self._half, self.reactive, ego, vehicle, self._config
        )

    def _leave(self, ego: VehicleState) -> None:
        """Vehicles at the end of their path, or out of range after the end of their recording, are gone for good."""
        r = self.reactive
        xy = r.table.pose(r.s, np.arange(len(r.agent)))[:, :2]
        far = np.hypot(xy[:, 0] - ego.x, xy[:, 1] - ego.y) > self._config.range
        over = np.array([self._index > path.last for path in self._paths], dtype=bool)
        at_end = (r.s >= r.table.end - 1e-6) & np.isinf(self._schedule[:, -1])
        done = r.driving & over & (far | at_end)
        self._gone |= done
        r.driving &= ~done

    def _enter(self, ego: VehicleState, vehicle: VehicleParameters) -> None:
        """Vehicles whose recording has begun appear where it begins, as soon as that place is free."""
        r = self.reactive
        for i, path in enumerate(self._paths):
            if r.driving[i] or self._gone[i] or path.first > self._index:
                continue
            name = self._agents.id[r.agent[i]]
            if self._occupied(i, ego, vehicle):
                if self._index >= path.last:
                    self._gone[i] = True
                    self.events.append(f"{name} left out: its first pose stayed occupied")
                elif not self._waits[i]:
                    self._waits[i] = True
                    self.events.append(f"{name} waits: its first pose is occupied")
                continue
            r.driving[i] = True
            self._show()
            ahead = leaders(r, self._boxes(ego, vehicle), self._ignored, self._config)
            r.v[i] = min(
                float(path.schedule_speed[path.first]), entry_speed(ahead.gap[i], ahead.speed[i], self._config)
            )
            self._show()

    def _occupied(self, i: int, ego: VehicleState, vehicle: VehicleParameters) -> bool:
        r, path = self.reactive, self._paths[i]
        start = np.array([*path.xy[0], path.yaw[0]])
        ego_half = np.array([vehicle.length, vehicle.width]) / 2 + _ENTRY_MARGIN
        if rectangles_touch(start, r.half[i], ego_boxes(ego, vehicle, np.zeros(1))[0], ego_half):
            return True
        others = np.flatnonzero(r.driving)
        agents = r.agent[others]
        touched = rectangles_touch(start, r.half[i], self.pose[agents], r.half[others])
        # Boxes that overlap in the recording too are noise of the annotation, not a lack of room.
        recorded = self._agents.pose[agents, path.first]
        noise = self._agents.valid[agents, path.first] & rectangles_touch(start, r.half[i], recorded, r.half[others])
        return bool((touched & ~noise).any())

    def _overlapped_in_recording(self) -> np.ndarray:
        """``[R, N + 1]``: standing objects that the recorded corridor of a vehicle already touches."""
        agents, r = self._agents, self.reactive
        ignored = np.zeros((len(r.agent), len(agents) + 1), bool)
        for j in np.setdiff1d(np.arange(len(agents)), r.agent):
            poses = agents.pose[j, agents.valid[j]]
            if not len(poses) or np.ptp(poses[:, :2], axis=0).max() > _STILL:
                continue
            for i, path in enumerate(self._paths):
                end = int(path.recorded_length / SPACING) + 1
                corridor = np.column_stack([path.xy[:end], path.direction[:end]])
                if np.hypot(*(corridor[:, :2] - poses[0, :2]).T).min() > self._half[j].sum() + r.half[i, 1] + 1.0:
                    continue
                slice_half = np.array([SPACING / 2, r.half[i, 1]])
                ignored[i, j] = rectangles_touch(corridor[:, None], slice_half, poses[None], self._half[j]).any()
        return ignored

    def _show(self) -> None:
        """Publish poses: the recorded ones, and on top of them the reactive vehicles'."""
        r, k = self.reactive, self._index
        self.pose = self._agents.pose[:, k].copy()
        self.velocity = self._agents.velocity[:, k].copy()
        self.present = self._agents.valid[:, k].copy()
        row = np.arange(len(r.agent))
        direction = r.table.look("direction", r.s, row)
        self.pose[r.agent] = r.table.pose(r.s, row)
        self.velocity[r.agent] = r.v[:, None] * np.stack([np.cos(direction), np.sin(direction)], -1)
        self.present[r.agent] = r.driving
