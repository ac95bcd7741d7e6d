"""The planner's process: takes the newest scene, plans, answers; ends with the process that started it.

Started by `planner.deployed.process` as ``python -m planner.deployed.worker FDS``: descriptors of the scene block, the
plan block, the pipe that wakes it and the pipe that it wakes, then the streams' ids. Its settings come first through
the wake pipe. It can write into nothing but its plan block: the scene block is mapped read-only.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import sys
import time

from planner.deployed.messages import pack, plan_to_bytes, scene_from_bytes
from planner.deployed.settings import WorkerSettings
from planner.deployed.shared_block import Message, Reader, Writer

_LOG_MAX = 2**24  # bytes of error output: a babbling planner must not fill the disk


def main(arguments: list[str]) -> None:
    """Serve until the other side is gone."""
    import torch

    from planner.plan import ConvexPlanner

    torch.set_num_threads(1)
    scene_fd, plan_fd, wake_fd, answer_fd, scene_stream, plan_stream = map(int, arguments)
    with os.fdopen(wake_fd, "rb", buffering=0) as wake:
        settings: WorkerSettings = pickle.loads(_exactly(wake, int.from_bytes(_exactly(wake, 8), "little")))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LOG_MAX, _LOG_MAX))
        if settings.memory_max:
            resource.setrlimit(resource.RLIMIT_DATA, (settings.memory_max, settings.memory_max))
        scenes, answers = Reader(scene_fd, scene_stream), Writer(plan_fd, plan_stream)
        planner = ConvexPlanner(settings.planner, settings.vehicle)
        gc.freeze()  # what is loaded stays: without it a full collection walks over all of torch for 0.1 s
        answers.write(pack({"kind": "ready"}, {}))
        os.write(answer_fd, b"r")
        while wake.read(4096):  # empty: the other side is gone
            message = scenes.read()
            if message is None:
                continue
            answers.write(_answer(planner, message), message.counter)
            os.write(answer_fd, b"a")
            # Little lives besides what is frozen, so this takes a fraction of a millisecond, after the answer; it also
            # empties Python's lists of free tuples, which would grow by a few kilobytes a plan up to megabytes.
            gc.collect()


def _answer(planner: object, message: Message) -> bytes:
    """The plan, or the error, as bytes."""
    try:
        scene, values = scene_from_bytes(message.payload)
        if values["reset"]:
            planner.reset()  # type: ignore[attr-defined]
        left = None if values["deadline"] is None else values["deadline"] - message.age
        began = time.perf_counter()
        plan = planner.plan(scene, left)  # type: ignore[attr-defined]
        plan.total_time = time.perf_counter() - began
        return plan_to_bytes(plan)
    except MemoryError:
        # Nothing that was allocated can be trusted to be given back: a new process is cheaper than a doubt.
        os._exit(71)
    except Exception as error:
        return pack({"kind": "error", "error": f"{type(error).__name__}: {error}"[:500]}, {})


def _exactly(pipe: object, count: int) -> bytes:
    out = b""
    while len(out) < count:
        part = pipe.read(count - len(out))  # type: ignore[attr-defined]
        if not part:
            sys.exit(0)
        out += part
    return out


if __name__ == "__main__":
    main(sys.argv[1:])
