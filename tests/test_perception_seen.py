"""What perception said, kept in files: round trip, refusals, what the tracker is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from perception_samples import random_agents, scene_of

from eval.perception.run import Seen, _Listener, answers_path, read_seen, write_seen
from perception.nuscenes_tables import DatasetError
from perception.track import Tracker


def seen_of(seed: int = 0, count: int = 4) -> Seen:
    """The scene of `perception_samples` as if it had been seen exactly so."""
    scene = scene_of(random_agents(np.random.default_rng(seed), count))
    return Seen(
        "scene", f"token{seed}", 1_700_000_000_000_000 + seed * 500_000, np.array([1.0, 2.0, 0.3]), scene.agents,
        scene.futures, scene.agents, scene.futures, scene.map, 0.06, ("CAM_BACK: file absent",),
    )  # fmt: skip


def test_answers_survive_their_file(tmp_path: Path) -> None:
    seen = [seen_of(0), seen_of(1, 1), seen_of(2, 7)]
    seen[1].detections, seen[1].detected_futures = seen[0].detections, seen[0].detected_futures
    again = read_seen(write_seen(tmp_path / "new" / "a.npz", seen))
    assert not list(tmp_path.rglob("*.tmp"))
    for a, b in zip(seen, again, strict=True):
        for name in ("scene", "token", "time_us", "cycle_s", "missing"):
            assert getattr(a, name) == getattr(b, name)
        np.testing.assert_array_equal(a.global_from_ego, b.global_from_ego)
        for name in ("detections", "detected_futures", "tracks", "futures", "map"):
            for key, value in getattr(a, name).to_arrays().items():
                np.testing.assert_allclose(getattr(b, name).to_arrays()[key], value, atol=1e-5)


def test_futures_of_other_agents_are_refused() -> None:
    seen = seen_of()
    with pytest.raises(ValueError, match=r"detected_futures: expected 2 agents as in detections, got 4"):
        replace(seen, detections=seen.detections.apply(lambda t: t[:2])).validate()
    with pytest.raises(ValueError, match="global_from_ego"):
        replace(seen, global_from_ego=np.array([0.0, 0.0, np.nan])).validate()


def test_a_file_of_another_schema_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    path = write_seen(tmp_path / "a.npz", [seen_of()])
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "schema": np.array(0)})
    with pytest.raises(DatasetError, match="expected schema 1, got 0"):
        read_seen(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[: len(whole) // 2], whole[:-1], b"no zip"):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"a\.npz cannot be read"):
            read_seen(path)


def test_the_tracker_is_given_what_is_certain_and_everything_is_kept() -> None:
    scene = scene_of(random_agents(np.random.default_rng(3), 5))
    doubt = scene.agents.replace(existence=torch.tensor([0.9, 0.05, 0.1, 0.02, 0.5], dtype=torch.float64))
    plain, listener = Tracker(), _Listener(Tracker(), 0.1)
    pose = torch.zeros(3, dtype=torch.float64)
    told, _ = listener.update(doubt, scene.futures, pose, 0)
    assert listener.heard is not None
    assert listener.heard[0].existence.tolist() == doubt.existence.tolist()
    kept = doubt.replace(valid=doubt.existence >= 0.1)
    expected, _ = plain.update(kept, scene.futures, pose, 0)
    for key, value in expected.to_arrays().items():
        np.testing.assert_array_equal(told.to_arrays()[key], value)
    listener.reset()
    assert not listener.tracker._tracks


def test_another_checkpoint_or_data_set_is_another_file(tmp_path: Path) -> None:
    paths = {
        answers_path(tmp_path, root, version, "scene-1", checkpoint)
        for root in ("a", "b")
        for version in ("v1", "v2")
        for checkpoint in ("1", "2")
    }
    assert len(paths) == 8
    assert answers_path(tmp_path, "a", "v1", "scene-1", "1") in paths
