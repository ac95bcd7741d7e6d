"""The compiled kernel: exact against another solver, the same however it is called, harmless to the process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from planner.qp import native
from planner.qp.backends import clarabel_backend
from planner.qp.kernel import KernelOptions, KernelSolution, Outcome
from planner.qp.native import Level, NativeKernel, build
from planner.qp.problem import StageProgram, certify

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_not())

INF = float("inf")
TIGHT = KernelOptions(tolerance=1e-12)
LEVELS = [level for level in Level if native.available() and level <= native.best_level()]


def random_program(
    seed: int, batch: int = 3, stages: int = 8, nx: int = 3, nu: int = 1, rows: int = 3, equations: bool = True
) -> StageProgram:
    """A random tree with soft rows, infinite sides and equations; wide enough to be feasible nearly always."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    nz = nx + nu
    parent = tuple(-1 if t == 0 or uniform(1) < 0.05 else int(uniform(1) ** 0.3 * t) for t in range(stages))
    H = normal(batch, stages, nz, nz) * (uniform(batch, 1, nz, 1) < 0.7)
    H = 0.3 * H.mT @ H
    H[..., range(nx, nz), range(nx, nz)] += 0.1 + uniform(batch, stages, nu)
    z_lower, z_upper = -1.5 - 3 * uniform(batch, stages, nz), 1.5 + 3 * uniform(batch, stages, nz)
    z_lower[uniform(batch, stages, nz) < 0.4] = -INF
    z_upper[uniform(batch, stages, nz) < 0.4] = INF
    lower, upper = -0.6 - 3 * uniform(batch, stages, rows), 0.6 + 3 * uniform(batch, stages, rows)
    lower[uniform(batch, stages, rows) < 0.5] = -INF
    upper[uniform(batch, stages, rows) < 0.5] = INF
    soft = uniform(batch, stages, rows) < 0.5
    if equations:
        met = (uniform(batch, stages, rows) < 0.1) & soft
        lower[met] = upper[met] = 0.3
        fixed = uniform(batch, stages, nz) < 0.04
        fixed[..., :nx] = False
        z_lower[fixed] = z_upper[fixed] = 0.2
    return StageProgram(
        parent, 0.5 * normal(batch, nx), torch.eye(nx, dtype=torch.float64) + 0.3 * normal(batch, stages, nx, nx),
        normal(batch, stages, nx, nu), 0.1 * normal(batch, stages, nx), H, 3 * normal(batch, stages, nz),
        z_lower, z_upper, normal(batch, stages, rows, nz) * (uniform(batch, stages, rows, nz) < 0.6), lower, upper,
        torch.where(soft, 10 ** (3 * uniform(batch, stages, rows) - 2), 0.0),
    ).validate()  # fmt: skip


def member(p: StageProgram, b: int) -> StageProgram:
    return p.with_tensors([t[b : b + 1] for t in p.tensors()])


def by_clarabel(p: StageProgram, b: int) -> Tensor | None:
    """``[N, nz]``: the program in its inputs and one excess per side of a soft row, solved as one dense program."""
    _, n, nx, nu, _ = p.size
    map_z, at_zero = torch.zeros(n, nx + nu, n * nu, dtype=torch.float64), torch.zeros(n, nx + nu, dtype=torch.float64)
    for t, past in enumerate(p.parent):
        before = map_z[past, :nx] if past >= 0 else torch.zeros(nx, n * nu, dtype=torch.float64)
        map_z[t, :nx] = p.A[b, t] @ before
        map_z[t, :nx, t * nu : (t + 1) * nu] += p.B[b, t]
        map_z[t, nx:, t * nu : (t + 1) * nu] = torch.eye(nu, dtype=torch.float64)
        at_zero[t, :nx] = p.A[b, t] @ (at_zero[past, :nx] if past >= 0 else p.x0[b]) + p.c[b, t]
    H = (map_z.mT @ p.H[b] @ map_z).sum(0)
    g = torch.einsum("tij,ti->j", map_z, (p.H[b] @ at_zero[..., None])[..., 0] + p.g[b])
    matrix = torch.cat([map_z, p.C[b] @ map_z], 1).flatten(0, 1)
    offset = torch.cat([at_zero, (p.C[b] @ at_zero[..., None])[..., 0]], 1).flatten()
    lower, upper, compliance = (limit[b].flatten() for limit in p.limits())
    keep = torch.isfinite(lower) | torch.isfinite(upper)
    matrix, lower, upper, compliance = matrix[keep], (lower - offset)[keep], (upper - offset)[keep], compliance[keep]
    soft = torch.eye(len(lower), dtype=torch.float64)[:, compliance > 0]
    price = torch.diag(1 / compliance[compliance > 0])
    zero, free = torch.zeros(2 * soft.shape[1], dtype=torch.float64), torch.full((n * nu,), INF, dtype=torch.float64)
    data = (
        torch.block_diag(H, price, price), torch.cat([g, zero]), torch.cat([matrix, -soft, soft], 1), lower, upper,
        torch.cat([-free, zero]), torch.cat([free, zero + INF]),
    )  # fmt: skip
    outcome, x, _, _ = clarabel_backend(*(d.numpy() for d in data))
    return map_z @ torch.from_numpy(x[: n * nu]) + at_zero if outcome == "solved" else None


