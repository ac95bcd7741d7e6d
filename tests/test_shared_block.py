"""Messages in shared memory: taken whole and in order or refused with a reason; bytes are data or a ValueError."""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib

import numpy as np
import pytest
import torch
from checker_scenes import F64, agent, drive, make_scene, with_tail
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.deployed import messages, shared_block
from planner.deployed.shared_block import Reader, Writer
from planner.result import ActiveRow, Candidate, Certificate, PlanResult, PlanStatus, RowLabel
from planner.scene import VectorScene


@pytest.fixture
def pair():
    fd = shared_block.create(4096)
    w, r = Writer(fd, stream=7), Reader(shared_block.read_only(fd), stream=7, age_max=0.5)
    yield w, r
    w.close()
    r.close()
    os.close(fd)


def test_messages_arrive_once_newest_first(pair) -> None:
    w, r = pair
    assert r.read() is None
    assert r.refusal == ""
    w.write(b"one")
    w.write(b"two", answers=5)
    message = r.read()
    assert (message.payload, message.counter, message.answers, message.stream) == (b"two", 2, 5, 7)
    assert 0 <= message.age < 0.5
    assert r.read() is None
    assert r.refusal == ""
    w.write(b"")
    assert r.read().payload == b""


def test_capacity_just_inside_and_just_outside(pair) -> None:
    w, r = pair
    w.write(b"x" * 4096)
    assert len(r.read().payload) == 4096
    with pytest.raises(ValueError, match="4096"):
        w.write(b"x" * 4097)


def test_the_readers_memory_cannot_be_written(pair) -> None:
    _, r = pair
    with pytest.raises(TypeError):
        r._map[0] = 1
    fd = shared_block.create(16)
    with pytest.raises(OSError, match=r"Bad file|not permitted|denied"):
        os.write(shared_block.read_only(fd), b"x")


def test_every_single_changed_byte_is_found(pair) -> None:
    w, r = pair
    w.write(b"payload of some length")
    at = w._slot(1)
    for k in range(shared_block._HEAD + 22):
        old = w._map[at + k]
        w._map[at + k] = old ^ 0x41
        assert r.read() is None, k
        w._map[at + k] = old
    assert r.read().payload == b"payload of some length"


def forged(w: Writer, slot: int, **changes) -> None:
    """A message with a sound checksum, however it is lied about."""
    values = {
        "magic": b"DUALDRV1",
        "stream": 7,
        "counter": 1,
        "answers": 0,
        "sent_ns": time.monotonic_ns(),
        "length": 3,
    }
    values.update(changes)
    header = shared_block._HEADER.pack(*values.values())
    at = w._slot(slot)
    body = b"abc"
    w._map[at : at + shared_block._HEAD + 3] = header + struct.pack("<I", zlib.crc32(body, zlib.crc32(header))) + body


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"stream": 8}, "another stream"),
        ({"length": 4097}, "wrong length"),
        ({"length": 2**63}, "wrong length"),
        ({"magic": b"DUALDRV2"}, "wrong magic"),
        ({"length": 2}, "wrong checksum"),
        ({"sent_ns": time.monotonic_ns() - 10**12}, "stale"),
        ({"sent_ns": time.monotonic_ns() + 10**12}, "stale"),
        ({"counter": 0}, ""),
        ({"counter": 2**64 - 1}, None),
    ],
)
def test_forged_headers(pair, changes: dict, refusal: str | None) -> None:
    w, r = pair
    forged(w, 0, **changes)
    message = r.read()
    assert (message is None) == (refusal is not None)
    assert (refusal or "") in r.refusal


def test_replayed_and_reordered_messages_are_not_read_again(pair) -> None:
    w, r = pair
    forged(w, 0, counter=5)
    assert r.read().counter == 5
    for counter in (5, 4, 1):
        forged(w, 0, counter=counter)
        forged(w, 1, counter=counter)
        assert r.read() is None
    forged(w, 1, counter=6)
    assert r.read().counter == 6


def test_a_torn_message_does_not_hide_the_one_before(pair) -> None:
    w, r = pair
    w.write(b"first")
    w.write(b"second")
    w._map[w._slot(0) + shared_block._HEAD] = ord("X")
    assert r.read().payload == b"first"


def test_a_reader_beside_a_busy_writer_gets_whole_messages_only() -> None:
    fd = shared_block.create(1 << 16)
    w, r = Writer(fd, 1), Reader(fd, 1)
    stop = threading.Event()

    def write() -> None:
        k = 0
        while not stop.is_set():
            k += 1
            w.write(bytes([k % 251]) * (1 + (k * 7919) % 60000))

    thread = threading.Thread(target=write)
    thread.start()
    seen, last, by = 0, 0, time.monotonic() + 20
    while seen < 200 and time.monotonic() < by:
        if (message := r.read()) is not None:
            assert len(set(message.payload)) == 1
            assert message.payload[0] == message.counter % 251
            assert message.counter > last
            last, seen = message.counter, seen + 1
    stop.set()
    thread.join()
    assert seen >= 200


# -- bytes ---------------------------------------------------------------------------------


