"""Solvers without gradients, one member at a time; each call sets up and solves.

They are given finished matrices, all but `DaqpCondensing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from benchmarks.condensed import BOUNDED, Condenser, DenseProgram
from benchmarks.problem import NU, NX, WEIGHTS, Instance, Parameters
from benchmarks.solvers.base import Answer, Solver
from benchmarks.sparse_form import SparseForm

BIG = 1e30
"""An infinite bound, for solvers that do not take one."""


class _Native(Solver):
    differentiable = False

    def finish(self, bound: Any, results: list[tuple[np.ndarray, bool]]) -> Answer:
        """results: the solution and whether the solver calls it solved, per member."""
        x = torch.from_numpy(np.stack([np.asarray(r[0], dtype=np.float64) for r in results]))
        refused = torch.tensor([not r[1] for r in results])
        if isinstance(bound, Condenser):
            return Answer(x.reshape(len(x), -1, NU), bound.positions(x), refused)
        return Answer(bound.inputs(x), bound.positions(x), refused)


class _DenseNative(_Native):
    def bind(self, instance: Instance) -> Condenser:
        return Condenser(instance)

    def prepare(self, bound: Condenser, parameters: Parameters) -> Any:
        dense = bound.program(parameters).numpy()
        return [self.member(DenseProgram(*(getattr(dense, f)[i] for f in dense.__dataclass_fields__)))
                for i in range(len(dense.q))]  # fmt: skip

    def member(self, program: DenseProgram) -> Any:
        """One member's matrices in the solver's own layout."""
        return program

    def forward(self, bound: Condenser, prepared: Any) -> Answer:
        return self.finish(bound, [self.one(member) for member in prepared])

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        raise NotImplementedError


class _SparseNative(_Native):
    def bind(self, instance: Instance) -> SparseForm:
        return SparseForm(instance, self.half_planes)

    def prepare(self, bound: SparseForm, parameters: Parameters) -> Any:
        q, entries, right = (t.detach().numpy() for t in bound.values(parameters))
        hessian = sparse.diags(bound.hessian.numpy()).tocsc()
        return [self.member(bound, hessian, q[i], bound.matrix(entries[i]), right[i]) for i in range(len(q))]

    def member(self, form: SparseForm, hessian: Any, q: np.ndarray, matrix: Any, right: np.ndarray) -> Any:
        k = form.equations
        return hessian, q, matrix[:k].tocsc(), right[:k], matrix[k:].tocsc(), right[k:]

    def forward(self, bound: SparseForm, prepared: Any) -> Answer:
        return self.finish(bound, [self.one(member) for member in prepared])

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        raise NotImplementedError


class Daqp(_DenseNative):
    """A dual active-set method (Arnstrom et al. 2022)."""

    name = "daqp"

    def member(self, program: DenseProgram) -> Any:
        lower = np.maximum(np.concatenate([program.u_lower, program.lower]), -BIG)
        upper = np.concatenate([program.u_upper, program.upper])
        return program.P, program.q, program.G, upper, lower, np.zeros(len(upper), dtype=np.intc)

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import daqp

        x, _, flag, _ = daqp.solve(*member)
        return x, flag in (1, 2)


class DaqpCondensing(Daqp):
    """DAQP with the condensing that a stage-structured problem needs first, in numpy."""

    name = "daqp+condensing"

    def bind(self, instance: Instance) -> Any:
        numbers = {f: getattr(instance, f).numpy() for f in instance.__dataclass_fields__}
        return Condenser(instance), numbers

    def prepare(self, bound: Any, parameters: Parameters) -> Any:
        data = bound[1]
        given = [t.detach().numpy() for t in parameters.tensors()]
        return [({k: v[i] for k, v in data.items()}, *(t[i] for t in given)) for i in range(self.batch)]

    def forward(self, bound: Any, prepared: Any) -> Answer:
        return self.finish(bound[0], [self.one(condense(*member)) for member in prepared])


class Quadprog(_DenseNative):
    """The dual active-set method of Goldfarb and Idnani."""

    name = "quadprog"

    def member(self, program: DenseProgram) -> Any:
        G, h = program_one_sided(program)
        return program.P, -program.q, np.ascontiguousarray(-G.T), -h

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import quadprog

        try:
            return quadprog.solve_qp(*member)[0], True
        except ValueError:  # "constraints are inconsistent"
            return np.full(len(member[1]), np.nan), False


class PiqpDense(_DenseNative):
    """PIQP (proximal interior point), dense."""

    name = "piqp-dense"

    def member(self, program: DenseProgram) -> Any:
        fortran = np.asfortranarray
        lower = np.maximum(program.lower, -BIG)
        return fortran(program.P), program.q, fortran(program.G), lower, program.upper, program.u_lower, program.u_upper

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import piqp

        P, q, G, lower, upper, u_lower, u_upper = member
        solver = piqp.DenseSolver()
        solver.setup(P, q, None, None, G, lower, upper, u_lower, u_upper)
        status = solver.solve()
        return np.array(solver.result.x), status == piqp.PIQP_SOLVED


class PiqpSparse(_SparseNative):
    """PIQP, sparse."""

    name = "piqp-sparse"
    multistage = False

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import piqp

        P, q, E, e, G, h = member
        solver = piqp.SparseSolver()
        if self.multistage:
            solver.settings.kkt_solver = piqp.KKTSolver.sparse_multistage
        solver.setup(P, q, E, e, G, np.full(len(h), -BIG), h, None, None)
        status = solver.solve()
        return np.array(solver.result.x), status == piqp.PIQP_SOLVED


class PiqpMultistage(PiqpSparse):
    """PIQP with its factorisation for stage-structured problems."""

    name, multistage = "piqp-multistage", True


class Clarabel(_SparseNative):
    """Clarabel (homogeneous interior point)."""

    name = "clarabel"

    def member(self, form: SparseForm, hessian: Any, q: np.ndarray, matrix: Any, right: np.ndarray) -> Any:
        return hessian, q, matrix.tocsc(), right, form.equations

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import clarabel

        P, q, matrix, right, k = member
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        cones = [clarabel.ZeroConeT(k), clarabel.NonnegativeConeT(len(right) - k)]
        solution = clarabel.DefaultSolver(P, q, matrix, right, cones, settings).solve()
        return np.array(solution.x), str(solution.status) in ("Solved", "AlmostSolved")


class Osqp(_SparseNative):
    """OSQP (operator splitting), asked for 1e-5."""

    name = "osqp"

    def member(self, form: SparseForm, hessian: Any, q: np.ndarray, matrix: Any, right: np.ndarray) -> Any:
        lower = np.concatenate([right[: form.equations], np.full(form.rows - form.equations, -BIG)])
        return hessian, q, matrix.tocsc(), lower, right

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import osqp

        solver = osqp.OSQP()
        solver.setup(*member, verbose=False, eps_abs=1e-5, eps_rel=1e-5, max_iter=20000)
        result = solver.solve(raise_error=False)
        return result.x, result.info.status_val == osqp.SolverStatus.OSQP_SOLVED


class Qoco(_SparseNative):
    """QOCO (interior point)."""

    name = "qoco"

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import qoco

        P, q, E, e, G, h = member
        solver = qoco.QOCO()
        solver.setup(len(q), len(h), len(e), P, q, E, e, G, h, len(h), 0, np.zeros(0, dtype=np.int32))
        result = solver.solve()
        return np.array(result.x), "QOCO_SOLVED" in str(result.status)


class ProxQp(_SparseNative):
    """ProxQP, sparse, asked for 1e-9. (Its dense solver calls some members empty.)"""

    name = "proxqp"

    def one(self, member: Any) -> tuple[np.ndarray, bool]:
        import proxsuite

        P, q, E, e, G, h = member
        qp = proxsuite.proxqp.sparse.QP(len(q), len(e), len(h))
        qp.settings.eps_abs = 1e-9
        qp.init(P, q, E, e, G, np.full(len(h), -1e20), h)
        qp.solve()
        return np.array(qp.results.x), str(qp.results.info.status).endswith("PROXQP_SOLVED")


def condense(data: dict[str, np.ndarray], reference: np.ndarray, normal: np.ndarray, offset: np.ndarray) -> Any:
    """One member's matrices for DAQP from its stages' data (see `Instance`) and parameters."""
    n, x = len(reference), data["x0"]
    gain, free = np.zeros((n, NX, NU * n)), np.empty((n, NX))
    for t in range(n):
        A = data["A"][t]
        x = A @ x + data["c"][t]
        free[t] = x
        if t:
            np.matmul(A, gain[t - 1, :, : NU * t], out=gain[t, :, : NU * t])
        gain[t, :, NU * t : NU * (t + 1)] = data["B"][t]
    weight = np.array(WEIGHTS)
    flat = gain.reshape(NX * n, -1)
    pull = weight[:NX] * free
    pull[:, [0, 3]] -= weight[[0, 3]] * reference
    hessian = flat.T @ (np.tile(weight[:NX], n)[:, None] * flat)
    hessian[np.diag_indices(NU * n)] += np.tile(weight[NX:], n)
    bounded = list(BOUNDED)
    position = [0, 3]
    rows = np.concatenate([gain[:, bounded].reshape(-1, NU * n), (normal @ gain[:, position]).reshape(-1, NU * n)])
    value = free[:, bounded]
    room = offset - (normal @ free[:, position, None])[..., 0]
    u_lower, u_upper = data["z_lower"][:, NX:].ravel(), data["z_upper"][:, NX:].ravel()
    lower = [u_lower, (data["z_lower"][:, bounded] - value).ravel(), np.full(room.size, -BIG)]
    upper = [u_upper, (data["z_upper"][:, bounded] - value).ravel(), room.ravel()]
    upper_all = np.concatenate(upper)
    sense = np.zeros(len(upper_all), dtype=np.intc)
    return hessian, flat.T @ pull.ravel(), rows, upper_all, np.concatenate(lower), sense


def program_one_sided(program: DenseProgram) -> tuple[np.ndarray, np.ndarray]:
    """(G, h) of one member's finite sides, bounds included."""
    batched = DenseProgram(*(torch.from_numpy(getattr(program, f))[None] for f in program.__dataclass_fields__))
    return tuple(t[0].numpy() for t in batched.one_sided())  # type: ignore[return-value]
