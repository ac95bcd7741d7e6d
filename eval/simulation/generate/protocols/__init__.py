"""Scenes of regulation and rating protocols on a proving ground: exact parameters, nothing drawn, nothing dressed.

A cell of a protocol is named by its family and its numbers; `protocol_scene` builds its recording again from those.
"""

from __future__ import annotations

from collections.abc import Callable

from eval.simulation.generate.protocols import ncap, r157
from perception.recording import Recording

BUILDERS: dict[str, Callable[..., Recording]] = {**r157.BUILDERS, **ncap.BUILDERS}


def cell_name(family: str, parameters: dict[str, float]) -> str:
    """The name of a cell: family and parameters, safe in file names and links."""
    return "_".join([family, *(f"{key}{value:g}" for key, value in parameters.items())])


def protocol_scene(family: str, parameters: dict[str, float]) -> Recording:
    """The recording of one cell. Raises ValueError for an unknown family or parameters that cannot be built."""
    if family not in BUILDERS:
        raise ValueError(f"family: expected one of {', '.join(BUILDERS)}, got {family!r}")
    return BUILDERS[family](cell_name(family, parameters), **parameters)
