"""Driven: after a jump or drift of the localisation, ego stops where it is, not where it believes to be."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from eval.config import DriverConfig
from eval.metrics.drivable_area import TOLERANCE, corner_excess
from eval.metrics.drive import Drive
from eval.pipeline import DualDrive
from eval.simulation.generate import generate
from eval.simulation.rollout import rollout
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.trace import Trace
from eval.studies.fault_base import Fault
from eval.studies.fault_models import make_injection
from perception.recording import Recording


@pytest.fixture(scope="module")
def recording() -> Recording:
    return generate("crossing_pedestrian", 0)


def driven(recording: Recording, kind: str, size: float) -> Trace:
    """With a fault of the localisation from 2 s on, to the end."""
    fault = make_injection((Fault(kind, 2.0, size),))
    driver = DualDrive(config=DriverConfig(), injection=fault)
    return rollout(recording, driver, "log_replay", SimulationConfig(duration=7.5), injection=fault)


@pytest.fixture(scope="module")
def way(recording: Recording) -> shapely.LineString:
    """Without a fault."""
    return shapely.LineString(driven(recording, "jump", 0.0).pose[:, :2])


@pytest.mark.parametrize(
    ("kind", "size", "within", "aside"), [("jump", -5.0, 0.1, 0.25), ("jump", 0.6, 1.0, 0.25), ("drift", 0.5, 3.0, 0.6)]
)
def test_ego_stays_in_its_lane_stops_and_does_not_drive_on(
    recording: Recording, way: shapely.LineString, kind: str, size: float, within: float, aside: float
) -> None:
    trace = driven(recording, kind, size)
    states = np.array([str(step["state"]) for step in trace.steps])
    held = np.isin(states, ["MINIMAL_RISK", "EMERGENCY"])
    first = int(np.flatnonzero(held)[0])
    assert trace.time[first] <= 2.0 + within + 1e-9
    assert held[first:].all()
    assert trace.v[-1] < 0.05
    assert corner_excess(Drive(trace, recording)).max() < TOLERANCE
    assert shapely.distance(way, shapely.points(trace.pose[:, :2])).max() < aside
