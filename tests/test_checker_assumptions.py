"""One table of assumptions: complete, with provenance, and every entry decides something the checker says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail

from planner.checker import Assumptions, CheckerConfig, ClassBounds, EgoBounds, PhantomBounds, check_prepared, prepare
from planner.scene import (
    AgentClass,
    PolylineType,
    RawObstacles,
    RawStatus,
    Trajectory,
    VectorScene,
    VehicleParameters,
)  # fmt: skip

V, C = VehicleParameters(), CheckerConfig()
TABLE = Assumptions()
SIZES = {AgentClass.PEDESTRIAN: (0.6, 0.6), AgentClass.BICYCLE: (1.8, 0.7), AgentClass.MOTORCYCLE: (2.2, 0.8)}
Case = tuple[VectorScene, Trajectory, Trajectory, RawObstacles | None]


def line(points: list[tuple[float, float]], kind: PolylineType = PolylineType.CENTERLINE) -> tuple:
    """A polyline with a point every metre or so."""
    xy = np.array(points, dtype=float)
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    s = np.linspace(0.0, arc[-1], max(2, int(arc[-1])))
    return torch.from_numpy(np.stack([np.interp(s, arc, xy[:, c]) for c in (0, 1)], 1)), kind


def random_case(seed: int, kind: AgentClass | None) -> Case:
    """A random encounter with one road user of a class; None makes it an obstacle of the raw channel."""
    rng = np.random.default_rng(seed)
    pick = lambda *options: options[int(rng.integers(len(options)))]  # noqa: E731
    size = SIZES.get(kind, (4.5, 1.9))
    top = TABLE.bounds[kind].speed_max if kind is not None else TABLE.raw.speed_max
    v, bend, braking = rng.uniform(3.0, 13.0), pick(0.0, 0.0, 0.01), rng.uniform(3.0, 7.0)
    speed = max(pick(rng.uniform(0.0, 0.6), rng.uniform(0.6, 2.4), rng.uniform(1.0, 9.0), 0.95 * top), 0.0)
    yaw = pick(0.0, np.pi, rng.uniform(-np.pi, np.pi), rng.uniform(-0.5, 0.5))
    # Somewhere from where it can be near ego in a moment, or just beside it.
    meet, time = np.array([rng.uniform(-4.0, 30.0), rng.uniform(-3.0, 4.5)]), pick(0.0, rng.uniform(0.0, 4.0))
    x, y = meet - time * speed * np.array([np.cos(yaw), np.sin(yaw)])
    agents = []
    if kind is not None:
        agents.append(agent(x, y, yaw, speed, kind, size, track_id=3))
    lines = lanes_through(rng, x, y, yaw)
    if pick(True, False):
        at = rng.uniform(4.0, 16.0)
        agents.append(
            agent(at, -rng.uniform(2.2, 6.0), pick(0.0, np.pi / 2), kind=AgentClass.BUS, size=(8.0, 2.2), track_id=8)
        )
        lines += (line([(at + rng.uniform(0.0, 9.0), -40.0), (at + rng.uniform(3.0, 9.0), 40.0)]),)
    scene = make_scene(v, tuple(agents), curvature=bend, lines=lines, half_width=60.0, right_edge=60.0)
    f, rate = scene.futures, pick(0.0, rng.uniform(-0.2, 0.2), rng.uniform(-1.5, 1.5))
    side, turn = pick(0.0, 0.0, -3.5), pick(0.0, 0.0, rng.uniform(0.1, 1.2))
    xy = scene.route.xy + torch.tensor([0.0, side], dtype=F64)
    beyond = xy[:, 0] > rng.uniform(8.0, 45.0)
    xy[beyond, 1] += turn * (xy[beyond, 0] - float(xy[beyond, 0].min()))
    scene = scene.replace(futures=f.replace(yaw=f.yaw + rate * f.time), route=scene.route.replace(xy=xy))
    plan = drive(v, curvature=bend)
    return scene, plan, with_tail(plan, braking), raw(x, y, yaw, speed) if kind is None else None


def lanes_through(rng: np.random.Generator, x: float, y: float, yaw: float) -> tuple:
    """Centrelines near a road user that bend towards ego's way, some in pieces with a gap at the joint."""
    found = []
    for _ in range(int(rng.integers(0, 7))):
        beside, angle = rng.uniform(-2.2, 2.2), yaw + rng.uniform(-0.45, 0.45)
        start = np.array([x, y]) + beside * np.array([-np.sin(angle), np.cos(angle)])
        step = lambda a, s: s * np.array([np.cos(a), np.sin(a)])  # noqa: E731
        turn, length = rng.uniform(-1.6, 1.6), rng.uniform(3.0, 15.0)
        knee = start + step(angle, length)
        gap = step(rng.uniform(-np.pi, np.pi), rng.choice([0.0, rng.uniform(0.3, 1.7)]))
        middle = knee + step(angle + turn / 2, rng.uniform(4.0, 15.0))
        found.append(line([start - step(angle, 20.0), knee]))
        found.append(line([knee + gap, middle, middle + step(angle + turn, 60.0)]))
    return tuple(found)


