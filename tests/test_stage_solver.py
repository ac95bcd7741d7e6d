"""Stage programs: right answers, honest statuses, proofs that others can verify; both kernels."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from stage_problems import KERNELS, TREES, batch_of, emptied, random_program
from torch import Tensor

from planner.qp.condense import Condensed, condense
from planner.qp.dense_solver import solve as solve_dense
from planner.qp.judge import residuals, residuals_in_torch
from planner.qp.kernel import KernelOptions, KernelSolution
from planner.qp.phase_one import _margin, margin_needed, proof_of
from planner.qp.problem import SolveStatus, StageProgram, StageSolution, certify, infeasibility_margin
from planner.qp.solver import SolveOptions, choose_kernel, raw_data, solve
from planner.qp.torch_kernel import TorchKernel

FAMILIES = {
    "chain": {},
    "branch": {"parent": TREES["branch"]},
    "many children": {"parent": TREES["many children"]},
    "two roots": {"parent": TREES["two roots"]},
    "one stage": {"parent": TREES["one stage"]},
    "two inputs": {"nx": 4, "nu": 2, "m": 4},
    "three inputs, no rows": {"nx": 4, "nu": 3, "m": 0},
    "equations": {"equations": 0.15, "soft": 0.0},
    "soft": {"soft": 0.8},
    "tight": {"room": 0.01},
}


@pytest.fixture(scope="module", params=KERNELS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def cost(problem: StageProgram, z: Tensor) -> Tensor:
    """``[B]``: the price of soft rows included."""
    lower, upper, compliance = problem.limits()
    value = problem.limit_values(z)
    excess = torch.maximum(value - upper, lower - value).clamp(min=0)
    price = torch.where(compliance > 0, excess**2 / (2 * compliance.clamp(min=1e-300)), 0.0)
    return (0.5 * z * (problem.H @ z[..., None])[..., 0] + problem.g * z).sum((1, 2)) + price.sum((1, 2))


def batch(seed: int, count: int, **family) -> StageProgram:
    rng = np.random.default_rng(seed)
    return batch_of([random_program(rng, **family) for _ in range(count)])


def least_excess(condensed: Condensed, i: int) -> float:
    """Smallest uniform excess over all limits of a condensed member, by linear programming (HiGHS)."""
    _, _, A, lower, upper, x_lower, x_upper = (t[i].numpy() for t in condensed.program.tensors())
    eye = np.eye(len(x_lower))
    rows, limit = np.vstack([A, -A, eye, -eye]), np.concatenate([upper, -lower, x_upper, -x_lower])
    use = np.isfinite(limit)
    matrix = np.hstack([rows[use], -np.ones((use.sum(), 1))])
    free = [(None, None)] * len(x_lower) + [(0, None)]
    answer = linprog(np.append(np.zeros(len(x_lower)), 1.0), matrix, limit[use], bounds=free)
    assert answer.status == 0, answer.message
    return float(answer.fun)


@pytest.mark.parametrize("family", FAMILIES)
def test_against_two_other_solvers(backend: str, family: str) -> None:
    problem = batch(1, 12, **FAMILIES[family])
    ours = solve(problem, SolveOptions(backend=backend, tolerance=1e-12))
    assert ours.solved.all()
    condensed = condense(problem)
    for name in ("daqp", "clarabel"):
        theirs = solve_dense(condensed.program, backend=name, second_opinion=None)
        assert all(s.name == "SOLVED" for s in theirs.status)
        z = condensed.trajectory(theirs.x)
        assert torch.allclose(cost(problem, ours.z), cost(problem, z), rtol=1e-8, atol=1e-9)
        if name == "daqp":
            assert float((ours.z - z).abs().max()) < 1e-6


def test_against_cvxpy() -> None:
    pytest.importorskip("cvxpy")
    problem = batch(2, 3, equations=0.1)
    ours, theirs = solve(problem), solve(problem, SolveOptions(backend="cvxpylayers"))
    assert theirs.solved.all()
    assert torch.allclose(cost(problem, ours.z), cost(problem, theirs.z), rtol=1e-8, atol=1e-9)
    assert torch.allclose(ours.dual, theirs.dual, atol=1e-5)


@pytest.mark.parametrize("name", ["daqp", "clarabel"])
def test_references_speak_the_same_language(name: str) -> None:
    """Multipliers, costates and proofs of the reference backends have our signs and places."""
    rng = np.random.default_rng(3)
    problem = batch_of([random_program(rng, soft=0.0) for _ in range(3)] + [emptied(rng, random_program(rng), 0.1)])
    ours, theirs = solve(problem), solve(problem, SolveOptions(backend=name))
    assert theirs.status.tolist() == [0, 0, 0, 1] == ours.status.tolist()
    assert torch.allclose(ours.dual, theirs.dual, atol=1e-5)
    assert torch.allclose(ours.costate, theirs.costate, atol=1e-5)
    assert float(theirs.proof[3]) > 0


@given(
    seed=st.integers(0, 2**31),
    tree=st.sampled_from(sorted(TREES)),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3)),
    soft=st.floats(0, 1),
    equations=st.floats(0, 0.2),
)
@settings(max_examples=25, deadline=None)
def test_optimality_conditions(
    backend: str, seed: int, tree: str, sizes: tuple[int, int, int], soft: float, equations: float
) -> None:
    """Whatever the shape: dynamics, limits, signs, stationarity and complementarity hold in the raw data."""
    nx, nu, m = sizes
    few = equations if m <= nu else 0.0
    problem = batch(seed, 2, parent=TREES[tree], nx=nx, nu=nu, m=m, soft=soft, equations=few)
    s = solve(problem, SolveOptions(backend=backend))
    assert s.solved.all(), s.status
    primal, dual, gap = certify(problem, s.z, s.dual_lower, s.dual_upper, s.costate)
    assert float(primal.max()) < 1e-8
    assert float(dual.max()) < 1e-8
    assert float(gap.max()) < 1e-6
    assert bool((s.dual_lower >= 0).all() and (s.dual_upper >= 0).all())


def test_kernels_agree(backend: str) -> None:
    """Far below 1e-8 on z as a rule; a limit on the edge of being active leaves the root of the tolerance, 1e-6."""
    problem = raw_data(batch(4, 16, parent=TREES["branch"], nx=4, nu=2, m=3))
    options = KernelOptions(tolerance=1e-12)
    kernels = TorchKernel(), choose_kernel(backend, torch.device("cpu"))
    one, other = (kernel.solve(problem, None, options) for kernel in kernels)
    near = (one.z - other.z).abs().flatten(1).amax(1)
    assert float(near.median()) < 1e-9
    assert float(near.max()) < 1e-6


def test_shared_data_are_not_told_from_copies(backend: str) -> None:
    problem = batch(5, 1)
    spread = problem.with_tensors([t.expand(6, *t.shape[1:]) for t in problem.tensors()])
    spread = replace(spread, g=torch.linspace(0.5, 1.5, 6, dtype=torch.float64)[:, None, None] * problem.g)
    copied = spread.with_tensors([t.clone() for t in spread.tensors()])
    one, other = solve(spread, SolveOptions(backend=backend)), solve(copied, SolveOptions(backend=backend))
    assert one.solved.all()
    assert torch.equal(one.z, other.z)


@pytest.mark.parametrize("gap", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("limits", [1, 2, 7])
def test_empty_member_in_a_batch(backend: str, gap: float, limits: int) -> None:
    """Flagged with a proof that HiGHS confirms; its neighbours come out as if alone."""
    rng = np.random.default_rng([6, limits])
    programs = [random_program(rng, room=2.0) for _ in range(16)]
    programs[5] = emptied(rng, programs[5], gap, limits)
    problem = batch_of(programs)
    together = solve(problem, SolveOptions(backend=backend))
    assert together.status.tolist() == [int(SolveStatus.INFEASIBLE) if i == 5 else 0 for i in range(16)]
    assert least_excess(condense(programs[5]), 0) > 1e-6
    assert float(together.z[5].abs().max()) == 0 == float(together.dual[5].abs().max())
    for i in (0, 4, 6, 15):
        pair = solve(batch_of([programs[i], programs[i - 1]]), SolveOptions(backend=backend))
        assert torch.allclose(together.z[i], pair.z[0], rtol=0, atol=1e-10)
        alone = solve(programs[i], SolveOptions(backend=backend))
        # By itself it may end on its active set: exact to rounding, where the interior point is to its tolerance.
        assert torch.allclose(together.z[i], alone.z[0], rtol=0, atol=1e-8)
    others = together.violation.flatten(1).abs().amax(1) > 0
    assert others.tolist() == [i == 5 for i in range(16)]


def verified(problem: StageProgram, s: StageSolution, i: int) -> bool:
    """The violations of member i, taken as Farkas weights, leave a positive margin for every admissible input.

    Recomputed by a linear program over the inputs' box, which knows nothing of our recursion.
    """
    condensed = condense(problem)
    w = s.violation[i].flatten()
    nx, nz = problem.x0.shape[-1], problem.g.shape[-1]
    assert not bool(s.violation[i, :, nx:nz].any())
    lower, upper, compliance = (t[i].flatten() for t in problem.limits())
    assert not bool((w != 0)[compliance > 0].any())
    motion = torch.cat([condensed.motion[i], problem.C[i] @ condensed.motion[i]], 1).flatten(0, 1)
    rest = problem.limit_values(condensed.rest)[i].flatten()
    constant = (w * rest).sum() - torch.where(w > 0, w * upper, torch.where(w < 0, w * lower, 0.0)).sum()
    box = torch.stack([problem.z_lower[i, :, nx:].flatten(), problem.z_upper[i, :, nx:].flatten()], 1)
    # HiGHS has a tolerance of 1e-7 on reduced costs: bring the weights to about one.
    unit = float(w.abs().max())
    answer = linprog((w @ motion / unit).numpy(), bounds=box.numpy())
    return bool(answer.status == 0 and answer.fun + float(constant) / unit > 0)


def test_three_hundred_programs_half_empty(backend: str) -> None:
    """No false verdict either way; the witness is HiGHS on the condensed rows."""
    rng = np.random.default_rng(7)
    for name in ("chain", "branch", "two inputs", "equations", "tight"):
        family = FAMILIES[name]
        programs = [random_program(rng, **family) for _ in range(60)]
        for i in range(0, 60, 2):
            programs[i] = emptied(rng, programs[i], 10 ** rng.uniform(-4, 0.5), int(rng.integers(1, 7)))
        problem = batch_of(programs)
        s = solve(problem, SolveOptions(backend=backend))
        condensed = condense(problem)
        point = [least_excess(condensed, i) < 1e-7 for i in range(60)]
        assert point == [i % 2 == 1 for i in range(60)]
        assert s.solved.tolist() == point
        assert (s.status == int(SolveStatus.INFEASIBLE)).tolist() == [not p for p in point]
        assert all(verified(problem, s, i) for i in range(0, 60, 2))


def test_proof_is_the_recomputed_margin(backend: str) -> None:
    rng = np.random.default_rng(8)
    problem = emptied(rng, random_program(rng), 0.2)
    s = solve(problem, SolveOptions(backend=backend))
    margin = infeasibility_margin(problem, (-s.violation).clamp(min=0), s.violation.clamp(min=0))
    assert float(s.proof) == pytest.approx(float(margin))
    # Weights of the violations: their weighted sum cannot be smaller than its least value, nor far above it.
    assert float(margin) == pytest.approx(float((s.violation**2).sum()), rel=1e-3)
    assert float(proof_of(problem, 0 * s.violation)) == 0


def test_compiled_margin_is_the_readable_one() -> None:
    """Random weights, unbounded inputs and soft rows included; nothing compiled, nothing to compare."""
    problem = batch(33, 8, parent=TREES["many children"], nx=2, nu=2, soft=0.3)
    problem.z_upper[3, 1, 3] = torch.inf
    rng = np.random.default_rng(33)
    below, above = (torch.from_numpy(rng.random((8, *problem.limits()[0].shape[1:]))) for _ in range(2))
    margin, needed = _margin(problem, below, above)
    assert torch.allclose(margin, infeasibility_margin(problem, below, above), rtol=1e-12)
    assert torch.allclose(needed, margin_needed(problem, below, above), rtol=1e-12)


def test_limits_that_cross_themselves(backend: str) -> None:
    problem = batch(9, 4, m=1, soft=0.0)
    z_lower, z_upper, lower = problem.z_lower.clone(), problem.z_upper.clone(), problem.lower.clone()
    z_upper[0, 3, 3] = z_lower[0, 3, 3] - 0.5  # an input
    z_lower[1, 2, 0], z_upper[1, 2, 0] = 1.0, 0.0  # a state
    lower[2, 4, 0] = problem.upper[2, 4, 0].clamp(max=10) + 2.0
    upper = problem.upper.clamp(max=10)
    crossed = replace(problem, z_lower=z_lower, z_upper=z_upper, lower=lower, upper=upper)
    s = solve(crossed, SolveOptions(backend=backend))
    assert s.status.tolist() == [1, 1, 1, 0]
    assert s.proof.tolist() == pytest.approx([0.5, 1.0, 2.0, 0.0])


def test_deadline(backend: str) -> None:
    """A member without an answer in time is OUT_OF_TIME and carries no plan, and the call returns soon."""
    problem = batch(10, 256, parent=tuple(range(-1, 39)), nx=4, nu=2, m=4)
    begun = time.perf_counter()
    s = solve(problem, SolveOptions(backend=backend, deadline=1e-6))
    assert time.perf_counter() - begun < 1.0
    late = s.status == int(SolveStatus.OUT_OF_TIME)
    assert late.any()
    assert bool((late | s.solved).all())
    assert float(s.z[late].abs().max()) == 0


def test_iteration_limit(backend: str) -> None:
    """An iterate that has not converged is never returned."""
    s = solve(batch(11, 4), SolveOptions(backend=backend, iterations=1))
    assert not s.solved.any()
    assert float(s.z.abs().max()) == 0


def test_warm_start_is_the_same_answer_sooner(backend: str) -> None:
    problem = batch(12, 32, parent=tuple(range(-1, 29)))
    options = SolveOptions(backend=backend, tolerance=1e-11)
    cold = solve(problem, options)
    moved = replace(problem, x0=problem.x0 + 1e-3, g=problem.g * 1.001)
    warm, again = solve(moved, options, start=cold), solve(moved, options)
    usable = warm.solved & again.solved
    assert int(usable.sum()) >= 28
    assert float((warm.z - again.z)[usable].abs().max()) < 1e-5
    assert float(warm.iterations[usable].double().mean()) < 1.05 * float(again.iterations[usable].double().mean())


def test_central_path(backend: str) -> None:
    """With smoothing mu every product of multiplier and slack is mu, and the limits are kept with room to spare."""
    mu = 1e-2
    problem = batch(13, 8, soft=0.0)
    s = solve(problem, SolveOptions(backend=backend, smoothing=mu, tolerance=1e-11))
    assert s.solved.all()
    lower, upper, _ = problem.limits()
    value = problem.limit_values(s.z)
    for slack, dual in ((upper - value, s.dual_upper), (value - lower, s.dual_lower)):
        finite = torch.isfinite(slack)
        assert float((slack * dual)[finite].sub(mu).abs().max()) < 1e-6 * mu + 1e-9
        assert float(slack[finite].min()) > 0


def test_judge_counts_like_the_certificate() -> None:
    problem = batch(14, 6, soft=0.5, equations=0.1)
    rng = torch.Generator().manual_seed(0)
    s = solve(problem)
    claimed = (s.z, s.dual_lower, s.dual_upper, s.costate)
    noisy = [t + 0.01 * torch.randn(t.shape, generator=rng, dtype=t.dtype) for t in claimed]
    claim = KernelSolution(noisy[0], noisy[3], noisy[1], noisy[2], s.status, s.iterations)
    reference, plain = certify(problem, *noisy), residuals_in_torch(problem, claim)
    for ours in (residuals(problem, claim), plain):
        for mine, theirs in zip((ours.primal, ours.dual, ours.gap), reference):
            assert torch.allclose(mine, theirs, rtol=1e-12)
        assert torch.allclose(ours.scaled, plain.scaled, rtol=1e-12)
    noisy[0][2, 0, 0] = torch.nan
    for judge in (residuals, residuals_in_torch):
        judged = judge(problem, replace(claim, z=noisy[0]))
        assert torch.isfinite(judged.scaled).tolist() == [i != 2 for i in range(6)]


@pytest.mark.parametrize("lie", ["z", "dual_upper", "costate"])
def test_a_kernel_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    """SOLVED is the judge's word: a converged claim with a wrong number is refused."""
    problem = batch(15, 2, soft=0.0)
    # Hardly any cost: a motion that is off breaks limits and dynamics, but not stationarity.
    problem = replace(problem, H=1e-4 * problem.H, g=1e-4 * problem.g)
    honest = TorchKernel.solve

    def lying(self, *arguments, **keywords):
        answer = honest(self, *arguments, **keywords)
        return replace(answer, **{lie: getattr(answer, lie) + 1e-3})

    monkeypatch.setattr(TorchKernel, "solve", lying)
    s = solve(problem, SolveOptions(backend="torch"))
    assert not s.solved.any()
    assert not (s.status == int(SolveStatus.INFEASIBLE)).any()
    assert float(s.z.abs().max()) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("x0", float("nan")), ("H", float("inf")), ("z_lower", float("inf")), ("upper", float("nan")),
     ("compliance", -1.0), ("lower", float("inf")), ("z_upper", -float("inf"))],
)  # fmt: skip
def test_impossible_data_are_named(name: str, value: float) -> None:
    problem = batch(16, 2)
    tensor = getattr(problem, name).clone()
    tensor[1].view(-1)[0] = value
    with pytest.raises(ValueError, match=name):
        solve(replace(problem, **{name: tensor}))


