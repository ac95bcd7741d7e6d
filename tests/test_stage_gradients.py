"""Gradients of the stage layer: against central differences, closed forms, cvxpylayers and the dense layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stage_problems import KERNELS, TREES, batch_of, emptied, random_program
from torch import Tensor

from planner.qp.condense import condense
from planner.qp.dense_layer import solve_differentiable as solve_dense
from planner.qp.kernel import KernelOptions, KernelSolution
from planner.qp.layer import (
    KINK_TRUSTED,
    SolveReport,
    _gradients,
    _gradients_in_torch,
    _kept,
    solve_differentiable,
    undecided,
)
from planner.qp.problem import StageProgram
from planner.qp.reference_kernel import cvxpylayers_trajectory
from planner.qp.solver import SolveOptions, choose_kernel, raw_data, solve
from planner.qp.torch_kernel import TorchKernel

NAMES = ("x0", "A", "B", "c", "H", "g", "z_lower", "z_upper", "C", "lower", "upper", "compliance")
F64 = torch.float64
STEP = 1e-5
"""Of central differences: solutions are good to 1e-11 or so, hence the quotients to 1e-6."""


@pytest.fixture(scope="module", params=KERNELS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def batch(seed: int, count: int, **family) -> StageProgram:
    rng = np.random.default_rng(seed)
    return batch_of([random_program(rng, **family) for _ in range(count)])


def weights(problem: StageProgram) -> Tensor:
    return torch.from_numpy(np.random.default_rng(99).normal(size=tuple(problem.g.shape)))


def pulled_back(problem: StageProgram, options: SolveOptions) -> tuple[dict[str, Tensor], SolveReport]:
    """Gradients of weights . z with respect to every datum."""
    leaves = [t.clone().requires_grad_(True) for t in problem.tensors()]
    z, report = solve_differentiable(problem.with_tensors(leaves), options)
    (weights(problem) * z).sum().backward()
    return dict(zip(NAMES, (t.grad for t in leaves))), report


def moved(problem: StageProgram, name: str, by: Tensor) -> StageProgram:
    """The problem with one datum moved; equations stay equations."""
    changed = replace(problem, **{name: getattr(problem, name) + by})
    equal = problem.lower == problem.upper
    if name == "lower":
        changed.upper = torch.where(equal, changed.lower, changed.upper)
    if name == "upper":
        changed.lower = torch.where(equal, changed.upper, changed.lower)
    return changed


def quotients(problem: StageProgram, name: str, direction: Tensor, options: SolveOptions) -> tuple[Tensor, Tensor]:
    """Central difference of weights . z per member ``[B]``, and where two step lengths agree on it."""
    found, there = [], torch.ones(problem.size[0], dtype=torch.bool)
    for step in (STEP, STEP / 2):
        ends = [solve(moved(problem, name, sign * step * direction), options) for sign in (1, -1)]
        there &= ends[0].solved & ends[1].solved
        value = [(weights(problem) * e.z).sum((1, 2)) for e in ends]
        found.append((value[0] - value[1]) / (2 * step))
    # A limit that changes its state within the step shows as a quotient that depends on the step.
    steady = (found[0] - found[1]).abs() < 1e-4 * (1e-2 + found[0].abs())
    return found[1], steady & there


def direction_of(problem: StageProgram, name: str) -> Tensor:
    datum = getattr(problem, name)
    direction = torch.from_numpy(np.random.default_rng(7).normal(size=tuple(datum.shape)))
    if name == "H":
        direction = 0.5 * (direction + direction.mT)
    return direction * (datum > 0) if name == "compliance" else direction


def predicted(problem: StageProgram, name: str, direction: Tensor, gradient: dict[str, Tensor]) -> Tensor:
    """The derivative along the direction per member ``[B]``, as the layer has it."""
    part = gradient[name] * direction
    if name in ("lower", "upper"):
        other = gradient["upper" if name == "lower" else "lower"] * direction
        part = torch.where(problem.lower == problem.upper, part + other, part)
    return part.flatten(1).sum(1)


FAMILIES = {
    "chain": {},
    "tree": {"parent": TREES["many children"], "nx": 2, "nu": 2},
    "equations": {"equations": 0.15, "soft": 0.4},
}


@pytest.mark.parametrize("smoothing", [0.0, 1e-2])
@pytest.mark.parametrize("family", FAMILIES)
def test_central_differences_of_every_datum(backend: str, family: str, smoothing: float) -> None:
    """Median error below 1e-5, the 99th percentile below 1e-3, over members whose quotient is steady."""
    problem = batch(20, 48, **FAMILIES[family])
    options = SolveOptions(backend=backend, tolerance=1e-13 if not smoothing else 1e-11, smoothing=smoothing)
    gradient, report = pulled_back(problem, options)
    assert int(report.trusted.sum()) >= 44
    for name in NAMES:
        direction = direction_of(problem, name)
        quotient, steady = quotients(problem, name, direction, options)
        use = steady & report.trusted
        assert int(use.sum()) >= 36, name
        value = predicted(problem, name, direction, gradient)
        error = ((value - quotient).abs() / (1e-2 + quotient.abs()))[use]
        assert float(error.median()) < 1e-5, name
        assert float(error.quantile(0.99)) < 1e-3, name


def test_default_tolerance_gives_the_same_gradient(backend: str) -> None:
    """The default against 1e-13 over trusted members: median 1e-6, 99th percentile 1e-3 of the gradient's size."""
    problem = batch(21, 64, nx=4, nu=2, m=3)
    (loose, report), (tight, other) = (
        pulled_back(problem, SolveOptions(backend=backend, tolerance=t)) for t in (SolveOptions().tolerance, 1e-13)
    )
    use = report.trusted & other.trusted
    assert int(use.sum()) >= 56
    size = tight["g"].flatten(1).norm(dim=1) + 1e-2 * weights(problem).flatten(1).norm(dim=1)
    difference = ((loose["g"] - tight["g"]).flatten(1).norm(dim=1) / size)[use]
    assert float(difference.median()) < 1e-6
    assert float(difference.quantile(0.99)) < 1e-3


