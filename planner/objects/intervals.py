"""Intervals along and across the path that boxes take up, piece by piece along their length, between nodes too.

On plain arrays, with the derivatives in closed form: these are the largest arrays of the planner's front end.
Shapes: B boxes, P pieces, M modes, N nodes; the second and third axes of ``upper`` are (against, along) and (s, d), so
that its values are the intervals' lower ends mirrored and their upper ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PIECES = 3
"""Parts of equal length into which each box is cut."""
STRETCH_FLOOR = 0.1
"""Of 1 - d * curvature: near the centre of curvature the path's s runs away."""
_FRACTIONS = ((np.arange(PIECES, dtype=np.float32) + 0.5) / PIECES - 0.5).astype(np.float64)[:, None, None]
"""``[P, 1, 1]``: the pieces' places along the box, in lengths from its middle."""


class Boxes(NamedTuple):
    """Boxes in Frenet coordinates.

    d ``[B, 1, M, N]`` m; cos, sin: of the angle to the path; curvature (1/m): of the path there. length, width
    ``[B, 1, 1, 1]`` m.
    """

    d: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    curvature: np.ndarray
    length: np.ndarray
    width: np.ndarray


def place_pieces(boxes: Boxes, s: np.ndarray, extra: np.ndarray, upper: Float[np.ndarray, "B 2 2 P M N"]) -> None:
    """What the pieces take up at the nodes, into upper. s ``[B, 1, M, N]`` m; extra (m) widens them across.

    Pieces are placed along the box's axis with the bow of the path (second order in the offset).
    """
    d, cos, sin, curvature, length, width = boxes
    offset = length * _FRACTIONS
    middle_s = offset * (cos / np.maximum(1 - curvature * d, STRETCH_FLOOR))
    middle_s += s
    middle_d = offset * (-0.5 * curvature * cos * cos)
    middle_d += sin
    middle_d *= offset
    middle_d += d
    a, b = np.abs(cos), np.abs(sin)
    length, width = length / (2 * PIECES), width / 2
    half_s, half_d = length * a + width * b, length * b + width * a + extra
    for axis, (half, middle) in enumerate(((half_s, middle_s), (half_d, middle_d))):
        np.subtract(half, middle, out=upper[:, 0, axis])
        np.add(half, middle, out=upper[:, 1, axis])


def place_back(boxes: Boxes, grad: Float[np.ndarray, "B 2 2 P M N"]) -> tuple[np.ndarray, ...]:
    """Gradients of s, d, phi, curvature, extra ``[B, 1, M, N]``, length, width ``[B]``, from that of `place_pieces`."""
    d, cos, sin, curvature, length, width = boxes
    room = 1 - curvature * d
    stretch = 1 / np.maximum(room, STRETCH_FLOOR)
    # Middles, by the moments of their gradients over the pieces.
    middle = grad[:, 1] - grad[:, 0]  # [B, 2, P, M, N]
    g_s, g_d = middle.sum(2, keepdims=True).swapaxes(0, 1)
    first_s, first_d = (middle * _FRACTIONS).sum(2, keepdims=True).swapaxes(0, 1)
    second = (middle[:, 1] * _FRACTIONS**2).sum(1, keepdims=True)
    along = first_s * stretch
    g_length = cos * along + first_d * sin - length * curvature * cos * cos * second
    g_bow = -0.5 * length * length * second  # of curvature * cos^2
    g_cos = length * along + 2 * curvature * cos * g_bow
    g_sin = length * first_d
    g_room = np.where(room > STRETCH_FLOOR, -length * along * cos * stretch, 0.0)
    g_curvature = cos * cos * g_bow - d * g_room
    g_d = g_d - curvature * g_room
    # Half sizes.
    half_s, half_d = (grad[:, 0] + grad[:, 1]).sum(2, keepdims=True).swapaxes(0, 1)
    a, b = np.abs(cos), np.abs(sin)
    g_cos += np.sign(cos) * (length / (2 * PIECES) * half_s + width / 2 * half_d)
    g_sin += np.sign(sin) * (width / 2 * half_s + length / (2 * PIECES) * half_d)
    g_length += (a * half_s + b * half_d) / (2 * PIECES)
    g_width = (b * half_s + a * half_d) / 2
    g_phi = cos * g_sin - sin * g_cos
    return g_s, g_d, g_phi, g_curvature, half_d, g_length.sum((1, 2, 3)), g_width.sum((1, 2, 3))


def extend_intervals(upper: Float[np.ndarray, "B 2 2 P M N"], out: Float[np.ndarray, "B 2 2 P M N"]) -> None:
    """Largest value at each node and half way to its neighbours, as they move on straight lines, into out.

    Both arrays contiguous.
    """
    step, rise = _steps(upper), out.reshape(-1)
    np.maximum(step, 0.0, out=rise[:-1])
    rise[-1] = 0.0
    np.negative(step, out=step)
    np.maximum(rise[1:], step, out=rise[1:])
    rise *= 0.5
    out += upper


def extend_back(upper: Float[np.ndarray, "B 2 2 P M N"], grad: Float[np.ndarray, "B 2 2 P M N"]) -> None:
    """Turns the gradient of `extend_intervals` into that of its argument, in place. Both arrays contiguous.

    Equals share the gradient: those who stand have the mean of what moving either way would give.
    """
    step, flat, nodes = _steps(upper), grad.reshape(-1), upper.shape[-1]
    ahead, behind = np.zeros(len(flat)), np.zeros(len(flat))
    ahead[:-1] = step
    np.negative(step, out=behind[1:])
    ahead -= np.maximum(behind, 0.0)
    forward = np.heaviside(ahead, 0.5)
    backward = np.heaviside(behind, 0.5)
    backward *= 1 - forward
    # The first and last nodes have neighbours on one side only.
    forward[nodes - 1 :: nodes] = backward[::nodes] = 0.0
    flat *= 0.5
    forward *= flat
    backward *= flat
    flat *= 2.0
    flat -= forward
    flat -= backward
    flat[1:] += forward[:-1]
    flat[:-1] += backward[1:]


def _steps(upper: np.ndarray) -> np.ndarray:
    """From each value to the next in memory, zero from a last node on."""
    flat = upper.reshape(-1)
    step = flat[1:] - flat[:-1]
    step[upper.shape[-1] - 1 :: upper.shape[-1]] = 0.0
    return step
