"""Fixtures and small builders shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent


def find_nuscenes() -> Path | None:
    """The nuScenes root: $DUALDRIVE_NUSCENES, else shared/data/nuscenes beside the repository."""
    candidates = [os.environ.get("DUALDRIVE_NUSCENES"), REPOSITORY.parent / "shared" / "data" / "nuscenes"]
    for candidate in candidates:
        if candidate and (Path(candidate) / "v1.0-mini" / "scene.json").exists():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def nuscenes_root() -> Path:
    """Root with the v1.0-mini tables; the test is skipped where there is none."""
    root = find_nuscenes()
    if root is None:
        pytest.skip("no nuScenes tables: set DUALDRIVE_NUSCENES to a root that holds v1.0-mini")
    return root


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator; the same draws in every run."""
    return np.random.default_rng(0)