def one_stage(lower: float, upper: float) -> StageProgram:
    """min x^2 / 2 + u^2 / 2 + 2 u,  x = x0 + u,  lower <= x <= upper: free optimum u = -(x0 + 2) / 2."""
    t = lambda *v: torch.tensor(v, dtype=F64)[None]  # noqa: E731
    none = torch.zeros(1, 1, 0, dtype=F64)
    return StageProgram(
        (-1,), t(1.0), t(1.0)[..., None, None], t(1.0)[..., None, None], t(0.0)[None],
        torch.eye(2, dtype=F64)[None, None], t(0.0, 2.0)[None], t(lower, -9.0)[None], t(upper, 9.0)[None],
        torch.zeros(1, 1, 0, 2, dtype=F64), none, none, none,
    )  # fmt: skip


def test_closed_form_without_and_with_an_active_limit(backend: str) -> None:
    options = SolveOptions(backend=backend, tolerance=1e-12)
    for lower, upper, slope_x0, slope_lower in ((-9.0, 9.0, 0.5, 0.0), (0.5, 9.0, 0.0, 1.0)):
        problem = one_stage(lower, upper)
        leaves = [t.clone().requires_grad_(True) for t in problem.tensors()]
        z, report = solve_differentiable(problem.with_tensors(leaves), options)
        assert z[0, 0, 0].item() == pytest.approx(max(-0.5, lower), abs=1e-9)
        z[0, 0, 0].backward()
        assert report.trusted.tolist() == [True]
        assert float(leaves[0].grad) == pytest.approx(slope_x0, abs=1e-7)
        assert float(leaves[6].grad[0, 0, 0]) == pytest.approx(slope_lower, abs=1e-7)
        # The input cost 2: u = -(x0 + g) / 2 where free.
        assert float(leaves[5].grad[0, 0, 1]) == pytest.approx(-0.5 * (1 - slope_lower), abs=1e-7)


