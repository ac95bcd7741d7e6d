"""Decisions: every way that exists is among the candidates, none twice, and the two safe ones always first."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from decision_scenes import decide, letters
from planner_scenes import SCENES, Other, agent_rectangles, make_scene

from planner import ConvexPlanner, PlannerConfig, PlanStatus
from planner import plan as plan_module
from planner.config import Margins
from planner.decisions.candidates import CandidateSet
from planner.scene import AgentClass, Trajectory, VectorScene, VehicleParameters

# Own values where the tests count on them: the same time kept to everybody in a crossing zone.
CONFIG = PlannerConfig(margins=Margins(zone_time=0.8, zone_time_walking=0.8))
VEHICLE = VehicleParameters()
UP, DOWN = math.pi / 2, -math.pi / 2
WALKER = AgentClass.PEDESTRIAN


def with_limits(**decisions) -> PlannerConfig:
    return replace(CONFIG, decisions=replace(CONFIG.decisions, **decisions))


# --- brute force: which orders of passing exist ---

TIME = np.arange(0.0, 6.01, 0.05)
SPARE_TIME, SPARE_ROOM = 0.5, 2.0
"""s and m beyond the planner's own margins by which an order must be reachable before it is asked for: the planner's

grid, its uncertainty and its smooth inputs cost something, and an order that is only just possible is no option.
"""


def profiles(v: float) -> np.ndarray:
    """``[n, T]`` distances driven: accelerations ramped up at 3 m/s^3 and then held, within speed and brake limits."""
    out = []
    for target in np.linspace(-3.0, 0.85 * CONFIG.limits.acceleration_max, 33):
        a = np.sign(target) * np.minimum(3.0 * TIME, abs(target))
        speed = np.clip(v + np.concatenate([[0], np.cumsum((a[1:] + a[:-1]) / 2 * 0.05)]), 0.0, 9.3)
        out.append(np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.05)]))
    return np.stack(out)


def zone(scene: VectorScene, agent: int, time: np.ndarray, widen: float = 0.0) -> tuple[np.ndarray, float, float]:
    """When an agent's mean box is in ego's band (a mask over time), and from where to where it then reaches (m)."""
    boxes = agent_rectangles(scene, agent, 0, time)
    half = VEHICLE.width / 2 + widen
    inside = np.array([b.bounds[1] < half and b.bounds[3] > -half for b in boxes])
    reach = [b.bounds for b, i in zip(boxes, inside) if i]
    return inside, min((b[0] for b in reach), default=math.nan), max((b[2] for b in reach), default=math.nan)


def reachable_orders(scene: VectorScene) -> set[str]:
    """Which orders some profile drives with room to spare.

    Per agent a letter: "b" (ego before it), "a" (after it), "-" (they never meet).
    """
    spare_time = CONFIG.margins.zone_time + SPARE_TIME
    s = profiles(float(scene.ego.v))
    letters = []
    for agent in range(len(scene.agents.track_id)):
        inside, low, high = zone(scene, agent, TIME, widen=0.4)
        if not inside.any():
            letters.append(np.full(len(s), "-"))
            continue
        near = s[:, (TIME >= TIME[inside][0] - spare_time) & (TIME <= TIME[inside][-1] + spare_time)]
        first, second = near.min(1) - VEHICLE.rear > high + SPARE_ROOM, near.max(1) + VEHICLE.front < low - SPARE_ROOM
        letters.append(np.where(first, "b", np.where(second, "a", "?")))
    return {"".join(order) for order in zip(*letters) if "?" not in order}


def order_of_duties(scene: VectorScene, duties: dict[int, str]) -> str:
    letter = {"pass": "b", "yield": "a"}
    return "".join(letter.get(duties.get(int(i), ""), "-") for i in scene.agents.track_id)


def crossing_scene(rng: np.random.Generator, count: int) -> VectorScene:
    """Cars and pedestrians that cross at right angles, each at its own place and time."""
    others = []
    for i in range(count):
        walks = rng.random() < 0.4
        speed = float(rng.uniform(1.2, 2.2) if walks else rng.uniform(4.0, 8.0))
        meets = float(rng.uniform(2.0, 5.5))
        side = float(rng.choice([-1.0, 1.0]))
        x = float(rng.uniform(10.0, 32.0)) + 6.0 * i
        others.append(
            Other(x, -side * speed * meets, side * UP, speed, WALKER if walks else AgentClass.CAR, track_id=i + 1)
        )
    return make_scene(float(rng.uniform(5.0, 9.2)), tuple(others), left=2.5, right=2.5)


CROSSINGS = [crossing_scene(np.random.default_rng([30, n]), 1 + n % 2) for n in range(100)]


@pytest.fixture(scope="module")
def crossing_results():
    return [ConvexPlanner(CONFIG, VEHICLE).plan(scene) for scene in CROSSINGS]


def test_every_order_that_is_clearly_possible_is_among_the_candidates(crossing_results) -> None:
    asked, passing, missing = 0, 0, []
    for n, (scene, result) in enumerate(zip(CROSSINGS, crossing_results)):
        offered = {order_of_duties(scene, c.duties) for c in result.candidates}
        for order in reachable_orders(scene):
            asked += 1
            passing += "b" in order
            # A candidate may leave out whom it never meets: "-" fits every letter.
            if not any(all(mine in ("-", theirs) for mine, theirs in zip(o, order)) for o in offered):
                missing.append((n, order, sorted(offered)))
    assert asked > 60
    assert passing > 10
    assert not missing


def test_possible_orders_are_solved_not_only_listed(crossing_results) -> None:
    listed = solved = 0
    for scene, result in zip(CROSSINGS, crossing_results):
        for order in reachable_orders(scene):
            mine = [c for c in result.candidates if order_of_duties(scene, c.duties) == order]
            listed += bool(mine)
            solved += any(c.status is PlanStatus.SOLVED for c in mine)
    assert listed > 40
    assert solved >= 0.97 * listed


def test_solved_candidates_do_what_their_duties_say(crossing_results) -> None:
    """Witness: the driven distances against the mean boxes, without the planner's margins."""
    passed = yielded = 0
    for scene, result in zip(CROSSINGS, crossing_results):
        for c in result.candidates:
            if c.status is not PlanStatus.SOLVED:
                continue
            for agent, track in enumerate(scene.agents.track_id.tolist()):
                time = c.trajectory.time.numpy()
                inside, low, high = zone(scene, agent, time)
                x = c.trajectory.x.numpy()[inside]
                if c.duties.get(track) == "pass":
                    passed += 1
                    assert (x - VEHICLE.rear > high - 1e-3).all(), c.decision
                elif c.duties.get(track) == "yield":
                    yielded += 1
                    assert (x + VEHICLE.front < low + 1e-3).all(), c.decision
    assert passed > 15
    assert yielded > 60


