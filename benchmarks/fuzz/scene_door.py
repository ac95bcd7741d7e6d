"""Mutated scenes: refused, or nothing wrong comes of them; and the next sound scene is driven again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz.cases import Base, Verdict, driveable
from benchmarks.fuzz.tensors import FLOATS, spoilt
from planner.checker import check
from planner.scene import TensorData, VectorScene

WAYS = (*FLOATS, "stale", "reordered", "batched", "exchanged", "not a scene")
MUST_REFUSE = {
    "nan",
    "inf",
    "all nan",
    "wrong shape",
    "wrong type",
    "stale",
    "reordered",
    "batched",
    "exchanged",
    "not a scene",
}
"""The rest may be a scene that could exist: a denormal number, a shorter map, an integer that nobody looks at."""


def leaves(data: TensorData, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(path, tensor) of every field."""
    out = []
    for field in dataclasses.fields(data):  # type: ignore[arg-type]
        value = getattr(data, field.name)
        if isinstance(value, TensorData):
            out += leaves(value, (*path, field.name))
        elif isinstance(value, torch.Tensor):
            out.append(((*path, field.name), value))
    return out


def exchanged(data: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy with one nested field exchanged."""
    if len(path) > 1:
        value = exchanged(getattr(data, path[0]), path[1:], value)
    return dataclasses.replace(data, **{path[0]: value})


def mutated(base: Base, way: str, rng: np.random.Generator) -> Any:
    """A scene that comes 1 ms after the one that was accepted, with one thing wrong."""
    scene = base.later(1)
    if way == "stale":
        return base.later(0)
    if way == "reordered":
        return base.later(-float(rng.uniform(1, 5000)))
    if way == "batched":
        return VectorScene.stack([scene] * int(rng.integers(1, 3)))
    if way == "exchanged":
        return scene.replace(agents=scene.futures) if rng.random() < 0.5 else scene.replace(route=scene.map)
    if way == "not a scene":
        return (None, "scene", 3, {}, scene.ego, object())[int(rng.integers(6))]
    fields = leaves(scene)
    while True:
        path, value = fields[int(rng.integers(len(fields)))]
        try:
            return exchanged(scene, path, spoilt(value, way, rng))
        except KeyError:
            continue


def judge(base: Base, way: str, rng: np.random.Generator) -> tuple[Verdict, str]:
    """One mutated scene with a sound plan."""
    scene = mutated(base, way, rng)
    supervisor = base.supervisor()
    try:
        supervisor.planning_scene(scene)
        out = supervisor.supervise(scene, base.plan, elapsed=0.0)
        again = supervisor.supervise(base.later(2), base.plan, elapsed=0.0)
    except Exception as error:
        return Verdict.CRASHED, f"{way}: {type(error).__name__}: {error}"
    for published in (out, again):
        if wrong := driveable(published):
            return Verdict.ESCAPED, f"{way}: {wrong}"
    if not again.tail_accepted:
        return Verdict.ESCAPED, f"{way}: the next sound scene is not driven soundly ({again.reason})"
    if out.reason.startswith("scene rejected"):
        return Verdict.REFUSED, ""
    if way in MUST_REFUSE:
        return Verdict.ESCAPED, f"{way}: not refused ({out.source}, {out.reason})"
    # The scene was believed; what was driven in it must be fit for the sound one, unless it was the stop.
    report = check(base.later(1), out.trajectory, out.tail, base.primed.vehicle, base.primed.config.checker)
    if way == "huge" and out.source == "candidate" and not report.accepted:
        return Verdict.ESCAPED, f"{way}: drove what the sound scene forbids ({report.reason})"
    return Verdict.HARMLESS, ""