def test_against_the_dense_layer_and_cvxpylayers(backend: str) -> None:
    """Three ways through the same program: ours, and two backward passes through its condensation."""
    pytest.importorskip("cvxpylayers")
    problem = batch(22, 3, parent=TREES["two roots"], nx=2, m=1)
    options = SolveOptions(backend=backend, tolerance=1e-12)
    ours, report = pulled_back(problem, options)
    assert report.trusted.all()

    def through(trajectory) -> dict[str, Tensor]:
        leaves = [t.clone().requires_grad_(True) for t in problem.tensors()]
        (weights(problem) * trajectory(problem.with_tensors(leaves))).sum().backward()
        return dict(zip(NAMES, (t.grad for t in leaves)))

    def dense(p: StageProgram) -> Tensor:
        condensed = condense(p)
        return condensed.trajectory(solve_dense(condensed.program)[0])

    for theirs, close in ((through(dense), 1e-6), (through(cvxpylayers_trajectory), 1e-3)):
        for name in NAMES:
            mine, other = ours[name], theirs[name].nan_to_num(0.0)
            if name == "H":
                other = 0.5 * (other + other.mT)
            if name == "compliance":  # a hard row has no excess to price there
                mine, other = mine * (problem.compliance > 0), other * (problem.compliance > 0)
            if name in ("z_lower", "z_upper", "lower", "upper"):
                other = torch.where(torch.isfinite(getattr(problem, name)), other, 0.0)
            assert torch.allclose(mine, other, rtol=close, atol=close * float(1 + other.abs().max())), name


def test_layer_through_cvxpylayers() -> None:
    pytest.importorskip("cvxpylayers")
    rng = np.random.default_rng(23)
    problem = batch_of(
        [
            random_program(rng, TREES["two roots"], nx=2, m=1),
            emptied(rng, random_program(rng, TREES["two roots"], nx=2, m=1), 0.5),
        ]
    )
    g = problem.g.clone().requires_grad_(True)
    z, report = solve_differentiable(replace(problem, g=g), SolveOptions(backend="cvxpylayers"))
    z.sum().backward()
    assert report.solution.solved.tolist() == [True, False]
    assert float(z[1].detach().abs().max()) == 0 == float(g.grad[1].abs().max())
    other = problem.g.clone().requires_grad_(True)
    solve_differentiable(replace(problem, g=other))[0].sum().backward()
    assert torch.allclose(g.grad, other.grad, atol=1e-3)


def test_gradcheck(backend: str) -> None:
    problem = one_stage(0.5, 9.0)

    def run(x0: Tensor, g: Tensor, lower: Tensor) -> Tensor:
        return solve_differentiable(
            replace(problem, x0=x0, g=g, z_lower=lower), SolveOptions(backend=backend, tolerance=1e-12)
        )[0]

    inputs = tuple(t.clone().requires_grad_(True) for t in (problem.x0, problem.g, problem.z_lower))
    assert torch.autograd.gradcheck(run, inputs, eps=1e-5, atol=1e-5)


def test_shared_parameter_gets_the_sum(backend: str) -> None:
    problem = batch(24, 1, soft=0.0).with_tensors([t.expand(5, *t.shape[1:]) for t in batch(24, 1, soft=0.0).tensors()])
    factor = torch.linspace(0.5, 1.5, 5, dtype=F64)[:, None, None]
    problem = replace(problem, g=factor * problem.g)
    options = SolveOptions(backend=backend)
    single = {n: getattr(problem, n)[:1].clone().requires_grad_(True) for n in ("H", "A", "C")}
    same = {n: t.detach().expand(5, *t.shape[1:]).clone().requires_grad_(True) for n, t in single.items()}
    for data in ({n: t.expand(5, *t.shape[1:]) for n, t in single.items()}, same):
        z, report = solve_differentiable(replace(problem, **data), options)
        assert report.trusted.sum() >= 4
        (weights(problem) * z).sum().backward()
    for name, leaf in single.items():
        assert torch.allclose(leaf.grad, same[name].grad.sum(0, keepdim=True), rtol=1e-9, atol=1e-12)
        assert float(leaf.grad.abs().max()) > 0


