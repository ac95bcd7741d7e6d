"""plan(): scenes a person could draw, and what must hold of every answer."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from planner_scenes import (
    CONFIG,
    SCENES,
    UP,
    VEHICLE,
    WALKER,
    Other,
    agent_rectangles,
    chosen,
    ego_rectangles,
    front_bumper,
    make_scene,
    plan,
    rectangle,
)
from scipy.stats import norm

from planner import ConvexPlanner, PlannerConfig, PlanStatus
from planner.config import SafeDistances
from planner.grid import make_grid
from planner.plan import FIRM, PlannerMemory, plan_scenes
from planner.result import Candidate, PlanResult
from planner.scene import AgentClass, Trajectory, VectorScene

MARGIN = CONFIG.margins.ahead


@pytest.fixture(scope="module")
def results() -> dict[str, PlanResult]:
    return {name: plan(scene) for name, scene in SCENES.items()}


# --- golden scenes ---


def test_a_free_road_is_driven_at_its_limit(results) -> None:
    best = results["free road"].chosen
    assert float(best.trajectory.v[-1]) == pytest.approx(10.0 * CONFIG.comfort.speed_fraction, abs=0.2)
    assert float(best.trajectory.y.abs().amax()) < 1e-6
    assert best.duties == {}


def test_from_standstill_it_sets_off(results) -> None:
    best = results["setting off"].chosen
    assert float(best.trajectory.v[-1]) > 7.0
    assert bool((best.trajectory.v.diff() > -1e-6).all())


def test_above_the_limit_it_only_slows_down() -> None:
    best = chosen(make_scene(13.0, limit=8.0))
    assert bool((best.trajectory.v <= 13.0 + 1e-6).all())
    assert float(best.trajectory.v[-1]) < 8.3


def test_a_leader_is_followed_with_a_gap_that_grows_with_speed(results) -> None:
    best = results["leader"].chosen
    time = best.trajectory.time
    gap = 22.0 + 5.0 * time - 2.25 - front_bumper(best.trajectory)
    assert best.duties == {1: "yield"}
    assert float(gap.amin()) > MARGIN
    assert float(gap[-1]) > 0.5 * CONFIG.comfort.headway * 5.0
    assert float(best.trajectory.v[-1]) == pytest.approx(5.0, abs=1.5)
    alone = results["free road"].chosen.trajectory
    assert float(alone.x[-1] - best.trajectory.x[-1]) > 5.0


@pytest.mark.parametrize(("name", "face"), [("cone", 29.5), ("standing car", 29.75)])
def test_before_a_standing_obstacle_it_slows_and_the_bumper_never_passes_its_margin(results, name, face) -> None:
    best = results[name].chosen
    assert float(front_bumper(best.trajectory).amax()) <= face - MARGIN + 0.02
    assert float(front_bumper(best.tail).amax()) <= face - MARGIN + 0.02
    assert float(best.trajectory.v[-1]) < 3.0
    assert best.duties == {1: "yield"}


@pytest.mark.parametrize(("v", "x"), [(6.0, 18.0), (6.0, 22.0), (8.0, 20.0), (8.0, 26.0)])
def test_where_the_hard_row_holds_ego_back_the_gap_is_the_margin_and_not_more(v: float, x: float) -> None:
    """A certain obstacle: its covariance is the floor alone, so the gap is known to the millimetre."""
    best = chosen(make_scene(v, (Other(x, 0.0, kind=AgentClass.STATIC, sigma=0.0, spread=0.0),)))
    rows = [r.label for r in best.certificate.active if r.label.rule == "obstacle ahead"]
    assert rows
    assert rows[0].track_id == 1
    grown = float(norm.ppf(1 - CONFIG.risk.hit_probability)) * CONFIG.risk.sigma_floor
    assert x - 0.5 - float(front_bumper(best.trajectory).amax()) == pytest.approx(MARGIN + grown, abs=2e-3)


@pytest.mark.parametrize("v", [4.0, 8.0, 12.0])
def test_the_tail_rests_as_early_as_firm_braking_allows(v: float) -> None:
    """Not merely at its end: the longer it moves, the more the worst case of others takes up."""
    tail = chosen(make_scene(v, limit=14.0)).tail
    late = tail.time > CONFIG.horizon.shared + (v + 2.0 * CONFIG.horizon.shared) / 5.5 + 1.6
    assert int(late.sum()) > 5
    assert float(tail.v[late].amax()) <= 0.021


def test_driven_cycle_by_cycle_it_comes_to_rest_before_the_obstacle() -> None:
    """Ideal tracking, half a second a cycle: stands in the end, between the hard margin and a few metres."""
    planner, x, v, a = ConvexPlanner(CONFIG, VEHICLE), 0.0, 8.0, 0.0
    for cycle in range(40):
        scene = make_scene(v, (Other(40.0 - x, 0.0),), a=a, time_us=500_000 * cycle)
        best = planner.plan(scene).chosen
        assert best is not None, (cycle, x, v)
        x, v, a = x + float(best.trajectory.x[5]), float(best.trajectory.v[5]), float(best.trajectory.a[5])
    assert v < 0.1
    gap = 40.0 - 2.25 - x - VEHICLE.front
    assert MARGIN - 0.05 < gap < CONFIG.comfort.gap + 3.0


def test_a_crossing_pedestrian_is_let_through(results) -> None:
    scene, best = SCENES["crossing pedestrian"], results["crossing pedestrian"].chosen
    assert best.duties == {1: "yield"}
    time = best.trajectory.time.numpy()
    walker = agent_rectangles(scene, 0, 0, time)
    band = [p for p in walker if abs(p.centroid.y) < VEHICLE.width / 2 + 0.35]
    assert len(band) > 10  # really crosses
    in_band = np.array([abs(p.centroid.y) < VEHICLE.width / 2 + 0.35 for p in walker])
    assert float(front_bumper(best.trajectory)[torch.from_numpy(in_band)].amax()) < 25.0 - 0.35


@pytest.mark.parametrize(("name", "side"), [("parked on the right", 1), ("parked on the left", -1)])
def test_a_parked_car_is_passed_on_the_side_with_room(results, name: str, side: int) -> None:
    scene, best = SCENES[name], results[name].chosen
    assert best.kind == ("left" if side > 0 else "right")
    assert best.duties[1] == best.kind
    assert float(best.trajectory.x[-1]) > 35.0  # gets past
    assert float((side * best.trajectory.y).amax()) > 0.3
    car = rectangle(*scene.agents.box[0].tolist())
    for outline in ego_rectangles(best.trajectory):
        assert outline.distance(car) > CONFIG.margins.side - 0.05
        assert outline.bounds[1] > -float(scene.route.right[0]) + 0.05
        assert outline.bounds[3] < float(scene.route.left[0]) - 0.05


def nearest_beside(scene: VectorScene, candidate: Candidate) -> float:
    """Smallest distance (m) to the first agent's box of now, while lateral rows are hard."""
    other = rectangle(*scene.agents.box[0].tolist())
    hard = candidate.trajectory.time <= CONFIG.horizon.lateral_hard
    return min(o.distance(other) for o, keep in zip(ego_rectangles(candidate.trajectory), hard) if keep)


