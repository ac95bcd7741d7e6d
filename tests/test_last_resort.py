"""Which stop is driven where none passes: clear of the likely and touched last by the worst case, or best margin."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from checker_scenes import agent, drive, make_scene, with_tail
from test_supervise import candidate, cycle, later, plan_of, relaxed

from planner import fallback
from planner.checker import CheckReport
from planner.checker.report import Violation
from planner.scene import EgoState, Trajectory, VehicleParameters
from planner.supervision.last_resort import Option, keeps_clear, least_bad, stops

STOP = fallback.maximum_braking(EgoState.at_origin(8.0))


def option(name: str, *rules: str, margin: float = -1.0, likely: float = math.inf, contact: float = math.inf) -> Option:
    violations = tuple(Violation(rule, 7, 1.0, margin, "") for rule in rules)
    report = CheckReport(False, violations, margin, 0.0, (), likely, min(contact, likely))
    return Option("braking", name, STOP, STOP, report)


def test_what_keeps_clear_of_the_likely_comes_before_the_better_margin() -> None:
    stays = option("stays beside", "nominal_object", "tail_object", margin=-0.1, likely=1.4)
    passes = option("passes", "tail_object", margin=-1.7, contact=2.2)
    assert least_bad([stays, passes]).name == "passes"
    assert least_bad([passes, stays]).name == "passes"


def test_of_those_that_keep_clear_the_one_touched_last_and_of_the_equally_late_the_slowest() -> None:
    early, late = option("early", "tail_object", margin=-0.1, contact=0.4), option("late", "tail_object", contact=1.3)
    assert least_bad([early, late]).name == "late"
    fast = replace(option("fast", "tail_object", margin=-0.1, contact=1.5), trajectory=drive(8.0))
    at = int((STOP.time >= 1.3 - 1e-9).nonzero()[0])
    assert (late.contact_speed, fast.contact_speed) == (pytest.approx(float(STOP.v[at])), pytest.approx(8.0))
    assert least_bad([early, fast, late]).name == "late", "0.2 s later is no later"
    much = replace(option("much", "tail_object", contact=1.6), trajectory=drive(8.0))
    assert least_bad([early, late, much]).name == "much"
    never = option("never", "tail_sight", margin=-3.0)
    also = option("also never", "tail_sight", margin=-2.0)
    assert least_bad([early, never, late, also]).name == "also never"


@pytest.mark.parametrize(
    "rule", ["nominal_boundary", "tail_boundary", "tail_braking", "nominal_stop_line", "malformed"]
)
def test_off_the_road_or_beyond_the_vehicle_is_not_clear(rule: str) -> None:
    aside = option("aside", rule, margin=-0.4)
    beside = option("beside", "nominal_object", margin=-0.3, likely=1.0)
    assert least_bad([aside, beside]).name == "beside"
    assert least_bad([aside, option("clear", "tail_object", margin=-9.0, contact=0.1)]).name == "clear"


def test_closer_than_the_clearance_is_not_yet_a_contact() -> None:
    near = option("near", "nominal_object", "tail_object", margin=-0.04, contact=3.0)
    touches = option("touches", "nominal_object", margin=-0.03, likely=0.5)
    assert least_bad([touches, near]).name == "near"


def test_where_all_hit_somebody_likely_the_best_margin_as_ever() -> None:
    options = [option(n, "nominal_object", margin=m, likely=t) for n, m, t in (("a", -0.9, 2.0), ("b", -0.2, 0.5))]
    assert least_bad(options).name == "b"
    with pytest.raises(ValueError, match="empty"):
        least_bad([])


def test_contact_times_in_a_report_are_those_of_the_first_touch() -> None:
    """Ego at 8 m/s towards a wall 10 m ahead of its front: touched after 1.25 s, by the plan and by its tail."""
    front = VehicleParameters().front
    wall = agent(front + 10.0 + 0.5, 0.0, size=(1.0, 6.0), track_id=3)
    out = relaxed()
    plan = candidate(drive(8.0), with_tail(drive(8.0), 2.0))
    report = cycle(out, make_scene(8.0, (wall,)), plan_of(plan)).rejected[0][1]
    assert report.likely_contact == pytest.approx(1.2, abs=0.11)
    assert report.contact <= report.likely_contact
    far = cycle(relaxed(), make_scene(8.0), plan_of(plan)).report
    assert far is not None
    assert (far.likely_contact, far.contact) == (math.inf, math.inf)


@pytest.mark.parametrize(("x", "drift", "v"), [(0.5, 0.15, 7.0), (1.5, 0.15, 7.0), (3.5, 0.15, 5.0)])
def test_beside_somebody_who_comes_over_ego_drives_on_where_braking_would_keep_it_beside(
    x: float, drift: float, v: float
) -> None:
    """A car on the left, much slower, comes over. Whoever brakes at once is touched while it is still beside."""
    s = relaxed()
    go_on = candidate(drive(14.0, 8.0), with_tail(drive(14.0, 8.0), 7.0))
    cycle(s, later(14.0, 0.0, 0.0, half_width=9.0, limit=20.0), plan_of(go_on))
    other = agent(x, 3.3, -drift, v, track_id=7)
    out = cycle(s, later(14.0, 1.4, 0.1, half_width=9.0, limit=20.0, agents=(other,)), plan_of(go_on))
    assert not out.tail_accepted
    assert "nothing passes, best: driving on, then full braking" in out.reason
    assert out.report is not None
    at_once = {name: r for name, r in out.rejected if "braking" in name and "driving on" not in name}
    assert len(at_once) >= 5
    for name, report in at_once.items():
        assert not keeps_clear(report) or report.contact < out.report.contact - 0.25, name
    v_driven = out.trajectory.v[out.trajectory.time <= 1.2]
    assert float(v_driven.min()) > 13.9
    assert float(out.trajectory.v[-1]) == 0.0, "and stops then"
    assert (out.source, out.state) == ("tail", "NORMAL"), "a refusal, no emergency yet"


def test_driving_on_is_offered_only_for_a_candidate_of_which_nothing_but_the_tail_is_refused() -> None:
    ego, vehicle = EgoState.at_origin(8.0), VehicleParameters()
    names = [o.name for o in stops(ego, vehicle, 5.0, STOP, None, onwards=STOP)]
    assert names[-1] == "driving on, then full braking"
    assert "driving on, then full braking" not in [o.name for o in stops(ego, vehicle, 5.0, STOP, None)]
    s = relaxed()
    wall = agent(12.0, 0.0, size=(1.0, 6.0), track_id=3)
    into: Trajectory = drive(8.0)
    out = cycle(s, make_scene(8.0, (wall,)), plan_of(candidate(into, with_tail(into))))
    assert "driving on" not in out.reason
    assert "driving on, then full braking" not in [name for name, _ in out.rejected]


@pytest.mark.parametrize("alarm", ["", "EMERGENCY", "MINIMAL_RISK"])
def test_in_a_state_in_which_ego_is_to_stop_it_does_not_drive_on(alarm: str) -> None:
    """The encounter above. Nothing but the candidate's tail is refused in any state; the limit is out of reach."""
    s, road = relaxed(), {"half_width": 9.0, "limit": 60.0}
    go_on = candidate(drive(14.0, 8.0), with_tail(drive(14.0, 8.0), 7.0))
    health = (SimpleNamespace(name="x", level=alarm, reason="y"),) if alarm else ()
    first = cycle(s, later(14.0, 0.0, 0.0, **road), plan_of(go_on), health=health)
    assert first.state == (alarm or "NORMAL")
    other = agent(3.5, 3.3, -0.15, 5.0, track_id=7)
    out = cycle(s, later(14.0, 1.4, 0.1, agents=(other,), **road), plan_of(go_on))
    assert {v.rule for v in out.rejected[0][1].violations} == {"tail_object"}
    tried = [name for name, _ in out.rejected]
    assert ("driving on, then full braking" in tried) is not bool(alarm)
    assert ("best: driving on" in out.reason) is not bool(alarm)
