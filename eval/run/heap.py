"""Python's garbage collection during a drive: what was loaded before is not walked over in the middle of a cycle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Everything that lives now is left out of collections meanwhile, as in the deployed planner's process.

    A full collection walks over all of torch, which takes longer than a cycle. What becomes garbage in here is
    collected as usual; what was frozen is looked at again afterwards, between two drives.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
