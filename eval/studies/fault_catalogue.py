"""The fault catalogue: nineteen rows, what is injected for each, which sizes are swept and searched.

Rows 12 to 15 are situations, not faults: they are cells of the regulation and rating protocols. Row 17 is an adversary
(`eval.studies.adversary`), row 19 the pairs of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from eval.studies.drives import Scene


@dataclass(frozen=True)
class Entry:
    """row; kind: of `fault_models.MODELS`, or a protocol family for situations. size: what it is, with its unit.

    coarse, full: swept sizes. search: lowest and highest size for the search for the worst. place: where in the chain
    the fault sits; pairs combine different places. axis, fixed: of a situation, the parameter that is the size, and the
    other parameters.
    """

    row: int
    kind: str
    size: str
    coarse: tuple[float, ...]
    full: tuple[float, ...]
    search: tuple[float, float]
    place: str = ""
    axis: str = ""
    fixed: tuple[tuple[str, float], ...] = ()

    def situation(self, size: float) -> Scene:
        """The protocol scene of a situation of the given size."""
        return Scene("protocol", self.kind, (*self.fixed, (self.axis, size)))


CATALOGUE: tuple[Entry, ...] = (
    Entry(1, "missed", "s not reported", (0.5, 8.0), (0.1, 0.2, 0.5, 1.0, 2.0, 8.0), (0.1, 5.0), "objects"),
    Entry(2, "ghost", "s present", (0.1, 8.0), (0.1, 0.3, 1.0, 8.0), (0.1, 5.0), "objects"),
    Entry(3, "position_bias", "m too far", (0.2, 2.0), (0.2, 0.5, 1.0, 2.0), (0.2, 2.0), "objects"),
    Entry(3, "speed_bias", "m/s too fast", (-5.0, 5.0), (-5.0, -1.0, 1.0, 5.0), (-5.0, 5.0), "objects"),
    Entry(3, "yaw_bias", "degrees", (-20.0, 20.0), (-20.0, -5.0, 5.0, 20.0), (-20.0, 20.0), "objects"),
    Entry(4, "frame_drop", "share of cycles", (0.5, 0.9), (0.1, 0.5, 0.9), (0.1, 0.9), "clock"),
    Entry(4, "frozen", "s frozen", (0.5, 5.0), (0.1, 0.2, 0.5, 1.0, 2.0, 5.0), (0.1, 5.0), "clock"),
    Entry(4, "frozen_sweep", "s of LiDAR frozen", (5.0,), (0.2, 1.0, 5.0), (0.1, 5.0), "clock"),
    Entry(5, "latency", "s old", (0.2, 1.0), (0.1, 0.2, 0.5, 1.0), (0.05, 1.0), "clock"),
    Entry(5, "out_of_order", "share of cycles", (0.5,), (0.1, 0.5, 0.9), (0.1, 0.9), "clock"),
    Entry(5, "late", "s of planning", (0.05, 1.0), (0.05, 0.15, 0.5, 1.0), (0.05, 1.0), "planner"),
    Entry(6, "corrupt", "share of cycles", (0.3, 1.0), (0.1, 0.3, 1.0), (0.05, 1.0), "message"),
    Entry(6, "bad_command", "share of cycles", (0.3,), (0.1, 0.3, 1.0), (0.05, 1.0), "message"),
    Entry(7, "calibration", "degrees", (0.5, 2.0), (-2.0, -0.5, 0.2, 0.5, 2.0), (-2.0, 2.0), "objects"),
    Entry(7, "focal_length", "per cent too long", (5.0,), (-5.0, -1.0, 1.0, 5.0), (-5.0, 5.0), "objects"),
    Entry(8, "map_shift", "m to the left", (0.3, 2.0), (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0, 5.0), (-3.0, 3.0), "map"),
    Entry(8, "no_boundary", "s without edges", (8.0,), (0.5, 8.0), (0.1, 8.0), "map"),
    Entry(9, "jump", "m to the left", (0.5, 5.0), (-5.0, -0.5, 0.5, 2.0, 10.0), (-5.0, 5.0), "map"),
    Entry(9, "drift", "m/s to the left", (0.5,), (-1.0, 0.1, 0.5, 1.0), (-1.0, 1.0), "map"),
    Entry(10, "wrong_success", "m of error", (0.01, 0.5), (0.001, 0.01, 0.1, 1.0), (0.001, 1.0), "planner"),
    Entry(10, "no_solution", "s without", (0.5, 8.0), (0.1, 0.5, 2.0, 8.0), (0.1, 5.0), "planner"),
    Entry(11, "dead", "s dead", (0.5, 8.0), (0.1, 0.5, 2.0, 8.0), (0.1, 5.0), "planner"),
    Entry(12, "r157_cut_in", "m gap", (10.0, 20.0), (5.0, 10.0, 15.0, 20.0, 30.0, 40.0), (5.0, 40.0), axis="gap",
          fixed=(("ego_kmh", 60.0), ("relative_kmh", -30.0), ("lateral", 2.0))),
    Entry(13, "r157_braking_lead", "m/s2", (5.0, 8.0), (4.0, 5.0, 6.0, 7.0, 8.0), (4.0, 8.0), axis="deceleration",
          fixed=(("ego_kmh", 50.0),)),
    Entry(14, "r157_cut_out", "m revealed", (20.0, 40.0), (20.0, 30.0, 40.0, 80.0), (20.0, 60.0), axis="distance",
          fixed=(("ego_kmh", 40.0), ("lateral", 3.0))),
    Entry(15, "CPNCO", "km/h of ego", (30.0, 60.0), (10.0, 20.0, 30.0, 40.0, 50.0, 60.0), (10.0, 60.0),
          axis="ego_kmh"),
    Entry(16, "blackout", "s camera lost", (0.5, 8.0), (0.1, 0.5, 2.0, 8.0), (0.1, 5.0), "objects"),
    Entry(16, "total_blackout", "s all lost", (0.3, 8.0), (0.1, 0.3, 1.0, 8.0), (0.1, 5.0), "objects"),
    Entry(17, "adversary", "m of deviation", (1.0, 2.0), (0.5, 1.0, 2.0), (0.5, 2.0)),
    Entry(18, "friction", "share of grip", (0.3, 0.6), (0.3, 0.5, 0.7, 0.9), (0.3, 1.0), "road"),
    Entry(18, "downhill", "per cent", (10.0,), (5.0, 10.0), (0.0, 10.0), "road"),
    Entry(18, "brake_fade", "per cent lost", (30.0,), (10.0, 30.0), (0.0, 30.0), "road"),
)  # fmt: skip

BY_KIND = {entry.kind: entry for entry in CATALOGUE}
ROWS = (*dict.fromkeys(entry.row for entry in CATALOGUE), 19)
ROW_NAMES = {
    1: "missed object", 2: "ghost object", 3: "bias of position, speed, heading", 4: "frames dropped, frozen",
    5: "latency, order, late plans", 6: "broken numbers and shapes", 7: "calibration", 8: "map", 9: "localisation",
    10: "solver", 11: "planner process", 12: "cut-in", 13: "braking leader", 14: "cut-out", 15: "occluded child",
    16: "sensor blackout", 17: "adversary", 18: "friction, slope, brakes", 19: "pairs",
}  # fmt: skip
ONSETS_COARSE = (2.0,)  # s
ONSETS_FULL = (1.0, 2.0, 3.0, 4.0)
ONSET_RANGE = (0.5, 5.0)