def test_empty_member_has_zero_gradient_and_harms_nobody(backend: str) -> None:
    rng = np.random.default_rng(25)
    programs = [random_program(rng) for _ in range(16)]
    programs[9] = emptied(rng, programs[9], 0.3)
    gradient, report = pulled_back(batch_of(programs), SolveOptions(backend=backend))
    assert report.trusted.tolist() == [i != 9 for i in range(16)]
    programs[9] = random_program(rng)
    healthy, _ = pulled_back(batch_of(programs), SolveOptions(backend=backend))
    for name in NAMES:
        assert bool(torch.isfinite(gradient[name]).all())
        assert float(gradient[name][9].abs().max()) == 0
        rest = [i for i in range(16) if i != 9]
        assert torch.allclose(gradient[name][rest], healthy[name][rest], rtol=1e-9, atol=1e-10)


def test_a_kink_is_not_trusted(backend: str) -> None:
    """The limit x >= -0.5 touches the free optimum: the derivative is one-sided, so it is flagged and zero."""
    gradient, report = pulled_back(one_stage(-0.5, 9.0), SolveOptions(backend=backend))
    assert report.trusted.tolist() == [False]
    assert all(float(g.abs().max()) == 0 for g in gradient.values() if g.numel())
    problem = one_stage(-0.5, 9.0)
    assert float(undecided(problem, solve(problem))) > KINK_TRUSTED
    # The smoothed derivative is defined there: half of one side, half of the other.
    gradient, report = pulled_back(problem, SolveOptions(backend=backend, smoothing=1e-4))
    assert report.trusted.tolist() == [True]
    assert float(gradient["z_lower"].abs().max()) > 0.1


def test_trust_is_known_before_the_backward_pass(backend: str) -> None:
    rng = np.random.default_rng(26)
    problem = batch_of([random_program(rng), emptied(rng, random_program(rng), 0.1)])
    z, report = solve_differentiable(problem, SolveOptions(backend=backend))
    assert not z.requires_grad
    assert report.trusted.tolist() == [True, False]


def test_upstream_nan_stays_in_its_member(backend: str) -> None:
    problem = batch(27, 3)
    g = problem.g.clone().requires_grad_(True)
    z, report = solve_differentiable(replace(problem, g=g), SolveOptions(backend=backend))
    push = torch.ones_like(z)
    push[1] = torch.nan
    z.backward(push)
    assert bool(torch.isfinite(g.grad).all())
    assert not bool(report.trusted[1])
    assert float(g.grad[0].abs().max()) > 0


def test_smoothing_feels_a_limit_that_is_not_active(backend: str) -> None:
    """On the central path a limit nearby has a say; the exact derivative of an idle limit is zero."""
    problem = one_stage(-0.6, 9.0)
    for smoothing, felt in ((0.0, False), (1e-2, True)):
        gradient, report = pulled_back(problem, SolveOptions(backend=backend, smoothing=smoothing))
        assert report.trusted.all()
        assert (float(gradient["z_lower"][0, 0, 0].abs()) > 1e-2) == felt


def test_twice_is_refused(backend: str) -> None:
    problem = batch(28, 2)
    g = problem.g.clone().requires_grad_(True)
    z, _ = solve_differentiable(replace(problem, g=g), SolveOptions(backend=backend))
    (first,) = torch.autograd.grad(z.sum(), g, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        first.square().sum().backward()


def test_compiled_gradients_are_those_in_torch(backend: str) -> None:
    problem = batch(32, 5, parent=TREES["many children"], nx=2, nu=2)
    data, s = raw_data(problem), solve(problem)
    point = (s.z, s.costate, s.dual_lower, s.dual_upper)
    solution = KernelSolution(s.z, s.costate, s.dual_lower, s.dual_upper, s.status, s.iterations)
    found = choose_kernel(backend, torch.device("cpu")).adjoint(data, solution, weights(problem), KernelOptions())
    keep = torch.tensor([True, False, True, True, True])
    needed = tuple(name != "B" for name in NAMES)
    one = _gradients(data, point, found, keep, needed)
    other = _gradients_in_torch(data, point, _kept(found, keep), needed)
    for name, mine, theirs in zip(NAMES, one, other):
        assert (mine is None) == (theirs is None) == (name == "B")
        if mine is not None and theirs is not None:
            assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12), name


