"""qpax: an interior-point method in JAX, over a batch by `vmap`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.condensed import Condenser
from benchmarks.problem import NU, Instance, Parameters
from benchmarks.solvers.base import Answer, Solver


class Qpax(Solver):
    """Compiled once for the batch; the chain from the parameters is JAX's too."""

    name = "qpax"

    def __init__(self, batch: int, horizon: int, half_planes: int) -> None:
        super().__init__(batch, horizon, half_planes)
        import jax
        import qpax

        jax.config.update("jax_enable_x64", True)
        self.jnp = jax.numpy

        def member(parameters, data):  # type: ignore[no-untyped-def]
            jnp = jax.numpy
            reference, normal, offset = parameters
            gain, free, hessian, base_q, rows, bounds, weight = data
            flat = gain.reshape(-1, gain.shape[-1])
            q = base_q - flat.T @ (weight * reference).reshape(-1)
            planes = (normal @ gain).reshape(-1, gain.shape[-1])
            right = (offset - (normal @ free[..., None])[..., 0]).reshape(-1)
            none = jnp.zeros((0, len(q)))
            G, h = jnp.concatenate([rows, planes]), jnp.concatenate([bounds, right])
            u = qpax.solve_qp_primal(hessian, q, none, jnp.zeros(0), G, h, solver_tol=1e-8)
            return u, free + (flat @ u).reshape(free.shape)

        def loss(parameters, data, cotangent):  # type: ignore[no-untyped-def]
            u, position = jax.vmap(member)(parameters, data)
            return (cotangent * position).sum(), (u, position)

        self.solve = jax.jit(jax.vmap(member))
        self.pull = jax.jit(jax.grad(loss, has_aux=True))

    def bind(self, instance: Instance) -> Any:
        maps = Condenser(instance)
        eye = torch.eye(maps.P.shape[1], dtype=torch.float64).expand_as(maps.P)
        rows = torch.cat([eye, -eye, maps.state_rows, -maps.state_rows], 1)
        bounds = torch.cat([maps.u_upper, -maps.u_lower, maps.state_upper, -maps.state_lower], 1)
        weight = maps.weight[[0, 3]].expand(len(eye), -1)
        data = (maps.position_gain, maps.position_free, maps.P, maps.base_q, rows, bounds, weight)
        return tuple(self.jnp.asarray(t.numpy()) for t in data)

    def prepare(self, bound: Any, parameters: Parameters) -> Any:
        return tuple(self.jnp.asarray(t.detach().numpy()) for t in parameters.tensors())

    def forward(self, bound: Any, prepared: Any) -> Answer:
        return self._answer(self.solve(prepared, bound))

    def gradient(self, bound: Any, prepared: Any, cotangent: Tensor) -> tuple[Answer, tuple[Tensor, ...]]:
        gradient, result = self.pull(prepared, bound, self.jnp.asarray(cotangent.numpy()))
        return self._answer(result), tuple(_torch(g) for g in gradient)

    def _answer(self, result: Any) -> Answer:
        u = _torch(result[0])
        return Answer(u.reshape(len(u), -1, NU), _torch(result[1]))


def _torch(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value))
