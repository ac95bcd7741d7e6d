"""The solver benchmark: its problem is what it says, its reference is right, and its report tells what happened."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import gradient_check, growth, infeasible, measure, problem, report, solver
from benchmarks.condensed import Condenser
from benchmarks.reference import NoOptimumError, Reference
from benchmarks.solvers import SOLVERS, Answer, Solver
from benchmarks.solvers.native import condense
from benchmarks.sparse_form import SparseForm
from planner.qp import native
from planner.qp.problem import certify
from planner.qp.solver import SolveOptions, solve

OWN = "dualdrive" if native.available() else "dualdrive-torch"


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return Reference(*problem.generate(24))


@pytest.fixture(scope="module")
def optima(reference):
    return reference.solve()


def test_members_are_what_the_problem_promises(reference, optima):
    again = problem.generate(24)
    assert all(torch.equal(a, b) for a, b in zip(again[1].tensors(), reference.parameters.tensors()))
    assert torch.equal(again[0].A, reference.instance.A)
    assert optima[0].active.shape == (480,)
    active = np.array([o.active.sum() for o in optima])
    assert 12 <= np.median(active) <= 18
    assert np.percentile(active, 10) >= 8
    assert np.percentile(active, 90) <= 30
    eigenvalues = torch.linalg.eigvalsh(reference.condenser.P)
    condition = float((eigenvalues[:, -1] / eigenvalues[:, 0]).median())
    assert 1e7 < condition < 1e9
    lateral = reference.instance.A[:, :, 3, 4]
    assert float(lateral.std(1).min()) > 0, "the lateral dynamics should change over time"
    assert float(lateral[:, 0].std()) > 0, "and between members"


@pytest.mark.parametrize("horizon", [5, 80])
def test_members_of_any_horizon_have_a_solution(horizon):
    instance, parameters = problem.generate(6, horizon)
    found = Reference(instance, parameters).solve()
    inputs = torch.from_numpy(np.stack([o.z[:, 6:] for o in found]))
    assert float(problem.violation(instance, parameters, inputs).max()) < 1e-10


def test_another_seed_gives_other_members():
    first, second = (problem.generate(2, seed=seed)[1].offset for seed in (0, 1))
    assert not torch.equal(first, second)


@settings(max_examples=20, deadline=None)
@given(horizon=st.integers(2, 14), half_planes=st.integers(0, 6), seed=st.integers(0, 1000))
def test_all_forms_say_the_same_of_any_inputs(horizon, half_planes, seed):
    """Cost up to a constant, and the slack of every limit: over stages, condensed, condensed in numpy, sparse."""
    instance, parameters = problem.generate(2, horizon, half_planes, seed)
    program = problem.stage_program(instance, parameters).validate()
    rng = torch.Generator().manual_seed(seed)
    condenser, form = Condenser(instance), SparseForm(instance, half_planes)
    dense, (q, entries, right) = condenser.program(parameters), form.values(parameters)
    costs = []
    for _ in range(2):
        u = 0.1 * torch.randn(2, horizon, 2, generator=rng, dtype=torch.float64)
        z = torch.cat([problem.roll_out(instance, u), u], -1)
        flat = u.flatten(1)
        stage_cost = (0.5 * z * (program.H @ z[..., None])[..., 0] + program.g * z).sum((1, 2))
        dense_cost = (0.5 * flat * (dense.P @ flat[..., None])[..., 0] + dense.q * flat).sum(1)
        sparse_cost = (0.5 * form.hessian * z.flatten(1) ** 2 + q * z.flatten(1)).sum(1)
        costs.append(torch.stack([stage_cost, dense_cost, sparse_cost]))
        torch.testing.assert_close(condenser.positions(flat), problem.positions(z))
        G, h = dense.one_sided()
        slack = (h - (G @ flat[..., None])[..., 0]).sort(1).values
        for i in range(2):
            gap = right[i].numpy() - form.matrix(entries[i].numpy()) @ z[i].flatten().numpy()
            np.testing.assert_allclose(gap[: form.equations], 0.0, atol=1e-9)
            np.testing.assert_allclose(np.sort(gap[form.equations :]), slack[i].numpy(), atol=1e-8)
    change = costs[1] - costs[0]
    torch.testing.assert_close(change[1], change[0], rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(change[2], change[0], rtol=1e-9, atol=1e-7)


def test_condensing_in_numpy_gives_the_same_matrices():
    instance, parameters = problem.generate(2)
    dense = Condenser(instance).program(parameters).numpy()
    data = {name: getattr(instance, name)[1].numpy() for name in instance.__dataclass_fields__}
    P, q, G, upper, lower, _ = condense(data, *(t[1].numpy() for t in parameters.tensors()))
    np.testing.assert_allclose(P, dense.P[1], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(q, dense.q[1], rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(G, dense.G[1], atol=1e-12)
    np.testing.assert_allclose(upper, np.concatenate([dense.u_upper[1], dense.upper[1]]), atol=1e-10)
    np.testing.assert_allclose(lower[:180], np.concatenate([dense.u_lower[1], dense.lower[1]])[:180], atol=1e-10)


def test_the_optimum_of_the_dense_form_is_that_of_the_stages(reference, optima):
    """DAQP on the dense form and this project's torch kernel on the stages, against the reference."""
    part = slice(0, 4)
    instance, parameters = reference.instance.members(part), reference.parameters.members(part)
    tight = reference.positions(optima)[part]
    adapter = SOLVERS["daqp"](4, 30, 4)
    bound = adapter.bind(instance)
    dense = adapter.forward(bound, adapter.prepare(bound, parameters))
    torch.testing.assert_close(dense.positions, tight, rtol=0, atol=1e-8)
    own = solve(problem.stage_program(instance, parameters), SolveOptions(backend="torch"))
    assert bool(own.solved.all())
    torch.testing.assert_close(problem.positions(own.z), tight, rtol=0, atol=1e-4)


