"""Compiled inner loops of the stages around the solver; every one has a plain twin in Python beside its caller.

    integrate = compiled.kernel("dds_integrate", "f TTTTT RR nn")     # None where nothing is compiled
    integrate(step, v, a, jerk, kappa, start, states, parts, rows, steps)

The twin is the definition: it runs where there is no compiler, and tests hold the compiled version to it.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from planner import build_native
from planner.qp import native

VERSION = 3
"""Of the interface, `dds_version` in arrays.cpp."""

_DTYPES = {"T": torch.float64, "I": torch.int64, "B": torch.bool, "R": torch.float64, "J": torch.int64, "C": torch.bool}
_READ = "TIB"
_C = {"f": ctypes.c_double, "n": ctypes.c_int64}
_RECORD = "S"


@functools.cache
def _library() -> tuple[Any, str]:
    level = native.best_level() if native.available() else native.Level.BASELINE
    wider = {native.Level.AVX512: build_native.STAGES_AVX512, native.Level.AVX2: build_native.STAGES_AVX2}
    found = [library for at, library in wider.items() if level >= at and library.path.exists()]
    library = found[0] if found else build_native.STAGES
    if not library.path.exists():
        return None, f"{library.path} is missing: python -m planner.build_native"
    try:
        loaded = ctypes.CDLL(str(library.path))
        found = loaded.dds_version()
    except (OSError, AttributeError) as error:
        return None, f"{library.path} cannot be loaded: {error}"
    if found != VERSION:
        return None, f"{library.path} is of version {found}, not {VERSION}: python -m planner.build_native"
    return loaded, ""


def available() -> bool:
    """Whether the compiled library is there and loads."""
    return _library()[0] is not None


def why_not() -> str:
    """Why it is not available, with the command that mends it; empty where it is."""
    return _library()[1]


def kernel(symbol: str, signature: str) -> Callable[..., None] | None:
    """The compiled function of that name; None where the library is missing or, with a warning, older than its caller.

    Calls release the GIL.

    signature: a letter per argument, spaces are free. Tensors on the CPU: T float64, I int64, B bool are read (made
    contiguous if need be, None is a null pointer); R, J, C of the same types are written and must be contiguous.
    f: a float, n: an int, S: a struct made by `record`. Sizes are the caller's affair. Raises TypeError for another
    dtype or a scattered output, MemoryError if the function says so.
    """
    library, _ = _library()
    if library is None:
        return None
    function, letters = getattr(library, symbol, None), signature.replace(" ", "")
    if function is None:
        text = f"the compiled library lacks {symbol}, its slower twin is used: python -m planner.build_native"
        warnings.warn(text, stacklevel=2)
        return None
    dtypes = [_DTYPES.get(letter) for letter in letters]
    function.argtypes = [_C.get(letter, ctypes.c_void_p) for letter in letters]
    function.restype = ctypes.c_int64

    def call(*arguments: Any) -> None:
        if len(arguments) != len(letters):
            raise TypeError(f"{symbol}: expected {len(letters)} arguments, got {len(arguments)}")
        kept: list[Tensor] = []
        values = [
            x.data_ptr()
            if dtype and x is not None and x.dtype is dtype and x.is_cpu and x.is_contiguous()
            else _value(symbol, x, letter, kept)
            for x, letter, dtype in zip(arguments, letters, dtypes)
        ]
        if function(*values) != 0:
            raise MemoryError(f"{symbol} found no memory")

    return call


def record(name: str, signature: str) -> Callable[..., ctypes.Structure]:
    """Maker of a C struct with these fields, letters as in `kernel`, for functions that share what they read.

    Called with a value per field. The struct keeps its tensors alive, and copies of those that are not contiguous.
    Raises TypeError as the functions that `kernel` returns.
    """
    letters = signature.replace(" ", "")
    fields = [(f"field{i}", _C.get(letter, ctypes.c_void_p)) for i, letter in enumerate(letters)]
    struct: Any = type(name, (ctypes.Structure,), {"_fields_": fields})

    def make(*values: Any) -> ctypes.Structure:
        if len(values) != len(letters):
            raise TypeError(f"{name}: expected {len(letters)} values, got {len(values)}")
        kept: list[Tensor] = []
        out = struct(*[_value(name, x, c, kept) for x, c in zip(values, letters)])
        out.kept = (values, kept)
        return out  # type: ignore[no-any-return]

    return make


def _value(name: str, x: Any, letter: str, kept: list[Tensor]) -> Any:
    if letter in _DTYPES:
        return _pointer(name, x, letter, kept)
    return ctypes.byref(x) if letter == _RECORD else x


def _pointer(symbol: str, x: Tensor | None, letter: str, kept: list[Tensor]) -> int | None:
    if x is None:
        return None
    if x.dtype is not _DTYPES[letter] or not x.is_cpu:
        raise TypeError(f"{symbol}: expected {_DTYPES[letter]} on the CPU, got {x.dtype} on {x.device}")
    if not x.is_contiguous():
        if letter not in _READ:
            raise TypeError(f"{symbol}: an output is not contiguous")
        x = x.contiguous()
        kept.append(x)
    return x.data_ptr()