def test_no_two_candidates_are_the_same_decision(crossing_results) -> None:
    scenes = [make_scene(8.0, (Other(30.0, -1.9), Other(45.0, 1.9, track_id=2)), left=3.5, right=3.5)]
    results = [*crossing_results, *(ConvexPlanner(CONFIG, VEHICLE).plan(s) for s in scenes)]
    for result in results:
        seen = [(c.kind == "hold", c.kind == "oncoming", tuple(sorted(c.duties.items()))) for c in result.candidates]
        assert len(seen) == len(set(seen)), [c.decision for c in result.candidates]
        assert len({c.decision for c in result.candidates}) == len(result.candidates)


def test_both_orders_of_two_pedestrians_are_tried() -> None:
    """Two who come late enough to pass before either: each subset is a candidate."""
    walkers = (Other(16.0, -9.0, UP, 2.0, WALKER), Other(22.0, 9.0, DOWN, 2.0, WALKER, track_id=2))
    scene = make_scene(9.0, walkers, left=2.5, right=2.5)
    offered = {order_of_duties(scene, c.duties) for c in ConvexPlanner(CONFIG, VEHICLE).plan(scene).candidates}
    assert {"".join(o) for o in product("ab", repeat=2)} <= offered


# --- the slots ---


def candidate_set(scene: VectorScene, config: PlannerConfig, monkeypatch, decision: str = "") -> CandidateSet:
    """What is about to be solved, in its order."""
    caught: list[CandidateSet] = []
    original = plan_module.assemble
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "assemble", lambda *args: caught.append(original(*args)) or caught[-1])
        planner = ConvexPlanner(config, VEHICLE)
        planner.memory.decision, planner.memory.time_us = decision, int(scene.ego.time_us)
        planner.plan(scene)
    return caught[0]


