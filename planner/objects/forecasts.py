"""Obstacles seen forecast by forecast, one mode of one agent each, as plain arrays for discrete choices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from planner.objects.obstacles import Obstacles


@dataclass
class Forecasts:
    """One mode of one agent each: U of them; scene, agent, mode ``[U]``, ascending.

    s_lo, s_hi, d_lo, d_hi ``[P, U, N]`` m. turn ``[U, N]`` rad: magnitude of the relative heading. active ``[U, N]``.
    """

    scene: np.ndarray
    agent: np.ndarray
    mode: np.ndarray
    s_lo: np.ndarray
    s_hi: np.ndarray
    d_lo: np.ndarray
    d_hi: np.ndarray
    turn: np.ndarray
    active: np.ndarray

    @classmethod
    def of(cls, obstacles: Obstacles, scene: np.ndarray, agent: np.ndarray, mode: np.ndarray) -> Forecasts:
        agents, modes, nodes, _ = obstacles.s_lo.shape[1:]
        index = (scene * agents + agent) * modes + mode
        piece = piece_index(obstacles, index) // nodes
        ends = (obstacles.s_lo, obstacles.s_hi, obstacles.d_lo, obstacles.d_hi)
        s_lo, s_hi, d_lo, d_hi = (array(flat_pieces(x)).reshape(-1, nodes).take(piece, 0) for x in ends)
        take = lambda x: array(x).reshape(-1, nodes).take(index, 0)  # noqa: E731
        turn, active = np.abs(take(obstacles.relative_heading)), take(obstacles.active)
        return cls(scene, agent, mode, s_lo, s_hi, d_lo, d_hi, turn, active)


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's values, without history."""
    return tensor.detach().cpu().numpy()


def flat_pieces(interval: Float[Tensor, "S A M N P"]) -> Tensor:
    """Interval ends of Obstacles as one axis, in the order S, A, P, M, N, in which they are stored."""
    return interval.permute(0, 1, 4, 2, 3).reshape(-1)


def piece_index(
    obstacles: Obstacles, forecast: Int[np.ndarray, "*shape"], node: Int[np.ndarray, "*shape"] | int = 0
) -> np.ndarray:
    """Where in `flat_pieces` the pieces of forecasts stand, ``[P, *shape]``.

    A forecast is given as (scene * A + agent) * M + mode.
    """
    modes, nodes, pieces = obstacles.s_lo.shape[2:]
    first = (forecast // modes * pieces * modes + forecast % modes) * nodes + node
    return first + np.arange(pieces).reshape(-1, *[1] * first.ndim) * modes * nodes
