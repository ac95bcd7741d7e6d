"""Mutated plans, as objects and as bytes in shared memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.fuzz.cases import Base, Verdict, driveable
from benchmarks.fuzz.tensors import FLOATS, spoilt
from planner.deployed import shared_block
from planner.deployed.messages import plan_from_bytes, plan_to_bytes
from planner.result import Candidate, PlanResult, PlanStatus
from planner.scene import Trajectory
from planner.supervise import SupervisedPlan

FIELDS = ("time", "x", "y", "yaw", "v", "a", "curvature")
WAYS = (*FLOATS, "cut", "reordered", "stale", "late", "not a plan", "raises")
MUST_REFUSE = {
    "nan", "inf", "huge", "all nan", "wrong shape", "truncated", "wrong type", "cut", "reordered", "stale", "late",
    "not a plan", "raises",
}  # fmt: skip
BYTE_WAYS = (
    "flipped",
    "flipped and re-signed",
    "truncated",
    "inserted",
    "spliced",
    "random",
    "replayed",
    "reordered",
    "stale",
)


def _cut(motion: Trajectory, count: int) -> Trajectory:
    return motion.apply(lambda t: t[:count])


def mutated(base: Base, way: str, rng: np.random.Generator) -> tuple[Any, float]:
    """A plan whose every candidate has the same thing wrong, and the time it took."""
    if way == "not a plan":
        return (3, "plan", [], {}, object(), PlanResult(PlanStatus.SOLVED, None, None, 0, 0))[int(rng.integers(6))], 0.0
    if way == "late":
        return base.plan, float(rng.choice([0.11, 1.0, 1e9, np.nan, np.inf]))
    first = next(c for c in base.plan.candidates if c.status is PlanStatus.SOLVED)
    motions = {"trajectory": first.trajectory, "tail": first.tail}
    which = str(rng.choice(["trajectory", "tail"]))
    motion = motions[which]
    moving = int((motion.v > 0.5).sum())
    if way == "raises":
        motions[which] = lambda: 1 / 0
    elif way == "cut":  # the tail ends while still moving
        motions["tail"] = _cut(motions["tail"], int(rng.integers(2, max(3, int((motions["tail"].v > 0.5).sum()) - 2))))
    elif way == "reordered":
        order = np.arange(len(motion.time))
        i, j = sorted(rng.choice(max(moving, 4), 2, replace=False))
        order[i], order[j] = order[j], order[i]
        motions[which] = motion.apply(lambda t: t[order])
    elif way == "stale":  # planned for where ego was a second or more ago
        back = float(rng.uniform(1.0, 30.0))
        motions[which] = motion.replace(x=motion.x - back)
    else:
        name = str(rng.choice(FIELDS))
        motions[which] = motion.replace(**{name: spoilt(getattr(motion, name), way, rng)})
    bad = Candidate(first.decision, first.kind, {}, PlanStatus.SOLVED, 1.0, motions["trajectory"], motions["tail"])
    return PlanResult(PlanStatus.SOLVED, [bad], base.plan.reference_xy, 0.0, 0.0), 0.0


def judge(base: Base, way: str, rng: np.random.Generator) -> tuple[Verdict, str]:
    """One mutated plan in a sound scene."""
    plan, elapsed = mutated(base, way, rng)
    return _drive(base, plan, elapsed, way, way in MUST_REFUSE)


def _drive(base: Base, plan: Any, elapsed: float, way: str, must_refuse: bool) -> tuple[Verdict, str]:
    try:
        out: SupervisedPlan = base.supervisor().supervise(base.later(1), plan, elapsed=elapsed)
    except Exception as error:
        return Verdict.CRASHED, f"{way}: {type(error).__name__}: {error}"
    if wrong := driveable(out):
        return Verdict.ESCAPED, f"{way}: {wrong}"
    if not out.tail_accepted:
        return Verdict.ESCAPED, f"{way}: published without an accepted tail ({out.reason})"
    if out.source != "candidate":
        return Verdict.REFUSED, ""
    return (Verdict.ESCAPED, f"{way}: driven") if must_refuse else (Verdict.HARMLESS, "")


class Bytes:
    """The shared block between the planner's process and the supervisor, with a planner that writes what it likes."""

    def __init__(self, base: Base) -> None:
        self.base, self.sound = base, plan_to_bytes(base.plan)
        capacity = 2 * len(self.sound)
        fd = shared_block.create(capacity)
        self.writer = shared_block.Writer(fd, 1)
        self.reader = shared_block.Reader(shared_block.read_only(fd), 1, age_max=0.5)
        os.close(fd)

    def judge(self, way: str, rng: np.random.Generator) -> tuple[Verdict, str]:
        """One message with something wrong."""
        data = bytearray(self.sound)
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data) if rng.random() < 0.5 else 3000))] ^= int(rng.integers(1, 256))
        at = int(rng.integers(len(data)))
        sent = {
            "flipped and re-signed": bytes(data), "truncated": self.sound[:at],
            "inserted": self.sound[:at] + os.urandom(int(rng.integers(1, 64))) + self.sound[at:],
            "spliced": self.sound[at:] + self.sound[:at],
            "random": rng.bytes(int(rng.integers(1, len(data)))),
        }.get(way, self.sound)  # fmt: skip
        self.writer.write(self.sound)
        self.reader.read()
        if way != "replayed":
            self.writer.write(sent)
        self._spoil(way, rng)
        try:
            message = self.reader.read()
        except Exception as error:
            return Verdict.CRASHED, f"{way}: {type(error).__name__}: {error}"
        if way in ("flipped", "replayed", "reordered", "stale"):
            return (Verdict.REFUSED, "") if message is None else (Verdict.ESCAPED, f"{way}: read")
        if message is None or message.payload != sent:
            return Verdict.ESCAPED, f"{way}: a sound message was not read as it was sent"
        try:
            plan = plan_from_bytes(message.payload)
        except (ValueError, RuntimeError):
            return Verdict.REFUSED, ""
        except Exception as error:
            return Verdict.CRASHED, f"{way}: {type(error).__name__}: {error}"
        return _drive(self.base, plan, 0.0, way, must_refuse=False)

    def _spoil(self, way: str, rng: np.random.Generator) -> None:
        """What happens to a message after it was signed, or before it is read again."""
        w, head = self.writer, shared_block._HEAD
        if way == "flipped":
            for slot in range(shared_block.SLOTS):
                at = w._slot(slot) + int(rng.integers(head + len(self.sound)))
                w._map[at] ^= int(rng.integers(1, 256))
        elif way in ("stale", "reordered"):
            import struct
            import zlib

            for slot in range(shared_block.SLOTS):
                at = w._slot(slot)
                fields = list(shared_block._HEADER.unpack(w._map[at : at + shared_block._HEADER.size]))
                if way == "stale":
                    fields[4] -= int(rng.integers(6 * 10**8, 10**12))
                else:
                    fields[2] = int(rng.integers(0, self.reader.last + 1))
                header = shared_block._HEADER.pack(*fields)
                body = w._map[at + head : at + head + fields[5]]
                w._map[at : at + head] = header + struct.pack("<I", zlib.crc32(body, zlib.crc32(header)))
