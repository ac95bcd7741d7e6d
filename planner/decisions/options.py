"""Which decisions exist in each scene, in which order they are worth a slot, and what they are called.

Discrete: plain lists, no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations, pairwise, zip_longest
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from planner.config import PlannerConfig
from planner.decisions.conflicts import Longitudinal
from planner.decisions.manoeuvres import Manoeuvres
from planner.decisions.right_of_way import opposed
from planner.objects.forecasts import array
from planner.objects.obstacles import Obstacles
from planner.path.surface import Start
from planner.scene import VehicleParameters

KINDS = ("yield", "hold", "pass", "left", "right", "oncoming")
"""Of candidates, in the order of EgoProposal.decision_logit."""
SLACK = 0.05
"""m: least distance to what is ahead, where braking cannot keep the margin (`planner.decisions.candidates`)."""
MOST_LET_IN = 2
"""Who have to wait and are let in at most, the first to come first."""


class Choice(NamedTuple):
    """One decision: kind, manoeuvre, and the rows of Longitudinal whose agents are passed first.

    let_in: rows of agents whose duty it is to keep clear and who go first all the same. hold: stand still.
    """

    kind: str
    manoeuvre: int
    passed: tuple[int, ...] = ()
    let_in: tuple[int, ...] = ()
    hold: bool = False


class Options:
    """The decisions of S scenes."""

    def __init__(
        self,
        longitudinal: Longitudinal,
        manoeuvres: Manoeuvres,
        obstacles: Obstacles,
        start: Start,
        vehicle: VehicleParameters,
        config: PlannerConfig,
    ) -> None:
        scene, manoeuvre, agent = longitudinal.scene, longitudinal.manoeuvre, longitudinal.agent
        self._longitudinal, self._vehicle, self._config, self._start = longitudinal, vehicle, config, start
        self._kind, self._width = manoeuvres.kind, manoeuvres.valid.shape[1]
        keys = np.arange(len(self._kind) * self._width + 1)
        first = np.searchsorted(scene * self._width + manoeuvre, keys).tolist()
        self._rows = [range(a, b) for a, b in pairwise(first)]
        self._conflict, self._theirs = longitudinal.conflict.tolist(), longitudinal.theirs.tolist()
        self._passable, self._time = longitudinal.passable.tolist(), longitudinal.first_time.tolist()
        self._courtesy = longitudinal.courtesy.tolist()
        names, side = array(obstacles.track_id), array(manoeuvres.side)
        self._name = names[scene, agent].tolist()
        self._beside: dict[tuple[int, int], list[tuple[int, str]]] = {}
        for s, v, a in zip(*(x.tolist() for x in side.nonzero())):
            self._beside.setdefault((s, v), []).append((int(names[s, a]), "left" if side[s, v, a] > 0 else "right"))
        self._opposed: set[tuple[int, int]] = set()
        self._lane = manoeuvres.lane.tolist()
        oncoming = array(manoeuvres.oncoming)
        if oncoming.any():
            comes = opposed(obstacles)[scene, agent] & longitudinal.conflict & oncoming[scene, manoeuvre]
            self._opposed = set(zip(scene[comes].tolist(), manoeuvre[comes].tolist()))

    def rows(self, scene: int, manoeuvre: int) -> range:
        """Rows of Longitudinal of one manoeuvre of a scene."""
        return self._rows[scene * self._width + manoeuvre]

    def choose(self, scene: int, preferred: str) -> list[Choice]:
        """All-yield, hold, then what else there is, `max_candidates` at most.

        The last decision comes first: options persist until infeasible or unsafe. Then sides and orders in turn; orders
        that contradict themselves only get slots that nobody else wants. No oncoming surface while somebody comes
        towards us on it within the horizon.
        """
        decisions = self._config.decisions
        more: list[Choice] = []
        for v, kind in enumerate(self._kind[scene]):
            if (scene, v) in self._opposed:
                continue
            passable = [r for r in self.rows(scene, v) if self._passable[r]]
            passable.sort(key=self._time.__getitem__)
            courtesy = [r for r in self.rows(scene, v) if self._courtesy[r]]
            courtesy.sort(key=self._time.__getitem__)
            kind = "yield" if kind == "keep" else kind
            if v > 0:
                more.append(Choice(kind, v))
            more += [Choice(kind, v, let_in=tuple(courtesy[: n + 1])) for n in range(min(len(courtesy), MOST_LET_IN))]
            for count in range(min(len(passable), decisions.max_conflicts), 0, -1):
                chosen = combinations(passable[: decisions.max_conflicts], count)
                more += [Choice("pass" if v == 0 else kind, v, c) for c in chosen]
        if preferred:
            more.sort(key=lambda c: self.text(scene, c) != preferred)
        sides: list[Choice] = []
        orders: list[Choice] = []
        for choice in more:
            (sides if choice.manoeuvre > 0 and not choice.passed + choice.let_in else orders).append(choice)
        in_turn = [c for pair in zip_longest(sides, orders) for c in pair if c is not None and c is not more[0]]
        slots = max(decisions.max_candidates - 2, 0)
        if len(more) > slots:
            in_turn.sort(key=lambda c: bool(c.passed) and self._contradicts(scene, c))
        return [Choice("yield", 0), Choice("hold", 0, hold=True), *[*more[:1], *in_turn][:slots]]

    def text(self, scene: int, choice: Choice) -> str:
        """A name that stays the same from cycle to cycle as long as the decision does; unique within a scene."""
        who: dict[str, list[int]] = {}
        if beside := self._beside.get((scene, choice.manoeuvre)):
            for name, side in beside:
                who.setdefault(side, []).append(name)
        passed = choice.passed
        yields = [self._name[r] for r in self.rows(scene, choice.manoeuvre) if self._conflict[r] and r not in passed]
        lane = self.changes_lane(scene, choice)
        parts = [f"change to the {'left' if lane > 0 else 'right'} lane"] if lane else []
        for phrase, names in (
            ("yield to ", yields),
            ("let in ", [self._name[r] for r in choice.let_in]),
            ("pass before ", [self._name[r] for r in passed]),
            ("go left of ", who.get("left")),
            ("go right of ", who.get("right")),
        ):
            if names:
                parts.append(phrase + ", ".join(map(str, sorted(names))))
        head = "hold: " if choice.hold else ("over the oncoming surface: " if choice.kind == "oncoming" else "")
        return head + ("; ".join(parts) if parts else "drive on")

    def changes_lane(self, scene: int, choice: Choice) -> int:
        """+1 to the lane on the left, -1 to the one on the right, 0 if the choice stays in the route's lane."""
        return self._lane[scene][choice.manoeuvre]

    def insists(self, scene: int, choice: Choice) -> bool:
        """Somebody comes who would have to wait, and the choice does not let them in."""
        rows = self.rows(scene, choice.manoeuvre)
        return not choice.hold and any(self._courtesy[r] and r not in choice.let_in for r in rows)

    def duties(self, scene: int, choice: Choice) -> dict[int, str]:
        """Track id -> what the decision does about it, for every agent that matters."""
        out = dict(self._beside.get((scene, choice.manoeuvre), ()))
        for r in self.rows(scene, choice.manoeuvre):
            if r in choice.passed:
                out[self._name[r]] = "pass"
            elif r in choice.let_in:
                out[self._name[r]] = "yield: their duty"
            elif self._conflict[r]:
                out[self._name[r]] = "yield"
            elif self._theirs[r]:
                out[self._name[r]] = "insist: their duty" if self._courtesy[r] else "ignored: their duty"
        return out

    def _contradicts(self, scene: int, choice: Choice) -> bool:
        """Ego would have to be in front of one agent and behind another where there is no room for it between them."""
        first = self.rows(scene, choice.manoeuvre).start
        behind = ~sum(1 << r - first for r in choice.passed)
        return any(self._clash[r] & behind for r in choice.passed)

    @cached_property
    def _clash(self) -> dict[int, int]:
        """Of the rows that can be passed: whom ego cannot be behind then, as bits by their places in its manoeuvre."""
        x, vehicle = self._longitudinal, self._vehicle
        passable = np.flatnonzero(x.passable)
        here = array(self._start.s)[x.scene] + vehicle.front
        ceiling = np.maximum(array(x.yield_front) - SLACK, here[:, None] + SLACK)
        floor = array(x.pass_rear)[passable] + self._config.margins.behind + vehicle.length
        span = [self.rows(s, v) for s, v in zip(x.scene[passable].tolist(), x.manoeuvre[passable].tolist())]
        other = np.array([rows.start for rows in span], np.int64)[:, None] + np.arange(max(map(len, span), default=0))
        mine = other < np.array([rows.stop for rows in span], np.int64)[:, None]
        hit = (floor[:, None] > ceiling[np.where(mine, other, 0)]).any(-1) & mine
        bits = np.packbits(hit, axis=1, bitorder="little")
        return {r: int.from_bytes(row.tobytes(), "little") for r, row in zip(passable.tolist(), bits)}


def table(
    options: Options, choices: Sequence[tuple[int, Choice]], conflict: Bool[np.ndarray, " C"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of Longitudinal ``[R, K]`` that matter for each (scene, choice), which of them are passed, and which are

    left to keep clear themselves. Filled up with the number of rows: nobody.
    """
    count = len(conflict)
    rows = [options.rows(scene, choice.manoeuvre) for scene, choice in choices]
    first = np.array([[r.start, r.stop] for r in rows])
    index = first[:, :1] + np.arange(max(max(map(len, rows)), 1))
    index = np.where(index < first[:, 1:], index, count)
    passed = np.zeros(index.shape, bool)
    left = ~np.append(conflict, True)[index]
    for i, (_, choice) in enumerate(choices):
        for mask, value, which in ((passed, True, choice.passed), (left, False, choice.passed + choice.let_in)):
            mask[i, [r - rows[i].start for r in which]] = value
    return index, passed, left
