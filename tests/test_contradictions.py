"""Candidates whose limits contradict each other are not solved: what the solver would have said of them."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from benchmarks.crowded import crowded_scene
from planner import ConvexPlanner, plan
from planner.decisions.contradictions import Apart, widest_contradiction
from planner.grid import make_grid
from planner.programs.longitudinal import LongitudinalBounds, build_longitudinal
from planner.programs.longitudinal_constants import S
from planner.qp.phase_one import PROVEN
from planner.qp.problem import SolveStatus
from planner.qp.solver import SolveOptions, solve
from planner.result import PlanResult, PlanStatus
from planner.scene import VectorScene

SEEDS = (0, 3, 17)


def planned(seed: int) -> PlanResult:
    return ConvexPlanner().plan(crowded_scene(seed))


@pytest.fixture
def unsorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is solved."""
    monkeypatch.setattr(plan, "without_contradictions", lambda candidates, *_: Apart(candidates, None))


@pytest.fixture(scope="module")
def quick() -> dict[int, PlanResult]:
    return {seed: planned(seed) for seed in SEEDS}


def test_the_solver_says_the_same_of_what_it_is_not_given(quick: dict[int, PlanResult], unsorted: None) -> None:
    told = 0
    for seed, short in quick.items():
        full = {c.decision: c for c in planned(seed).candidates}
        assert len(full) == len(short.candidates)
        for one in short.candidates:
            other = full[one.decision]
            assert (one.kind, one.status, one.duties) == (other.kind, other.status, other.duties)
            assert one.blocked_by == other.blocked_by
            assert one.phase1_slack == pytest.approx(other.phase1_slack, abs=1e-12)
            told += one.status is PlanStatus.INFEASIBLE
            if one.trajectory is not None:
                for a, b in ((one.trajectory, other.trajectory), (one.tail, other.tail)):
                    for f in fields(a):
                        assert torch.allclose(getattr(a, f.name), getattr(b, f.name), rtol=0, atol=1e-9)
    assert told > 10


def bounds(upper: torch.Tensor, lower: torch.Tensor) -> LongitudinalBounds:
    """Of one candidate, without comfort."""
    rows, nodes = len(upper), upper.shape[-1]
    nobody, flat = torch.full(upper.shape, -1), torch.zeros(rows, nodes, dtype=torch.float64)
    return LongitudinalBounds(
        upper, lower, nobody, nobody, flat + torch.inf, flat, flat, flat + 8.0, flat + 8.3
    )  # fmt: skip


@pytest.mark.parametrize(("gap", "empty"), [(-1e-3, False), (0.0, False), (0.5 * PROVEN, False), (1e-3, True)])
def test_limits_that_meet_are_solved_and_limits_that_cross_are_empty(gap: float, empty: bool) -> None:
    """Just inside and just outside; where it is not a matter of rounding Clarabel says so too."""
    config = ConvexPlanner().config
    grid = make_grid(config.horizon)
    upper = torch.full((1, 2, len(grid.node)), torch.inf, dtype=torch.float64)
    lower, at = -upper, 12
    upper[0, 0, at] = 20.0
    lower[0, 0, at] = 20.0 + gap
    given = bounds(upper, lower)
    gaps, stage = widest_contradiction(given, torch.zeros(1, dtype=torch.float64), grid)
    assert bool(gaps[0] > 0) == empty
    if empty:
        assert gaps[0] == pytest.approx(gap)
        assert (grid.stage_branch[stage[0]], grid.stage_node[stage[0]]) == (0, at)
    scene = crowded_scene(0)
    one = scene.apply(lambda t: t[None]).double()
    start = plan.start_state(one, plan.build_reference_path(one.route))
    weights = plan.cost_weights(scene, config)
    program = build_longitudinal(given, start, None, weights, config)
    program.z_lower[..., S] += start.s
    program.z_upper[..., S] += start.s
    expected = SolveStatus.INFEASIBLE if empty else SolveStatus.SOLVED
    for backend in ("auto",) if 0 < gap < 1e-6 else ("auto", "clarabel"):
        assert int(solve(program, SolveOptions(backend=backend)).status[0]) == expected, backend


def test_a_limit_on_the_shared_part_of_the_tail_does_not_count_twice() -> None:
    """Stages of the tail are its own ones; what lies before them belongs to the nominal branch."""
    grid = make_grid(ConvexPlanner().config.horizon)
    upper = torch.full((2, 2, len(grid.node)), torch.inf, dtype=torch.float64)
    lower = -upper
    upper[:, 1, [0, -1]] = 5.0
    lower[0, 1, 0] = lower[1, 1, -1] = 6.0
    gaps, stage = widest_contradiction(bounds(upper, lower), torch.zeros(2, dtype=torch.float64), grid)
    assert gaps.tolist() == [0.0, 1.0]
    assert int(stage[1]) == grid.stages - 1


def test_a_batch_keeps_them_apart_by_scene_and_gives_them_no_gradient(quick: dict[int, PlanResult]) -> None:
    scenes = VectorScene.stack([crowded_scene(seed) for seed in SEEDS])
    mean = scenes.futures.mean.clone().requires_grad_()
    batch = ConvexPlanner().plan_batch(scenes.replace(futures=scenes.futures.replace(mean=mean)))
    for alone, together in zip(quick.values(), batch.results()):
        assert [(c.decision, c.status) for c in together.candidates] == [
            (c.decision, c.status) for c in alone.candidates
        ]
    assert len(batch.cost) < sum(len(alone.candidates) for alone in quick.values())
    (gradient,) = torch.autograd.grad((batch.weights() * torch.where(batch.solved, batch.cost, 0.0)).sum(), mean)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().amax() > 0


def test_where_everything_contradicts_itself_the_answer_still_has_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = plan.assemble

    def walled(*arguments):  # type: ignore[no-untyped-def]
        found = kept(*arguments)
        found.bounds.s_lower[:, 0, 3] = found.bounds.s_upper[:, 0, 3].clamp(max=1e3) + 2.0
        return found

    monkeypatch.setattr(plan, "assemble", walled)
    result = planned(0)
    assert result.status is PlanStatus.INFEASIBLE
    assert result.chosen is None
    assert len(result.candidates) == 12
    assert all(c.blocked_by and c.phase1_slack >= 1.0 - 1e-9 for c in result.candidates)
    assert result.explanation.startswith("No decision leaves room")
