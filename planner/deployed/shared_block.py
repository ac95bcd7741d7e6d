"""Messages in shared memory, one writer, one reader, no locks: nobody can make the other wait.

End-to-end protection: every message carries the id of its stream, a counter, the counter of what it answers, the time
it was sent and a CRC-32 over header and payload. A reader copies first and judges the copy, so whatever the writer does
meanwhile, a message is taken whole or refused with a reason.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
import zlib
from dataclasses import dataclass

_MAGIC = b"DUALDRV1"
_HEADER = struct.Struct("<8sQQQqQ")  # magic, stream, counter, answers, sent_ns, length
_CRC = struct.Struct("<I")
_HEAD = _HEADER.size + _CRC.size
SLOTS = 2  # the newest message and the one before, which a slow reader may still be copying


@dataclass(frozen=True)
class Message:
    """counter: 1, 2, ...; answers: counter of the message that it answers, 0 for none; sent_ns: CLOCK_MONOTONIC."""

    stream: int
    counter: int
    answers: int
    sent_ns: int
    payload: bytes

    @property
    def age(self) -> float:
        """Seconds since it was sent; negative if it claims to come from the future."""
        return (time.monotonic_ns() - self.sent_ns) * 1e-9


def create(capacity: int) -> int:
    """A file descriptor of shared memory for messages of up to `capacity` bytes; without a name, so nothing is left
    behind however its users die.
    """
    size = SLOTS * (_HEAD + capacity)
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("dualdrive", os.MFD_CLOEXEC)
    else:
        fd, name = tempfile.mkstemp(prefix="dualdrive")
        os.unlink(name)
    os.ftruncate(fd, size)
    return fd


def read_only(fd: int) -> int:
    """Another descriptor of the same memory that cannot be written through; a duplicate where there is no /proc."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


class _Block:
    def __init__(self, fd: int, access: int) -> None:
        size = os.fstat(fd).st_size
        self.capacity = size // SLOTS - _HEAD
        self._map = mmap.mmap(fd, size, access=access)

    def _slot(self, k: int) -> int:
        return k * (_HEAD + self.capacity)

    def close(self) -> None:
        self._map.close()


class Writer(_Block):
    """Writes one stream. The descriptor stays the caller's."""

    def __init__(self, fd: int, stream: int) -> None:
        super().__init__(fd, mmap.ACCESS_WRITE)
        self.stream, self.counter = stream, 0

    def write(self, payload: bytes, answers: int = 0) -> int:
        """Publish a message; returns its counter. Raises ValueError if it is too long."""
        if len(payload) > self.capacity:
            raise ValueError(f"shared block: expected up to {self.capacity} bytes, got {len(payload)}")
        self.counter += 1
        header = _HEADER.pack(_MAGIC, self.stream, self.counter, answers, time.monotonic_ns(), len(payload))
        at = self._slot(self.counter % SLOTS)
        # Payload first: until the header is there, the old checksum refuses the mixture.
        self._map[at + _HEAD : at + _HEAD + len(payload)] = payload
        self._map[at : at + _HEAD] = header + _CRC.pack(zlib.crc32(payload, zlib.crc32(header)))
        return self.counter


class Reader(_Block):
    """Reads one stream, newest message first, each at most once, never backwards.

    refusal: why the last `read` came back with nothing although something was there.
    """

    def __init__(self, fd: int, stream: int, age_max: float = float("inf")) -> None:
        super().__init__(fd, mmap.ACCESS_READ)
        self.stream, self.age_max, self.last = stream, age_max, 0
        self.refusal = ""

    def read(self) -> Message | None:
        """The newest message not read yet, or None: nothing new, or nothing sound (`refusal`)."""
        self.refusal = ""
        refusals, found = [], None
        for k in range(SLOTS):
            message = self._judge(self._slot(k))
            if isinstance(message, str):
                refusals.append(message)
            elif message is not None and (found is None or message.counter > found.counter):
                found = message
        if found is None:
            self.refusal = "; ".join(dict.fromkeys(refusals))
        else:
            self.last = found.counter
        return found

    def _judge(self, at: int) -> Message | str | None:
        """The message in a slot, None if there is nothing new, else why it is refused."""
        head = self._map[at : at + _HEAD]
        if not any(head):
            return None
        magic, stream, counter, answers, sent_ns, length = _HEADER.unpack(head[: _HEADER.size])
        if magic != _MAGIC:
            return "no message: wrong magic"
        if counter <= self.last and stream == self.stream:
            return None  # read before; also what a replayed or reordered message looks like
        if length > self.capacity:
            return f"wrong length: {length} of at most {self.capacity} bytes"
        payload = self._map[at + _HEAD : at + _HEAD + length]
        if zlib.crc32(payload, zlib.crc32(head[: _HEADER.size])) != _CRC.unpack(head[_HEADER.size :])[0]:
            return "wrong checksum"
        if stream != self.stream:
            return "another stream's message"
        message = Message(stream, counter, answers, sent_ns, payload)
        if not -1e-3 <= message.age <= self.age_max:
            return f"stale: sent {message.age * 1e3:.0f} ms ago"
        return message
