"""The reference drivers against values computed by hand and the outcomes of the public implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from shapely import affinity

from eval.baselines.reference_drivers import Encounters, avoided_by, drive_encounters, published_cut_ins
from eval.baselines.reference_models import MODELS, CarefulHuman, FuzzyDriver, Reg157, RssDriver, View
from eval.simulation.generate.protocols import protocol_scene
from eval.simulation.trace import Trace
from eval.studies.grids import judge_cell
from perception.recording import Recording
from planner.scene import VehicleParameters

VEHICLE = VehicleParameters()


def one(value: float) -> np.ndarray:
    return np.array([float(value)])


def view(gap: float, side: float = -1.0, v: float = 10.0, v_other: float = 5.0, approach: float = 0.0) -> View:
    return View(one(gap), np.array([True]), one(side), one(v), one(v_other), one(approach), one(0), one(4.3))


def braking_over_time(model, steps: int) -> list[float]:
    model.start(1)
    return [float(model.brake(view(1.0), np.array([True]), 0.1)[0]) for _ in range(steps)]


def test_rss_distances_by_hand() -> None:
    # 10 * 0.75 + 3 * 0.75^2 / 2 + (12.25^2 - 5^2) / 12
    assert RssDriver().safe_distance(one(10), one(5)) == pytest.approx(18.765625)
    # 0.3 + (2 + 0.75) * 0.75 / 2 + 1.75^2 / 2
    assert RssDriver().safe_side(one(1)) == pytest.approx(2.8625)


def test_rss_needs_both_directions_unsafe() -> None:
    rss = RssDriver()
    assert rss.dangerous(view(18.76, side=2.86, approach=1.0), False)
    assert not rss.dangerous(view(18.77, side=2.86, approach=1.0), False)
    assert not rss.dangerous(view(18.76, side=2.87, approach=1.0), False)


def test_fuzzy_metrics_by_hand() -> None:
    fsm = FuzzyDriver()
    # safe 7.5 + 100/8 - 25/14 + 2 = 20.2143, unsafe 7.5 + 100/12 - 25/14 = 14.0476; 2 m of the gap are margin
    assert fsm.proactive(one(22.22), one(10), one(5)) == 0.0
    assert fsm.proactive(one(16.04), one(10), one(5)) == 1.0
    assert fsm.proactive(one((20.2142857 + 14.0476190) / 2 + 2), one(10), one(5)) == pytest.approx(0.5, abs=1e-6)
    # safe 3.75 + 25/8 = 6.875, unsafe 3.75 + 25/12 = 5.8333
    assert fsm.critical(one(6.88), one(10), one(5), one(0)) == 0.0
    assert fsm.critical(one(5.83), one(10), one(5), one(0)) == 1.0
    assert fsm.critical(one(6.3541667), one(10), one(5), one(0)) == pytest.approx(0.5, abs=1e-6)
    assert fsm.critical(one(0.5), one(5), one(5), one(0)) == 0.0  # not closing


def test_reg157_reacts_at_its_time_to_collision_and_distance_from_the_side() -> None:
    reg = Reg157()
    limit = 5.0 * (5.0 / 12 + 0.45)  # closing speed 5 m/s
    assert reg.dangerous(view(limit - 0.01, side=0.49), False)
    assert not reg.dangerous(view(limit + 0.01, side=0.49), False)
    assert not reg.dangerous(view(limit - 0.01, side=0.51), False)


def test_careful_human_waits_for_the_lane_and_two_seconds() -> None:
    human = CarefulHuman()
    assert human.dangerous(view(9.99), False)
    assert not human.dangerous(view(10.01), False)
    assert not human.dangerous(view(9.99, side=0.01), False)


def test_braking_builds_up_as_published() -> None:
    human = braking_over_time(CarefulHuman(), 16)
    assert human[:8] == [0.4] * 8  # 0.75 s in steps of 0.1 s
    assert human[8] == pytest.approx(0.4 + 1.265)
    assert human[-1] == pytest.approx(0.774 * 9.81)
    reg = braking_over_time(Reg157(), 6)
    assert reg == [0.0] * 4 + [6.0] * 2


@pytest.mark.parametrize(
    ("name", "rear_end", "other"), [("FSM", 35, 16), ("CC", 134, 31), ("RSS", 41, 10), ("Reg157", 75, 31)]
)
def test_counts_of_the_public_implementation(name: str, rear_end: int, other: int) -> None:
    """ec-jrc/JRC-FSM, low-speed cut-ins, every sixth gap and fourth lateral speed: 750 cases, all four outcomes
    counted by running that code; case by case the two agree everywhere."""
    cases = [
        (ego, cutter, gap, lateral)
        for ego in range(10, 61, 10)
        for cutter in range(10, ego, 10)
        for gap, lateral in itertools.product(np.arange(1, 60)[::6], np.arange(0.0, 1.8, 0.1)[::4])
    ]
    outcome = drive_encounters(published_cut_ins(*np.array(cases, float).T), name)
    assert len(cases) == 750
    assert int(outcome.rear_end.sum()) == rear_end
    assert int((outcome.collided & ~outcome.rear_end).sum()) == other


@pytest.mark.parametrize("name", list(MODELS))
def test_outcomes_by_physics(name: str) -> None:
    """A standing obstacle far ahead is avoided by all, one nearer than any stopping distance is hit by all."""
    t = np.arange(120) * 0.1
    still = np.zeros((2, len(t)))
    far = Encounters(
        one(15).repeat(2), np.zeros(2), still + np.array([[90.0], [12.0]]), still, still, still,
        np.full((2, 2), 4.0), np.full((2, 2), 1.8), np.zeros(2, int), True,
    )  # fmt: skip
    outcome = drive_encounters(far, name)
    assert outcome.collided.tolist() == [False, True]
    assert 0 < outcome.impact_speed[1] <= 15.0
    assert outcome.smallest[0] > 0


def test_an_encounter_is_read_from_a_recording() -> None:
    recording = protocol_scene("r157_cut_in", {"ego_kmh": 60, "relative_kmh": -30, "gap": 20, "lateral": 2.0})
    encounter = Encounters.of_recording(recording, 0, begins=0.8, in_lane=False)
    at = 8
    front = encounter.start[0] + encounter.length[0, 0] / 2 + encounter.v[0] * 0.8
    assert encounter.x[0, at] - encounter.length[0, 1] / 2 - front == pytest.approx(20.0, abs=1e-6)
    assert encounter.offset[0, at] == pytest.approx(3.5, abs=0.01)
    assert encounter.approach.max() == pytest.approx(2.0, abs=0.03)
    assert set(avoided_by(encounter)) == set(MODELS)


def replayed(recording: Recording) -> Trace:
    """The drive of a recording's own ego and agents."""
    ego, agents, n = recording.ego, recording.agents, len(recording.time)
    return Trace(
        "x", "replay", "log_replay", 0, recording.time, ego.pose, ego.v, ego.a, ego.curvature, ego.yaw_rate,
        agents.track_id, agents.agent_class, agents.size, agents.pose, agents.velocity, agents.valid, ["replay"] * n,
        [""] * n, np.ones(n, bool), *np.zeros((3, n)), np.full(n, np.inf),
    )  # fmt: skip