def test_the_reference_is_optimal_by_the_certificate(reference, optima):
    """Residuals of the reference's own multipliers, by the planner's `certify`, which shares no code with it."""
    instance, parameters, i = reference.instance, reference.parameters, 3
    program = problem.stage_program(instance.members([i]), parameters.members([i]))
    z = torch.from_numpy(optima[i].z)[None]
    finite = torch.isfinite(instance.z_upper[i])
    count = int(finite.sum())
    multiplier = torch.from_numpy(optima[i].multiplier)
    upper, lower = torch.zeros(2, 1, 30, 12, dtype=torch.float64)
    bound = torch.zeros(2, 30, 8, dtype=torch.float64)
    bound[0][finite], bound[1][finite] = multiplier[:count], multiplier[count : 2 * count]
    upper[0, :, :8], lower[0, :, :8] = bound
    upper[0, :, 8:] = multiplier[2 * count :].reshape(30, 4)
    # Costates backwards: the stationarity of the states defines them, that of the inputs is the test.
    y = upper - lower
    pull = program.g + (program.H @ z[..., None])[..., 0] + y[..., :8]
    pull = pull + (program.C.transpose(-1, -2) @ y[..., 8:, None])[..., 0]
    costate = torch.zeros(1, 31, 6, dtype=torch.float64)
    for t in range(29, -1, -1):
        carried = (program.A[:, t + 1].transpose(-1, -2) @ costate[:, t + 1, :, None])[..., 0] if t < 29 else 0.0
        costate[:, t] = pull[:, t, :6] + carried
    primal, dual, gap = certify(program, z, lower, upper, costate[:, :30])
    assert float(primal) < 1e-10
    assert float(dual) < 1e-10
    assert float(gap) < 1e-10


