"""The quadratic programs: right answers, honest statuses, and one bad member never harms another."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from planner.qp import dense_solver as solver_module
from planner.qp.backends import BACKENDS, clarabel_backend
from planner.qp.dense import QuadraticProgram, SolveStatus, certify
from planner.qp.dense_solver import solve

F64 = torch.float64


def random_program(rng: np.random.Generator, n: int = 6, m: int = 9, equations: int = 1) -> QuadraticProgram:
    """Feasible by construction (a known point satisfies it), every kind of bound, several of them active.

    The bounds leave 0 to 1 on both sides of the point; a quarter is one-sided (not the first), a quarter of the
    variables free.
    """
    root = rng.normal(size=(n, n))
    A, inside = rng.normal(size=(m, n)), rng.normal(size=n)
    value = A @ inside
    lower, upper = value - rng.uniform(0, 1, m), value + rng.uniform(0, 1, m)
    two_sided = max(equations, 1)
    lower[two_sided:][rng.random(m - two_sided) < 0.25] = -np.inf
    upper[two_sided:][rng.random(m - two_sided) < 0.25] = np.inf
    lower[:equations] = upper[:equations] = value[:equations]
    x_lower, x_upper = inside - rng.uniform(0, 1, n), inside + rng.uniform(0, 1, n)
    free = rng.random(n) < 0.25
    x_lower[free], x_upper[free] = -np.inf, np.inf
    data = (root @ root.T + 0.1 * np.eye(n), 3 * rng.normal(size=n), A, lower, upper, x_lower, x_upper)
    return QuadraticProgram(*(torch.from_numpy(np.asarray(d))[None] for d in data))


def emptied(problem: QuadraticProgram, by: float = 0.3) -> QuadraticProgram:
    """The same problem with its first row asked for twice, `by` apart: no point fits both."""
    A, lower, upper = problem.A.clone(), problem.lower.clone(), problem.upper.clone()
    A[:, -1] = A[:, 0]
    lower[:, -1], upper[:, -1] = upper[:, 0] + by, torch.inf
    return QuadraticProgram(problem.P, problem.q, A, lower, upper, problem.x_lower, problem.x_upper)


def batch_of(problems: list[QuadraticProgram]) -> QuadraticProgram:
    return QuadraticProgram(*(torch.cat(parts) for parts in zip(*(p.tensors() for p in problems))))


def has_point(problem: QuadraticProgram) -> bool:
    """Second opinion on emptiness by linear programming (HiGHS), which shares nothing with our solvers."""
    _, _, A, lower, upper, x_lower, x_upper = (t[0].numpy() for t in problem.tensors())
    rows, limit = np.vstack([A, -A]), np.concatenate([upper, -lower])
    use = np.isfinite(limit)
    answer = linprog(np.zeros(len(x_lower)), rows[use], limit[use], bounds=np.stack([x_lower, x_upper], 1))
    assert answer.status in (0, 2), answer.message
    return answer.status == 0


def with_cvxpy(problem: QuadraticProgram) -> tuple[np.ndarray, float]:
    """Optimum by an independent model in cvxpy, solved by Clarabel to 1e-11."""
    cvxpy = pytest.importorskip("cvxpy", reason="the reference model needs cvxpy (extra 'reference')")
    P, q, A, lower, upper, x_lower, x_upper = (t[0].numpy() for t in problem.tensors())
    x = cvxpy.Variable(len(q))
    rules = []
    for value, lo, hi in ((A @ x, lower, upper), (x, x_lower, x_upper)):
        same = lo == hi
        low, high = np.isfinite(lo) & ~same, np.isfinite(hi) & ~same
        for keep, build in ((same, lambda v, k, h=hi: v[k] == h[k]), (low, lambda v, k, b=lo: v[k] >= b[k]),
                            (high, lambda v, k, b=hi: v[k] <= b[k])):  # fmt: skip
            if keep.any():
                rules.append(build(value, np.flatnonzero(keep)))
    model = cvxpy.Problem(cvxpy.Minimize(cvxpy.quad_form(x, cvxpy.psd_wrap(P)) / 2 + q @ x), rules)
    model.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return x.value, model.value


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_the_optimum_is_that_of_an_independent_model(backend: str) -> None:
    rng = np.random.default_rng(1)
    active = 0
    for _ in range(15):
        problem = random_program(rng, equations=int(rng.integers(0, 3)))
        answer = solve(problem, backend, second_opinion=None)
        assert answer.status == [SolveStatus.SOLVED]
        x, cost = with_cvxpy(problem)
        assert answer.x[0].numpy() == pytest.approx(x, abs=1e-6)
        ours = 0.5 * answer.x[0] @ problem.P[0] @ answer.x[0] + problem.q[0] @ answer.x[0]
        assert float(ours) == pytest.approx(cost, abs=1e-6)
        active += int((answer.y.abs() > 1e-4).sum() + (answer.z.abs() > 1e-4).sum())
    assert active > 30  # the constraints matter in these problems


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_the_multipliers_fulfil_the_optimality_conditions_with_our_signs(backend: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(15):
        p = random_program(rng)
        s = solve(p, backend, second_opinion=None)
        stationarity = p.P[0] @ s.x[0] + p.q[0] + p.A[0].T @ s.y[0] + s.z[0]
        assert float(stationarity.abs().amax()) < 1e-6
        for value, dual, lower, upper in (
            (p.A[0] @ s.x[0], s.y[0], p.lower[0], p.upper[0]),
            (s.x[0], s.z[0], p.x_lower[0], p.x_upper[0]),
        ):
            assert bool((value >= lower - 1e-7).all() & (value <= upper + 1e-7).all())
            # Positive at the upper bound, negative at the lower one, and only there.
            assert bool(((dual < 1e-6) | (upper - value < 1e-6)).all())
            assert bool(((dual > -1e-6) | (value - lower < 1e-6)).all())


def test_one_variable_pushed_against_each_bound_has_the_price_of_that_bound() -> None:
    """min (x - 3)^2 / 2: against x <= 1 the price is +2, against x >= 5 it is -2, on rows as on variables."""
    one, inf = torch.ones(1, 1, dtype=F64), torch.full((1, 1), torch.inf, dtype=F64)
    for lower, upper, price in ((-inf, one, 2.0), (5 * one, inf, -2.0), (one, one, 2.0)):
        row = solve(QuadraticProgram(one[None], -3 * one, one[None], lower, upper, -inf, inf))
        assert float(row.y) == pytest.approx(price, abs=1e-9)
        bound = solve(QuadraticProgram(one[None], -3 * one, 0 * one[None], -inf, inf, lower, upper))
        assert float(bound.z) == pytest.approx(price, abs=1e-9)


def test_without_any_bound_the_answer_is_newtons_step() -> None:
    p = random_program(np.random.default_rng(3))
    free = QuadraticProgram(
        p.P, p.q, p.A, -torch.inf + 0 * p.lower.nan_to_num(), torch.inf + 0 * p.upper.nan_to_num(),
        torch.full_like(p.x_lower, -torch.inf), torch.full_like(p.x_upper, torch.inf),
    )  # fmt: skip
    answer = solve(free)
    assert answer.x[0].numpy() == pytest.approx(torch.linalg.solve(p.P[0], -p.q[0]).numpy(), abs=1e-9)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_an_empty_member_is_flagged_and_the_other_fifteen_are_as_if_alone(backend: str) -> None:
    rng = np.random.default_rng(4)
    problems = [random_program(rng) for _ in range(16)]
    problems[5] = emptied(problems[5])
    together = solve(batch_of(problems), backend)
    assert together.status[5] is SolveStatus.INFEASIBLE
    assert not together.x[5].any()
    assert not together.y[5].any()
    for i, problem in enumerate(problems):
        alone = solve(problem, backend)
        assert together.status[i] is alone.status[0]
        for name in ("x", "y", "z", "relaxation", "blocking"):
            assert torch.equal(getattr(together, name)[i], getattr(alone, name)[0]), (i, name)
    assert sum(s is SolveStatus.SOLVED for s in together.status) == 15


def test_no_feasible_problem_is_called_empty_and_no_empty_one_solved() -> None:
    rng = np.random.default_rng(5)
    counted = {True: 0, False: 0}
    for number in range(300):
        problem = random_program(rng, n=int(rng.integers(2, 9)), m=int(rng.integers(2, 13)), equations=0)
        if number % 2:
            # From clearly empty down to a gap of two tenths of a millimetre.
            problem = emptied(problem, by=float(10 ** rng.uniform(-3.7, 1)))
        feasible = has_point(problem)
        counted[feasible] += 1
        expected = SolveStatus.SOLVED if feasible else SolveStatus.INFEASIBLE
        assert solve(problem).status == [expected], number
    assert min(counted.values()) >= 120


def test_hardly_feasible_problems_are_solved() -> None:
    """A corridor a tenth of a millimetre wide is narrow, not empty."""
    rng = np.random.default_rng(6)
    for _ in range(50):
        problem = emptied(random_program(rng, equations=0), by=0.0)
        problem.lower[:, -1] -= 1e-4
        assert has_point(problem)
        assert solve(problem).status == [SolveStatus.SOLVED]


def test_the_relaxation_is_the_distance_and_the_blame_lies_on_the_contradicting_rows() -> None:
    problem = random_program(np.random.default_rng(7), equations=0)
    for name, wider in (("lower", -10.0), ("upper", 10.0), ("x_lower", -10.0), ("x_upper", 10.0)):
        setattr(problem, name, getattr(problem, name) + wider)
    problem = emptied(problem, by=0.3)
    answer = solve(problem)
    assert answer.status == [SolveStatus.INFEASIBLE]
    # Two copies of one row 0.3 apart and nothing else near: each gives way by half.
    assert float(answer.relaxation) == pytest.approx(0.15, abs=1e-5)
    order = answer.blocking[0].argsort(descending=True).tolist()
    assert set(order[:2]) == {0, 8}
    assert float(answer.blocking[0, [0, 8]].sum()) == pytest.approx(1.0, abs=1e-3)


def test_crossed_bounds_are_an_empty_problem_not_an_error() -> None:
    rows = random_program(np.random.default_rng(8))
    rows.lower[0, 3], rows.upper[0, 3] = 2.0, 1.0
    answer = solve(rows)
    assert answer.status == [SolveStatus.INFEASIBLE]
    assert float(answer.relaxation) >= 0.5 - 1e-6
    assert int(answer.blocking[0].argmax()) == 3
    bounds = random_program(np.random.default_rng(8))
    bounds.x_lower[0, 2], bounds.x_upper[0, 2] = 2.0, 1.0
    answer = solve(bounds)
    assert answer.status == [SolveStatus.INFEASIBLE]
    assert float(answer.relaxation) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["P", "q", "A", "lower", "upper", "x_lower", "x_upper"])
def test_nan_and_wrong_shapes_are_refused_by_name(name: str) -> None:
    problem = random_program(np.random.default_rng(9))
    value = getattr(problem, name)
    broken = value.clone()
    broken.flatten()[0] = torch.nan
    setattr(problem, name, broken)
    with pytest.raises(ValueError, match=rf"\.{name}: has NaN"):
        solve(problem)
    setattr(problem, name, torch.cat([value, value], -1))
    with pytest.raises(ValueError, match=r"expected shape .* got"):
        solve(problem)


def test_a_bound_that_nothing_can_meet_is_refused() -> None:
    for name, value in (("lower", torch.inf), ("upper", -torch.inf), ("x_lower", torch.inf), ("x_upper", -torch.inf)):
        problem = random_program(np.random.default_rng(9))
        getattr(problem, name)[0, 1] = value
        with pytest.raises(ValueError, match=rf"\.{name}: .*inf"):
            solve(problem)


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    problem = random_program(np.random.default_rng(9))
    for options in ({"backend": "gurobi"}, {"second_opinion": "gurobi"}):
        with pytest.raises(ValueError, match=r"'clarabel', 'daqp'.*'gurobi'"):
            solve(problem, **options)


def test_a_deadline_that_has_passed_is_a_status() -> None:
    rng = np.random.default_rng(10)
    problem = batch_of([random_program(rng) for _ in range(3)])
    late = solve(problem, deadline=time.perf_counter() - 1.0)
    assert late.status == [SolveStatus.ITERATION_LIMIT] * 3
    assert not late.x.any()
    in_time = solve(problem, deadline=time.perf_counter() + 60.0)
    assert in_time.status == [SolveStatus.SOLVED] * 3


def test_members_before_the_deadline_keep_their_answers(monkeypatch) -> None:
    """The clock strikes after the second member: two solved, three out of time."""
    rng = np.random.default_rng(10)
    ticks = iter([0.0, 0.0, 0.0] + [9.0] * 50)
    monkeypatch.setattr(solver_module.time, "perf_counter", lambda: next(ticks))
    answer = solve(batch_of([random_program(rng) for _ in range(5)]), deadline=1.0)
    assert answer.status == [SolveStatus.SOLVED] * 2 + [SolveStatus.ITERATION_LIMIT] * 3


def lying(**changes):
    """A backend whose true answer is replaced in part."""

    def backend(*member):
        outcome, x, y, z = BACKENDS["honest"](*member)
        answer = {"outcome": outcome, "x": x, "y": y, "z": z}
        answer |= {name: change(answer[name]) for name, change in changes.items()}
        return answer["outcome"], answer["x"], answer["y"], answer["z"]

    return backend


@pytest.mark.parametrize(
    "lie",
    [
        {"x": lambda x: x + 1e-3},
        {"y": lambda y: -y},
        {"z": lambda z: z + 0.1},
        {"x": lambda x: x * np.nan},
        {"y": lambda y: y * np.nan},
    ],
    ids=["x moved", "y turned", "z moved", "x NaN", "y NaN"],
)
def test_a_backend_that_lies_is_caught_and_the_second_opinion_asked(monkeypatch, lie) -> None:
    monkeypatch.setitem(BACKENDS, "honest", BACKENDS["daqp"])
    monkeypatch.setitem(BACKENDS, "daqp", lying(**lie))
    problem = random_program(np.random.default_rng(11))
    alone = solve(problem, second_opinion=None)
    assert alone.status == [SolveStatus.NUMERICAL]
    assert not alone.x.any()
    assert solve(problem).status == [SolveStatus.SOLVED]


@pytest.mark.parametrize("claim", ["infeasible", "iteration_limit", "numerical"])
def test_a_backend_that_gives_up_wrongly_is_not_believed(monkeypatch, claim: str) -> None:
    """Above all, 'infeasible' without a proof: phase 1 finds a point, so the second backend is asked."""
    honest = BACKENDS["daqp"]
    size = 6
    liar = lambda *member: (claim, None, None, None) if len(member[1]) == size else honest(*member)  # noqa: E731
    monkeypatch.setitem(BACKENDS, "daqp", liar)
    problem = random_program(np.random.default_rng(12), n=size)
    alone = solve(problem, second_opinion=None)
    assert alone.status[0] in (SolveStatus.NUMERICAL, SolveStatus.ITERATION_LIMIT)
    assert solve(problem).status == [SolveStatus.SOLVED]


def test_a_false_solution_of_an_empty_problem_is_caught(monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "daqp", lambda P, q, A, *_: ("solved", 0 * q, np.zeros(len(A)), 0 * q))
    answer = solve(emptied(random_program(np.random.default_rng(13))))
    assert answer.status == [SolveStatus.INFEASIBLE]


def test_certify_measures_each_kind_of_error() -> None:
    problem = random_program(np.random.default_rng(14))
    s = solve(problem)
    primal, dual, gap = certify(problem, s.x, s.y, s.z)
    assert max(float(primal), float(dual), float(gap)) < 1e-8
    assert float(s.primal_residual) == float(primal)
    row = int(s.y[0].abs().argmax())
    outward = problem.A[0, row] * s.y[0, row].sign() / problem.A[0, row].square().sum()
    assert float(certify(problem, s.x + 1e-3 * outward, s.y, s.z)[0]) >= 1e-3 - 1e-9
    assert float(certify(problem, s.x, 1.01 * s.y, s.z)[1]) > 1e-4
    # A multiplier on a row that is not at its bound: complementarity.
    loose = int(torch.where(problem.upper[0].isfinite(), problem.upper[0] - problem.A[0] @ s.x[0], -1).argmax())
    y = s.y.clone()
    y[0, loose] += 1.0
    assert float(certify(problem, s.x, y, s.z)[2]) > 1e-3
    # One that pushes against a bound that does not exist, with a cost that makes everything else fit: sign.
    open_row = int((problem.upper[0].isinf() & (s.y[0] == 0)).nonzero()[0])
    y = s.y.clone()
    y[0, open_row] += 1.0
    fitting = replace(problem, q=problem.q - problem.A[:, open_row])
    primal, dual, _ = certify(fitting, s.x, y, s.z)
    assert float(primal) < 1e-8
    assert float(dual) > 1e-2


def test_bad_scaling_is_solved_or_admitted() -> None:
    """Hessians of condition 1e8, as the planner's: the optimum, or a status that says otherwise."""
    rng = np.random.default_rng(15)
    solved = 0
    for _ in range(20):
        problem = random_program(rng)
        basis = torch.linalg.qr(torch.from_numpy(rng.normal(size=(6, 6))))[0]
        problem.P = (basis * torch.logspace(-5, 3, 6, dtype=F64) @ basis.T)[None]
        problem.P = (problem.P + problem.P.transpose(1, 2)) / 2
        answer = solve(problem)
        if answer.status == [SolveStatus.SOLVED]:
            solved += 1
            cost = lambda x, p=problem: float(0.5 * x @ p.P[0] @ x + p.q[0] @ x)  # noqa: E731
            _, x, _, _ = clarabel_backend(*(t[0].numpy() for t in problem.tensors()))
            assert cost(answer.x[0]) == pytest.approx(cost(torch.from_numpy(x)), rel=1e-6, abs=1e-6)
    assert solved >= 18
