"""What perception is given: nobody whom a car hides, and nothing of the future of annotated objects."""

from __future__ import annotations

import dataclasses

import numpy as np
from sim_scenes import DT, agent, recording, straight_track

from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.world import World
from perception.recording import PAST
from planner.limiter import Command
from planner.scene import AgentClass

STILL = Command(0.0, 0.0)


def world(rec, steps: int) -> World:
    out = World(rec, "log_replay", SimulationConfig())
    for _ in range(steps):
        out.step(STILL)
    return out


def test_velocity_of_annotated_objects_does_not_know_what_comes() -> None:
    """Two logs that agree up to now and differ afterwards look the same now; their own velocities do not."""
    times, now = 40, 20
    ego = straight_track(np.zeros(times))
    steady = 20.0 + 5.0 * DT * np.arange(times)
    stops = np.minimum(steady, steady[now])
    seen = []
    for x in (steady, stops):
        rec = dataclasses.replace(recording(ego, agent(straight_track(x))), source="nuscenes")
        rec.agents.velocity[:, :, 0] = np.gradient(x, DT)[None]
        w = world(rec, now)
        seen.append((w.seen().velocity[0, 0], w.objects().velocity[0, 0]))
    assert seen[0][0] == seen[1][0]
    assert abs(seen[0][0] - 5.0) < 1e-9
    assert seen[0][1] != seen[1][1]


def test_a_newcomer_is_measured_over_the_time_it_has_been_there() -> None:
    times, born = 40, 18
    x = 20.0 + 4.0 * DT * np.arange(times)
    valid = np.arange(times) >= born
    rec = dataclasses.replace(
        recording(straight_track(np.zeros(times)), agent(straight_track(x), valid=valid)), source="nuscenes"
    )
    rec.agents.velocity[:] = 99.0
    assert world(rec, born).seen().velocity[0, 0] == 99.0
    assert abs(world(rec, born + 1).seen().velocity[0, 0] - 4.0) < 1e-9
    assert abs(world(rec, born + PAST + 2).seen().velocity[0, 0] - 4.0) < 1e-9


def test_a_car_hides_who_stands_behind_it_and_a_pedestrian_hides_nobody() -> None:
    times = 10
    ego = straight_track(np.zeros(times))
    here = lambda x, kind: agent(straight_track(np.full(times, x)), kind)  # noqa: E731
    for blocker, visible_ids in ((AgentClass.CAR, [1]), (AgentClass.PEDESTRIAN, [1, 2])):
        rec = recording(ego, here(10.0, blocker), here(20.0, AgentClass.PEDESTRIAN))
        open_world, hidden = rec, dataclasses.replace(rec, metadata={"occlusion": True})
        assert len(world(open_world, 0).seen()) == 2
        ids = rec.agents.track_id
        assert world(hidden, 0).seen().track_id.tolist() == [int(ids[i - 1]) for i in visible_ids]