def test_a_right_gradient_passes_and_a_wrong_one_is_measured(reference, optima):
    weight = problem.cotangent(24, 30)
    found = gradient_check.differences(reference, optima, weight, members=4)
    assert bool(found.usable.all())
    part = slice(0, 4)
    adapter = SOLVERS["dualdrive-torch"](4, 30, 4)
    data = adapter.bind(reference.instance.members(part))
    answer, gradient = adapter.gradient(data, reference.parameters.members(part), weight[part])
    trusted = adapter.report(data, answer).trusted
    assert bool(trusted.any())
    right = gradient_check.summary(found.error(gradient), trusted)
    assert right["gradient_members"] == int(trusted.sum())
    assert right["gradient_error_median"] < 1e-5
    wrong = found.error(tuple(1.01 * g for g in gradient))[trusted]
    torch.testing.assert_close(wrong, torch.full_like(wrong, 0.01), rtol=1e-2, atol=0)
    lost = gradient_check.summary(torch.tensor([torch.nan]), torch.tensor([True]))
    assert lost["gradient_error_median"] is None
    assert lost["gradient_members"] == 1


def test_the_reference_refuses_an_empty_member(reference):
    empty = problem.make_infeasible(reference.parameters, 5)
    with pytest.raises(NoOptimumError):
        Reference(reference.instance.members([5]), empty.members([5])).solve()


@pytest.fixture(scope="module")
def result():
    options = solver.arguments(
        ["--batch", "1", "4", "--solvers", OWN, "daqp", "--repeats", "1", "--gradient-members", "2", "--budget", "20"]
    )
    return solver.run(options)


def test_rows_carry_every_figure(result):
    text = json.dumps(result, allow_nan=False)
    rows = json.loads(text)["rows"]
    assert [(r["solver"], r["batch"]) for r in rows] == [(OWN, 1), ("daqp", 1), (OWN, 4), ("daqp", 4)]
    for row in rows:
        assert "skipped" not in row
        assert 0 < row["forward_ms_q25"] <= row["forward_ms"] <= row["forward_ms_q75"]
        assert row["violation_max"] < 1e-8
        assert row["error_max"] < 1e-3
        assert row["refused"] == 0
    own = rows[2]
    assert own["forward_backward_ms"] > 0
    assert own["gradient_error_median"] <= 1e-5
    assert own["gradient_error_p99"] >= own["gradient_error_median"]
    assert own["forward_backward_ratio"] == (1.0 if OWN == "dualdrive" else None)
    assert result["problem"]["one_sided_limits"] == 480
    assert result["environment"]["versions"]["torch"] == torch.__version__


def test_what_happens_to_an_empty_member_is_reported(result):
    found = {row["solver"]: row for row in result["infeasible"]}
    for name in (OWN, "daqp"):
        assert found[name]["outcome"] == "flagged"
        assert found[name]["neighbours_harmed"] == 0
        assert found[name]["neighbours_flagged"] == 0
    assert found[OWN]["gradient_finite"]
    assert found[OWN]["gradient_norm"] == 0


class _Silent(Solver):
    """Returns the base trajectory of zeros for every member, and says nothing."""

    def forward(self, bound, prepared):
        inputs = 0 * prepared.reference
        return Answer(inputs, self.answer + 0 * prepared.offset.sum())


class _Hindered(Solver):
    """Slower with the number of torch threads in `by`."""

    name, differentiable = "hindered", False

    def __init__(self, by: int) -> None:
        super().__init__(1, 2, 1)
        self.by = by

    def forward(self, bound, prepared):
        time.sleep(0.02 if torch.get_num_threads() == self.by else 0.0)
        return Answer(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))


@pytest.mark.parametrize(("by", "chosen"), [(1, 2), (2, 1)])
def test_each_solver_gets_the_torch_threads_that_suit_it(by, chosen):
    before = torch.get_num_threads()
    contestant = measure.Contestant("hindered", _Hindered(by), [(None, None, torch.zeros(1))])
    try:
        contestant.warm_up(60, [1, 2])
        assert contestant.failure == ""
        assert contestant.torch_threads == chosen
        torch.set_num_threads(by)
        contestant.turn(0)
        assert torch.get_num_threads() == chosen
    finally:
        torch.set_num_threads(before)


