"""Generated towns and traffic: `generate(family, seed)` returns a recording to drive, without any data set."""

from __future__ import annotations

import difflib
import zlib

import numpy as np

from eval.simulation.generate.families import FAMILIES
from eval.simulation.generate.record import Rejected, record
from perception.recording import Recording

ATTEMPTS = 60

__all__ = ["FAMILIES", "generate"]


def generate(family: str, seed: int) -> Recording:
    """One scene of the family. The same family and seed give the same arrays, bit by bit.

    Draws that do not make a valid scene (the reference driver cannot drive it cleanly) are
    thrown away and drawn again from the same seed; `metadata["attempt"]` counts them.
    Raises ValueError for an unknown family or a negative seed.
    """
    if family not in FAMILIES:
        nearest = difflib.get_close_matches(family, FAMILIES, n=1, cutoff=0.0)
        raise ValueError(f"family: unknown name {family!r}; the nearest valid name is {nearest[0]!r}")
    if seed < 0:
        raise ValueError(f"seed: expected a number >= 0, got {seed}")
    name, reasons = f"{family}_{seed:04d}", []
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([zlib.crc32(family.encode()), seed, attempt])
        try:
            recording = record(FAMILIES[family](rng, name), name)
        except Rejected as reason:
            reasons.append(str(reason))
            continue
        recording.metadata.update(family=family, seed=seed, attempt=attempt)
        return recording
    raise RuntimeError(f"{name}: no valid scene in {ATTEMPTS} draws; last reason: {reasons[-1]}")