def raw(x: float, y: float, yaw: float, v: float, size: tuple[float, float] = (4.5, 1.9)) -> RawObstacles:
    one = lambda value: torch.tensor([value], dtype=F64)  # noqa: E731
    yes, none = torch.tensor([True]), torch.zeros(0, dtype=F64)
    return RawObstacles(
        torch.tensor([[x, y]], dtype=F64), one(yaw), one(size[0]), one(size[1]),
        torch.tensor([[v * np.cos(yaw), v * np.sin(yaw)]], dtype=F64), yes, torch.tensor([9]), yes, none,
        none.bool(), torch.tensor(0), RawStatus.OK,
    ).validate()  # fmt: skip


def answer(it: Case, table: Assumptions) -> tuple:
    """Everything the checker says, to the millimetre."""
    scene, plan, tail, channel = it
    config = replace(C, assumptions=table)
    report = check_prepared(prepare(scene, V, config, channel), plan, tail, V, config)
    about = [(x.rule, x.track_id, round(x.margin, 3), x.detail) for x in (*report.violations, *report.records)]
    return report.accepted, round(report.worst_margin, 3), tuple(sorted(about))


def numbers(cls: type) -> list[str]:
    return [f.name for f in fields(cls) if f.type in ("float", "int")]


def entries() -> dict[str, tuple[AgentClass | None, str, str]]:
    """Every number of the table: its name to (class of the road user, part of the table, field)."""
    found: dict[str, tuple[AgentClass | None, str, str]] = {}
    for kind, row in TABLE.bounds.items():
        found |= {f"{kind.name.lower()}.{n}": (kind, "bounds", n) for n in numbers(ClassBounds) if getattr(row, n) > 0}
    found |= {f"raw.{n}": (None, "raw", n) for n in numbers(ClassBounds) if getattr(TABLE.raw, n) > 0}
    found |= {f"ego.{n}": (AgentClass.CAR, "ego", n) for n in numbers(EgoBounds)}
    found |= {f"phantom.{n}": (AgentClass.CAR, "phantom", n) for n in numbers(PhantomBounds)}
    return found | {n: (AgentClass.CAR, "", n) for n in numbers(Assumptions)}


def changed(name: str, factor: float) -> Assumptions:
    """The table with one entry multiplied."""
    kind, part, field = entries()[name]
    owner = TABLE.bounds[kind] if part == "bounds" else getattr(TABLE, part) if part else TABLE  # type: ignore[index]
    old = getattr(owner, field)
    new = replace(owner, **{field: type(old)(factor * old)})
    if part == "bounds":
        return replace(TABLE, bounds={**TABLE.bounds, kind: new})
    return replace(TABLE, **{part: new}) if part else new


def decides(name: str, seed: int) -> bool:
    """Whether half as much, or 60 % more, changes what the checker says about a random encounter."""
    it = random_case(seed, entries()[name][0])
    now = answer(it, TABLE)
    return any(answer(it, changed(name, factor)) != now for factor in (0.5, 1.6))


