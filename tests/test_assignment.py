"""The relaxed assignment: the best assignment where nothing is in doubt, shares within capacity, exact gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog

from perception import assignment
from perception.assignment import Assignment, Pairs, assign, decided, matching
from planner.qp.problem import SolveStatus

F64 = torch.float64


def some_pairs(rng: np.random.Generator, tracks: int, detections: int, share: float) -> Pairs:
    i, j = np.nonzero(rng.random((tracks, detections)) < share)
    order = rng.permutation(len(i))
    return Pairs(torch.from_numpy(i[order]), torch.from_numpy(j[order]), tracks, detections)


def scores(rng: np.random.Generator, pairs: Pairs, spread: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(rng.normal(0.5, spread, len(pairs.track)))


def best_by_scipy(score: torch.Tensor, pairs: Pairs) -> np.ndarray:
    """``[tracks, detections]`` bool: the best assignment with a slack for everybody, on the whole matrix at once."""
    n, m = pairs.tracks, pairs.detections
    worth = np.full((n + m, n + m), 0.0)
    worth[:n, :m] = -1e3
    worth[pairs.track, pairs.detection] = score.numpy()
    worth[:n, m:] = np.where(np.eye(n, dtype=bool), 0.0, -1e3)
    worth[n:, :m] = np.where(np.eye(m, dtype=bool), 0.0, -1e3)
    chosen = np.zeros(worth.shape, bool)
    chosen[linear_sum_assignment(worth, maximize=True)] = True
    return chosen[:n, :m]


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.1, 0.3, 0.6, 1.0]))
@settings(max_examples=60, deadline=None)
def test_with_little_regularisation_it_is_the_hungarian_optimum(seed: int, n: int, m: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = some_pairs(rng, n, m, share)
    score = scores(rng, pairs)
    found = assign(score, pairs, 1e-4)
    expected = best_by_scipy(score, pairs)[pairs.track, pairs.detection]
    assert bool(found.solved.all())
    assert np.abs(found.share.numpy() - expected).max(initial=0) < 1e-6
    assert (matching(score, pairs).numpy() == expected).all()
    assert (decided(found, pairs).numpy() == expected).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.5, 3.0]), st.sampled_from([0.0, 0.02]))
@settings(max_examples=40, deadline=None)
def test_nobody_is_shared_out_more_than_once(seed: int, regularisation: float, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = some_pairs(rng, *rng.integers(1, 9, 2), 0.5)
    found = assign(scores(rng, pairs), pairs, regularisation, smoothing)
    where = (pairs.track, pairs.detection)
    taken = torch.zeros(pairs.tracks, pairs.detections, dtype=F64).index_put(where, found.share)
    assert bool(found.solved.all())
    assert float(found.share.min() if len(found.share) else 0.0) >= 0
    assert float(taken.sum(0).max()) <= 1 + 1e-8
    assert float(taken.sum(1).max()) <= 1 + 1e-8
    assert torch.allclose(found.missed, 1 - taken.sum(1))
    assert torch.allclose(found.new, 1 - taken.sum(0))
    links = torch.zeros_like(taken).index_put(where, decided(found, pairs).double())
    assert float(links.sum(0).max()) <= 1
    assert float(links.sum(1).max()) <= 1


@pytest.mark.parametrize("regularisation", [0.3, 2.0])
def test_the_optimum_is_the_one_of_a_program_written_down_as_it_stands(
    rng: np.random.Generator, regularisation: float
) -> None:
    """Optimality by a witness that shares nothing: no direction of the polytope improves (its linear program is 0)."""
    for _ in range(6):
        pairs = some_pairs(rng, 5, 4, 0.7)
        score = scores(rng, pairs, 1.0)
        share = assign(score, pairs, regularisation).share
        gradient = (score - regularisation * (share - 0.5)).numpy()
        use = np.zeros((9, len(gradient)))
        use[pairs.track, np.arange(len(gradient))] = 1
        use[5 + pairs.detection.numpy(), np.arange(len(gradient))] = 1
        best = linprog(-gradient, A_ub=use, b_ub=np.ones(9), bounds=(0, None))
        assert -best.fun == pytest.approx(float(gradient @ share.numpy()), abs=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.02])
def test_gradients_are_those_of_central_differences(rng: np.random.Generator, smoothing: float) -> None:
    largest = 0.0
    for n, m in ((1, 1), (1, 3), (4, 2), (3, 3), (5, 6)):
        pairs = some_pairs(rng, n, m, 0.9)
        score, weight = scores(rng, pairs, 0.4).requires_grad_(), torch.from_numpy(rng.normal(size=len(pairs.track)))

        def loss(s: torch.Tensor, pairs: Pairs = pairs, weight: torch.Tensor = weight) -> torch.Tensor:
            return (assign(s, pairs, 0.5, smoothing).share * weight).sum()

        (found,) = torch.autograd.grad(loss(score), score)
        step = 1e-5 * torch.eye(len(weight), dtype=F64)
        with torch.no_grad():
            expected = torch.stack([(loss(score + e) - loss(score - e)) / 2e-5 for e in step])
        assert torch.allclose(found, expected, atol=1e-6)
        largest = max(largest, float(expected.abs().max()))
    assert largest > 0.5


def test_on_the_central_path_nobody_is_certain_and_every_score_matters(rng: np.random.Generator) -> None:
    pairs = some_pairs(rng, 4, 4, 1.0)
    score = scores(rng, pairs, 3.0).requires_grad_()
    share = assign(score, pairs, 0.1, 0.05).share
    assert 0 < float(share.detach().min()) < float(share.detach().max()) < 1
    (gradient,) = torch.autograd.grad((share * torch.from_numpy(rng.normal(size=16))).sum(), score)
    assert bool((gradient != 0).all())


def test_numbering_means_nothing(rng: np.random.Generator) -> None:
    pairs = some_pairs(rng, 7, 6, 0.4)
    score = scores(rng, pairs)
    rows, columns = torch.from_numpy(rng.permutation(7)), torch.from_numpy(rng.permutation(6))
    order = torch.from_numpy(rng.permutation(len(score)))
    renamed = Pairs(rows[pairs.track][order], columns[pairs.detection][order], 7, 6)
    turned = Pairs(pairs.detection, pairs.track, 6, 7)
    one, two = assign(score, pairs, 0.7), assign(score[order], renamed, 0.7)
    assert torch.allclose(two.share, one.share[order], atol=1e-7)
    assert torch.allclose(two.missed[rows], one.missed, atol=1e-7)
    assert torch.allclose(assign(score, turned, 0.7).share, one.share, atol=1e-7)


def test_frames_put_together_do_not_know_of_each_other(rng: np.random.Generator) -> None:
    one, two = some_pairs(rng, 4, 5, 0.6), some_pairs(rng, 3, 3, 0.8)
    a, b = scores(rng, one), scores(rng, two)
    both = Pairs(torch.cat([one.track, two.track + 4]), torch.cat([one.detection, two.detection + 5]), 7, 8)
    together = assign(torch.cat([a, b]), both, 0.4)
    apart = torch.cat([assign(a, one, 0.4).share, assign(b, two, 0.4).share])
    assert torch.allclose(together.share, apart, atol=1e-7)


def test_a_single_pair_needs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs(torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]), 3, 3)
    score = torch.tensor([-0.1, 0.05, 0.3], dtype=F64)
    lonely = assign(score, pairs, 0.5).share
    together = Pairs(torch.tensor([0, 0, 1, 2]), torch.tensor([2, 0, 1, 0]), 3, 3)
    beside = assign(torch.tensor([-0.1, -9.0, 0.05, 0.3], dtype=F64), together, 0.5).share  # through the solver
    assert torch.allclose(lonely, torch.tensor([0.3, 0.6, 1.0], dtype=F64))
    assert torch.allclose(beside[[0, 2, 3]], lonely, atol=1e-7)
    monkeypatch.setattr(assignment, "solve_differentiable", None)
    assert torch.equal(assign(score, pairs, 0.5).share, lonely)


def test_equals_are_told_apart_all_the_same() -> None:
    """Two detections that fit a track equally: each has half of it, and one is linked."""
    pairs = Pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), 1, 2)
    found = assign(torch.tensor([3.0, 3.0], dtype=F64), pairs, 0.1)
    assert torch.allclose(found.share, torch.full((2,), 0.5, dtype=F64), atol=1e-6)
    doubtful = Assignment(torch.tensor([0.49, 0.0], dtype=F64), torch.tensor([0.51]), torch.tensor([0.51, 1.0]), None)
    assert int(decided(found, pairs).sum()) == 1
    assert not bool(decided(doubtful, pairs).any())


def test_without_an_answer_the_best_assignment_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    solved = assignment.solve_differentiable

    def refuse(program, options):  # type: ignore[no-untyped-def]
        z, report = solved(program, options)
        report.solution.status[0] = int(SolveStatus.NUMERICAL)
        return z * 0, report

    monkeypatch.setattr(assignment, "solve_differentiable", refuse)
    pairs = Pairs(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), 2, 2)
    score = torch.tensor([1.0, 2.0, 2.5, 1.0], dtype=F64, requires_grad=True)
    found = assign(score, pairs, 0.1)
    assert found.share.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert not bool(found.solved.any())
    found.share.sum().backward()
    assert float(score.grad.abs().max()) == 0.0


def test_misuse_is_named() -> None:
    pairs = Pairs(torch.tensor([0]), torch.tensor([0]), 1, 1)
    one = torch.ones(1, dtype=F64)
    with pytest.raises(ValueError, match=r"regularisation, smoothing: expected > 0 and >= 0, got 0\.0"):
        assign(one, pairs, 0.0)
    with pytest.raises(ValueError, match=r"score: expected 1 finite numbers, got shape \(2,\)"):
        assign(torch.ones(2), pairs, 0.1)
    with pytest.raises(ValueError, match="score: expected 1 finite numbers"):
        assign(one * torch.nan, pairs, 0.1)
    empty = assign(one[:0], Pairs(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 2, 3), 0.1)
    assert empty.missed.tolist() == [1.0, 1.0]
    assert empty.new.tolist() == [1.0, 1.0, 1.0]