CROWD = make_scene(
    8.0,
    tuple(
        Other(14.0 + 4.0 * i, (-1) ** i * -8.0, (-1) ** i * UP, 1.6, WALKER, track_id=i + 1) for i in range(6)
    ),
    left=3.5, right=3.5,
)  # fmt: skip


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_all_yield_and_hold_keep_the_first_two_slots_however_few_there_are(most: int, monkeypatch) -> None:
    config = with_limits(max_candidates=most, max_conflicts=6)
    found = candidate_set(CROWD, config, monkeypatch)
    assert found.kind[:2] == ["yield", "hold"]
    assert found.hold[:2].tolist() == [False, True]
    assert set(found.duties[0].values()) == {"yield"}
    assert len(found.kind) == max(most, 2)  # and the rest is used


def test_the_last_decision_keeps_a_slot(monkeypatch) -> None:
    everything = candidate_set(CROWD, with_limits(max_candidates=200, max_conflicts=6), monkeypatch)
    for text in everything.text[2::7]:
        few = candidate_set(CROWD, with_limits(max_candidates=3, max_conflicts=6), monkeypatch, decision=text)
        assert few.text[:2] == everything.text[:2]
        assert few.text[2] == text
    gone = candidate_set(CROWD, with_limits(max_candidates=3), monkeypatch, decision="pass before 99")
    assert "pass before 99" not in gone.text


@pytest.mark.parametrize("most", [6, 16])
def test_orders_that_contradict_themselves_only_get_slots_that_nobody_else_wants(most: int) -> None:
    """Before somebody further on, but after somebody nearer who crosses at that time: ego would be at two places."""
    walkers = tuple(Other(20.0 + 10.0 * i, -9.0 - 2.0 * i, UP, 2.0, WALKER, track_id=i + 1) for i in range(3))
    scene = make_scene(9.0, walkers, left=2.5, right=2.5)
    found = decide(scene, with_limits(max_candidates=most, max_conflicts=3))
    orders = [letters(d, 3) for d, hold in zip(found.duties, found.hold.tolist()) if not hold]
    sensible = ["aaa", "baa", "bba", "bbb"]
    assert set(sensible) <= set(orders)
    assert len(orders) == (5 if most == 6 else 8)
    every = decide(scene, with_limits(max_candidates=16, max_conflicts=3))
    crossed = (every.bounds.s_lower[:, 0] > every.bounds.s_upper[:, 0]).any(-1)
    assert {o for o, empty in zip([letters(d, 3) for d in every.duties], crossed.tolist()) if not empty} == set(
        sensible
    )


def test_many_ways_are_cut_to_sixteen_of_which_none_is_listed_twice() -> None:
    """Six who cross, and a car at the side: dozens of combinations."""
    parked = Other(26.0, -1.9, track_id=9)
    crossing = [Other(30.0 + 5.0 * i, (-1) ** i * -10.0, (-1) ** i * UP, 1.6, WALKER, track_id=i + 1) for i in range(6)]
    scene = make_scene(8.0, (parked, *crossing), left=4.5, right=3.5)
    found = decide(scene, with_limits(max_candidates=16, max_conflicts=6))
    assert len(found.text) == len(set(found.text)) == 16
    assert {"yield", "hold", "pass", "left"} <= set(found.kind)
    assert len(decide(scene, with_limits(max_candidates=200, max_conflicts=6)).text) > 60


def test_without_others_there_are_only_two(monkeypatch) -> None:
    found = candidate_set(make_scene(8.0), CONFIG, monkeypatch)
    assert found.kind == ["yield", "hold"]
    assert found.duties == [{}, {}]
    assert not bool(found.bounds.s_lower.isfinite().any())
    assert not bool(found.bounds.v_ref[1].any())


