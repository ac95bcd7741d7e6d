"""The benchmark problem over states and inputs, in sparse matrices with one pattern for all members.

    min 1/2 z'Pz + q'z   s.t.   E z = e,   G z <= h,      z = (z_1 .. z_T), z_t = (states, inputs).

The rows of [E; G] are kept as one matrix in CSR form: the dynamics, then the finite upper bounds, the finite lower
bounds and the half-planes.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from benchmarks.problem import NU, NX, NZ, WEIGHTS, Instance, Parameters


class SparseForm:
    """Pattern and constant numbers of an instance, made once; `values` fills in the parameters.

    size: variables. equations, rows: of E and of [E; G]. row_offsets, columns: the CSR pattern.
    """

    def __init__(self, instance: Instance, half_planes: int) -> None:
        b, n = instance.batch, instance.horizon
        self.instance, self.size, self.equations = instance, NZ * n, NX * n
        entries: list[tuple[int, int]] = []
        constant: list[Tensor] = []
        one = torch.ones(b, dtype=torch.float64)
        states = (instance.A != 0).any(0).any(0)
        inputs = (instance.B != 0).any(0).any(0)
        for t in range(n):
            for i in range(NX):
                row = NX * t + i
                entries.append((row, NZ * t + i))
                constant.append(one)
                for j in states[i].nonzero()[:, 0].tolist() if t else []:
                    entries.append((row, NZ * (t - 1) + j))
                    constant.append(-instance.A[:, t, i, j])
                for j in inputs[i].nonzero()[:, 0].tolist():
                    entries.append((row, NZ * t + NX + j))
                    constant.append(-instance.B[:, t, i, j])
        e = instance.c.clone()
        e[:, 0] += (instance.A[:, 0] @ instance.x0[..., None])[..., 0]
        right = [e.flatten(1)]
        row = self.equations
        for bound, sign in ((instance.z_upper, 1.0), (instance.z_lower, -1.0)):
            finite = torch.isfinite(bound).all(0).flatten().nonzero()[:, 0]
            for column in finite.tolist():
                entries.append((row, column))
                constant.append(sign * one)
                row += 1
            right.append(sign * bound.flatten(1)[:, finite])
        for t in range(n):
            for _ in range(half_planes):
                entries += [(row, NZ * t), (row, NZ * t + 3)]
                row += 1
        self.rows = row
        self._right = torch.cat(right, 1)
        place = np.array(entries)
        order = np.lexsort((place[:, 1], place[:, 0]))
        normals = torch.zeros(b, len(place) - len(constant), dtype=torch.float64)
        self._constant = torch.cat([torch.stack(constant, 1), normals], 1)[:, order].contiguous()
        self._normal_index = torch.from_numpy(np.argsort(order)[len(constant) :])
        self.columns = place[order, 1]
        self.row_offsets = np.concatenate([[0], np.cumsum(np.bincount(place[:, 0], minlength=row))])
        self.hessian = torch.tensor(WEIGHTS, dtype=torch.float64).repeat(n)
        self._reference_index = torch.tensor([0, 3]) + NZ * torch.arange(n)[:, None]

    def values(self, parameters: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        """(q ``[B, size]``, entries ``[B, nnz]`` of [E; G], right sides ``[B, rows]``), differentiable."""
        b = len(parameters.offset)
        weight = self.hessian[[0, 3]]
        q = torch.zeros(b, self.size, dtype=torch.float64)
        q = q.index_copy(1, self._reference_index.flatten(), -(weight * parameters.reference).flatten(1))
        entries = self._constant.index_copy(1, self._normal_index, parameters.normal.flatten(1))
        return q, entries, torch.cat([self._right, parameters.offset.flatten(1)], 1)

    def matrix(self, entries: np.ndarray) -> sparse.csr_matrix:
        """[E; G] of one member."""
        return sparse.csr_matrix((entries, self.columns, self.row_offsets), shape=(self.rows, self.size))

    def dense(self, entries: Tensor) -> Tensor:
        """[E; G] ``[B, rows, size]`` in full, for layers that take no sparse matrices; differentiable."""
        row = torch.from_numpy(np.repeat(np.arange(self.rows), np.diff(self.row_offsets)))
        place = row * self.size + torch.from_numpy(self.columns)
        full = torch.zeros(len(entries), self.rows * self.size, dtype=torch.float64)
        return full.index_copy(1, place, entries).reshape(len(entries), self.rows, self.size)

    def positions(self, z: Tensor) -> Tensor:
        """(s, d) ``[B, T, 2]`` of z ``[B, size]``."""
        return z.reshape(len(z), -1, NZ)[..., 0:4:3]

    def inputs(self, z: Tensor) -> Tensor:
        """``[B, T, 2]``."""
        return z.reshape(len(z), -1, NZ)[..., NX : NX + NU]
