"""A stand-in for the planner's process that misbehaves on command; needs no torch, so it starts at once.

Reads ready.bin, plan.bin and mode.txt from $PLANNER_DOUBLE; the mode is read anew for every scene:
good, silent, slow (0.6 s), garbage (random bytes over the whole block), broken (a sound message around nonsense),
truncated, replay (the old message again), stale (claims to be sent 10 s ago), leak (8 MiB per plan), exit.
"""

import importlib.util
import os
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("block", ROOT / "planner" / "deployed" / "shared_block.py")
block = importlib.util.module_from_spec(spec)
sys.modules["block"] = block
spec.loader.exec_module(block)

folder = Path(os.environ["PLANNER_DOUBLE"])
scene_fd, plan_fd, wake_fd, answer_fd, scene_stream, plan_stream = map(int, sys.argv[1:])
os.read(wake_fd, int.from_bytes(os.read(wake_fd, 8), "little"))
scenes, answers = block.Reader(scene_fd, scene_stream), block.Writer(plan_fd, plan_stream)
answers.write((folder / "ready.bin").read_bytes())
os.write(answer_fd, b"r")
plan, kept = (folder / "plan.bin").read_bytes(), []


def resent(age_ns: int, counter: int) -> None:
    """The message in the newest slot with another time and counter, its checksum made good."""
    at = answers._slot(answers.counter % block.SLOTS)
    head = list(block._HEADER.unpack(answers._map[at : at + block._HEADER.size]))
    head[2], head[4] = counter, head[4] - age_ns
    header = block._HEADER.pack(*head)
    payload = answers._map[at + block._HEAD : at + block._HEAD + head[5]]
    crc = block._CRC.pack(zlib.crc32(payload, zlib.crc32(header)))
    for slot in range(block.SLOTS):
        at = answers._slot(slot)
        answers._map[at : at + block._HEAD + len(payload)] = header + crc + payload


while os.read(wake_fd, 4096):
    message = scenes.read()
    mode = (folder / "mode.txt").read_text().strip()
    if message is None or mode == "silent":
        continue
    if mode == "exit":
        sys.exit(3)
    if mode == "slow":
        time.sleep(0.6)
    if mode == "leak":
        kept.append(bytearray(os.urandom(64) * (8 * 2**20 // 64)))
    if mode == "garbage":
        size = len(answers._map)
        answers._map[:size] = os.urandom(size)
    elif mode == "replay":
        resent(0, answers.counter)
    elif mode == "stale":
        resent(10**10, answers.counter + 1)
    else:
        sent = {"broken": b"\x10\x00\x00\x00" + os.urandom(40), "truncated": plan[: len(plan) // 2]}.get(mode, plan)
        answers.write(sent, message.counter)
    os.write(answer_fd, b"a")
