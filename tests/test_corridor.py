"""The corridor against a plain loop over every circle, every agent's pieces and every cell of the surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_twins import assert_stage_twins, mapped, values_and_gradients
from torch import Tensor
from twins import needs_library

from planner.config import PlannerConfig
from planner.decisions.manoeuvres import Manoeuvres
from planner.grid import make_grid
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start, Surface, hold
from planner.programs import corridor, corridor_parts
from planner.programs.corridor import NEAR, STILL, make_corridor
from planner.programs.lateral import LateralBounds, circle_offsets
from planner.programs.longitudinal import LongitudinalMotion
from planner.scene import VehicleParameters

F64 = torch.float64
CONFIG, VEHICLE = PlannerConfig(), VehicleParameters()
GRID = make_grid(CONFIG.horizon)
N, F = len(GRID.node), len(GRID.time)
OFFSETS = circle_offsets(VEHICLE).tolist()
ROOM = VEHICLE.width / 2 + CONFIG.margins.side
REACH = VEHICLE.length / (2 * len(OFFSETS)) + 0.3


def world(seed: int, scenes: int = 2, agents: int = 4, modes: int = 2) -> SimpleNamespace:
    """Scenes with random walls, agents of three pieces and two or three candidates each."""
    rng = np.random.default_rng(seed)
    draw = lambda low, high, *shape: torch.from_numpy(rng.uniform(low, high, shape))  # noqa: E731
    cells, variants = 70, 2
    count = torch.from_numpy(rng.integers(50, cells + 1, scenes))
    s = draw(0, 30, scenes)[:, None] + torch.arange(cells)
    surface = Surface(
        s, draw(-3, -0.2, scenes, cells), draw(-0.3, 3, scenes, cells), draw(-6, -2, scenes, cells),
        draw(1, 6, scenes, cells), torch.ones(scenes, dtype=torch.bool), count,
    )  # fmt: skip
    for name in ("lower", "upper", "lower_all", "upper_all"):
        setattr(surface, name, hold(getattr(surface, name), count))
    profile = draw(-1, 1, scenes, variants, cells)
    profile = hold(profile.transpose(0, 1), count).transpose(0, 1)
    side = torch.from_numpy(rng.integers(-1, 2, (scenes, variants, agents)))
    side[:, 0] = 0
    oncoming = torch.tensor([[False, bool(rng.integers(2))] for _ in range(scenes)])
    valid, lane = torch.ones(scenes, variants) > 0, torch.zeros(scenes, variants, dtype=torch.int64)
    manoeuvres = Manoeuvres([["keep", "left"]] * scenes, profile, side, oncoming, valid, lane, torch.ones(scenes))
    shape = (scenes, agents, modes, N + 1, 3)
    s_lo, d_lo = s[:, 0, None, None, None, None] + draw(0, 45, *shape), draw(-5, 5, *shape)
    one = torch.ones(scenes, agents, dtype=F64)
    obstacles = Obstacles(
        GRID.node_time_from_now, s_lo, s_lo + draw(0.5, 4, *shape), d_lo, d_lo + draw(0.2, 2, *shape),
        draw(0.1, 1, *shape[:4]), draw(-1, 1, *shape[:4]), one, one, draw(0, 1, *shape[:4]) > 0.3, one > 2,
        draw(0, 1, scenes, agents, modes), torch.arange(scenes * agents).reshape(scenes, agents) + 100,
        torch.zeros(scenes, agents, dtype=torch.int64), torch.arange(agents).expand(scenes, -1), one > 0,
    )  # fmt: skip
    begin = s[:, 0] + 10
    start = Start(
        begin, draw(-0.5, 0.5, scenes), draw(-0.1, 0.1, scenes), 0 * begin, draw(0, 8, scenes), 0 * begin,
        draw(-0.02, 0.02, scenes),
    )  # fmt: skip
    scene = torch.tensor([k for k in range(scenes) for _ in range(2 + k % 2)])
    candidates = SimpleNamespace(scene=scene, manoeuvre=torch.from_numpy(rng.integers(0, variants, len(scene))))
    steps = draw(0, 0.9, len(scene), 2, F) * (draw(0, 1, len(scene), 1, 1) > 0.3)
    at = start.s[scene, None, None] + steps.cumsum(-1)
    motion = LongitudinalMotion(at, 10 * steps, 0 * steps, 0 * steps)
    return SimpleNamespace(**{k: v for k, v in locals().items() if k not in ("rng", "draw")})


def found(w: SimpleNamespace) -> LateralBounds:
    return make_corridor(w.candidates, w.manoeuvres, w.obstacles, w.surface, w.start, VEHICLE, CONFIG).bounds(w.motion)


def by_hand(w: SimpleNamespace, r: int, branch: int, node: int, circle: int) -> tuple[float, float, int, int]:
    """lower, upper and whose they are, at one circle."""
    k, v = int(w.candidates.scene[r]), int(w.candidates.manoeuvre[r])
    surface, start, cells = w.surface, w.start, int(w.surface.count[k])
    first = float(surface.s[k, 0])
    wide = "_all" if bool(w.manoeuvres.oncoming[k, v]) else ""
    walls = [getattr(surface, name + wide)[k, :cells].tolist() for name in ("lower", "upper")]

    def wall(s: float) -> tuple[float, float]:
        cell = round(s - first)
        near = [min(max(cell + i, 0), cells - 1) for i in (-1, 0, 1)]
        low, high = max(walls[0][j] for j in near), min(walls[1][j] for j in near)
        return (low, high) if low <= high - 0.1 else ((low + high) / 2 - 0.05, (low + high) / 2 + 0.05)

    s = float(w.motion.s[r, branch, GRID.node[node]])
    begin = float(w.motion.s[r, branch, GRID.node[0]])
    offset = OFFSETS[circle]
    (low, high), (low0, high0) = wall(s + offset), wall(begin + offset)
    d0 = float(start.d[k] + offset * start.psi[k] - offset**2 / 2 * start.bend[k])
    settle, gone = 2 * float(start.v[k]) + 2, s - float(start.s[k])
    fade = min(max(1 - (gone - settle) / max(settle, 6.0), 0.0), 1.0)
    low -= (max(low0 - d0, 0) + 0.02) * fade
    high += (max(d0 - high0, 0) + 0.02) * fade

    above, below, who = -np.inf, np.inf, [-1, -1]
    o, profile = w.obstacles, w.manoeuvres.profile[k]
    used = [int(i) for i in w.candidates.manoeuvre[w.candidates.scene == k]]
    bands = profile[used].amin(0), profile[used].amax(0)
    for a in range(o.s_lo.shape[1]):
        for m in range(o.s_lo.shape[2]):
            middle = (o.s_lo[k, a, m, 1:] + o.s_hi[k, a, m, 1:]) / 2
            cell = (middle - first).round().long().clamp(0, profile.shape[1] - 1)
            close = (o.d_hi[k, a, m, 1:] > bands[0][cell] - ROOM - 2) & (
                o.d_lo[k, a, m, 1:] < bands[1][cell] + ROOM + 2
            )
            if not bool((close & o.active[k, a, m, 1:, None]).any()) or not bool(o.active[k, a, m, node + 1]):
                continue
            for p in range(3):
                lo, hi = float(o.d_lo[k, a, m, node + 1, p]), float(o.d_hi[k, a, m, node + 1, p])
                here, given = float(profile[v, cell[node, p]]), int(w.manoeuvres.side[k, v, a])
                touches = hi > here - ROOM + 0.02 and lo < here + ROOM - 0.02
                likely = float(o.weight[k, a, m]) > 0.5 * CONFIG.risk.hit_probability
                if not ((likely or touches) if given else not touches):
                    continue
                ends = float(o.s_lo[k, a, m, node + 1, p]) - REACH, float(o.s_hi[k, a, m, node + 1, p]) + REACH
                if not ends[0] < s + offset < ends[1]:
                    continue
                if (given < 0) if given else ((lo + hi) / 2 > here):
                    if lo < below:
                        below, who[1] = lo, int(o.track_id[k, a])
                elif hi > above:
                    above, who[0] = hi, int(o.track_id[k, a])
    above, below = above + ROOM, below - ROOM
    if gone < NEAR:
        above = min(above, max(above - CONFIG.margins.side, d0 - 0.01))
        below = max(below, min(below + CONFIG.margins.side, d0 + 0.01))
    if gone < STILL:
        above, below = min(above, d0 - 0.05), max(below, d0 + 0.05)
    return (
        max(low, above),
        min(high, below),
        who[0] if above > low else -1,
        who[1] if below < high else -1,
    )


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000))
def test_the_corridor_is_the_strictest_of_walls_and_agents(seed: int) -> None:
    w = world(seed)
    bounds = found(w)
    for r in range(len(w.scene)):
        for node in (0, 3, 9, 14, 17):
            for branch in (0, 1):
                for circle in (0, 2, 4):
                    low, high, below, above = by_hand(w, r, branch, node, circle)
                    place = (r, branch, node, circle)
                    assert float(bounds.lower[place]) == pytest.approx(low, abs=1e-12)
                    assert float(bounds.upper[place]) == pytest.approx(high, abs=1e-12)
                    assert (int(bounds.lower_id[place]), int(bounds.upper_id[place])) == (below, above)


def test_some_agents_set_bounds_in_these_worlds() -> None:
    bounds = found(world(1))
    assert int((bounds.lower_id >= 0).sum()) > 20
    assert int((bounds.upper_id >= 0).sum()) > 20


def test_the_profile_is_followed_and_ends_flat() -> None:
    w = world(3)
    bounds = found(w)
    for r, k in enumerate(w.scene.tolist()):
        at = (w.motion.s[r, :, GRID.node] - w.surface.s[k, 0]).clamp(0, float(w.surface.count[k] - 2))
        profile = w.manoeuvres.profile[k, w.candidates.manoeuvre[r]].numpy()
        aim = np.interp(at.numpy(), np.arange(len(profile)), profile)
        assert bounds.d_ref[r].numpy() == pytest.approx(aim, abs=1e-12)


def test_arrays_and_tensors_give_the_same_corridor_and_gradients_reach_what_sets_it() -> None:
    w = world(5)
    plain = found(w)
    w.obstacles.d_hi.requires_grad_(True)
    w.surface.upper_all.requires_grad_(True)
    w.surface.lower.requires_grad_(True)
    w.motion.s.requires_grad_(True)
    taped = found(w)
    for name in ("lower", "upper", "d_ref", "slope_ref"):
        assert torch.allclose(getattr(plain, name), getattr(taped, name), atol=1e-14)
    for name in ("lower_id", "upper_id"):
        assert torch.equal(getattr(plain, name), getattr(taped, name))
    free = (taped.lower_id >= 0) & (w.motion.s[:, :, GRID.node] - w.start.s[w.scene, None, None] > NEAR)[..., None]
    (grad,) = torch.autograd.grad(taped.lower[free].sum(), w.obstacles.d_hi)
    assert float(grad.sum()) == pytest.approx(int(free.sum()))


def test_the_gradient_of_the_corridor_is_its_slope() -> None:
    w = world(8)
    leaves = [w.obstacles.d_lo, w.obstacles.d_hi, w.surface.lower, w.surface.upper, w.start.d, w.start.v]
    direction = [
        torch.randn(x.shape, dtype=F64, generator=torch.Generator().manual_seed(i)) for i, x in enumerate(leaves)
    ]

    def value() -> Tensor:
        bounds = found(w)
        return (bounds.lower.sin() + bounds.upper.cos()).sum()

    for x in leaves:
        x.requires_grad_(True)
    exact = sum((g * d).sum() for g, d in zip(torch.autograd.grad(value(), leaves), direction))
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for x, d in zip(leaves, direction):
                x += sign * 1e-7 * d
            ends.append(value())
            for x, d in zip(leaves, direction):
                x -= sign * 1e-7 * d
    assert float(exact) == pytest.approx(float((ends[0] - ends[1]) / 2e-7), rel=1e-4)


def test_one_corridor_serves_several_motions() -> None:
    w = world(11)
    kept = make_corridor(w.candidates, w.manoeuvres, w.obstacles, w.surface, w.start, VEHICLE, CONFIG)
    other = LongitudinalMotion(w.motion.s + 5.0, w.motion.v, w.motion.a, w.motion.jerk)
    first, second = kept.bounds(w.motion), kept.bounds(other)
    assert torch.equal(first.lower, found(w).lower)
    assert not torch.equal(first.lower, second.lower)
    assert torch.equal(kept.bounds(w.motion).lower, first.lower)


KERNELS = [
    *((corridor, name) for name in ("_BOUNDS", "_BOUNDS_ADJOINT")),
    *((corridor_parts, name) for name in ("_FLOOR", "_FLOOR_ADJOINT", "_BESIDE")),
]


def outputs(w: SimpleNamespace, config: PlannerConfig = CONFIG) -> Callable[..., dict[str, Tensor]]:
    """The corridor as a function of what it depends on."""

    def function(
        surface: Surface, manoeuvres: Manoeuvres, obstacles: Obstacles, start: Start, motion: LongitudinalMotion
    ) -> dict[str, Tensor]:
        return vars(
            make_corridor(w.candidates, manoeuvres, obstacles, surface, start, VEHICLE, config).bounds(motion)
        )  # fmt: skip

    return function


def inputs(w: SimpleNamespace) -> tuple[object, ...]:
    return w.surface, w.manoeuvres, w.obstacles, w.start, w.motion


@needs_library
@pytest.mark.parametrize(
    ("seed", "scenes", "agents"), [(0, 2, 4), (1, 1, 1), (2, 1, 12), (3, 30, 3)]
)  # fmt: skip
def test_the_compiled_corridor_is_its_twin(seed: int, scenes: int, agents: int) -> None:
    w = world(seed, scenes, agents)
    assert_stage_twins(outputs(w), inputs(w), *KERNELS)


@needs_library
def test_equal_walls_and_pieces_share_their_gradients_as_the_twin_does() -> None:
    w = world(4)
    for name in ("lower", "lower_all"):
        getattr(w.surface, name)[:] = -1.5
    for name in ("upper", "upper_all"):
        getattr(w.surface, name)[:] = 1.5
    w.surface.upper[:, 30:40] = -1.5  # closed
    w.obstacles.d_hi[:] = -1.5 - ROOM  # exactly as strict as the wall
    w.obstacles.d_lo[:] = -3.0
    w.obstacles.d_hi[:, 1] = w.obstacles.d_hi[:, 0] = -2.0
    assert_stage_twins(outputs(w), inputs(w), *KERNELS)


@needs_library
def test_nobody_there_and_standing_still() -> None:
    w = world(6)
    w.obstacles.active[:] = False
    w.motion.s[:] = w.start.s[w.scene, None, None]
    w.start.v[:] = 0.0
    assert_stage_twins(outputs(w), inputs(w), *KERNELS)
    assert bool((found(w).lower_id == -1).all())


@needs_library
def test_places_beyond_the_surface_and_nan_stay_within_their_row() -> None:
    w = world(7)
    w.motion.s[0] += 500.0
    w.motion.s[1] -= 500.0
    assert_stage_twins(outputs(w), inputs(w), *KERNELS)
    whole = found(w)
    w.motion.s[2, 0, 30:] = torch.nan
    broken = found(w)
    assert bool(broken.lower[2, 0, -1].isnan().all())
    for name in ("lower", "upper", "d_ref"):
        assert torch.equal(getattr(broken, name)[:2], getattr(whole, name)[:2])


@needs_library
def test_threads_and_other_scenes_change_nothing() -> None:
    w = world(8, scenes=30, agents=6)
    single = replace(CONFIG, solver=replace(CONFIG.solver, threads=1))
    many = replace(CONFIG, solver=replace(CONFIG.solver, threads=7))
    one, several = (values_and_gradients(outputs(w, config), inputs(w)) for config in (single, many))
    assert all(torch.equal(one[0][name], several[0][name]) for name in one[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], several[1]))
    rows = w.scene == 5
    case = SimpleNamespace(scene=w.scene[rows] * 0, manoeuvre=w.candidates.manoeuvre[rows])
    cut = lambda part, pick: mapped(part, lambda x: x[pick] if x.shape[0] == 30 or x.shape[0] == len(rows) else x)  # noqa: E731
    own = [cut(part, slice(5, 6)) for part in (w.manoeuvres, w.obstacles, w.surface)]
    alone = make_corridor(case, *own, cut(w.start, slice(5, 6)), VEHICLE, single).bounds(cut(w.motion, rows))
    for name in ("lower", "upper", "d_ref", "slope_ref", "lower_id"):
        assert torch.equal(getattr(alone, name), one[0][name][rows]), name
