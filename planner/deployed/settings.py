"""Settings of the deployed configuration."""

from __future__ import annotations

from dataclasses import dataclass

from planner.config import PlannerConfig
from planner.scene import VehicleParameters


@dataclass(frozen=True)
class ProcessConfig:
    """The planner's own process.

    patience (s): how long an answer is waited for where no deadline is enforced. hang_after (s): a process that has
    left a scene unanswered for so long is killed, and an answer that was sent longer ago is refused. start_timeout (s):
    for the first start. restarts: how often a process is replaced within a drive. probation: accepted plans in a row
    before a replacement's plans are driven.
    memory_max (MiB): the operating system refuses the process more data than this; growth_max: it is replaced when its
    resident memory has grown by this share since its first answers. block (MiB): room for one message.
    """

    patience: float = 30.0
    hang_after: float = 1.0
    start_timeout: float = 120.0
    restarts: int = 3
    probation: int = 5
    memory_max: int = 2048
    growth_max: float = 0.5
    block: int = 16


@dataclass(frozen=True)
class WorkerSettings:
    """What the process's planner is made from. memory_max: bytes of data it may allocate, 0 for no limit."""

    planner: PlannerConfig
    vehicle: VehicleParameters
    memory_max: int = 0
