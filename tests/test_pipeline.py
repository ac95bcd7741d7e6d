"""The deployed driver: plans are supervised, failures are driven through, every step explains itself."""

from __future__ import annotations

import json
import math

import pytest
import torch

from eval.config import DriverConfig
from eval.pipeline import DualDrive
from eval.simulation.drivers import Driver
from eval.simulation.generate import generate
from eval.simulation.rollout import oracle_observer
from eval.simulation.world import World
from perception.recording import Recording
from planner.plan import ConvexPlanner
from planner.scene import VectorScene


@pytest.fixture(scope="module")
def recording() -> Recording:
    return generate("car_following", 0)


@pytest.fixture(scope="module")
def scene(recording) -> VectorScene:
    world = World(recording, "log_replay")
    return oracle_observer(recording)(world.ego_state(), world.objects(), recording.name)


@pytest.fixture
def driver(recording) -> DualDrive:
    driver = DualDrive()
    driver.reset(recording)
    return driver


def test_it_is_a_driver_of_the_simulator(driver) -> None:
    assert isinstance(driver, Driver)
    assert driver.name == "dualdrive"


def test_an_accepted_plan_is_driven_with_its_tail_and_its_picture(driver, scene) -> None:
    output = driver.drive(scene)
    assert (output.source, output.tail_accepted) == ("candidate", True)
    assert float(output.trajectory.time[0]) == 0.0
    assert output.solve_ms > 0
    assert output.check_ms > 0
    picture = json.loads(json.dumps(output.picture, allow_nan=False))  # plain and finite
    assert picture["check"]["accepted"] is True
    assert picture["explanation"]
    assert picture["state"] == "NORMAL"
    assert any(candidate["status"] == "solved" for candidate in picture["candidates"])
    assert {"track_id", "p", "xy", "sigma"} <= set(picture["modes"][0])
    assert len(picture["plan"]["xy"]) == len(picture["plan"]["v"]) == len(picture["plan"]["time"])
    assert "reference" in picture
    assert "reference" not in driver.drive(scene).picture  # only when it is new


def test_pictures_are_in_the_global_frame(driver, scene) -> None:
    picture = driver.drive(scene).picture
    start = scene.global_from_ego[:2]
    for line in (picture["plan"]["xy"], picture["tail"]["xy"]):
        assert torch.dist(torch.tensor(line[0]).double(), start) < 0.02


def test_a_planner_that_raises_does_not_stop_the_vehicle(driver, scene, monkeypatch) -> None:
    driver.drive(scene)

    def broken(self: ConvexPlanner, scene: VectorScene, deadline: float | None = None) -> None:
        raise FloatingPointError("lost")

    monkeypatch.setattr(ConvexPlanner, "plan", broken)
    output = driver.drive(scene.replace(ego=scene.ego.replace(time_us=scene.ego.time_us + 1_000)))
    assert output.source == "tail"
    assert "FloatingPointError: lost" in output.reason
    assert "lost" in output.picture["explanation"]
    assert output.picture["candidates"] == []
    assert output.solve_ms == 0.0


@pytest.mark.parametrize("part", ["agents.box", "futures.mean", "map.xy", "route.xy"])
def test_nothing_is_planned_for_a_scene_with_numbers_no_road_has(driver, scene, monkeypatch, part: str) -> None:
    """1e300 m is a finite number: arithmetic on it passes, and need not come to an end."""
    monkeypatch.setattr(ConvexPlanner, "plan", lambda *_: pytest.fail("planned"))
    holder, field = part.split(".")
    value = getattr(getattr(scene, holder), field).clone()
    value.view(-1)[0] = 1e300
    output = driver.drive(scene.replace(**{holder: getattr(scene, holder).replace(**{field: value})}))
    assert output.source == "braking"
    assert "scene rejected" in output.reason


def test_without_any_plan_from_the_beginning_the_vehicle_brakes(driver, scene, monkeypatch) -> None:
    monkeypatch.setattr(ConvexPlanner, "plan", lambda self, scene, deadline=None: 1 / 0)
    output = driver.drive(scene)
    assert output.source == "braking"
    assert float(output.trajectory.v[-1]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("enforced", [False, True])
def test_computing_time_decides_only_where_it_is_asked_to(recording, scene, monkeypatch, enforced) -> None:
    clock = iter(range(0, 10**6, 10))  # ten seconds from reading to reading
    monkeypatch.setattr("eval.pipeline.perf_counter", lambda: float(next(clock)))
    driver = DualDrive(config=DriverConfig(enforce_deadline=enforced))
    driver.reset(recording)
    budget = driver._supervisor.config.check_budget
    assert math.isinf(budget) is not enforced
    assert (driver.drive(scene).source == "candidate") is not enforced


def test_without_pictures_nothing_is_kept(recording, scene) -> None:
    driver = DualDrive(config=DriverConfig(picture=False))
    driver.reset(recording)
    assert driver.drive(scene).picture == {}


def test_a_reset_forgets_the_last_drive(driver, recording, scene) -> None:
    first = driver.drive(scene).trajectory
    driver.drive(scene)
    driver.reset(recording)
    assert torch.equal(driver.drive(scene).trajectory.x, first.x)
