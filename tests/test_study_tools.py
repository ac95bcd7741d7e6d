"""Intervals, pairs, search and the physics behind the studies, against values from elsewhere."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import cumulative_simpson
from scipy.stats import binom

from eval.simulation.generate.protocols.track import CAR, EGO, Road, parked, times, track_scene
from eval.studies.grids import BLOCKS, cell_scene, cells, grid_tasks, summarise, violates
from eval.studies.intervals import clopper_pearson, wilson
from eval.studies.pairs import covering_pairs
from eval.studies.physics import best_braking, braked, r157_cut_in_must_be_avoided
from eval.studies.search import CrossEntropy


def test_intervals_have_published_values() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=1e-4)
    assert clopper_pearson(0, 100)[1] == pytest.approx(1 - 0.025 ** (1 / 100), abs=1e-9)
    assert clopper_pearson(7, 7) == pytest.approx((0.025 ** (1 / 7), 1.0))
    assert wilson(0, 0) == clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5])
def test_the_exact_interval_covers(p: float) -> None:
    """Summed over all outcomes, with scipy's binomial as the witness."""
    n = 40
    covered = sum(binom.pmf(k, n, p) for k in range(n + 1) if clopper_pearson(k, n)[0] <= p <= clopper_pearson(k, n)[1])
    assert covered >= 0.95


def test_wrong_counts_are_misuse() -> None:
    with pytest.raises(ValueError, match="hits"):
        wilson(3, 2)


def test_every_pair_occurs_in_few_rows() -> None:
    factors = [["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"]]
    rows, covered, total = covering_pairs(factors, seed=1)
    wanted = {frozenset(p) for x, y in itertools.combinations(factors, 2) for p in itertools.product(x, y)}
    found = {frozenset(p) for row in rows for p in itertools.combinations(row, 2)}
    assert found == wanted
    assert covered == total == len(wanted) == 26
    assert len(rows) <= 16  # twelve is the least
    assert covering_pairs(factors, seed=1)[0] == rows
    with pytest.raises(ValueError, match="at least one"):
        covering_pairs([["a"], []])


def worst_found(guided: bool, seed: int) -> float:
    """Margin found in 24 drives where only a small part of the box is bad."""
    margin = lambda p: 5.0 - 6.0 * np.exp(-(((p[:, 0] - 3.3) / 0.8) ** 2) - ((p[:, 1] - 0.2) / 0.3) ** 2)  # noqa: E731
    box, found, best = ((0.5, 5.0), (0.0, 2.0)), np.inf, np.random.default_rng(seed)
    search = CrossEntropy(box, seed=[seed])
    for _ in range(6):
        points = search.ask(4) if guided else best.uniform([0.5, 0.0], [5.0, 2.0], (4, 2))
        search.tell(points, margin(points))
        found = min(found, margin(points).min())
    return float(found)


def test_the_search_finds_worse_cases_than_chance() -> None:
    seeds = range(20)
    guided, random = ([worst_found(way, seed) for seed in seeds] for way in (True, False))
    assert np.mean(guided) < np.mean(random) - 0.2
    assert np.mean(np.array(guided) < np.array(random)) >= 0.6


def test_the_search_repeats_itself_and_keeps_fixed_dimensions() -> None:
    a, b = (CrossEntropy(((2.0, 2.0), (0.0, 1.0)), seed=[3]) for _ in range(2))
    for _ in range(4):
        points = a.ask(4)
        assert (points == b.ask(4)).all()
        assert (points[:, 0] == 2.0).all()
        assert (points >= [2.0, 0.0]).all()
        assert (points <= [2.0, 1.0]).all()
        a.tell(points, points[:, 1])
        b.tell(points, points[:, 1])


def test_braking_by_integration() -> None:
    """Distance and speed against numerical integration of the same acceleration."""
    t = np.linspace(0.0, 6.0, 60_001)
    distance, speed = braked(20.0, t, EGO)
    a = -np.minimum(EGO.jerk_max * t, EGO.braking_max)
    v = 20.0 + cumulative_simpson(a, x=t, initial=0)
    v = np.where(np.maximum.accumulate(v <= 0.0), 0.0, v)
    assert np.abs(speed - v).max() < 2e-3
    assert np.abs(distance - cumulative_simpson(v, x=t, initial=0)).max() < 1e-2


@pytest.mark.parametrize(("short", "unavoidable"), [(0.3, True), (-0.3, False)])
def test_a_wall_just_inside_and_just_outside_the_stopping_distance(short: float, unavoidable: bool) -> None:
    v, t = 15.0, times(5.0)
    ramp = EGO.braking_max / EGO.jerk_max
    after = v - EGO.jerk_max * ramp**2 / 2
    stop = v * ramp - EGO.jerk_max * ramp**3 / 6 + after**2 / (2 * EGO.braking_max)  # closed form, written anew
    wall = parked("wall", CAR, EGO.front + stop - short + CAR.length / 2, 0.0, t)
    hazard = {"actor": "wall", "onset": 0.0, "in_lane": True, "models": True, "kind": "test"}
    best = best_braking(track_scene("wall", v, t, [wall], hazard, Road()), 0, 0.0)
    assert best.unavoidable is unavoidable
    assert (best.impact_speed > 0) is unavoidable