CARELESS = replace(CONFIG, comfort=replace(CONFIG.comfort, side_gap=-0.3, side_gap_per_speed=0.0))
"""Aims to scrape along, so that only the hard rows keep it off."""
SCRAPE = make_scene(6.0, (Other(26.0, -1.9, sigma=0.0, spread=0.0),), left=3.5)


def test_beside_an_object_the_row_holds_where_comfort_would_scrape_along() -> None:
    best = next(c for c in plan(SCRAPE, CARELESS).candidates if c.kind == "left")
    assert best.status is PlanStatus.SOLVED
    held = [r.label for r in best.certificate.active if r.label.rule == "corridor"]
    assert {label.track_id for label in held} == {1}
    assert nearest_beside(SCRAPE, best) > 0.0


def test_beside_an_object_ahead_the_whole_hard_margin_is_kept() -> None:
    best = next(c for c in plan(SCRAPE, CARELESS).candidates if c.kind == "left")
    assert nearest_beside(SCRAPE, best) > CONFIG.margins.side - 0.05


def test_without_room_it_waits_behind(results) -> None:
    best = chosen(make_scene(8.0, (Other(32.0, -0.9),)))
    assert best.duties == {1: "yield"}
    assert float(front_bumper(best.trajectory).amax()) < 32.0 - 2.25


def test_the_oncoming_surface_is_used_only_after_waiting_and_as_a_candidate_of_its_own() -> None:
    planner = ConvexPlanner(CONFIG, VEHICLE)
    kinds = []
    for cycle in range(9):
        scene = make_scene(0.0, (Other(14.0, 0.0),), left_oncoming=3.5, time_us=500_000 * cycle)
        kinds.append({c.kind for c in planner.plan(scene).candidates})
    assert "oncoming" not in kinds[0]
    waited = next(i for i, k in enumerate(kinds) if "oncoming" in k) * 0.5
    assert waited == pytest.approx(CONFIG.decisions.standing_time, abs=0.51)
    planner.reset()
    assert "oncoming" not in {c.kind for c in planner.plan(scene).candidates}


