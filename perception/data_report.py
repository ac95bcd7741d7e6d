"""The report of a data-set check: items looked at, features and their modes, as tables and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How an item is. DEGRADED: something works less well; BROKEN: present but unusable."""

    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True)
class DataItem:
    """One thing that was looked at. present of expected; consequence: what follows; fix: what to do."""

    name: str
    status: Status
    present: int
    expected: int
    consequence: str = ""
    fix: str = ""

    @property
    def count(self) -> str:
        return f"{self.present}" if self.present == self.expected else f"{self.present} of {self.expected}"


@dataclass(frozen=True)
class Feature:
    """What the data set can be used for. mode: "full", "degraded" or "unavailable"; reason in words."""

    name: str
    mode: str
    needs: str
    reason: str = ""


@dataclass
class DataReport:
    """Everything `dualdrive data check` shows.

    ok: scenes can be driven closed-loop. scenes: per name its location and whether its map is there.
    """

    dataroot: str
    version: str
    items: list[DataItem] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)
    scenes: dict[str, dict[str, Any]] = field(default_factory=dict)
    ok: bool = False

    def item(self, name: str) -> DataItem | None:
        """The item of that name, if it was looked at."""
        return next((i for i in self.items if i.name == name), None)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(item, status, count, what follows and the fix) for a table; tables that are all right share a row."""
        sound = [i for i in self.items if i.name.startswith("table ") and i.status is Status.OK]
        out = [
            (i.name, i.status.value, i.count, "; ".join(t for t in (i.consequence, i.fix) if t))
            for i in self.items
            if i not in sound
        ]
        if sound:
            names = ", ".join(f"{i.name.removeprefix('table ')} {i.count}" for i in sound)
            out.insert(1, ("tables", Status.OK.value, str(len(sound)), f"records: {names}"))
        return out

    def feature_rows(self) -> list[tuple[str, str, str, str]]:
        """(feature, mode, what it needs, why not in full) for a table."""
        return [(f.name, f.mode, f.needs, f.reason) for f in self.features]

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "dataroot": self.dataroot,
            "version": self.version,
            "ok": self.ok,
            "items": [{**vars(i), "status": i.status.value} for i in self.items],
            "features": [vars(f) for f in self.features],
            "scenes": self.scenes,
        }