@pytest.mark.parametrize(("short", "unavoidable"), [(0.3, True), (-0.3, False)])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_braking_from_a_drives_own_place_and_speed_with_what_the_road_gives(share, short, unavoidable) -> None:
    """Ego came slower than the scene's driver and not as far; the wall is noticed at 1.0 s."""
    v, t, road = 9.0, times(12.0), replace(EGO, braking_max=share * EGO.braking_max)
    ramp = road.braking_max / road.jerk_max
    after = v - road.jerk_max * ramp**2 / 2
    stop = v * ramp - road.jerk_max * ramp**3 / 6 + after**2 / (2 * road.braking_max)
    wall = parked("wall", CAR, EGO.front + v * 1.0 + stop - short + CAR.length / 2, 0.0, t)
    hazard = {"actor": "wall", "onset": 1.0, "in_lane": True, "models": True, "kind": "test"}
    recording = track_scene("wall", 15.0, t, [wall], hazard, Road())
    steps = np.arange(60) * 0.1
    pose = recording.ego.pose[0] + np.stack([v * steps, 0 * steps, 0 * steps], -1)
    driven = SimpleNamespace(time=steps, pose=pose, v=np.full(60, v))
    best = best_braking(recording, 0, 1.0, road=road, driven=driven)
    assert best.unavoidable is unavoidable
    step = 0.02 * road.braking_max
    assert best.impact_speed == pytest.approx(np.sqrt(2 * road.braking_max * max(short, 0.0)), abs=step + 0.01)
    assert best_braking(recording, 0, 1.0, road=road).unavoidable, "at 15 m/s it comes too soon"


def test_the_regulations_inequality() -> None:
    critical = 10 / 12 + 0.35
    assert r157_cut_in_must_be_avoided(20, 10, 10 * (critical + 0.01))
    assert not r157_cut_in_must_be_avoided(20, 10, 10 * (critical - 0.01))
    assert r157_cut_in_must_be_avoided(10, 20, 0.1)


def test_grids_have_unique_cells_of_known_families() -> None:
    for protocol, blocks in BLOCKS.items():
        for full in (False, True):
            named = [(family, tuple(p.items())) for family, p in cells(protocol, full=full)]
            assert len(named) == len(set(named))
        assert {block.family for block in blocks} == {family for family, _ in cells(protocol)}
    names = [task.name for task in grid_tasks("ncap")]
    assert len(names) == len(set(names)) >= 30
    assert grid_tasks("ncap", cell=names[3])[0].name == names[3]
    with pytest.raises(ValueError, match="nearest"):
        grid_tasks("r157", cell="r157_cut_in_ego_kmh31")


def test_a_sample_is_drawn_at_random_and_a_larger_one_holds_it() -> None:
    everything = {task.name for task in grid_tasks("ncap")}
    few, more, other = (
        [task.name for task in grid_tasks("ncap", sample=n, seed=seed)] for n, seed in ((8, 1), (20, 1), (8, 2))
    )
    assert few == more[:8]
    assert len(set(more)) == 20
    assert set(more) <= everything
    assert set(few) != set(other)
    assert {task.name for task in grid_tasks("ncap", sample=9999)} == everything


def test_a_cell_is_found_in_either_grid() -> None:
    for name in ("CCRs_ego_kmh50_overlap50", "r157_cut_in_ego_kmh60_relative_kmh-50_gap30_lateral2_side-1"):
        assert cell_scene(name).label == name
    with pytest.raises(ValueError, match="no grid"):
        cell_scene("CCRs_ego_kmh51")


def test_gates() -> None:
    hit = {"name": "x", "family": "f", "collided": True, "impact_speed": 3.0, "unavoidable_by_braking": False}
    missed = {**hit, "collided": False}
    nobody: dict[str, Any] = {"CC": False, "Reg157": True, "RSS": True, "FSM": False}
    by = lambda *here, **who: {**hit, "avoided_by": {**nobody, **who}, "hit_here_by": list(here)}  # noqa: E731
    assert not violates("r157", by("CC", "FSM"))
    assert not violates("r157", by("CC", "FSM", CC=True)), "avoided by rectangles along the lane only"
    assert violates("r157", by("CC", "RSS")), "FSM avoids it"
    assert violates("r157", by("FSM", "Reg157"))
    assert violates("ncap", hit)
    assert not violates("ncap", {**hit, "impact_speed": 2.7})
    assert not violates("ncap", {**hit, "unavoidable_by_braking": True})
    here = ("CC", "FSM")
    rows = summarise(
        "r157", [by("FSM", CC=True), by(*here), {**by(*here, CC=True), "name": "y"}, {**by(*here), **missed}]
    )
    assert rows[-1] | {"interval": None} == rows[-1] | {
        "cells": 4, "avoided": 1, "CC": 2, "CC_here": 1, "FSM": 0, "violations": ["x"], "published": ["x", "y"],
        "interval": None,
    }  # fmt: skip