def rectangle(x: float, y: float, yaw: float, length: float, width: float) -> shapely.Polygon:
    box = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(box, yaw, (0, 0), use_radians=True), x, y)


CELLS = [
    # ego, relative km/h, gap m, lateral m/s, hits
    (40.0, -30.0, 0.0, 2.5, True),  # turned by 41 degrees: 12 cm do not do
    (50.0, -20.0, 0.0, 1.0, False),
    (60.0, -40.0, 10.0, 1.5, True),
    (50.0, -40.0, 60.0, 0.5, True),
]


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize(("ego", "relative", "gap", "lateral", "hits"), CELLS)
def test_reference_drivers_are_judged_here_by_the_rectangles_as_they_are(
    ego: float, relative: float, gap: float, lateral: float, hits: bool, side: float
) -> None:
    """What the publication's rectangles, which lie along the lane, call avoided. Witness: shapely, at every step."""
    parameters = {"ego_kmh": ego, "relative_kmh": relative, "gap": gap, "lateral": lateral, "side": side}
    recording = protocol_scene("r157_cut_in", parameters)
    hazard = recording.metadata["hazard"]
    encounter = Encounters.of_recording(recording, hazard["track_id"], hazard["onset"], hazard["in_lane"])
    facts = judge_cell(recording, replayed(recording))
    for name, outcome in avoided_by(encounter).items():
        assert facts["avoided_by"][name] is not bool(outcome.collided[0])
        found = ""
        for x, other in zip(outcome.position[0], recording.agents.pose[0]):
            if not found and rectangle(*other, 4.3, 1.9).intersects(rectangle(x, 0, 0, VEHICLE.length, VEHICLE.width)):
                bearing = np.arctan2(other[1], other[0] - (x - VEHICLE.rear_axle_to_center))
                found = "rear" if abs(bearing) > np.deg2rad(150) else "hit"
        assert (name in facts["hit_here_by"]) == (found == "hit"), name
    assert bool(facts["hit_here_by"]) is hits
    assert all(facts["avoided_by"].values()) is (gap < 60.0), "at 60 m two of them brake, and too late"


def test_the_driven_way_of_a_reference_is_its_speed_summed_up() -> None:
    recording = protocol_scene("r157_cut_in", {"ego_kmh": 60, "relative_kmh": -30, "gap": 20, "lateral": 2.0})
    outcome = drive_encounters(Encounters.of_recording(recording, 0, begins=0.8, in_lane=False), "FSM")
    assert outcome.v.min() < outcome.v[0, 0] - 1.0, "it brakes"
    # Explicit steps: the position with the speed of the next one.
    np.testing.assert_allclose(np.diff(outcome.position[0]), outcome.v[0, 1:] * 0.1, atol=1e-9)
