"""Keeps what was computed from a road, once per road and as long as the road lives."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from perception.road_map import RoadMap

T = TypeVar("T")

_KEPT: dict[int, dict[Hashable, Any]] = {}


def cached(road: RoadMap, key: Hashable, build: Callable[[], T]) -> T:
    """The value of `build()` for this road and key, built at the first call.

    The road must not change afterwards, and the value must not refer to the road itself, which could then never
    be freed.
    """
    if id(road) not in _KEPT:
        _KEPT[id(road)] = {}
        weakref.finalize(road, _KEPT.pop, id(road), None)
    values = _KEPT[id(road)]
    if key not in values:
        values[key] = build()
    return values[key]
