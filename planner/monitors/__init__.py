"""Monitors: what the supervisor is told about its own inputs and outputs. Import `planner.scene` alone."""

from planner.monitors.bank import Monitors, MonitorsConfig
from planner.monitors.content import ContentMonitor, RawChannelMonitor
from planner.monitors.coverage import CoverageMonitor
from planner.monitors.deviation import DeviationMonitor
from planner.monitors.disagreement import DisagreementMonitor
from planner.monitors.grip import GripMonitor
from planner.monitors.localisation import LocalisationMonitor
from planner.monitors.map_place import MapMonitor
from planner.monitors.verdict import MonitorLevel, MonitorVerdict

__all__ = [
    "ContentMonitor",
    "CoverageMonitor",
    "DeviationMonitor",
    "DisagreementMonitor",
    "GripMonitor",
    "LocalisationMonitor",
    "MapMonitor",
    "MonitorLevel",
    "MonitorVerdict",
    "Monitors",
    "MonitorsConfig",
    "RawChannelMonitor",
]
