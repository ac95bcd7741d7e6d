"""Differentiable solvers for torch. Each module of a peer is imported only when its solver is built."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.condensed import Condenser
from benchmarks.problem import NU, Instance, Parameters
from benchmarks.solvers.base import Answer, Solver
from benchmarks.sparse_form import SparseForm


class _Dense(Solver):
    """Solvers that take the condensed problem in dense matrices."""

    def bind(self, instance: Instance) -> Condenser:
        return Condenser(instance)

    def forward(self, bound: Condenser, prepared: Parameters) -> Answer:
        u = self.solve(bound, prepared)
        return Answer(u.reshape(len(u), -1, NU), bound.positions(u))

    def solve(self, bound: Condenser, prepared: Parameters) -> Tensor:
        raise NotImplementedError


class Qpth(_Dense):
    """qpth: a batched interior-point method in torch operations (Amos and Kolter 2017)."""

    name = "qpth"

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        from qpth.qp import QPFunction

        self.layer = QPFunction(verbose=-1, check_Q_spd=False)

    def solve(self, bound: Condenser, prepared: Parameters) -> Tensor:
        dense = bound.program(prepared)
        none = torch.empty(0, dtype=torch.float64)
        return self.layer(dense.P, dense.q, *dense.one_sided(), none, none)


class Proxsuite(Solver):
    """ProxQP's torch layer: dense matrices, looped inside. On the condensed problem it calls some members empty."""

    name = "proxsuite"

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        from proxsuite.torch.qplayer import QPFunction

        self.layer = QPFunction()

    def bind(self, instance: Instance) -> SparseForm:
        return SparseForm(instance, self.half_planes)

    def forward(self, bound: SparseForm, prepared: Parameters) -> Answer:
        q, entries, right = bound.values(prepared)
        matrix, k = bound.dense(entries), bound.equations
        hessian = torch.diag(bound.hessian).expand(len(q), -1, -1)
        lower = torch.full_like(right[:, k:], -1e20)
        z = self.layer(hessian, q, matrix[:, :k], right[:, :k], matrix[:, k:], lower, right[:, k:])[0]
        return Answer(bound.inputs(z), bound.positions(z))


class OsqpLayer(Solver):
    """osqp.nn.torch on the sparse form, at its default tolerance of 1e-5."""

    name = "osqp.nn"

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        import osqp.nn.torch

        self.module: Any = osqp.nn.torch

    def bind(self, instance: Instance) -> Any:
        import numpy as np
        from scipy import sparse

        form = SparseForm(instance, self.half_planes)
        # The layer wants the entries column by column.
        place = sparse.csr_matrix((np.arange(len(form.columns)), form.columns, form.row_offsets)).tocsc()
        place.sort_indices()
        columns = np.repeat(np.arange(form.size), np.diff(place.indptr))
        diagonal = np.arange(form.size)
        layer = self.module.OSQP(
            (diagonal, diagonal), (form.size, form.size), (place.indices, columns), (form.rows, form.size)
        )
        return form, layer, torch.from_numpy(place.data)

    def forward(self, bound: Any, prepared: Parameters) -> Answer:
        form, layer, order = bound
        q, entries, right = form.values(prepared)
        left = torch.cat([right[:, : form.equations], torch.full_like(right[:, form.equations :], -1e20)], 1)
        hessian = form.hessian.expand(len(q), -1)
        z = layer(hessian, q, entries[:, order], left, right)
        return Answer(form.inputs(z), form.positions(z))


class Moreau(Solver):
    """moreau on states and inputs, with its interior-point method and its own choice of factorisation."""

    name = "moreau"
    algorithm = "ipm"

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        import moreau
        import moreau.torch

        self.moreau = moreau
        self.solver: Any = None

    def build(self, n: int, rows: int, equations: int, hessian: Any, pattern: Any) -> Any:
        """A solver object for one pattern: hessian and pattern are (row_offsets, columns)."""
        settings = self.moreau.Settings(solver=self.algorithm, device="cpu", batch_size=self.batch, enable_grad=True)
        return self.moreau.torch.Solver(
            n, rows, *(torch.as_tensor(t) for t in (*hessian, *pattern)),
            cones=self.moreau.Cones(num_zero_cones=equations, num_nonneg_cones=rows - equations), settings=settings,
        )  # fmt: skip

    def bind(self, instance: Instance) -> Any:
        form = SparseForm(instance, self.half_planes)
        if self.solver is None:
            diagonal = torch.arange(form.size)
            self.solver = self.build(
                form.size, form.rows, form.equations, (torch.arange(form.size + 1), diagonal),
                (form.row_offsets, form.columns),
            )  # fmt: skip
        return form

    def forward(self, bound: Any, prepared: Parameters) -> Answer:
        q, entries, right = bound.values(prepared)
        z = self.solver.solve(bound.hessian.expand(len(q), -1).contiguous(), entries, q, right).x
        return Answer(bound.inputs(z), bound.positions(z))

    def report(self, bound: Any, answer: Answer) -> Answer:
        status = self.solver.info.status
        status = status if isinstance(status, list) else [status]
        answer.refused = torch.tensor([s != self.moreau.SolverStatus.Solved for s in status])
        return answer


class MoreauCondensed(Moreau):
    """moreau on the inputs alone, with its interior-point method."""

    name = "moreau-condensed"

    def bind(self, instance: Instance) -> Any:
        bound = Condenser(instance)
        n = bound.P.shape[1]
        rows = 2 * n + 2 * bound.state_rows.shape[1] + self.half_planes * self.horizon
        if self.solver is None:
            full = lambda k: (torch.arange(k + 1) * n, torch.arange(n).repeat(k))  # noqa: E731
            self.solver = self.build(n, rows, 0, full(n), full(rows))
        return bound

    def forward(self, bound: Any, prepared: Parameters) -> Answer:
        dense = bound.program(prepared)
        G, h = dense.one_sided()
        u = self.solver.solve(dense.P.flatten(1), G.flatten(1), dense.q, h).x
        return Answer(u.reshape(len(u), -1, NU), bound.positions(u))


class MoreauActiveSet(MoreauCondensed):
    """moreau on the inputs alone, with its active-set method."""

    name, algorithm = "moreau-active-set", "active_set"
