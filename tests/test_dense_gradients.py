"""Gradients of the convex layer: against closed forms, central differences and cvxpylayers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_dense_qp import batch_of, emptied, random_program

from planner.qp.dense import QuadraticProgram, SolveStatus
from planner.qp.dense_layer import solve_differentiable
from planner.qp.dense_solver import solve

F64 = torch.float64
NAMES = ("P", "q", "A", "lower", "upper", "x_lower", "x_upper")
STEP = 1e-5
"""Of central differences. The solutions are exact to 1e-10 or so, hence the quotients to 1e-5; the map is piecewise
rational and smooth where no row changes its state, so the truncation error of order STEP^2 is far below."""
CLOSE = {"rel": 1e-4, "abs": 2e-5}


def clear_cut(problem: QuadraticProgram) -> bool:
    """Every row is clearly active (price above 0.01) or clearly not (0.001 away), and few enough are active.

    Elsewhere the solution has kinks, and a derivative is not defined.
    """
    s = solve(problem)
    value = torch.cat([(problem.A @ s.x[..., None])[0, :, 0], s.x[0]])
    lower = torch.cat([problem.lower[0], problem.x_lower[0]])
    upper = torch.cat([problem.upper[0], problem.x_upper[0]])
    dual = torch.cat([s.y[0], s.z[0]]).abs()
    distance = torch.minimum(value - lower, upper - value)
    return bool(((dual > 1e-2) | ((dual < 1e-9) & (distance > 1e-3))).all())


def clear_cut_programs(seed: int, count: int, **options) -> list[QuadraticProgram]:
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        problem = random_program(rng, **options)
        if clear_cut(problem):
            found.append(problem)
    return found


def gradients(problem: QuadraticProgram, weight: torch.Tensor, **options) -> tuple[dict[str, torch.Tensor], dict]:
    """Of weight . x with respect to every datum."""
    leaves = [t.clone().requires_grad_(True) for t in problem.tensors()]
    x, report = solve_differentiable(QuadraticProgram(*leaves), **options)
    (weight * x).sum().backward()
    return {name: leaf.grad for name, leaf in zip(NAMES, leaves)}, report


def central_difference(problem: QuadraticProgram, name: str, direction: torch.Tensor, weight: torch.Tensor) -> float:
    ends = []
    for sign in (1, -1):
        moved = dict(zip(NAMES, problem.tensors()))
        moved[name] = moved[name] + sign * STEP * direction
        if name in ("lower", "upper"):  # an equation stays one
            equal = problem.lower == problem.upper
            for other in ("lower", "upper"):
                moved[other] = torch.where(equal, moved[name], moved[other])
        answer = solve(QuadraticProgram(**moved))
        assert answer.status == [SolveStatus.SOLVED]
        ends.append(float((weight * answer.x).sum()))
    return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize("name", NAMES)
def test_every_datum_against_central_differences(name: str) -> None:
    rng = np.random.default_rng(20)
    largest = 0.0
    for problem in clear_cut_programs(20, 4):
        weight = torch.from_numpy(rng.normal(size=(1, 6)))
        exact, report = gradients(problem, weight)
        assert bool(report["trusted"].all())
        datum = getattr(problem, name)
        equal = problem.lower == problem.upper
        for flat in range(datum.numel()):
            direction = torch.zeros_like(datum)
            direction.view(-1)[flat] = 1.0
            if name == "P":
                direction = (direction + direction.transpose(1, 2)) / 2
            if not bool(datum.view(-1)[flat].isfinite()):
                assert float(exact[name].view(-1)[flat]) == 0.0
                continue
            expected = float((exact[name] * direction).sum())
            if name in ("lower", "upper") and bool(equal.view(-1)[flat]):
                expected = float(((exact["lower"] + exact["upper"]) * direction).sum())
            measured = central_difference(problem, name, direction, weight)
            assert expected == pytest.approx(measured, **CLOSE), (name, flat)
            largest = max(largest, abs(measured))
    assert largest > 0.05  # there was something to differentiate


def test_projection_onto_a_plane_has_its_closed_form() -> None:
    """min |x - c|^2 / 2 with a'x = b: x = c - a (a'c - b) / a'a, whose Jacobians are I - aa'/a'a and a / a'a."""
    a = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    c, b = torch.tensor([[0.3, 1.0, -2.0]], dtype=F64, requires_grad=True), torch.tensor([[0.7]], dtype=F64)
    b.requires_grad_(True)
    inf = torch.full((1, 3), torch.inf, dtype=F64)
    x, _ = solve_differentiable(QuadraticProgram(torch.eye(3, dtype=F64)[None], -c, a[None, None], b, b, -inf, inf))
    assert x.detach()[0].numpy() == pytest.approx((c - a * ((a @ c[0]) - b) / (a @ a)).detach()[0].numpy(), abs=1e-9)
    weight = torch.tensor([[2.0, -1.0, 3.0]], dtype=F64)
    (weight * x).sum().backward()
    plane = torch.eye(3, dtype=F64) - torch.outer(a, a) / (a @ a)
    assert c.grad[0].numpy() == pytest.approx((plane @ weight[0]).numpy(), abs=1e-9)
    assert float(b.grad) == pytest.approx(float(a @ weight[0] / (a @ a)), abs=1e-9)


def test_without_active_rows_the_gradient_is_that_of_a_linear_system() -> None:
    """x = -P^-1 q: autograd through torch.linalg.solve is the witness."""
    problem = random_program(np.random.default_rng(21))
    inf = torch.full_like(problem.q, torch.inf)
    wide = QuadraticProgram(
        problem.P, problem.q, 0 * problem.A, -1 + 0 * problem.A[..., 0], 1 + 0 * problem.A[..., 0], -inf, inf
    )
    weight = torch.arange(1.0, 7.0, dtype=F64)[None]
    exact, _ = gradients(wide, weight)
    P, q = problem.P.clone().requires_grad_(True), problem.q.clone().requires_grad_(True)
    (weight * torch.linalg.solve((P + P.transpose(1, 2)) / 2, -q)).sum().backward()
    assert torch.allclose(exact["q"], q.grad, rtol=1e-8, atol=1e-10)
    assert torch.allclose(exact["P"], P.grad, rtol=1e-8, atol=1e-10)


def test_clipping_lets_the_gradient_through_or_stops_it() -> None:
    """min |x - c|^2 / 2 in a box is clamp(c): one inside, one beyond each end."""
    c = torch.tensor([[0.5, 2.0, -3.0]], dtype=F64, requires_grad=True)
    lo, hi = -torch.ones(1, 3, dtype=F64), torch.ones(1, 3, dtype=F64)
    lo.requires_grad_(True), hi.requires_grad_(True)
    none = torch.zeros(1, 1, dtype=F64)
    x, _ = solve_differentiable(
        QuadraticProgram(torch.eye(3, dtype=F64)[None], -c, torch.zeros(1, 1, 3, dtype=F64), none - 1, none + 1, lo, hi)
    )
    x.sum().backward()
    for grad, expected in ((c.grad, [1, 0, 0]), (hi.grad, [0, 1, 0]), (lo.grad, [0, 0, 1])):
        assert grad[0].tolist() == pytest.approx(expected, abs=1e-9)


def test_cvxpylayers_agrees() -> None:
    """On problems without kinks nearby; diffcp with its dense mode, whose default is an iterative approximation."""
    reason = "the reference layer needs cvxpylayers (extra 'reference')"
    layers = pytest.importorskip("cvxpylayers.torch", reason=reason)
    cvxpy = pytest.importorskip("cvxpy", reason=reason)
    n, m = 5, 6
    x, root, q, A = cvxpy.Variable(n), cvxpy.Parameter((n, n)), cvxpy.Parameter(n), cvxpy.Parameter((m, n))
    lower, upper, x_lower, x_upper = (cvxpy.Parameter(k) for k in (m, m, n, n))
    model = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum_squares(root @ x) / 2 + q @ x),
        [A @ x >= lower, A @ x <= upper, x >= x_lower, x <= x_upper],
    )
    layer = layers.CvxpyLayer(model, parameters=[root, q, A, lower, upper, x_lower, x_upper], variables=[x])
    rng = np.random.default_rng(22)
    options = {
        "solve_method": "Clarabel",
        "mode": "dense",
        "tol_gap_abs": 1e-12,
        "tol_gap_rel": 1e-12,
        "tol_feas": 1e-12,
    }
    for problem in clear_cut_programs(22, 5, n=n, m=m, equations=0):
        # Bounds that are none, but not so far that their multipliers, all but zero, spoil the reference's accuracy.
        data = [t[0].clone().nan_to_num(posinf=20.0, neginf=-20.0) for t in problem.tensors()]
        weight = torch.from_numpy(rng.normal(size=n))
        mine, theirs = ([t.clone().requires_grad_(True) for t in data] for _ in range(2))
        answer, _ = solve_differentiable(QuadraticProgram(*(t[None] for t in mine)))
        (weight * answer[0]).sum().backward()
        factor = torch.linalg.cholesky(theirs[0]).T
        (reference,) = layer(factor, *theirs[1:], solver_args=options)
        (weight * reference).sum().backward()
        assert answer.detach()[0].numpy() == pytest.approx(reference.detach().numpy(), abs=1e-6)
        for name, a, b in zip(NAMES, mine, theirs):
            assert a.grad.numpy() == pytest.approx(b.grad.numpy(), rel=1e-3, abs=1e-4), name


def test_a_datum_shared_by_the_batch_receives_the_sum() -> None:
    problems = clear_cut_programs(23, 4)
    shared = torch.zeros(6, dtype=F64, requires_grad=True)
    batch = batch_of(problems)
    batch.q = batch.q + shared  # broadcast over the batch
    x, _ = solve_differentiable(batch)
    x.square().sum().backward()
    parts = torch.zeros(6, dtype=F64)
    for problem in problems:
        q = problem.q.clone().requires_grad_(True)
        alone, _ = solve_differentiable(QuadraticProgram(problem.P, q, *problem.tensors()[2:]))
        alone.square().sum().backward()
        parts += q.grad[0]
    assert float(parts.abs().amax()) > 0.1
    assert torch.allclose(shared.grad, parts, rtol=1e-10, atol=1e-12)


def test_an_empty_member_gets_no_gradient_and_spoils_nobodys() -> None:
    problems = clear_cut_programs(24, 4)
    problems[2] = emptied(problems[2])
    weight = torch.ones(4, 6, dtype=F64)
    together, report = gradients(batch_of(problems), weight)
    assert report["trusted"].tolist() == [True, True, False, True]
    assert report["solution"].status[2] is SolveStatus.INFEASIBLE
    for i, problem in enumerate(problems):
        alone, _ = gradients(problem, weight[:1])
        for name in NAMES:
            assert bool(together[name][i].isfinite().all())
            assert torch.equal(together[name][i], alone[name][0]), (i, name)
    assert not any(bool(together[name][2].any()) for name in NAMES)


def test_doubled_rows_have_a_finite_gradient_that_adds_up() -> None:
    """The same row twice: multipliers are not unique, the solution is. Moving both copies must move it as one did."""
    [problem] = clear_cut_programs(25, 1, equations=1)
    weight = torch.ones(1, 6, dtype=F64)
    once, _ = gradients(problem, weight)
    double = QuadraticProgram(
        problem.P, problem.q, *(torch.cat([t, t[:, :1]], 1) for t in (problem.A, problem.lower, problem.upper)),
        problem.x_lower, problem.x_upper,
    )  # fmt: skip
    twice, report = gradients(double, weight)
    assert bool(report["trusted"].all())
    total = (twice["lower"] + twice["upper"])[0, [0, -1]].sum()
    assert float(total) == pytest.approx(float((once["lower"] + once["upper"])[0, 0]), rel=1e-6)
    assert torch.allclose(twice["q"], once["q"], atol=1e-8)


def test_differentiating_twice_is_refused() -> None:
    [problem] = clear_cut_programs(26, 1)
    q = problem.q.clone().requires_grad_(True)
    x, _ = solve_differentiable(QuadraticProgram(problem.P, q, *problem.tensors()[2:]))
    (first,) = torch.autograd.grad(x.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_float32_data_give_float32_gradients() -> None:
    [problem] = clear_cut_programs(27, 1)
    exact, _ = gradients(problem, torch.ones(1, 6, dtype=F64))
    single = QuadraticProgram(*(t.float() for t in problem.tensors()))
    rounded, _ = gradients(single, torch.ones(1, 6))
    for name in NAMES:
        assert rounded[name].dtype == torch.float32
        assert torch.allclose(rounded[name].double(), exact[name], rtol=1e-3, atol=1e-4), name
