"""The trained network that comes with the package: found by its name, or a message that says what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perception import checkpoint
from perception.checkpoint import CheckpointError, save_network, shipped
from perception.config import TINY
from perception.network import PerceptionNetwork
from perception.perceive import Perception


def test_weights_are_found_by_the_networks_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    torch.manual_seed(0)
    network = PerceptionNetwork(TINY)
    save_network(tmp_path / "tiny.safetensors", network, {})
    loaded = Perception.shipped().network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    with pytest.raises(CheckpointError, match=r"no trained 'base' network .* there: tiny"):
        shipped("base")