def test_single_precision_and_autocast(backend: str) -> None:
    """Solved in float64 whatever comes in; z and the gradients have the inputs' dtype."""
    problem = batch(29, 4, soft=0.0)
    exact, _ = pulled_back(problem, SolveOptions(backend=backend))
    single = problem.with_tensors([t.float() for t in problem.tensors()])
    g = single.g.clone().requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, report = solve_differentiable(replace(single, g=g), SolveOptions(backend=backend))
        (weights(problem).float() * z).sum().backward()
    assert z.dtype == g.grad.dtype == torch.float32
    assert report.solution.z.dtype == F64
    assert float(report.solution.primal_residual.max()) < 1e-8
    assert torch.allclose(g.grad.double(), exact["g"], atol=1e-3 * float(exact["g"].abs().max()))


def compiled_case() -> tuple[StageProgram, Tensor, Tensor]:
    problem = batch(30, 3, parent=TREES["two roots"])
    return problem, problem.g.clone().requires_grad_(True), problem.x0.clone().requires_grad_(True)


def test_compile_passes_over_it(backend: str) -> None:
    """No graph break, the same numbers forward and backward. aot_eager traces like inductor without its C++ step."""
    problem, g, x0 = compiled_case()

    def run(g: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        z, report = solve_differentiable(replace(problem, g=2 * g, x0=x0), SolveOptions(backend=backend))
        return 3 * z, report.trusted

    z, trusted = run(g, x0)
    expected = torch.autograd.grad((weights(problem) * z).sum(), (g, x0))
    zc, trusted_c = torch.compile(run, fullgraph=True, backend="aot_eager")(g, x0)
    found = torch.autograd.grad((weights(problem) * zc).sum(), (g, x0))
    assert torch.allclose(z, zc, atol=1e-12)
    assert torch.equal(trusted, trusted_c)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(expected, found))


def test_export_keeps_the_operator() -> None:
    problem, g, x0 = compiled_case()

    class Model(torch.nn.Module):
        def forward(self, g: Tensor, x0: Tensor) -> Tensor:
            return solve_differentiable(replace(problem, g=g, x0=x0))[0]

    program = torch.export.export(Model(), (g.detach(), x0.detach()))
    assert any("dualdrive.solve_stages" in str(node.target) for node in program.graph.nodes)
    assert torch.allclose(program.module()(g.detach(), x0.detach()), Model()(g.detach(), x0.detach()), atol=1e-12)


@pytest.mark.slow
def test_operator_keeps_its_contract() -> None:
    """torch's own check: schema, fake implementation and autograd registration tell the truth."""
    problem, _, _ = compiled_case()
    arguments = (*problem.tensors(), list(problem.parent), "torch", 1e-10, 60, 1, float("inf"), 0.0)
    leaves = tuple(t.clone().requires_grad_(True) if isinstance(t, Tensor) else t for t in arguments)
    torch.library.opcheck(torch.ops.dualdrive.solve_stages.default, leaves)


def test_kernels_agree_on_the_adjoint(backend: str) -> None:
    """At the same solution: to 1e-9 as a rule; where a limit is nearly undecided each may judge it in its own way."""
    problem = batch(31, 64, nx=4, nu=2, m=3)
    data, s = raw_data(problem), solve(problem)
    point = KernelSolution(s.z, s.costate, s.dual_lower, s.dual_upper, s.status, s.iterations)
    kernels = choose_kernel(backend, torch.device("cpu")), TorchKernel()
    mine, theirs = (k.adjoint(data, point, weights(problem), KernelOptions()) for k in kernels)
    assert float(mine.residual.max()) < 1e-7
    for name in ("dz", "dcostate", "dlower", "dupper"):
        one, other = getattr(mine, name), getattr(theirs, name)
        size = other.flatten(1).norm(dim=1) + weights(problem).flatten(1).norm(dim=1)
        apart = (one - other).flatten(1).norm(dim=1) / size
        assert float(apart.median()) < 1e-9, name
        assert float(apart.quantile(0.9)) < 1e-6, name