def test_an_obstacle_within_the_braking_distance_is_reported_as_an_empty_problem() -> None:
    result = plan(make_scene(10.0, (Other(12.0, 0.0, track_id=42),)))
    assert result.status is PlanStatus.INFEASIBLE
    assert result.chosen is None
    for candidate in result.candidates:
        assert candidate.status is PlanStatus.INFEASIBLE
        assert candidate.trajectory is candidate.tail is candidate.cost is candidate.certificate is None
        assert 42 in {label.track_id for label in candidate.blocked_by}
        assert candidate.blocked_by[0].rule.startswith("obstacle ahead")
        # From 10 m/s no braking below 8 m/s^2 stops within the 6.3 m that there are: metres are missing.
        assert candidate.phase1_slack > 0.5
    assert "42" in result.explanation


@pytest.mark.parametrize(
    ("x", "firm", "status"), [(24.0, False, "solved"), (19.0, True, "solved"), (12.0, False, "infeasible")]
)
def test_where_ordinary_braking_does_not_suffice_the_plan_brakes_at_once_as_the_tail_may(x, firm, status) -> None:
    """8.9 m/s towards somebody who stands in the way: it takes 14.2 m of ordinary and about 9 m of firm braking."""
    result = plan(make_scene(8.9, (Other(x, 0.0, kind=WALKER),)))
    assert result.status is PlanStatus(status)
    assert (FIRM in result.explanation) is firm
    if result.chosen is not None:
        driven = result.chosen.trajectory
        assert (float(driven.a.min()) < -CONFIG.limits.braking_max - 0.5) is firm
        assert float(driven.a.min()) >= -CONFIG.limits.tail_braking_max - 1e-6
        assert front_bumper(driven).max() <= x - 0.35 + 1e-6
        if firm:  # at once, not after the part that plan and tail share
            assert float(driven.v[4]) < 8.9 - 0.7


def test_a_sensitivity_of_a_firm_plan_is_one_of_the_same_plan() -> None:
    result = plan(make_scene(8.9, (Other(19.0, 0.0, kind=WALKER),)))
    found = result.sensitivity(1)
    assert found.trusted
    # A walker who stands a metre farther off lets ego drive faster.
    assert float(found.v[1, 0]) > 0.01


@pytest.fixture
def attempts(monkeypatch) -> list[dict[str, Any]]:
    """What the planner's attempts were given, and what they took; each takes 20 ms more than it would."""
    seen: list[dict[str, Any]] = []

    def attempt(scenes, memories, config, vehicle, deadline=None, tracking=None):  # type: ignore[no-untyped-def]
        time.sleep(0.02)
        answer = plan_scenes(scenes, memories, config, vehicle, deadline, tracking)
        answer.total_time += 0.02
        seen.append({
            "decisions": [m.decision for m in memories], "limits": config.limits, "deadline": deadline,
            "rest": replace(config, limits=CONFIG.limits), "total": answer.total_time, "solve": answer.solve_time,
        })  # fmt: skip
        return answer

    monkeypatch.setattr("planner.plan.plan_scenes", attempt)
    return seen


@pytest.mark.parametrize(("x", "count"), [(24.0, 1), (19.0, 2), (12.0, 2)])
def test_a_second_attempt_differs_in_the_limits_alone_and_its_time_counts(attempts, x: float, count: int) -> None:
    planner = ConvexPlanner(CONFIG, VEHICLE)
    planner.memory = PlannerMemory("yield to 1")
    result = planner.plan(make_scene(8.9, (Other(x, 0.0, kind=WALKER),)), deadline=10.0)
    assert len(attempts) == count
    assert {tuple(one["decisions"]) for one in attempts} == {("yield to 1",)}
    assert all(one["rest"] == CONFIG for one in attempts)
    limits = CONFIG.limits
    assert attempts[0]["limits"] == limits
    assert result.solve_time == pytest.approx(sum(one["solve"] for one in attempts), abs=1e-9)
    assert result.total_time >= sum(one["total"] for one in attempts) - 1e-9
    if count == 2:
        assert attempts[1]["deadline"] <= 10.0 - attempts[0]["total"]
        assert attempts[1]["limits"] == replace(
            limits, braking_max=limits.tail_braking_max, jerk_max=limits.tail_jerk_max,
            lateral_acceleration_max=limits.tail_lateral_acceleration_max,
        )  # fmt: skip