# --- several scenes at once ---

ALIKE = ("text", "kind", "duties")
NUMBERS = ("s_upper", "s_lower", "upper_id", "lower_id", "gap_s", "gap_headway", "gap_speed", "v_ref", "v_cap")


def test_a_batch_decides_as_its_scenes_do_one_by_one() -> None:
    """Scenes of different numbers of agents, modes and manoeuvres; every padding is another scene's data."""
    two_modes = make_scene(8.0, (Other(28.0, -6.0, UP, 1.5, WALKER, modes=((0.7, 1.5), (0.3, 0.2))),), left=2.5)
    scenes = [*SCENES.values(), two_modes, CROWD, *CROSSINGS[:6]]
    preferred = ["pass before 1" if i % 2 else "" for i in range(len(scenes))]
    found = decide(scenes, CONFIG, preferred)
    for i, scene in enumerate(scenes):
        rows = (found.scene == i).nonzero()[:, 0]
        alone = decide(scene, CONFIG, preferred[i : i + 1])
        for name in ALIKE:
            assert [getattr(found, name)[r] for r in rows.tolist()] == getattr(alone, name), name
        assert torch.equal(found.hold[rows], alone.hold)
        assert torch.equal(found.manoeuvre[rows], alone.manoeuvre)
        for name in NUMBERS:
            assert torch.allclose(
                getattr(found.bounds, name)[rows].double(), getattr(alone.bounds, name).double(), rtol=0, atol=1e-9
            ), name


def test_modes_that_only_fill_up_do_not_move_anybody() -> None:
    """Padding of a forecast is zero, a place right at ego; who is in front of us stays there."""
    scene = make_scene(8.0, (Other(10.0, 0.0, v=6.0, modes=((0.9, 6.0), (0.1, 5.0))),))
    futures = scene.futures
    valid, mean = futures.valid.clone(), futures.mean.clone()
    valid[:, 1], mean[:, 1] = False, 0.0
    found = decide(scene.replace(futures=futures.replace(valid=valid, mean=mean)), CONFIG)
    assert found.text[0] == "yield to 1"


# --- who is passed beside, followed, left alone ---


def kinds(scene: VectorScene) -> set[str]:
    return {c.kind for c in ConvexPlanner(CONFIG, VEHICLE).plan(scene).candidates}


def test_a_queue_in_the_middle_of_the_lane_is_not_steered_round() -> None:
    roomy = {"left": 5.0, "right": 5.0}
    assert kinds(make_scene(6.0, (Other(25.0, 0.1),), **roomy)) == {"yield", "hold"}
    assert kinds(make_scene(6.0, (Other(25.0, -1.6),), **roomy)) >= {"left"}
    assert kinds(make_scene(6.0, (Other(25.0, 1.6),), **roomy)) >= {"right"}
    assert "left" in kinds(
        make_scene(6.0, (Other(25.0, -0.1, kind=AgentClass.STATIC),), **roomy)
    )  # a cone is not a queue


def test_a_moving_car_is_followed_not_passed_beside() -> None:
    assert kinds(make_scene(8.0, (Other(20.0, -1.6, v=5.0),), left=5.0, right=5.0)) <= {"yield", "hold", "pass"}


@pytest.mark.parametrize("room", [1.75, 2.6, 2.75, 3.5])
def test_a_side_is_offered_exactly_where_ego_fits(room: float) -> None:
    """Beside a car whose left face is at y = -0.95 + grown by its uncertainty: width, both margins and a little."""
    scene = make_scene(6.0, (Other(30.0, -1.9, sigma=0.0, spread=0.0),), left=room)
    need = -0.95 + 0.05 + VEHICLE.width + CONFIG.margins.side + CONFIG.margins.boundary
    assert ("left" in kinds(scene)) is (room > need + 0.1)


def test_who_stands_clear_of_the_band_is_nobodys_duty() -> None:
    result = ConvexPlanner(CONFIG, VEHICLE).plan(make_scene(8.0, (Other(25.0, -3.2),), left=3.0))
    assert result.chosen.duties == {}
    assert float(result.chosen.trajectory.v[-1]) > 9.0