def plan() -> PlanResult:
    motion = drive(8.0)
    row = ActiveRow(RowLabel("gap", 3, 1.5), 0.1, 2.5)
    proof = Certificate(1e-9, 1e-8, 1e-7, row.label, 0.1, (row,))
    solved = Candidate("go", "hold", {3: "yield"}, PlanStatus.SOLVED, 1.5, motion, with_tail(motion), proof)
    empty = Candidate("pass", "pass", {}, PlanStatus.INFEASIBLE)
    return PlanResult(
        PlanStatus.SOLVED, [solved, empty], torch.ones(3, 2, dtype=F64), 0.01, 0.02, "because", ["a note"]
    )


def test_a_scene_comes_back_exactly() -> None:
    scene = make_scene(8.0, (agent(20.0, 0.0, v=5.0), agent(30.0, 3.5)), time_us=12345, pose=(1.0, 2.0, 3.0))
    scene = scene.replace(name="caf\u00e9")
    back, values = messages.scene_from_bytes(messages.scene_to_bytes(scene, {"reset": True, "deadline": None}))
    assert values == {"reset": True, "deadline": None}
    for (name, one), (_, two) in zip(scene.to_arrays().items(), back.to_arrays().items()):
        np.testing.assert_array_equal(one, two, err_msg=name)
        assert one.dtype == two.dtype
    empty = make_scene(8.0)
    assert messages.scene_from_bytes(messages.scene_to_bytes(empty, {}))[0].agents.box.shape == (0, 5)


def test_a_scene_that_does_not_validate_is_refused() -> None:
    scene = make_scene(8.0)
    bad = scene.replace(ego=scene.ego.replace(v=torch.tensor(torch.nan, dtype=F64)))
    with pytest.raises(ValueError, match="finite"):
        messages.scene_from_bytes(messages.scene_to_bytes(bad, {}))


def test_a_plan_comes_back_with_what_the_supervisor_needs() -> None:
    back = messages.plan_from_bytes(messages.plan_to_bytes(plan()))
    sent = plan()
    assert (back.status, back.explanation, back.notes) == (sent.status, "because", ["a note"])
    assert [c.decision for c in back.candidates] == ["go", "pass"]
    one, two = sent.candidates[0], back.candidates[0]
    for name in ("time", "x", "y", "yaw", "v", "a", "curvature"):
        assert torch.equal(getattr(one.trajectory, name), getattr(two.trajectory, name))
        assert torch.equal(getattr(one.tail, name), getattr(two.tail, name))
    assert two.certificate == one.certificate
    assert (two.cost, two.kind, two.status) == (1.5, "hold", PlanStatus.SOLVED)
    assert back.candidates[1].trajectory is None
    assert back.candidates[1].status is PlanStatus.INFEASIBLE


def test_a_reported_error_is_raised_with_its_text() -> None:
    with pytest.raises(RuntimeError, match="FloatingPointError: lost"):
        messages.plan_from_bytes(messages.pack({"kind": "error", "error": "FloatingPointError: lost"}, {}))


SOUND = messages.plan_to_bytes(plan())


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, len(SOUND)), flips=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(1, 255))))
def test_broken_bytes_are_a_plan_or_an_error_and_nothing_else(cut: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, bits in flips:
        data[at] ^= bits
    for candidate in (bytes(data), bytes(data[:cut])):
        try:
            assert isinstance(messages.plan_from_bytes(candidate), PlanResult)
        except (ValueError, RuntimeError):
            pass


@pytest.mark.parametrize(
    "head",
    [
        b"[]", b"{}", b"null", b'{"values": 3, "arrays": []}', b'{"values": {}, "arrays": [["a", "<f8", [-1]]]}',
        b'{"values": {}, "arrays": [["a", "<f8", [9999999999999]]]}', b'{"values": {}, "arrays": [["a", "O", [1]]]}',
        b'{"values": {}, "arrays": [["a", "<f8", [2147483647, 2147483647, 2147483647]]]}', b"[" * 5000,
        b'{"values": {}, "arrays": [["a", "<f8", "xx"]]}', b'{"values": {}, "arrays": [["a", "<f8", [1]]]}',
    ],
)  # fmt: skip
def test_nonsense_heads_are_refused(head: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        messages.unpack(struct.pack("<I", len(head)) + head)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "plan"}, {"kind": "ready"}, {},
        {"kind": "plan", "candidates": [["a", "b", "solved", 1.0, None]] * 65},
        {"kind": "plan", "candidates": [["a", "b", "perfect", 1.0, None]], "status": "solved"},
        {"kind": "plan", "candidates": [["a", "b"]], "status": "solved"},
        {"kind": "plan", "candidates": [["a", "b", "solved", 1.0, [1, 2]]], "status": "solved"},
    ],
)  # fmt: skip
def test_nonsense_plans_are_refused(values: dict) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        messages.plan_from_bytes(messages.pack(values, {"reference_xy": np.zeros((2, 2))}))


def test_a_scene_is_not_a_plan() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        messages.plan_from_bytes(messages.scene_to_bytes(make_scene(8.0), {}))
    with pytest.raises(ValueError):  # noqa: PT011
        messages.scene_from_bytes(SOUND)
    assert isinstance(messages.scene_from_bytes(messages.scene_to_bytes(make_scene(8.0), {}))[0], VectorScene)
