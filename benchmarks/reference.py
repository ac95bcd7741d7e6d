"""The reference answers: optima to about 1e-11, and gradients by central differences of them.

DAQP proposes the active rows; the equality-constrained problem over states and inputs is then solved by a sparse LU
factorisation with refinement, and rows enter and leave until no limit is violated and no multiplier is negative.
Nothing here shares code with the solvers under test except the statement of the problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import daqp
import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from benchmarks.condensed import Condenser, DenseProgram
from benchmarks.problem import NU, NZ, Instance, Parameters, roll_out
from benchmarks.sparse_form import SparseForm

TOLERANCE = 1e-11
"""Largest violation and negative multiplier left, over 1 + |limit| and over the largest multiplier."""


class NoOptimumError(RuntimeError):
    """The member has no admissible point, or the active rows did not settle."""


@dataclass
class Optimum:
    """z ``[T, 8]``; active ``[rows]`` bool over the inequality rows; multiplier ``[rows]``.

    decided: smallest of the active rows' multipliers and the other rows' slacks, both scaled; near zero the
    derivative is one-sided.
    """

    z: np.ndarray
    active: np.ndarray
    multiplier: np.ndarray
    decided: float


class Reference:
    """Tight optima of the members of one instance."""

    def __init__(self, instance: Instance, parameters: Parameters) -> None:
        self.instance, self.parameters = instance, parameters
        self.form = SparseForm(instance, parameters.offset.shape[2])
        self.condenser = Condenser(instance)

    def solve(self) -> list[Optimum]:
        """One per member. Raises NoOptimumError."""
        dense = self.condenser.program(self.parameters).numpy()
        numbers = [t.numpy() for t in self.form.values(self.parameters)]
        return [self._polish(*(v[i] for v in numbers), self._propose(dense, i, numbers)) for i in range(len(dense.q))]

    def _propose(self, dense: DenseProgram, member: int, numbers: list[np.ndarray]) -> np.ndarray:
        """Active rows by DAQP, as a mask over the inequality rows of the sparse form."""
        lower = np.concatenate([dense.u_lower[member], dense.lower[member]])
        upper = np.concatenate([dense.u_upper[member], dense.upper[member]])
        u, _, flag, info = daqp.solve(
            dense.P[member], dense.q[member], dense.G[member], np.minimum(upper, 1e30), np.maximum(lower, -1e30),
            np.zeros(len(upper), dtype=np.intc), primal_tol=1e-9, dual_tol=1e-11, iter_limit=5000,
        )  # fmt: skip
        if flag not in (1, 2):
            raise NoOptimumError(f"DAQP ended with {flag} at member {member}")
        inputs = torch.from_numpy(np.asarray(u)).reshape(1, -1, NU)
        states = roll_out(self.instance.members([member]), inputs)
        z = torch.cat([states, inputs], -1).flatten().numpy()
        matrix = self.form.matrix(numbers[1][member])[self.form.equations :]
        slack = numbers[2][member][self.form.equations :] - matrix @ z
        # A row counts where DAQP holds it with a multiplier: the two forms order rows differently, so compare slacks.
        held = np.sort(np.abs(np.asarray(info["lam"])))[::-1]
        count = int((held > 1e-9 * max(1.0, held[0])).sum())
        active = np.zeros(len(slack), dtype=bool)
        active[np.argsort(slack)[:count]] = True
        return active & (slack < 1e-5)

    def _polish(self, q: np.ndarray, entries: np.ndarray, right: np.ndarray, active: np.ndarray) -> Optimum:
        eq = self.form.equations
        matrix = self.form.matrix(entries)
        E, G, h = matrix[:eq], matrix[eq:], right[eq:]
        scale = 1 + np.abs(h)
        seen: set[bytes] = set()
        for _ in range(200):
            z, multiplier = self._equality_solve(q, E, right[:eq], G, h, active)
            slack = (h - G @ z) / scale
            weight = multiplier * scale / max(1.0, float(np.abs(multiplier * scale).max(initial=0.0)))
            enter, leave = ~active & (slack < -TOLERANCE), active & (weight < -TOLERANCE)
            if not enter.any() and not leave.any():
                decided = min(float(slack[~active].min()), float(weight[active].min(initial=1.0)))
                return Optimum(z.reshape(-1, NZ), active, multiplier, decided)
            if active.tobytes() in seen:  # cycling: change the single worst row only
                worst = np.where(enter, -slack, np.where(leave, -weight, 0.0)).argmax()
                active = active.copy()
                active[worst] = ~active[worst]
                continue
            seen.add(active.tobytes())
            active = (active | enter) & ~leave
        raise NoOptimumError("the active rows did not settle")

    def _equality_solve(self, q, E, e, G, h, active) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
        n, eq = self.form.size, self.form.equations
        held = np.flatnonzero(active)
        rows = sparse.vstack([E, G[held]])
        k = rows.shape[0]
        kkt = sparse.bmat([[sparse.diags(self.form.hessian.numpy()), rows.T], [rows, None]], format="csc")
        # The shift makes the factors exist where active rows depend on each other; refinement removes its effect.
        shift = sparse.diags(np.concatenate([np.full(n, 1e-11), np.full(k, -1e-11)]))
        factor = splu((kkt + shift).tocsc())
        b = np.concatenate([-q, e, h[held]])
        x = factor.solve(b)
        for _ in range(6):
            x = x + factor.solve(b - kkt @ x)
        multiplier = np.zeros(len(h))
        multiplier[held] = x[n + eq :]
        return x[:n], multiplier

    def positions(self, optima: list[Optimum]) -> Tensor:
        """(s, d) ``[B, T, 2]``."""
        return torch.from_numpy(np.stack([o.z[:, [0, 3]] for o in optima]))

    def value_at(self, member: int, parameters: Parameters, start: np.ndarray, weight: np.ndarray) -> float:
        """The loss of one member at other parameters ``[1, ...]``, from the active rows of a neighbour."""
        q, entries, right = (t.numpy()[0] for t in self._member_form(member).values(parameters))
        return float((self._polish(q, entries, right, start).z[:, [0, 3]] * weight).sum())

    def _member_form(self, member: int) -> SparseForm:
        form = object.__new__(SparseForm)
        form.__dict__.update(self.form.__dict__)
        form._constant = self.form._constant[member : member + 1]
        form._right = self.form._right[member : member + 1]
        return form
