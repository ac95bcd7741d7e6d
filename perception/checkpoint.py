"""Checkpoints: safetensors files that carry everything needed to use the network again, and no code.

The header's entry `dualdrive` is JSON: schema, configuration with preprocessing, version, and what the writer adds
(step, seed, data hash, metrics, calibration).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perception.config import PerceptionConfig, Preprocessing
from perception.network import PerceptionNetwork, channels_last

WEIGHTS = Path(__file__).parent / "weights"
SCHEMA = 2
"""Version of the header. A reader refuses any other."""
_ENTRY = "dualdrive"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file, what was expected and what came."""


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and facts (JSON values); the file appears under its name only when it is complete and on disk.

    Raises ImportError where safetensors is not installed.
    """
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(plain, partial, {_ENTRY: json.dumps({"schema": SCHEMA, "version": _version(), **facts})})
    partial.chmod(0o644)  # safetensors leaves it readable for its owner alone
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `write_tensors`. Raises CheckpointError: no such file, damaged, not ours, another schema."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(_ENTRY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        found = facts.get("schema") if isinstance(facts, dict) else None
        raise CheckpointError(f"{path}: expected a checkpoint of schema {SCHEMA}, got {found}")
    return tensors, facts


def config_facts(config: PerceptionConfig) -> dict[str, Any]:
    """The configuration as JSON values, with the hash of its preprocessing."""
    return {"config": asdict(config), "preprocessing": config.preprocessing.hash}


def config_from(facts: dict[str, Any], path: Path) -> PerceptionConfig:
    """Inverse of `config_facts`. Raises CheckpointError for settings that this version does not know."""
    try:
        values = _tuples(facts["config"])
        config = PerceptionConfig(**{**values, "preprocessing": Preprocessing(**values["preprocessing"])})
        config.validate()
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the configuration inside does not fit this version: {error}") from error
    if config.preprocessing.hash != facts.get("preprocessing"):
        raise CheckpointError(f"{path}: the preprocessing inside is not the one it was trained with")
    return config


def save_network(path: Path, network: PerceptionNetwork, facts: dict[str, Any]) -> None:
    """A network to use. facts: how it came about, and its metrics."""
    write_tensors(path, dict(network.state_dict()), {**config_facts(network.config), **facts})


def load_network(path: str | Path, device: torch.device | str = "cpu") -> tuple[PerceptionNetwork, dict[str, Any]]:
    """The network, ready to be asked, and the facts beside it. Raises CheckpointError."""
    tensors, facts = read_tensors(Path(path))
    network = PerceptionNetwork(config_from(facts, Path(path)))
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    if shapes != (given := {name: value.shape for name, value in tensors.items()}):
        wrong = [n for n in dict.fromkeys([*shapes, *given]) if shapes.get(n) != given.get(n)]
        raise CheckpointError(f"{path}: its tensors do not fit its configuration: {', '.join(wrong[:3])} ...")
    if broken := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise CheckpointError(f"{path}: expected finite weights, got NaN or infinite ones in {broken[0]}")
    network.load_state_dict(tensors)
    return channels_last(network.to(device)).eval().requires_grad_(False), facts


def checkpoint_hash(path: Path) -> str:
    """SHA-256 of the file: says which network it was. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped(size: str = "tiny") -> Path:
    """The trained network that comes with this installation. Raises CheckpointError where there is none."""
    path = WEIGHTS / f"{size}.safetensors"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))) or "none"
        raise CheckpointError(f"no trained {size!r} network in this installation ({path}); there: {there}")
    return path


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(v) for key, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _version() -> str:
    try:
        return metadata.version("dualdrive")
    except metadata.PackageNotFoundError:
        return "unknown"
