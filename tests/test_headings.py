"""Headings from the way: exact on straight ways, close on bends, silent where nothing was driven."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perception_samples import NOW, scene_of

from perception.headings import Headings
from planner.scene import AgentClass, AgentTracks


def told(x: float, y: float, yaw: float, v: float, kind: AgentClass = AgentClass.CAR, track: int = 3) -> AgentTracks:
    agents = scene_of([(x, y, yaw, v, kind)]).agents
    return agents.replace(track_id=torch.tensor([track]))


def after(headings: Headings, steps: int, v: float, turn: float = 0.0, **more: object) -> AgentTracks:
    """A vehicle along an arc, its heading told wrongly by 12 degrees; ego moves and turns meanwhile."""
    out = None
    for k in range(steps):
        t = 0.1 * k
        yaw = turn * t
        xy = np.array([v * t, 0.0]) if turn == 0 else v / turn * np.array([np.sin(yaw), 1 - np.cos(yaw)])
        ego = np.array([2.0 * t, 1.0, 0.3 * t])
        c, s = np.cos(ego[2]), np.sin(ego[2])
        seen = np.array([[c, s], [-s, c]]) @ (xy - ego[:2])
        agents = told(*seen, yaw - ego[2] + np.deg2rad(12.0), v, **more)
        out = headings.update(agents, torch.from_numpy(ego), NOW + 100_000 * k)
        out = out.replace(box=out.box.clone())
        out.box[0, 2] += ego[2]  # back to the global frame
    assert out is not None
    return out


@pytest.mark.parametrize("v", [5.0, 12.0])
def test_a_straight_way_gives_the_heading(v: float) -> None:
    out = after(Headings(), 8, v)
    assert float(out.box[0, 2]) == pytest.approx(0.0, abs=1e-6)
    assert float(out.velocity[0].norm()) == pytest.approx(v)


def test_on_a_bend_it_lags_half_the_span() -> None:
    assert float(after(Headings(), 12, 10.0, turn=0.3).box[0, 2]) == pytest.approx(0.3 * 1.1 - 0.3 * 0.2, abs=0.01)


@pytest.mark.parametrize(
    ("steps", "v", "more"),
    [(3, 12.0, {}), (8, 3.0, {}), (8, 12.0, {"kind": AgentClass.PEDESTRIAN})],
)
def test_otherwise_the_detected_heading_stays(steps: int, v: float, more: dict) -> None:
    assert float(after(Headings(), steps, v, **more).box[0, 2]) == pytest.approx(np.deg2rad(12.0), abs=1e-6)


def test_ways_are_forgotten_with_their_tracks() -> None:
    headings = Headings()
    after(headings, 8, 12.0)
    assert list(headings._ways) == [3]
    headings.update(told(0.0, 0.0, 0.0, 0.0, track=4), torch.zeros(3, dtype=torch.float64), NOW + 900_000)
    assert list(headings._ways) == [4]
    headings.reset()
    assert headings._ways == {}
