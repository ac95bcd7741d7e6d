"""One run, one configuration: everything that decides the numbers of a run, and how to execute it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from eval.layers import LAYERS
from eval.simulation.observer_config import SOURCES, ObserverConfig
from eval.simulation.simulation_config import SimulationConfig
from eval.typed_config import ConfigError, from_mapping, parse_yaml, replaced, to_mapping, with_override
from planner.config import PlannerConfig
from planner.deployed import ProcessConfig
from planner.monitors import MonitorsConfig
from planner.supervise import SupervisorConfig

PLANNERS = ("dualdrive", "expert", "constant_velocity", "idm", "pdm_style")
TRAFFIC = ("log_replay", "idm")
NETWORK_MARK = "@network"
"""Ends the name under which a planner drives with learned perception, in every table and file."""


@dataclass(frozen=True)
class DataConfig:
    """What is driven.

    dataset: "generated" (towns and traffic drawn from a seed, no files needed) or "nuscenes".
    dataroot: folder of the nuScenes tables and maps; relative to the working directory.
    version: nuScenes table set, such as v1.0-mini or v1.0-trainval.
    scenes: nuScenes scene names; empty means all of the version.
    families: families of generated scenarios; empty means all.
    seeds: one generated scenario per family and seed.
    cache_dir: where read scenes are kept for the next time; empty means beside the user's other caches.
    missing_map: a scene without map expansion is an "error", or driven in a "corridor" along the recorded track.
    """

    dataset: str = "generated"
    dataroot: str = ""
    version: str = "v1.0-mini"
    scenes: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    cache_dir: str = ""
    missing_map: str = "error"

    def __post_init__(self) -> None:
        if self.missing_map not in ("error", "corridor"):
            raise ConfigError(f"data.missing_map: expected error or corridor, got {self.missing_map!r}")
        if self.dataset not in ("generated", "nuscenes"):
            raise ConfigError(f"data.dataset: expected generated or nuscenes, got {self.dataset!r}")
        if any(seed < 0 for seed in self.seeds):
            raise ConfigError(f"data.seeds: expected seeds of at least 0, got {min(self.seeds)}")


@dataclass(frozen=True)
class ExecutionConfig:
    """How the run is executed; nothing here changes a result, so a run may be resumed with other values.

    workers: processes side by side; 0 means one per available CPU.
    scenario_timeout_s: a scenario that runs longer is stopped and counted as failed (s).
    retries: how often a scenario is tried again after its process died (not after an exception).
    report: write report.html at the end.
    """

    workers: int = 0
    scenario_timeout_s: float = 3600.0
    retries: int = 1
    report: bool = True

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"execution.workers: expected 0 or more, got {self.workers}")
        if self.scenario_timeout_s <= 0:
            raise ConfigError(f"execution.scenario_timeout_s: expected more than 0, got {self.scenario_timeout_s}")


@dataclass(frozen=True)
class DriverConfig:
    """How the planner and its second channel are joined.

    enforce_deadline: hand the planner's measured computing time to the supervisor, which then drives the kept tail
    when a plan comes late. Off by default, because results would depend on the machine that computes them.
    picture: keep candidates, active rows and verdicts of every step for the report.
    layers: the safety layers that are on, from checker, tail, second_channel, monitors; each needs those before it, and
    none at all drives the planner's plans unchecked. For studies of what a layer is worth.
    deployed: run the planner in a process of its own, as on a vehicle; without enforce_deadline the drives are the same
    ones, bit by bit, as long as the process neither dies nor hangs. process: settings of that process.
    monitors: limits of the monitors; they act where driver.layers names them.
    """

    enforce_deadline: bool = False
    picture: bool = True
    layers: tuple[str, ...] = LAYERS
    deployed: bool = False
    process: ProcessConfig = field(default_factory=ProcessConfig)
    monitors: MonitorsConfig = field(default_factory=MonitorsConfig)

    def __post_init__(self) -> None:
        if self.layers != LAYERS[: len(self.layers)]:
            raise ConfigError(f"driver.layers: expected the first ones of {', '.join(LAYERS)}, got {self.layers}")


@dataclass(frozen=True)
class RunConfig:
    """Everything that a `dualdrive` command reads from a configuration file.

    data: what is driven.
    planners: drivers to compare, each from: dualdrive, expert, constant_velocity, idm, pdm_style. With @oracle or
    @network after the name, that perception shows the planner the world; without, `perception.source` does. (The expert
    replays the recording and looks at nothing.)
    traffic: how other road users move: log_replay (as recorded, NR) and idm (they react, R).
    driver: how our planner and its second channel are joined.
    planner: the convex planner.
    supervisor: the second channel: checker, fallback, deadline.
    perception: what the planners are shown of the world.
    simulation: vehicle, tracker, traffic of the closed loop.
    execution: how the run is executed.
    """

    data: DataConfig = field(default_factory=DataConfig)
    planners: tuple[str, ...] = PLANNERS
    traffic: tuple[str, ...] = TRAFFIC
    driver: DriverConfig = field(default_factory=DriverConfig)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    perception: ObserverConfig = field(default_factory=ObserverConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        bare = tuple(name.partition("@")[0] for name in self.planners)
        for name, chosen, known in (("planners", bare, PLANNERS), ("traffic", self.traffic, TRAFFIC)):
            if not chosen:
                raise ConfigError(f"{name}: expected at least one of {', '.join(known)}, got none")
            if unknown := [value for value in chosen if value not in known]:
                raise ConfigError(f"{name}: expected values from {', '.join(known)}, got {unknown[0]!r}")
        for planner in self.planners:
            source = planner.partition("@")[2]
            if source not in (SOURCES if "@" in planner else ("",)):
                raise ConfigError(f"planners: expected NAME@{' or NAME@'.join(SOURCES)}, got {planner!r}")
        for name, chosen in (("planners", self.drivers()), ("traffic", self.traffic)):
            if len(set(chosen)) < len(chosen):
                raise ConfigError(f"{name}: expected each value once, got {', '.join(chosen)}")

    def drivers(self) -> tuple[str, ...]:
        """The planners by the names under which they drive: with `NETWORK_MARK` where the network shows them the world,
        plain where the oracle does or nothing is looked at."""
        out = []
        for planner in self.planners:
            name, _, source = planner.partition("@")
            learned = (source or self.perception.source) == "network" and name != "expert"
            out.append(name + NETWORK_MARK if learned else name)
        return tuple(out)

    @property
    def learned(self) -> bool:
        """Whether any planner drives with the network."""
        return any(name.endswith(NETWORK_MARK) for name in self.drivers())

    def perceptions(self) -> dict[str, str]:
        """Per driver of `drivers`, what shows it the world, in words. Raises ConfigError without the network."""
        from eval.simulation.observers import describe

        network = describe(self.perception.network) if self.learned else ""
        told = {True: f"network: {network}", False: "oracle: true boxes, rule-based forecasts, HD map"}
        return {name: told[name.endswith(NETWORK_MARK)] for name in self.drivers()}

    def identity(self) -> str:
        """SHA-256 over everything that decides results: two runs may share a directory only if it is equal."""
        values = to_mapping(dataclasses.replace(self, execution=ExecutionConfig()))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """All settings, written out; `load_config` reads it back to an equal configuration."""
        return yaml.safe_dump(to_mapping(self), sort_keys=False)


def load_config(source: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """A configuration from a YAML file (or the name of a shipped one, or the defaults) and ``key=value`` overrides.

    Raises ConfigError: no such file, unreadable YAML, unknown key, wrong type.
    """
    config = from_mapping(RunConfig, _read(source)) if source is not None else RunConfig()
    for assignment in overrides:
        config = with_override(config, assignment)
    return config


def updated(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """`config` with nested values exchanged; raises ConfigError like `load_config`."""
    return replaced(config, values)


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("configs")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    try:
        if path.suffix in (".yaml", ".yml") or path.exists():
            return parse_yaml(path.read_text(), str(path))
        if str(source) in shipped_configs():
            return parse_yaml((resources.files("configs") / f"{source}.yaml").read_text(), f"configs/{source}.yaml")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    raise ConfigError(f"no configuration {str(source)!r}: give a YAML file or one of {', '.join(shipped_configs())}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from text: "20" means 0 to 19, "10-19" means 10 to 19, "3,7" means those two. Raises ConfigError."""
    try:
        if "," in text:
            seeds = tuple(int(part) for part in text.split(",") if part.strip())
        elif "-" in text:
            first, last = (int(part) for part in text.split("-"))
            seeds = tuple(range(first, last + 1))
        else:
            seeds = tuple(range(int(text)))
    except ValueError as error:
        raise ConfigError(f"seeds: expected a count (20), a range (10-19) or a list (3,7), got {text!r}") from error
    if not seeds:
        raise ConfigError(f"seeds: {text!r} names no seed")
    return seeds
