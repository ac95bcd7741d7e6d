"""Planning leaves nothing behind: what the allocator has handed out is the same after every round of the scenes."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref

import pytest
from planner_scenes import CONFIG, SCENES, VEHICLE

from planner import ConvexPlanner
from planner.deployed.messages import plan_to_bytes

_COUNTS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _COUNTS]


def in_use() -> int:
    """Bytes handed out by glibc, mapped ones included; what it keeps free for later, which resident memory contains, is
    left out."""
    found = _mallinfo2()
    return int(found.uordblks + found.hblkhd)


try:
    _mallinfo2 = ctypes.CDLL(None).mallinfo2
    _mallinfo2.restype = _Mallinfo
except (AttributeError, OSError):
    _mallinfo2 = None
needs_glibc = pytest.mark.skipif(_mallinfo2 is None or sys.platform != "linux", reason="glibc 2.33 says what is in use")
ROUNDS, WARM_UP, SLACK = 6, 2, 64 * 1024


def grown(planner: ConvexPlanner, keep: list[object]) -> tuple[int, int]:
    """Bytes and Python objects more after the last round than after the warm-up; what is appended to `keep` stays."""
    seen = []
    for _ in range(ROUNDS):
        for scene in SCENES.values():
            planner.reset()
            plan = planner.plan(scene)
            plan_to_bytes(plan)
            if len(keep):
                keep.append(plan.chosen and plan.chosen.trajectory)
        del plan
        gc.collect()
        seen.append((in_use(), len(gc.get_objects())))
    (bytes_before, objects_before), (bytes_after, objects_after) = seen[WARM_UP - 1], seen[-1]
    return bytes_after - bytes_before, objects_after - objects_before


def test_a_plan_is_gone_with_its_last_reference() -> None:
    """No garbage collection needed: in a process that plans ten times a second it comes late, and all at once."""
    gc.collect()
    gc.disable()
    try:
        result = ConvexPlanner(CONFIG, VEHICLE).plan(SCENES["leader"])
        chosen = result.chosen
        assert chosen is not None
        plan_to_bytes(result)
        left = [weakref.ref(part) for part in (result, chosen, chosen.trajectory, chosen.certificate)]
        del result, chosen
        assert [ref() for ref in left] == [None] * 4
    finally:
        gc.enable()


@needs_glibc
def test_many_plans_leave_nothing_behind() -> None:
    more, objects = grown(ConvexPlanner(CONFIG, VEHICLE), [])
    assert more < SLACK
    assert objects < 20


@needs_glibc
def test_a_kept_trajectory_a_plan_would_be_seen() -> None:
    """The smallest leak that matters: one trajectory per plan, a few hundred bytes a number."""
    more, objects = grown(ConvexPlanner(CONFIG, VEHICLE), [None])
    assert more > 2 * SLACK
    assert objects > 100