# The first random encounter, by seed, in which each entry decides something; found by running this file.
DECISIVE = {
    "car.acceleration": 4,
    "car.braking": 4,
    "car.speed_max": 13,
    "car.lateral_acceleration": 4,
    "car.lateral_deviation": 4,
    "car.curvature_max": 9,
    "car.standing_speed": 22,
    "car.standing_acceleration": 31,
    "car.standing_deviation": 277,
    "car.response_time": 9,
    "car.braking_min": 13,
    "car.braking_correct": 27,
    "car.lateral_braking": 9,
    "car.lateral_margin": 9,
    "truck.acceleration": 4,
    "truck.braking": 4,
    "truck.speed_max": 13,
    "truck.lateral_acceleration": 4,
    "truck.lateral_deviation": 4,
    "truck.curvature_max": 14,
    "truck.standing_speed": 22,
    "truck.standing_acceleration": 31,
    "truck.standing_deviation": 562,
    "truck.response_time": 9,
    "truck.braking_min": 13,
    "truck.braking_correct": 27,
    "truck.lateral_braking": 9,
    "truck.lateral_margin": 9,
    "bus.acceleration": 4,
    "bus.braking": 4,
    "bus.speed_max": 13,
    "bus.lateral_acceleration": 4,
    "bus.lateral_deviation": 4,
    "bus.curvature_max": 14,
    "bus.standing_speed": 22,
    "bus.standing_acceleration": 1,
    "bus.standing_deviation": 1,
    "bus.response_time": 9,
    "bus.braking_min": 13,
    "bus.braking_correct": 27,
    "bus.lateral_braking": 9,
    "bus.lateral_margin": 1,
    "motorcycle.acceleration": 4,
    "motorcycle.braking": 4,
    "motorcycle.speed_max": 13,
    "motorcycle.lateral_acceleration": 4,
    "motorcycle.lateral_deviation": 4,
    "motorcycle.curvature_max": 9,
    "motorcycle.standing_speed": 22,
    "motorcycle.standing_acceleration": 277,
    "motorcycle.standing_deviation": 277,
    "motorcycle.response_time": 9,
    "motorcycle.braking_min": 13,
    "motorcycle.braking_correct": 27,
    "motorcycle.lateral_braking": 9,
    "motorcycle.lateral_margin": 9,
    "bicycle.acceleration": 4,
    "bicycle.braking": 4,
    "bicycle.speed_max": 4,
    "bicycle.lateral_acceleration": 4,
    "bicycle.lateral_deviation": 4,
    "bicycle.curvature_max": 9,
    "bicycle.standing_speed": 31,
    "bicycle.standing_acceleration": 277,
    "bicycle.standing_deviation": 277,
    "bicycle.response_time": 9,
    "bicycle.braking_min": 13,
    "bicycle.braking_correct": 27,
    "bicycle.lateral_braking": 9,
    "bicycle.lateral_margin": 9,
    "pedestrian.acceleration": 9,
    "pedestrian.braking": 4,
    "pedestrian.speed_max": 37,
    "pedestrian.lateral_acceleration": 1,
    "pedestrian.lateral_deviation": 4,
    "pedestrian.standing_speed": 25,
    "pedestrian.standing_acceleration": 25,
    "pedestrian.standing_deviation": 25,
    "pedestrian.response_time": 1,
    "pedestrian.braking_min": 132,
    "pedestrian.lateral_braking": 1,
    "pedestrian.lateral_margin": 1,
    "static.standing_speed": 22,
    "raw.acceleration": 4,
    "raw.braking": 4,
    "raw.speed_max": 13,
    "raw.lateral_acceleration": 4,
    "raw.lateral_deviation": 4,
    "raw.standing_speed": 22,
    "raw.response_time": 4,
    "raw.braking_min": 13,
    "raw.lateral_braking": 4,
    "raw.lateral_margin": 4,
    "ego.response_time": 1,
    "ego.braking_min": 0,
    "ego.braking_correct": 27,
    "ego.lateral_acceleration": 9,
    "ego.lateral_braking": 9,
    "ego.lateral_margin": 1,
    "phantom.walking_speed": 10,
    "phantom.walking_side": 10,
    "phantom.walking_impact": 316,
    "phantom.driving_speed": 133,
    "phantom.driving_response": 1746,
    "phantom.driving_braking": 1746,
    "turn_hold": 14,
    "turn_fade": 14,
    "lane_distance": 9,
    "lane_angle": 20,
    "lane_joint": 4,
    "cornering": 4,
    "priority_angle": 39,
    "priority_turn": 133,
    "priority_rate": 177,
    "priority_ahead": 133,
    "waiting_speed": 398,
    "waiting_angle": 274,
    "waiting_offset": 398,
    "waiting_acceleration": 398,
    "claim_time": 39,
    "claim_angle": 0,
    "paths_max": 42,
    "pieces": 4,
}


@pytest.mark.parametrize("name", DECISIVE)
def test_every_entry_decides_something(name: str) -> None:
    assert decides(name, DECISIVE[name])


def test_no_entry_is_left_out() -> None:
    assert set(DECISIVE) == set(entries())