@pytest.mark.parametrize(
    ("nx", "nu", "rows"), [(3, 1, 3), (3, 2, 2), (6, 2, 4), (4, 2, 0), (2, 1, 1), (5, 3, 2), (1, 1, 1)]
)
def test_the_optimum_is_that_of_another_solver(nx: int, nu: int, rows: int) -> None:
    found = 0
    for seed in range(4):
        p = random_program(seed, stages=5 + 2 * seed, nx=nx, nu=nu, rows=rows)
        solution = NativeKernel().solve(p, None, KernelOptions())
        primal, dual, gap = certify(p, solution.z, solution.dual_lower, solution.dual_upper, solution.costate)
        for b in range(len(p.x0)):
            reference = by_clarabel(p, b)
            assert (reference is not None) == (solution.outcome[b] == Outcome.CONVERGED)
            if reference is None:
                continue
            found += 1
            assert (solution.z[b] - reference).abs().max() <= 1e-5 * (1 + reference.abs().max())
            assert max(primal[b], dual[b], gap[b]) <= 1e-8
    assert found >= 8


@pytest.mark.parametrize("level", LEVELS)
def test_every_instruction_set_gives_the_same_answer(level: Level) -> None:
    p = random_program(11, batch=11, nx=6, nu=2)
    wide, other = (NativeKernel(which).solve(p, None, TIGHT) for which in (Level.AUTO, level))
    assert torch.equal(wide.outcome, other.outcome)
    torch.testing.assert_close(other.z, wide.z, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(other.dual_upper, wide.dual_upper, rtol=1e-5, atol=1e-5)


def test_a_level_that_the_cpu_lacks_is_refused() -> None:
    if native.best_level() == Level.AVX512:
        pytest.skip("this CPU has every level")
    with pytest.raises(ValueError, match="no AVX512"):
        NativeKernel(Level.AVX512)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_its_members_one_by_one(threads: int) -> None:
    p = random_program(5, batch=21)
    together = NativeKernel().solve(p, None, replace(TIGHT, threads=threads))
    for b in range(21):
        alone = NativeKernel().solve(member(p, b), None, TIGHT)
        assert alone.outcome[0] == together.outcome[b]
        torch.testing.assert_close(alone.z[0], together.z[b], rtol=1e-7, atol=1e-7)
    g = torch.ones_like(together.z)
    gradients = NativeKernel().adjoint(p, together, g, TIGHT)
    one = KernelSolution(**{name: value[20:] for name, value in vars(together).items()})
    alone = NativeKernel().adjoint(member(p, 20), one, g[20:], TIGHT)
    torch.testing.assert_close(alone.dz[0], gradients.dz[20], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(alone.kink[0], gradients.kink[20])


def test_shared_data_are_read_in_place() -> None:
    p = member(random_program(7), 0)
    x0 = p.x0 + 0.1 * torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shared = p.with_tensors([x0, *(t.expand(9, *t.shape[1:]) for t in p.tensors()[1:])])
    copied = shared.with_tensors([t.contiguous() for t in shared.tensors()])
    odd = shared.with_tensors([t.mT.contiguous().mT if t.dim() > 2 else t for t in copied.tensors()])
    expected = NativeKernel().solve(copied, None, KernelOptions())
    for program in (shared, odd):
        found = NativeKernel().solve(program, None, KernelOptions())
        assert torch.equal(found.z, expected.z)
        assert torch.equal(found.dual_upper, expected.dual_upper)


def test_other_types_than_float64_are_refused() -> None:
    p = random_program(1)
    with pytest.raises(ValueError, match="float64"):
        NativeKernel().solve(p.with_tensors([t.float() for t in p.tensors()]), None, KernelOptions())


def test_bad_members_harm_nobody() -> None:
    p = random_program(3, batch=8, equations=False)
    good = NativeKernel().solve(p, None, TIGHT)
    assert (good.outcome == Outcome.CONVERGED).all()
    crossed, broken, empty, huge = 1, 3, 4, 6
    q = p.with_tensors([t.clone() for t in p.tensors()])
    q.z_lower[crossed, 2, 0], q.z_upper[crossed, 2, 0] = 1.0, 0.5
    q.g[broken, 1, 0] = torch.nan
    q.z_lower[empty, 3, -1], q.z_upper[empty, 3, -1] = -1.0, 1.0
    q.A[empty, 3], q.B[empty, 3], q.c[empty, 3] = 0.0, 1.0, 0.0
    q.z_lower[empty, 3, :3], q.z_upper[empty, 3, :3] = 50.0, 60.0  # where an input of 1 leads to at most 1
    q.g[huge] *= 1e280
    found = NativeKernel().solve(q, None, TIGHT)
    assert found.outcome[crossed] == Outcome.DIVERGING
    assert found.outcome[empty] == Outcome.DIVERGING
    assert found.outcome[broken] == Outcome.NUMERICAL
    assert found.iterations[crossed] == 0
    for value in (found.z, found.costate, found.dual_lower, found.dual_upper):
        assert torch.isfinite(value).all()
    rest = [b for b in range(8) if b not in (crossed, broken, empty, huge)]
    torch.testing.assert_close(found.z[rest], good.z[rest], rtol=0, atol=0)
    gradient = NativeKernel().adjoint(q, found, torch.ones_like(found.z), TIGHT)
    for value in (gradient.dz, gradient.dcostate, gradient.dlower, gradient.dupper, gradient.kink):
        assert torch.isfinite(value).all()
    assert torch.isinf(gradient.residual[broken]) or gradient.residual[broken] < 1e-6


def test_an_empty_batch_is_answered() -> None:
    p = random_program(1)
    none = p.with_tensors([t[:0] for t in p.tensors()])
    assert NativeKernel().solve(none, None, KernelOptions()).z.shape == (0, 8, 4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cost=st.floats(-8, 8),
    size=st.floats(-4, 4),
    width=st.sampled_from([0.0, 1e-9, 1e-4, 1.0]),
)
def test_hard_cases_end_defined_and_finite(seed: int, cost: float, size: float, width: float) -> None:
    """Costs and lengths in odd units, corridors of no width, doubled rows, starts outside the limits."""
    p = random_program(seed, batch=2, stages=6, nx=2, nu=1, rows=2, equations=False)
    middle = 0.1 * p.C[..., 0]
    narrow = replace(
        p, H=p.H * 10**cost, g=p.g * 10 ** (cost + size), x0=p.x0 * 10 * 10**size, c=p.c * 10**size,
        z_lower=p.z_lower * 10**size, z_upper=p.z_upper * 10**size, C=p.C[:, :, :1].expand(-1, -1, 2, -1),
        lower=(middle - width) * 10**size, upper=(middle + width) * 10**size, compliance=p.compliance * 10**-cost,
    )  # fmt: skip
    found = NativeKernel().solve(narrow, None, KernelOptions())
    gradient = NativeKernel().adjoint(narrow, found, torch.ones_like(found.z), KernelOptions())
    for value in (found.z, found.costate, found.dual_lower, found.dual_upper, gradient.dz, gradient.dupper):
        assert torch.isfinite(value).all()
    ok = found.outcome == Outcome.CONVERGED
    primal, dual, _ = certify(narrow, found.z, found.dual_lower, found.dual_upper, found.costate)
    assert (primal[ok] <= 1e-8 * (1 + 10 * 10**size)).all()
    assert (dual[ok] <= 1e-8).all()


def test_soft_bounds_give_the_least_squares_compromise() -> None:
    p = random_program(3, batch=2, equations=False)
    H = torch.zeros_like(p.H)
    H[..., 3, 3] = 1e-7
    p = replace(
        p, H=H, g=torch.zeros_like(p.g), compliance=torch.ones_like(p.compliance),
        z_lower=p.z_lower.clone().index_fill_(2, torch.tensor(0), 5.0), z_upper=p.z_upper + 5.0,
    )  # fmt: skip
    soft = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).expand_as(p.z_lower)
    found = NativeKernel().solve(p, soft, KernelOptions())
    assert (found.outcome == Outcome.CONVERGED).all()
    excess = (p.z_lower - found.z)[..., 0]
    torch.testing.assert_close(found.dual_lower[..., 0], excess.clamp(min=0), rtol=1e-6, atol=1e-7)
    assert excess.max() > 0.1


@pytest.mark.parametrize("mu", [1e-2, 1e-5])
def test_smoothing_ends_on_the_central_path(mu: float) -> None:
    p = random_program(9, equations=False)
    found = NativeKernel().solve(p, None, KernelOptions(smoothing=mu))
    assert (found.outcome == Outcome.CONVERGED).all()
    lower, upper, compliance = p.limits()
    value = p.limit_values(found.z)
    for bound, slack, dual in (
        (upper, upper - value + compliance * found.dual_upper, found.dual_upper),
        (lower, value - lower + compliance * found.dual_lower, found.dual_lower),
    ):
        finite = torch.isfinite(bound)
        torch.testing.assert_close((slack * dual)[finite], torch.full_like(dual[finite], mu), rtol=1e-3, atol=0)
        assert (dual[~finite] == 0).all()


def test_a_warm_start_needs_fewer_iterations_for_the_same_answer() -> None:
    p = random_program(13, batch=9)
    cold = NativeKernel().solve(p, None, TIGHT)
    moved = replace(p, x0=p.x0 + 1e-3)
    warm, again = (NativeKernel().solve(moved, None, TIGHT, start) for start in (cold, None))
    assert (warm.outcome == again.outcome).all()
    assert warm.iterations.sum() < 0.75 * again.iterations.sum()
    torch.testing.assert_close(warm.z, again.z, rtol=1e-6, atol=1e-6)


def test_out_of_time_and_out_of_iterations() -> None:
    p = random_program(2, batch=9)
    late = NativeKernel().solve(p, None, KernelOptions(deadline=0.0))
    assert (late.outcome == Outcome.OUT_OF_TIME).all()
    assert (late.iterations == 0).all()
    short = NativeKernel().solve(p, None, KernelOptions(iterations=2))
    assert (short.outcome == Outcome.ITERATION_LIMIT).all()
    assert (short.iterations == 2).all()
    assert torch.isfinite(short.z).all()


@pytest.mark.parametrize("mu", [0.0, 1e-3])
@pytest.mark.parametrize("name", ["g", "c", "x0", "z_lower", "z_upper", "lower", "upper"])
def test_the_adjoint_is_the_central_difference(name: str, mu: float) -> None:
    p = random_program(21, batch=12, nx=3, nu=2)
    g = torch.Generator().manual_seed(4)
    options = replace(TIGHT, smoothing=mu)
    found = NativeKernel().solve(p, None, options)
    weight = torch.randn(found.z.shape, generator=g, dtype=torch.float64)
    a = NativeKernel().adjoint(p, found, weight, options)
    assert (a.residual <= 1e-9).all()
    nz = p.g.shape[-1]
    roots = torch.tensor([t for t, past in enumerate(p.parent) if past < 0])
    gradient = {
        "g": a.dz, "c": a.dcostate, "x0": (p.A[:, roots].mT @ a.dcostate[:, roots, :, None])[..., 0].sum(1),
        "z_lower": a.dlower[..., :nz], "z_upper": a.dupper[..., :nz],
        "lower": a.dlower[..., nz:], "upper": a.dupper[..., nz:],
    }[name]  # fmt: skip
    base = getattr(p, name)
    equal = (p.limits()[1] - p.limits()[0]) <= 1e-12
    equal = torch.cat([equal[..., :nz]], -1) if name.startswith("z_") else equal[..., nz:]
    fixed = ~torch.isfinite(base) | (equal if base.shape == equal.shape else False)
    direction = torch.where(fixed, 0.0, torch.randn(base.shape, generator=g, dtype=torch.float64))

    def value(step: float) -> Tensor:
        moved = replace(p, **{name: base + step * direction})
        return (NativeKernel().solve(moved, None, options).z * weight).sum((1, 2))

    fine, coarse = ((value(h) - value(-h)) / (2 * h) for h in (1e-6, 4e-6))
    expected = (gradient * direction).flatten(1).sum(1)
    smooth = (found.outcome == Outcome.CONVERGED) & ((fine - coarse).abs() <= 1e-6 * (1 + fine.abs()))
    smooth &= a.kink < 1e-3
    assert smooth.sum() >= 8
    error = (expected - fine).abs() / (1 + fine.abs())
    assert error[smooth].max() <= 1e-5


def test_an_equation_passes_its_gradient_on() -> None:
    p = random_program(21, batch=6, nx=3, nu=2)
    equal = (p.upper == p.lower).nonzero()
    assert len(equal) > 0
    found = NativeKernel().solve(p, None, TIGHT)
    a = NativeKernel().adjoint(p, found, torch.ones_like(found.z), TIGHT)
    b, t, row = equal[0].tolist()
    moved = [replace(p, lower=p.lower.clone(), upper=p.upper.clone()) for _ in range(2)]
    for program, step in zip(moved, (1e-5, -1e-5)):
        program.lower[b, t, row] += step
        program.upper[b, t, row] += step
    up, down = (NativeKernel().solve(program, None, TIGHT).z[b].sum() for program in moved)
    nz = p.g.shape[-1]
    total = a.dlower[b, t, nz + row] + a.dupper[b, t, nz + row]
    assert total == pytest.approx(((up - down) / 2e-5).item(), rel=1e-5, abs=1e-6)


def test_two_python_threads_at_once() -> None:
    programs = [random_program(seed, batch=40) for seed in (1, 2)]
    alone = [NativeKernel().solve(p, None, KernelOptions()).z for p in programs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not torch.equal(NativeKernel().solve(programs[i], None, KernelOptions(threads=2)).z, alone[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_after_fork() -> None:
    code = """
import os, torch
from test_native_kernel import random_program
from planner.qp.kernel import KernelOptions
from planner.qp.native import NativeKernel
p = random_program(1, batch=33)
z = NativeKernel().solve(p, None, KernelOptions(threads=2)).z
child = os.fork()
same = torch.equal(NativeKernel().solve(p, None, KernelOptions(threads=2)).z, z)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(__file__), check=True, timeout=120)


def test_memory_does_not_grow() -> None:
    p = random_program(1, batch=2, stages=4)
    kernel, options = NativeKernel(), KernelOptions(threads=1)

    def run(times: int) -> int:
        for _ in range(times):
            found = kernel.solve(p, None, options)
            kernel.adjoint(p, found, found.z, options)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = run(500)
    assert run(10_000) - before < 2_000  # kB


def test_denormal_numbers_survive() -> None:
    p = random_program(1)
    NativeKernel().solve(p, None, KernelOptions())
    tiny = np.array([5e-324, 1e-310])
    assert (tiny * 1.0 > 0).all()
    assert (torch.from_numpy(tiny) + 0.0 > 0).all()


def test_without_a_compiler_the_build_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler"):
        build.build(tmp_path / build.LIBRARY)
    assert list(tmp_path.iterdir()) == []
    assert build.LIBRARY == native.LIBRARY


def test_a_failed_compilation_shows_the_compilers_words(monkeypatch, tmp_path) -> None:
    compiler = tmp_path / "broken-c++"
    compiler.write_text("#!/bin/sh\necho cannot compile this >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(build.BuildError, match="cannot compile this"):
        build.build(tmp_path / build.LIBRARY)


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")
def test_a_program_without_python_can_call_it(tmp_path) -> None:
    source = os.path.join(os.path.dirname(__file__), "native_example.cpp")
    program, folder = tmp_path / "example", build.FOLDER
    command = [*build.compiler(), "-std=c++17", source, f"-I{folder}", str(folder / build.LIBRARY), "-o", str(program)]
    subprocess.run([*command, f"-Wl,-rpath,{folder}"], check=True, capture_output=True, timeout=120)
    done = subprocess.run([str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert "converged" in done.stdout