def test_near_a_junction_the_oncoming_surface_is_not_used() -> None:
    scenes = []
    for junction in (False, True):
        scene = make_scene(0.0, (Other(14.0, 0.0),), left_oncoming=3.5)
        scene.route.junction[60:70] = junction
        scenes.append(scene)
    offered = []
    for scene in scenes:
        planner = ConvexPlanner(CONFIG, VEHICLE)
        planner.memory.time_us = int(scene.ego.time_us)
        planner.memory.standing_time = {1: 60.0}
        offered.append("oncoming" in {c.kind for c in planner.plan(scene).candidates})
    assert offered == [True, False]


def test_unlikely_modes_do_not_stop_ego_and_likely_ones_do() -> None:
    """A pedestrian beside the road who crosses with probability p: below the accepted one there is no row."""

    def speed_at_the_end(p: float) -> float:
        scene = make_scene(8.0, (Other(30.0, -4.0, UP, 1.0, WALKER, modes=((1 - p, 0.0), (p, 1.2))),), right=3.0)
        path: Trajectory = ConvexPlanner(CONFIG, VEHICLE).plan(scene).chosen.trajectory
        return float(path.x[-1])

    accepted = CONFIG.risk.hit_probability
    free = float(ConvexPlanner(CONFIG, VEHICLE).plan(make_scene(8.0, right=3.0)).chosen.trajectory.x[-1])
    assert speed_at_the_end(accepted * 0.8) > free - 3.0
    assert speed_at_the_end(0.9) < free - 15.0


def test_existence_scales_modes_that_agree_add_up() -> None:
    """Three modes of a third each that all stand in the way count as one certain obstacle."""
    certain = make_scene(8.0, (Other(32.0, 0.0),))
    split = make_scene(8.0, (Other(32.0, 0.0, modes=((0.34, 0.0), (0.33, 0.0), (0.33, 0.0))),))
    one, three = (ConvexPlanner(CONFIG, VEHICLE).plan(s).chosen.trajectory for s in (certain, split))
    assert torch.allclose(one.x, three.x, atol=1e-6)
    ghost = make_scene(8.0, (Other(32.0, 0.0, existence=CONFIG.risk.hit_probability * 0.9),))
    assert float(ConvexPlanner(CONFIG, VEHICLE).plan(ghost).chosen.trajectory.x[-1]) > 50.0


def test_who_can_no_longer_stop_before_a_pedestrian_far_off_passes_before_them() -> None:
    """At 9 m/s, 12 m before their line: stopping takes 14 m, passing takes 2.1 s, and they need 3.9 s to the lane."""
    walker = Other(16.0, -9.0, UP, 2.0, WALKER)
    result = ConvexPlanner(PlannerConfig(margins=Margins(zone_time_walking=2.0)), VEHICLE).plan(
        make_scene(9.0, (walker,), left=2.5, right=2.5)
    )
    assert result.chosen is not None
    assert result.chosen.duties == {1: "pass"}


def test_the_oncoming_surface_is_not_used_while_somebody_comes() -> None:
    """A car coming towards us on it within the horizon takes the candidate away; one that has passed does not."""
    offered = {}
    for name, x in (("coming", 60.0), ("passed", -20.0)):
        planner = ConvexPlanner()
        coming = Other(x, 3.5, yaw=float(np.pi), v=8.0, track_id=2)
        for cycle in range(9):
            scene = make_scene(0.0, (Other(14.0, 0.0), coming), left_oncoming=3.5, time_us=500_000 * cycle)
            kinds = {c.kind for c in planner.plan(scene).candidates}
        offered[name] = "oncoming" in kinds
    assert offered == {"coming": False, "passed": True}


MERGER = Other(0.0, 3.4, yaw=-0.06, v=9.0)
"""Beside ego and faster; in its lane after two seconds, ahead of where ego is after braking easily."""