@pytest.mark.parametrize("deadline", [0.0, 0.019])
def test_who_has_run_out_of_time_makes_no_second_attempt(attempts, deadline: float) -> None:
    """Of the first attempt's candidates all are empty already without a solver, or out of time."""
    scene = make_scene(8.9, (Other(19.0, 0.0, kind=WALKER),))
    result = ConvexPlanner(CONFIG, VEHICLE).plan(scene, deadline=deadline)
    assert len(attempts) == 1
    assert result.chosen is None
    assert result.status in (PlanStatus.INFEASIBLE, PlanStatus.OUT_OF_TIME)


@pytest.mark.parametrize("v", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("a", [-1.5, 0.0, 1.6])
def test_who_crawls_may_always_stop_wherever_others_are_forecast(v: float, a: float) -> None:
    """A car crosses right before the bumper: nothing but stopping at once is left, and that is a plan."""
    crossing = Other(4.9, 9.0, -UP, 8.0)
    result = plan(make_scene(v, (crossing,), a=a, left=3.0, right=3.0))
    assert result.chosen is not None
    driven = result.chosen.trajectory
    assert float(driven.x[driven.time <= 1.5].max()) < 0.75


def test_one_empty_candidate_does_not_harm_the_others() -> None:
    """Passing before the pedestrian or the car is tried too; whatever is empty says so beside solved ones."""
    seen = set()
    for distance in (12.0, 16.0, 20.0, 24.0, 28.0):
        result = plan(
            make_scene(9.0, (Other(distance, -4.0, UP, 1.5, WALKER), Other(distance + 25, -22.0, UP, 7.0, track_id=2)))
        )
        for c in result.candidates:
            seen.add(c.status)
            assert (c.trajectory is not None) == (c.status is PlanStatus.SOLVED)
            if c.trajectory is not None:
                assert all(bool(getattr(c.trajectory, n).isfinite().all()) for n in ("x", "y", "yaw", "v", "a"))
    assert PlanStatus.SOLVED in seen


def test_agents_behind_are_nobodys_reason_but_recorded(results) -> None:
    behind, free = results["follower"].chosen, results["free road"].chosen
    assert behind.trajectory.x.numpy() == pytest.approx(free.trajectory.x.numpy(), abs=1e-6)
    assert behind.duties == {1: "ignored: their duty"}


def test_the_explanation_names_who_holds_ego_back(results) -> None:
    result = results["crossing pedestrian"]
    rows = [r for r in result.chosen.certificate.active if r.label.track_id == 1]
    assert rows
    assert all(r.dual > 0 and r.margin < 1e-4 for r in rows)
    assert "object 1" in result.explanation


# --- what must hold of every solved candidate ---


def solved(results) -> list[tuple[str, VectorScene, Candidate]]:
    return [(n, SCENES[n], c) for n, r in results.items() for c in r.candidates if c.status is PlanStatus.SOLVED]


def test_all_yield_and_hold_are_always_there(results) -> None:
    for name, result in results.items():
        kinds = [c.kind for c in result.candidates]
        assert "hold" in kinds, name
        assert "yield" in kinds, name
        assert result.candidates[0].status is PlanStatus.SOLVED, name
        costs = [c.cost for c in result.candidates if c.status is PlanStatus.SOLVED]
        assert costs == sorted(costs), name


def test_the_tail_is_the_trajectory_at_first_and_rests_at_last(results) -> None:
    for name, _, c in solved(results):
        shared = c.tail.time <= CONFIG.horizon.shared + 1e-9
        assert int(shared.sum()) == 1 + round(CONFIG.horizon.shared / CONFIG.horizon.step)
        for field in ("time", "x", "y", "yaw", "v", "a", "curvature"):
            one, other = getattr(c.trajectory, field)[shared], getattr(c.tail, field)[shared]
            assert torch.allclose(one, other, rtol=0, atol=1e-9), (name, c.decision, field)
        assert float(c.tail.v[-1]) == 0.0, (name, c.decision)
        assert abs(float(c.tail.a[-1])) < 0.15, (name, c.decision)
        assert bool((c.tail.v >= 0).all() & (c.trajectory.v >= 0).all())


def test_trajectories_start_at_the_state_of_now(results) -> None:
    for name, scene, c in solved(results):
        for path in (c.trajectory, c.tail):
            assert float(path.time[0]) == 0.0
            for field in ("x", "y", "yaw", "v", "a", "curvature"):
                assert float(getattr(path, field)[0]) == pytest.approx(float(getattr(scene.ego, field)), abs=1e-9), (
                    name, field,
                )  # fmt: skip


def rates(path: Trajectory) -> dict[str, np.ndarray]:
    """Recomputed from what the trajectory says, in float64 and with nothing of the planner's."""
    t, v, a, k = (getattr(path, n).detach().numpy().astype(np.float64) for n in ("time", "v", "a", "curvature"))
    step = np.diff(t)
    return {
        "jerk": np.diff(a) / step,
        "rate": np.diff(k) / step,
        "a": a,
        "v": v,
        "k": k,
        "across": v**2 * k,
        "turn": v * k,
    }


def test_limits_hold_on_every_sample(results) -> None:
    limits = CONFIG.limits
    for name, scene, c in solved(results):
        start = abs(float(scene.ego.a))
        for path, brake, jerk, across in (
            (c.trajectory, limits.braking_max, limits.jerk_max, limits.lateral_acceleration_max),
            (c.tail, limits.tail_braking_max, limits.tail_jerk_max, limits.tail_lateral_acceleration_max),
        ):
            r, where = rates(path), (name, c.decision)
            assert r["a"].max() <= max(limits.acceleration_max, start) + 1e-5, where
            assert r["a"].min() >= -max(brake, start) - 1e-5, where
            moving = r["v"][1:] > 0.3  # coming to rest, acceleration ends with the motion
            assert np.abs(r["jerk"][moving]).max(initial=0) <= jerk + 1e-4, where
            assert np.abs(r["k"]).max() <= VEHICLE.curvature_max, where
            assert np.abs(r["rate"]).max() <= VEHICLE.curvature_rate_max, where
            assert np.abs(r["across"]).max() <= across * 1.02 + 1e-3, where
            assert np.abs(r["turn"]).max() <= limits.yaw_rate_max * 1.02 + 1e-3, where


def test_motion_is_that_of_the_bicycle_it_claims(results) -> None:
    """Positions and headings follow from v and curvature: integrated here with a hundred steps per sample."""
    for name, _, c in solved(results):
        for path in (c.trajectory, c.tail):
            t = path.time.numpy()
            fine = np.linspace(0, t[-1], 100 * (len(t) - 1) + 1)
            step = fine[1] - fine[0]
            # Constant jerk between samples makes v quadratic: reconstruct it from v and a.
            a, v, k = (np.interp(fine, t, getattr(path, n).numpy()) for n in ("a", "v", "curvature"))
            local = fine - t[np.minimum((fine / 0.1 + 1e-9).astype(int), len(t) - 2)]
            i = np.minimum((fine / 0.1 + 1e-9).astype(int), len(t) - 2)
            slope = (path.a.numpy()[i + 1] - path.a.numpy()[i]) / 0.1
            v = np.where(v > 0.3, path.v.numpy()[i] + path.a.numpy()[i] * local + slope * local**2 / 2, v)
            turn = v * k
            yaw = np.concatenate([[0], np.cumsum((turn[1:] + turn[:-1]) / 2 * step)])
            vx, vy = v * np.cos(yaw), v * np.sin(yaw)
            x = np.concatenate([[0], np.cumsum((vx[1:] + vx[:-1]) / 2 * step)])[::100]
            y = np.concatenate([[0], np.cumsum((vy[1:] + vy[:-1]) / 2 * step)])[::100]
            assert np.hypot(x - path.x.numpy(), y - path.y.numpy()).max() < 0.02, (name, c.decision)
            assert np.abs(yaw[::100] - path.yaw.numpy()).max() < 2e-3, (name, c.decision)
            assert a.shape == v.shape


def test_no_solved_plan_touches_whom_it_yields_to(results) -> None:
    """Shapely rectangles against the forecasts' mean boxes, at every sample up to where lateral rows are hard."""
    for name, scene, c in solved(results):
        time = c.trajectory.time.numpy()
        ego = ego_rectangles(c.trajectory)
        for agent, track in enumerate(scene.agents.track_id.tolist()):
            if c.duties.get(track) not in ("yield", "left", "right", "pass"):
                continue
            other = agent_rectangles(scene, agent, 0, time)
            for t, mine, theirs in zip(time, ego, other):
                if t <= CONFIG.horizon.lateral_hard:
                    assert not mine.intersects(theirs), (name, c.decision, track, t)


def test_speed_stays_below_the_cap(results) -> None:
    for name, scene, c in solved(results):
        cap = max(float(scene.route.speed_limit[0]), float(scene.ego.v))
        assert float(c.trajectory.v.amax()) <= cap + 0.05, (name, c.decision)


def test_certificates_are_tight_and_recomputed(results) -> None:
    for name, _, c in solved(results):
        for certificate in (c.certificate, c.tail_certificate):
            assert certificate.primal_residual < 1e-6, (name, c.decision)
            assert certificate.dual_residual < 1e-5, (name, c.decision)
            assert certificate.gap < 1e-5, (name, c.decision)


def test_the_example_of_the_planner_page_is_the_one_that_the_readme_test_runs() -> None:
    [shown], [tested] = (
        re.findall(r"^```python\n(.*?)^```", (REPOSITORY / name).read_text(), re.MULTILINE | re.DOTALL)
        for name in ("docs/planner.md", "README.md")
    )
    assert shown == tested


def test_a_deadline_that_has_passed_leaves_every_candidate_out_of_time_and_nothing_to_drive() -> None:
    result = ConvexPlanner(CONFIG, VEHICLE).plan(SCENES["leader"], deadline=0.0)
    assert result.status is PlanStatus.OUT_OF_TIME
    assert result.chosen is None
    assert result.candidates
    for candidate in result.candidates:
        assert candidate.status is PlanStatus.OUT_OF_TIME
        assert candidate.trajectory is candidate.tail is candidate.cost is None


def test_a_batch_of_unlike_scenes_gives_each_what_it_gets_alone() -> None:
    names = [name for name in SCENES if SCENES[name].route.xy.shape == SCENES["free road"].route.xy.shape]
    batch = ConvexPlanner(CONFIG, VEHICLE).plan_batch(VectorScene.stack([SCENES[name] for name in names]))
    for name, together in zip(names, batch.results()):
        alone = plan(SCENES[name])
        assert [c.decision for c in together.candidates] == [c.decision for c in alone.candidates], name
        for one, other in zip(together.candidates, alone.candidates):
            assert one.status is other.status, (name, one.decision)
            if one.trajectory is not None:
                assert torch.allclose(one.trajectory.xy, other.trajectory.xy, rtol=0, atol=1e-6), (name, one.decision)
                assert torch.allclose(one.tail.xy, other.tail.xy, rtol=0, atol=1e-6), (name, one.decision)
        assert together.explanation == alone.explanation, name


def test_the_choice_with_a_gradient_prefers_what_is_chosen() -> None:
    scenes = VectorScene.stack([SCENES["leader"], SCENES["parked on the right"]])
    batch = ConvexPlanner(CONFIG, VEHICLE).plan_batch(scenes)
    weights = batch.weights(temperature=0.5)
    for scene, best in enumerate(batch.chosen.tolist()):
        mine = batch.scene == scene
        assert float(weights[mine].sum()) == pytest.approx(1.0)
        assert int(torch.where(mine, weights, -1.0).argmax()) == best
    assert not weights[~batch.solved].any()


def test_safe_distances_to_a_leader_hold_where_they_are_asked_for() -> None:
    """RSS, same direction, with the formula written out; without the rows this scene breaks it."""
    rule = SafeDistances(rows=True, response=1.2, braking=3.0, leader_braking=6.0)
    leader = Other(36.0, 0.0, v=4.0)
    scene = make_scene(9.0, (leader,))

    def spare(config: PlannerConfig) -> torch.Tensor:
        best = next(c for c in plan(scene, config).candidates if c.kind == "yield")
        nodes = make_grid(config.horizon).node + 1
        v, front = best.trajectory.v[nodes], front_bumper(best.trajectory)[nodes]
        rear = leader.x - 2.25 + leader.v * best.trajectory.time[nodes]
        own, others = v * rule.response + v**2 / (2 * rule.braking), leader.v**2 / (2 * rule.leader_braking)
        return rear + others - front - own

    eager = replace(CONFIG, comfort=replace(CONFIG.comfort, headway=0.2, gap=0.5))
    assert float(spare(eager).min()) < -0.5
    assert float(spare(replace(eager, safe_distances=rule)).min()) > -1e-6
    held = plan(scene, replace(eager, safe_distances=rule)).chosen.certificate.active
    assert ("safe distance", 1) in {(row.label.rule, row.label.track_id) for row in held}