def test_wrong_shapes_and_backends_are_named() -> None:
    problem = batch(17, 2)
    with pytest.raises(ValueError, match=r"StageProgram\.g"):
        solve(replace(problem, g=problem.g[:, :-1]))
    with pytest.raises(ValueError, match=r"StageProgram\.parent"):
        solve(replace(problem, parent=(0, *problem.parent[1:])))
    with pytest.raises(ValueError, match="backend"):
        solve(problem, SolveOptions(backend="gurobi"))


def test_threads_side_by_side(backend: str) -> None:
    """Calls from several Python threads do not disturb each other."""
    from concurrent.futures import ThreadPoolExecutor

    problems = [batch(18 + i, 4) for i in range(8)]
    expected = [solve(p, SolveOptions(backend=backend)).z for p in problems]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda p: solve(p, SolveOptions(backend=backend, threads=2)).z, problems * 3))
    assert all(torch.equal(a, b) for a, b in zip(answers, expected * 3))


def test_fixed_iterations_never_look_at_the_data() -> None:
    """The mode for CUDA graphs: no value reaches the host, so the call runs on tensors without values."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    problem = raw_data(batch(19, 3, parent=TREES["two roots"]))
    options = KernelOptions(iterations=14)
    fixed, free = TorchKernel(fixed_iterations=True), TorchKernel()
    assert torch.allclose(fixed.solve(problem, None, options).z, free.solve(problem, None, options).z, atol=1e-12)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = problem.with_tensors([mode.from_tensor(t) for t in problem.tensors()])
        assert fixed.solve(fake, None, KernelOptions(iterations=2)).z.shape == problem.g.shape


def test_what_is_kept_between_calls_serves_training_too(rng: np.random.Generator) -> None:
    """Answers share kept zeros; made first where autograd may not look, they still enter a graph later."""
    problem = batch_of([random_program(rng, nx=5, m=3) for _ in range(13)])  # a shape of its own
    with torch.inference_mode():
        solve(problem)
    answer, weight = solve(problem), torch.ones((), dtype=torch.float64, requires_grad=True)
    (answer.violation * weight).sum().backward()
    assert weight.grad is not None
    assert float(weight.grad) == float(answer.violation.sum()) == 0.0
