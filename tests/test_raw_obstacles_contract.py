"""The second channel's contract: what the door lets in, and what survives stacking and the disk."""

from __future__ import annotations

import math

import pytest
import torch

from planner.scene import RawObstacles, RawStatus


def obstacles(count: int = 2, **changes: object) -> RawObstacles:
    ones = torch.ones(count, dtype=torch.float64)
    known = torch.arange(count) % 2 == 0
    raw = RawObstacles(
        centre=torch.arange(2 * count, dtype=torch.float64).reshape(count, 2),
        yaw=0.1 * ones,
        length=2 * ones,
        width=ones,
        velocity=known[:, None] * torch.tensor([[3.0, -1.0]], dtype=torch.float64),
        velocity_known=known,
        observed=torch.full((count,), 3),
        valid=torch.ones(count, dtype=torch.bool),
        sight=torch.full((8,), 30.0, dtype=torch.float64),
        sight_valid=torch.ones(8, dtype=torch.bool),
        time_us=torch.tensor(1_000_000),
    )
    return raw.replace(**changes)


def test_sound_obstacles_pass_and_so_does_nothing() -> None:
    assert obstacles().validate().status is RawStatus.OK
    nothing = RawObstacles.nothing(7, sectors=12).validate()
    assert nothing.status is RawStatus.ABSENT
    assert not nothing.sight_valid.any()


def test_the_first_sector_looks_straight_ahead_and_they_go_round_to_the_left() -> None:
    azimuth = obstacles().azimuth
    assert azimuth[0] == 0
    assert azimuth[2] == pytest.approx(math.pi / 2)
    assert azimuth[4] == pytest.approx(math.pi)
    assert azimuth[6] == pytest.approx(-math.pi / 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"length": torch.tensor([1.0, 0.0], dtype=torch.float64)}, "positive length"),
        ({"width": torch.tensor([1.0, -1.0], dtype=torch.float64)}, "positive length"),
        ({"centre": torch.full((2, 2), torch.nan, dtype=torch.float64)}, "finite"),
        ({"centre": torch.zeros(3, 2, dtype=torch.float64)}, "expected shape"),
        ({"observed": torch.tensor([1, 0])}, "at least 1"),
        ({"velocity": torch.ones(2, 2, dtype=torch.float64)}, "velocity_known"),
        ({"sight": torch.full((8,), -1.0, dtype=torch.float64)}, "at least 0 m"),
        ({"status": RawStatus.FROZEN, "sight_valid": torch.zeros(8, dtype=torch.bool)}, "sentence"),
        ({"status": RawStatus.FROZEN, "reason": "same content"}, "no valid sector"),
    ],
)
def test_the_door_refuses(changes: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        obstacles(**changes).validate()


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="fine"):
        obstacles(status="fine")


def test_padding_may_hold_anything_finite() -> None:
    obstacles(valid=torch.tensor([True, False]), length=torch.tensor([1.0, 0.0], dtype=torch.float64)).validate()


def test_a_batch_pads_obstacles_but_never_sectors() -> None:
    both = RawObstacles.stack([obstacles(2), obstacles(4, status=RawStatus.STALE, reason="old")]).validate()
    assert both.centre.shape == (2, 4, 2)
    assert both.valid.sum(-1).tolist() == [2, 4]
    assert both.status == (RawStatus.OK, RawStatus.STALE)
    with pytest.raises(ValueError, match="sectors"):
        RawObstacles.stack([obstacles(), RawObstacles.nothing(0, sectors=4)])


def test_the_disk_gives_back_the_same(tmp_path) -> None:
    raw = obstacles(3, status=RawStatus.STALE, reason="0.4 s old", sight_valid=torch.zeros(8, dtype=torch.bool))
    for name in ("raw.json", "raw.npz"):
        again = RawObstacles.load(raw.save(tmp_path / name))
        assert again.status is RawStatus.STALE
        assert again.reason == raw.reason
        assert torch.equal(again.velocity, raw.velocity)