def test_who_merges_from_beside_is_left_their_duty_or_let_in() -> None:
    """Both are candidates, once each; the duty is recorded in either, and the bound binds only who lets them in."""
    found = decide(make_scene(7.0, (MERGER,), left=5.0), CONFIG)
    told = dict(zip(found.text, found.duties))
    assert told["drive on"] == {1: "insist: their duty"}
    assert told["let in 1"] == {1: "yield: their duty"}
    assert len(set(found.text)) == len(found.text) == 3
    upper = dict(zip(found.text, found.bounds.upper_id[:, 0]))
    assert bool((upper["let in 1"] == 1).any())
    assert not bool((upper["drive on"] == 1).any())


def test_who_is_let_in_gets_there_first() -> None:
    """Witness: where the exact boxes are when the merger is in ego's lane."""
    scene = make_scene(7.0, (MERGER,), left=5.0)
    result = ConvexPlanner(CONFIG, VEHICLE).plan(scene)
    kind = {c.decision: c for c in result.candidates}
    way = kind["let in 1"].trajectory
    assert kind["let in 1"].status is PlanStatus.SOLVED
    t = torch.arange(1, len(way.x)) * 0.1
    front = way.x[1:] + VEHICLE.front
    tail = MERGER.x + MERGER.v * math.cos(MERGER.yaw) * t - 2.25
    inside = (MERGER.y + MERGER.v * math.sin(MERGER.yaw) * t).abs() < VEHICLE.width / 2 + 0.95
    assert bool(inside.any())
    assert bool((front < tail)[inside & (t <= 6.0)].all())


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(MERGER, x=-20.0), "comes in behind: no braking of ours lets them in"),
        (replace(MERGER, yaw=0.0), "stays in its lane"),
        (replace(MERGER, x=-12.0, y=0.0, yaw=0.0), "follows in our lane"),
        (Other(14.0, -5.0, UP, 1.0), "waits to enter across"),
    ],
)
def test_nobody_else_is_let_in(other: Other, why: str) -> None:
    found = decide(make_scene(7.0, (other,), left=5.0, right=3.0), CONFIG)
    assert not any("let in" in text for text in found.text), why


def test_insisting_has_a_price_and_holding_does_not() -> None:
    scene = make_scene(7.0, (MERGER,), left=5.0)
    costs = {}
    for price in (0.0, 5.0):
        config = replace(CONFIG, decisions=replace(CONFIG.decisions, insist_cost=price))
        costs[price] = {c.decision: float(c.cost) for c in ConvexPlanner(config, VEHICLE).plan(scene).candidates}
    more = {name: costs[5.0][name] - costs[0.0][name] for name in costs[0.0]}
    assert more == pytest.approx({"drive on": 5.0, "let in 1": 0.0, "hold: drive on": 0.0}, abs=1e-9)


def test_who_was_seen_driving_is_waited_for_longer_than_who_stood_from_the_beginning() -> None:
    """A car that brakes to a stop will drive on; one that stood when first seen may be parked."""
    decisions = CONFIG.decisions
    seconds = decisions.standing_time + decisions.traffic_patience + 1.0
    offered: dict[bool, list[float]] = {}
    for drove in (False, True):
        planner, offered[drove] = ConvexPlanner(CONFIG, VEHICLE), []
        for cycle in range(round(seconds / 0.5) + 1):
            speed = 3.0 if drove and cycle == 0 else 0.0
            scene = make_scene(0.0, (Other(14.0, 0.0, v=speed),), left_oncoming=3.5, time_us=500_000 * cycle)
            if "oncoming" in {c.kind for c in planner.plan(scene).candidates}:
                offered[drove].append(0.5 * cycle)
    assert min(offered[False]) == pytest.approx(decisions.standing_time, abs=0.51)
    assert min(offered[True]) == pytest.approx(decisions.standing_time + decisions.traffic_patience, abs=0.51)


@pytest.mark.parametrize(("apart", "listed"), [(30.0, True), (12.0, False)])
def test_stopping_between_two_who_stand_is_listed_where_there_is_room(apart: float, listed: bool) -> None:
    others = (Other(30.0, -1.9), Other(30.0 + apart, -1.9, track_id=2))
    found = decide(make_scene(6.0, others, left=3.5), CONFIG)
    assert ({1: "left", 2: "yield"} in found.duties) is listed
    assert {1: "left", 2: "left"} in found.duties
