"""Pairwise covering arrays: few combinations in which every pair of values of different factors occurs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def covering_pairs(factors: Sequence[Sequence[str]], seed: int = 0) -> tuple[list[tuple[str, ...]], int, int]:
    """Rows with one value of every factor, greedily (one row at a time, as AETG); pairs covered, pairs there are.

    Cohen, Dalal, Fredman, Patton, IEEE TSE 23 (1997). Deterministic for a seed. Raises ValueError for an empty factor.
    """
    if any(not factor for factor in factors):
        raise ValueError("covering_pairs: expected at least one value per factor")
    rng = np.random.default_rng(seed)
    missing = {
        frozenset([(i, a), (j, b)])
        for (i, left), (j, right) in itertools.combinations(enumerate(factors), 2)
        for a, b in itertools.product(left, right)
    }
    total, rows = len(missing), []
    while missing:
        candidates = [_greedy_row(factors, missing, rng) for _ in range(20)]
        best = max(candidates, key=lambda row: len(_pairs(row) & missing))
        missing -= _pairs(best)
        rows.append(best)
    return rows, total - len(missing), total


def _greedy_row(
    factors: Sequence[Sequence[str]], missing: set[frozenset[tuple[int, str]]], rng: np.random.Generator
) -> tuple[str, ...]:
    chosen: dict[int, str] = {}
    # Every row begins with a pair that is still missing, so that the search ends.
    for factor, value in sorted(sorted(missing, key=sorted)[int(rng.integers(len(missing)))]):
        chosen[factor] = value
    for factor in rng.permutation(len(factors)):
        if int(factor) in chosen:
            continue
        gains = [
            sum(frozenset([(int(factor), v), other]) in missing for other in chosen.items()) for v in factors[factor]
        ]
        best = np.flatnonzero(np.array(gains) == max(gains))
        chosen[int(factor)] = factors[factor][int(rng.choice(best))]
    return tuple(chosen[i] for i in range(len(factors)))


def _pairs(row: tuple[str, ...]) -> set[frozenset[tuple[int, str]]]:
    return {frozenset(pair) for pair in itertools.combinations(enumerate(row), 2)}