class _Raising(Solver):
    def forward(self, bound, prepared):
        raise RuntimeError("one member\nhas no solution")


class _Endless(Solver):
    def forward(self, bound, prepared):
        while True:
            pass


def test_silent_raising_and_endless_solvers_are_told_apart(reference, optima):
    part = slice(0, infeasible.BATCH)
    tight = reference.positions(optima)[part]
    data = reference.instance.members(part), reference.parameters.members(part), problem.cotangent(16, 30), tight
    silent = _Silent(16, 30, 4)
    silent.answer = tight.clone()
    silent.answer[7] += 1.0
    found = infeasible.behaviour(silent, *data, limit=10.0)
    assert found["outcome"] == "silent"
    assert found["neighbours_harmed"] == 1
    assert found["violation"] > 0
    raised = infeasible.behaviour(_Raising(16, 30, 4), *data, limit=10.0)
    assert raised == {"outcome": "raised", "detail": "RuntimeError: one member has no solution"}
    assert infeasible.behaviour(_Endless(16, 30, 4), *data, limit=0.1)["outcome"] == "timed out"


def test_a_solver_that_fails_is_a_row_and_not_the_end(monkeypatch):
    monkeypatch.setitem(SOLVERS, "raising", type("Raising", (_Raising,), {"name": "raising"}))
    options = solver.arguments(["--batch", "1", "2", "--solvers", "daqp", "--repeats", "1", "--gradient-members", "1"])
    options.solvers = ["raising", "daqp"]
    rows = solver.run(options)["rows"]
    assert rows[0]["skipped"] == "RuntimeError: one member has no solution"
    assert rows[2]["skipped"] == "failed at a smaller batch"
    assert "skipped" not in rows[1]


def test_the_page_is_written_from_the_figures(result, tmp_path):
    images = report.write_plots(result, tmp_path)
    assert {path.name for path in images} == {"benchmark_solvers.png", "benchmark_solvers.svg"}
    page = report.markdown(result, [path.name for path in images])
    assert "| daqp |" in page
    assert "480 one-sided limits" in page
    assert "says which member it is; the others are right; its gradient is zero" in page
    assert "![benchmark_solvers.png](images/benchmark_solvers.png)" in page
    assert OWN in report.console(result)


def test_the_command_writes_json_and_renders_it_again(tmp_path):
    path = tmp_path / "figures" / "run.json"
    solver.main(["--batch", "2", "--solvers", "daqp", "--repeats", "1", "--gradient-members", "1", "--json", str(path)])
    figures = json.loads(path.read_text())
    assert figures["rows"][0]["solver"] == "daqp"
    solver.main(["--render", str(path), "--plots", str(tmp_path / "plots")])
    assert (tmp_path / "plots" / "benchmark_solvers.png").stat().st_size > 1000


def test_growth_exponents():
    rows = [{"at": n, "t": 3.0 * n**2} for n in (1, 2, 4, 8)]
    assert growth.exponent(rows, "t") == pytest.approx(2.0)
    assert growth.exponent(rows, "t", least=8) is None


def test_growth_measures_every_point_of_its_curves(monkeypatch):
    monkeypatch.setattr(growth, "HORIZONS", (4, 8))
    for name in ("HALF_PLANES", "BATCHES", "CANDIDATES"):
        monkeypatch.setattr(growth, name, (2,))
    monkeypatch.setattr(growth, "BATCH", 3)
    rows = growth.curves([OWN], [1], rounds=1)
    assert [(r["curve"], r["batch"], r["horizon"]) for r in rows] == [
        ("horizon", 3, 4), ("horizon", 3, 8), ("half_planes", 3, 30), ("batch", 2, 30), ("candidates", 8, 30),
    ]  # fmt: skip
    assert all(r["forward_backward_ms"] > 0 for r in rows)
