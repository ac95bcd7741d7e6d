"""Who gives way: the two assumptions of the checker that shrink an object's set, just inside and just outside."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from checker_scenes import agent, make_scene

from planner.checker import CheckerConfig
from planner.checker.scene_sets import prepare
from planner.scene import PolylineType, VehicleParameters

CONFIG = CheckerConfig()


def reach(scene, config: CheckerConfig = CONFIG, seconds: float = 3.0) -> np.ndarray:
    """Nearest approach (m) of the sets to the ego's straight way ``y = 0``, x in [5, 60], over the first seconds."""
    sets = prepare(scene, VehicleParameters(), config)
    boxes = sets.occupancy.boxes(round(seconds / config.step))
    way = np.stack([np.linspace(5.0, 60.0, 221), np.zeros(221)], -1)
    k = round(seconds / config.step)
    offset = way[:, None, None] - boxes.center[:k]
    across = np.stack([-boxes.axis[..., 1], boxes.axis[..., 0]], -1)[:k]
    along = np.abs((offset * boxes.axis[:k]).sum(-1)) - boxes.half[:k, :, 0]
    beside = np.abs((offset * across).sum(-1)) - boxes.half[:k, :, 1]
    return float(np.hypot(np.maximum(along, 0), np.maximum(beside, 0)).min())


def turning_lane() -> tuple:
    """Centrelines: the oncoming lane, and a left turn off it across the ego's lane."""
    straight = np.stack([np.linspace(80.0, 30.0, 51), np.full(51, 3.5)], -1)
    angle = np.linspace(0.0, np.pi / 2, 25)
    turn = np.stack([30.0 - 10.0 * np.sin(angle), 3.5 - 10.0 * (1 - np.cos(angle))], -1)
    return tuple((torch.from_numpy(line), PolylineType.CENTERLINE) for line in (straight, turn))


@pytest.mark.parametrize(("rate", "crosses"), [(0.03, False), (0.01, True)])
def test_oncoming_traffic_waits_until_it_turns(rate: float, crosses: bool) -> None:
    """Turning at 0.02 rad/s: below the rate that ends the assumption it stays on its way, above it may go across."""
    config = dataclasses.replace(CONFIG, assumptions=dataclasses.replace(CONFIG.assumptions, priority_rate=rate))
    scene = make_scene(agents=(agent(36.0, 3.5, np.pi, 7.0, track_id=4),), lines=turning_lane())
    futures = scene.futures
    turning = scene.replace(futures=futures.replace(yaw=futures.yaw + 0.02 * futures.time))
    assert (reach(turning, config) < 0.5) is crosses


def test_oncoming_traffic_may_turn_across_a_way_that_turns_itself() -> None:
    """Only who goes straight on has the right of way."""
    scene = make_scene(agents=(agent(36.0, 3.5, np.pi, 7.0, track_id=4),), lines=turning_lane())
    bent = scene.route.xy.clone()
    ahead = bent[:, 0] > 10.0
    bent[ahead, 1] = (bent[ahead, 0] - 10.0) * 1.2
    turned = scene.replace(route=scene.route.replace(xy=bent))
    assert reach(scene) > 0.9
    assert reach(turned) < 0.9


@pytest.mark.parametrize(("speed", "waits"), [(1.9, True), (2.1, False)])
def test_a_slow_vehicle_beside_the_way_does_not_leap_into_it(speed: float, waits: bool) -> None:
    """Pointing at our way from 8 m beside it: below the waiting speed it creeps on, above it may accelerate."""
    scene = make_scene(agents=(agent(20.0, -11.0, np.pi / 2, speed, track_id=4),))
    assert (reach(scene, seconds=2.5) > 2.0) is waits


@pytest.mark.parametrize(("beside", "waits"), [(2.6, True), (2.4, False)])
def test_what_already_reaches_close_to_the_way_no_longer_waits(beside: float, waits: bool) -> None:
    """The offset counts from the nearest corner."""
    scene = make_scene(agents=(agent(20.0, -(beside + 2.25), np.pi / 2, 1.0, track_id=4),))
    accelerating = 1.0 * 2.0 + 0.5 * 1.5 * 2.0**2
    creeping = 1.0 * 2.0 + 0.5 * CONFIG.assumptions.waiting_acceleration * 2.0**2
    gained = beside - reach(scene, seconds=2.0)
    assert gained == pytest.approx(min(beside, creeping if waits else accelerating), abs=0.1)