def test_the_zeros_of_the_table_say_what_a_class_does_not_do() -> None:
    zero = {(k, n) for k in TABLE.bounds for n in numbers(ClassBounds) if getattr(TABLE.bounds[k], n) == 0}
    assert {n for k, n in zero if k == AgentClass.PEDESTRIAN} == {"curvature_max", "braking_correct"}
    assert {n for k, n in zero if k == AgentClass.STATIC} == set(numbers(ClassBounds)) - {"standing_speed"}
    assert {k for k, _ in zero} == {AgentClass.PEDESTRIAN, AgentClass.STATIC}
    assert {n for n in numbers(ClassBounds) if getattr(TABLE.raw, n) == 0} == {
        "curvature_max", "standing_acceleration", "standing_deviation", "braking_correct",
    }  # fmt: skip


# The rows once more, in the order of `ClassBounds`: a number that the proofs rest on is changed in two places.
ROWS = {
    AgentClass.CAR: (1.5, 5.0, 25.0, 0.5, 0.5, 0.20, 0.5, 0.3, 0.5, 1.0, 4.0, 3.0, 0.8, 0.1),
    AgentClass.TRUCK: (1.0, 5.0, 22.0, 0.5, 0.5, 0.12, 0.5, 0.2, 0.5, 1.0, 4.0, 3.0, 0.8, 0.1),
    AgentClass.BUS: (1.0, 5.0, 22.0, 0.5, 0.5, 0.12, 0.5, 0.2, 0.5, 1.0, 4.0, 3.0, 0.8, 0.1),
    AgentClass.MOTORCYCLE: (2.0, 6.0, 25.0, 0.6, 0.6, 0.20, 0.5, 0.3, 0.5, 1.0, 3.0, 3.0, 0.8, 0.1),
    AgentClass.BICYCLE: (1.0, 4.0, 10.0, 0.6, 0.6, 0.30, 0.5, 0.3, 0.4, 1.0, 3.0, 3.0, 0.8, 0.1),
    AgentClass.PEDESTRIAN: (0.6, 2.0, 4.0, 0.6, 1.0, 0.0, 0.3, 0.3, 0.4, 0.5, 2.0, 0.0, 2.0, 0.1),
    AgentClass.STATIC: (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}


def test_each_class_has_the_numbers_that_were_agreed() -> None:
    for kind, row in ROWS.items():
        assert tuple(getattr(TABLE.bounds[kind], n) for n in numbers(ClassBounds)) == row, kind
        assert TABLE.of(int(kind)) is TABLE.bounds[kind]
    agreed = (1.5, 5.0, 25.0, 0.6, 0.6, 0.0, 0.5, 0.0, 0.0, 1.0, 3.0, 0.0, 0.8, 0.1)
    assert tuple(getattr(TABLE.raw, n) for n in numbers(ClassBounds)) == agreed
    assert TABLE.of(-1) is TABLE.raw


EGO = (0.75, 4.0, 3.0, 0.2, 0.8, 0.1)
PHANTOM = (1.4, 2.0, 2.8, 8.3, 1.0, 4.0)
OTHERS = (1.0, 1.0, 1.75, 0.35, 1.0, 4.0, 2.5, 0.6, 0.1, 40.0, 2.0, 0.6, 2.5, 0.3, 6.0, 0.6, 4, 6)
TOLERANCES = (
    0.1, 3.0, 12.0, 0.3, 0.05, 0.05, 0.0, 0.1, 1.5, 0.5, 0.1, 0.1, 0.03, 0.2, 1.0, 0.03, 6.0, 0.05, 0.02, 0.1, 0.3,
    1.05, 20.0, 1.1, 0.5, 0.02, 2.618, 0.75, 0.5, 1.0, 0.1, 0.1, 2.0, 2.0, 1.0,
)  # fmt: skip


def test_ego_the_unseen_and_the_tolerances_have_the_numbers_that_were_agreed() -> None:
    for owner, agreed in ((TABLE.ego, EGO), (TABLE.phantom, PHANTOM), (TABLE, OTHERS), (C, TOLERANCES)):
        assert tuple(getattr(owner, n) for n in numbers(type(owner))) == agreed


def test_every_entry_has_a_unit_a_category_and_a_source() -> None:
    for cls in (ClassBounds, EgoBounds, PhantomBounds):
        for f in fields(cls):
            assert f.name == "source" or (f.metadata["unit"] and f.metadata["category"]), f.name
    assert all(len(row.source) > 10 for row in (*TABLE.bounds.values(), TABLE.raw, TABLE.ego, TABLE.phantom))
    assert set(TABLE.bounds) == set(AgentClass)


if __name__ == "__main__":  # python tests/test_checker_assumptions.py: encounters for entries that need one
    for entry in entries():
        if entry not in DECISIVE or not decides(entry, DECISIVE[entry]):
            print(f'    "{entry}": {next((s for s in range(4000) if decides(entry, s)), None)},', flush=True)
