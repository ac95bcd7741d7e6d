"""Switches for the safety layers, and the places where a study reaches into the loop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sim_scenes import Cruise, observe, recording, straight_track

from eval.config import DriverConfig
from eval.layers import LAYERS, CheckerAlone, PlannerAlone, make_supervisor
from eval.pipeline import DualDrive
from eval.simulation.generate.protocols import protocol_scene
from eval.simulation.injection import Injection
from eval.simulation.rollout import oracle_observer, rollout
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.world import World
from eval.typed_config import ConfigError
from perception.recording import ObjectStates
from planner.limiter import Command
from planner.scene import EgoState, RawObstacles, RawStatus, VehicleParameters
from planner.supervise import Supervisor, SupervisorConfig

VEHICLE = VehicleParameters()


def drive(injection: Injection | None = None):
    ego = straight_track(np.arange(21) * 1.0)
    return rollout(recording(ego), Cruise(-1.0), "log_replay", observe=observe, injection=injection)


def test_an_injection_that_changes_nothing_changes_nothing() -> None:
    assert drive().state_hash() == drive(Injection()).state_hash()


def test_every_place_is_reached_at_its_time() -> None:
    class Spy(Injection):
        def __init__(self) -> None:
            self.calls: dict[str, list[float]] = {}

        def note(self, name: str) -> None:
            self.calls.setdefault(name, []).append(round(self.time, 6))

        def vehicle(self, vehicle: VehicleParameters) -> VehicleParameters:
            return dataclasses.replace(vehicle, braking_max=0.4)

        def objects(self, objects: ObjectStates, ego: EgoState) -> ObjectStates:
            self.note("objects")
            return objects

        def localised(self, ego: EgoState) -> EgoState:
            self.note("localised")
            return ego

        def scene(self, scene):
            self.note("scene")
            return scene

        def command(self, command: Command) -> Command:
            self.note("command")
            return command

    spy = Spy()
    trace = drive(spy)
    times = [round(0.1 * k, 6) for k in range(21)]
    assert spy.calls["objects"] == spy.calls["localised"] == spy.calls["scene"] == times
    assert spy.calls["command"] == times[:-1]
    assert trace.a.min() == pytest.approx(-0.4)  # the brakes give no more, though 1 m/s^2 was asked for


@pytest.mark.parametrize("count", range(len(LAYERS) + 1))
def test_layers_come_in_order(count: int) -> None:
    supervisor = make_supervisor(LAYERS[:count], VEHICLE, SupervisorConfig())
    kinds = [PlannerAlone, CheckerAlone, Supervisor, Supervisor, Supervisor]
    assert type(supervisor) is kinds[count]
    assert DriverConfig(layers=LAYERS[:count]).layers == LAYERS[:count]


def test_a_layer_without_those_before_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="first ones"):
        DriverConfig(layers=("tail",))
    with pytest.raises(ValueError, match="first ones"):
        make_supervisor(("monitors",), VEHICLE, SupervisorConfig())


@pytest.mark.parametrize("layers", [(), ("checker",), LAYERS])
def test_reduced_drivers_survive_a_dead_planner_and_a_broken_scene(layers: tuple[str, ...]) -> None:
    """The layers differ in what they drive then, not in driving something."""
    scene_recording = protocol_scene("CCRs", {"ego_kmh": 40})

    class Dead(Injection):
        def plan(self, plan, failure):
            return (None, "dead") if self.time > 0 else (plan, failure)

    injection = Dead()
    driver = DualDrive(config=DriverConfig(layers=layers), injection=injection)
    driver.reset(scene_recording)
    world = World(scene_recording, "log_replay")
    scene = oracle_observer(scene_recording)(world.ego_state(), world.objects(), "x")
    first = driver.drive(scene)
    assert first.source == "candidate"
    assert first.tail_accepted is bool(layers)
    injection.time = 0.1
    second = driver.drive(scene.replace(ego=scene.ego.replace(time_us=scene.ego.time_us + 1_000)))
    assert second.source == {0: "last plan", 1: "braking"}.get(len(layers), "tail")
    assert "dead" in second.reason
    futures = scene.futures
    for broken in (
        scene.replace(agents=scene.agents.replace(box=scene.agents.box * float("nan"))),
        scene.replace(futures=futures.replace(covariance=futures.covariance[..., :1])),
        scene.replace(futures=futures.replace(mean=futures.mean[..., :1])),
    ):
        assert driver.drive(broken).trajectory.x.isfinite().all()


def test_the_second_channel_is_heard_and_can_be_broken_on_its_way() -> None:
    """The sensor sees everybody in the world; a lost sweep arrives as a channel that says so, an old one as frozen."""
    from eval.simulation.vehicle_sensors import VehicleSensors
    from eval.studies.fault_base import Fault
    from eval.studies.fault_models import make_injection

    class Listener(Cruise):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[RawObstacles] = []

        def hear(self, raw: RawObstacles) -> None:
            self.heard.append(raw)

    scene_recording = protocol_scene("CCRs", {"ego_kmh": 30})
    for kind, status in (("", RawStatus.OK), ("total_blackout", RawStatus.STALE), ("frozen_sweep", RawStatus.FROZEN)):
        listener = Listener()
        faults = (Fault(kind, 0.3, 5.0),) if kind else ()
        injection = make_injection(faults) if faults else None
        config = SimulationConfig(duration=0.8)
        rollout(
            scene_recording, listener, "log_replay", config, observe=observe, injection=injection,
            sensors=VehicleSensors(scene_recording),
        )  # fmt: skip
        statuses = [raw.status for raw in listener.heard]
        assert statuses[:3] == [RawStatus.OK] * 3
        assert statuses[-1] == status
        target = scene_recording.agents.pose[0, 0, 0] - scene_recording.ego.pose[3, 0]
        near = listener.heard[2].centre[:, 0] - target
        assert bool(((near.abs() < 5.0) & (listener.heard[2].centre[:, 1].abs() < 1.5)).any())
