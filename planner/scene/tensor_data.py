"""Base of the contract types: dataclasses of tensors that know their own shapes.

A field is declared once, as a jaxtyping annotation such as ``Float[Tensor, "*batch A 5"]``.
Validation, stacking, indexing and the file formats all read that annotation, so the
declared shape, the checked shape and the stored shape cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

SCHEMA_VERSION = 1
"""Version of the JSON and npz forms. A reader refuses any other."""


@dataclasses.dataclass(frozen=True)
class FieldSpec:
    """What an annotation says about a field.

    kind: "float", "int", "bool" (tensors), "nested" (another TensorData) or "meta".
    dims: names or sizes of the axes after the batch axes; empty for nested and meta.
    nested: the TensorData class of a nested field.
    """

    name: str
    kind: str
    dims: tuple[str, ...]
    optional: bool
    nested: Any = None


def _spec(name: str, hint: Any) -> FieldSpec:
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [h for h in typing.get_args(hint) if h is not type(None)]
        optional = len(members) < len(typing.get_args(hint))
        hint = members[0]
    if hasattr(hint, "dim_str") and getattr(hint, "array_type", None) is Tensor:
        words = hint.dim_str.split()
        assert words[0] == "*batch", f"{name}: a contract field starts with *batch"
        kind = {"Float": "float", "Int": "int", "Bool": "bool"}[hint.__name__.split("[")[0]]
        return FieldSpec(name, kind, tuple(words[1:]), optional)
    if isinstance(hint, type) and issubclass(hint, TensorData):
        return FieldSpec(name, "nested", (), optional, hint)
    return FieldSpec(name, "meta", (), optional)


def _specs(cls: Any) -> tuple[FieldSpec, ...]:
    return _specs_of(cls)


@cache
def _specs_of(cls: type) -> tuple[FieldSpec, ...]:
    hints = typing.get_type_hints(cls)
    return tuple(_spec(f.name, hints[f.name]) for f in dataclasses.fields(cls))


class TensorData:
    """Mixin for contract dataclasses. See the module's docstring."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    # -- shape ---------------------------------------------------------------------
    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes shared by all fields; () for a single scene."""
        for spec in _specs(type(self)):
            value = getattr(self, spec.name)
            if value is None or spec.kind == "meta":
                continue
            if spec.kind == "nested":
                return value.batch_shape
            return tuple(value.shape[: value.ndim - len(spec.dims)])
        return ()

    def validate(self) -> Self:
        """Check shapes, dtypes and finiteness; return self.

        Raises ValueError (wrong value or shape) or TypeError (wrong dtype), naming the
        field, what was expected and what came.
        """
        self._validate(type(self).__name__, None, {})
        return self

    def _validate(self, path: str, batch: tuple[int, ...] | None, sizes: dict[str, int]) -> None:
        batch = self.batch_shape if batch is None else batch
        for spec in _specs(type(self)):
            value, where = getattr(self, spec.name), f"{path}.{spec.name}"
            if spec.kind == "meta":
                continue
            if value is None:
                if not spec.optional:
                    raise ValueError(f"{where}: expected a value, got None")
                continue
            if spec.kind == "nested":
                if not isinstance(value, spec.nested):
                    raise TypeError(f"{where}: expected {spec.nested.__name__}, got {type(value).__name__}")
                # Axis names are local to a type: A in tracks and A in futures are tied by VectorScene.
                value._validate(where, batch, {})
                continue
            _check_tensor(where, spec, value, batch, sizes)
        self._validate_values(path)

    def _validate_values(self, path: str) -> None:
        """Hook for checks beyond shapes (ranges, order, positive definiteness)."""

    # -- conversion ----------------------------------------------------------------
    def apply(self, fn: typing.Callable[[Tensor], Tensor]) -> Self:
        """Apply fn to every tensor, nested ones included."""
        changes = {}
        for spec in _specs(type(self)):
            value = getattr(self, spec.name)
            if value is None or spec.kind == "meta":
                continue
            changes[spec.name] = value.apply(fn) if spec.kind == "nested" else fn(value)
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str) -> Self:
        """The same data on another device."""
        return self.apply(lambda t: t.to(device))

    def double(self) -> Self:
        """Floating-point fields in float64; integers and masks unchanged."""
        return self.apply(lambda t: t.double() if t.is_floating_point() else t)

    def detach(self) -> Self:
        """The same data without gradient history."""
        return self.apply(lambda t: t.detach())

    def __getitem__(self, index: Any) -> Self:
        """Index the batch axes. Meta fields that stacking made a tuple are indexed by integers and slices."""
        if not self.batch_shape:
            raise IndexError(f"{type(self).__name__} has no batch axis to index")
        return self.apply(lambda t: t[index])._index_meta(index)

    def _index_meta(self, index: Any) -> Self:
        changes: dict[str, Any] = {}
        for spec in _specs(type(self)):
            value = getattr(self, spec.name)
            if spec.kind == "nested" and value is not None:
                changes[spec.name] = value._index_meta(index)
            elif spec.kind == "meta" and isinstance(value, tuple) and isinstance(index, (int, slice)):
                changes[spec.name] = value[index]
        return dataclasses.replace(self, **changes)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def stack(cls, items: typing.Sequence[Self]) -> Self:
        """Stack along a new first axis. Named axes of unequal length are padded.

        Padding is zero for numbers and False for masks, so a padded entry is always
        masked out. Optional fields must be present in all items or in none. A meta field
        (a name, a source) becomes a tuple where the items differ.
        """
        if not items:
            raise ValueError(f"{cls.__name__}.stack: expected at least one item, got none")
        values: dict[str, Any] = {}
        for spec in _specs(cls):
            column = [getattr(item, spec.name) for item in items]
            missing = [value is None for value in column]
            if any(missing) and spec.kind != "meta":
                if not all(missing):
                    raise ValueError(f"{cls.__name__}.{spec.name}: present in some items and absent in others")
                values[spec.name] = None
            elif spec.kind == "meta":
                # A tuple stands for one batch axis; only a plain value may stand for all items.
                same = all(value == column[0] for value in column) and not isinstance(column[0], tuple)
                values[spec.name] = column[0] if same else tuple(column)
            elif spec.kind == "nested":
                values[spec.name] = spec.nested.stack(column)
            else:
                values[spec.name] = _stack_padded(column)
        return cls(**values)

    # -- storage -------------------------------------------------------------------
    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Flat mapping from dotted field names to arrays; meta fields as JSON strings."""
        out: dict[str, np.ndarray] = {}
        for spec in _specs(type(self)):
            value, key = getattr(self, spec.name), prefix + spec.name
            if value is None:
                continue
            if spec.kind == "nested":
                out.update(value.to_arrays(key + "."))
            elif spec.kind == "meta":
                out[key] = np.array(json.dumps(value))
            else:
                out[key] = value.detach().cpu().numpy()
        return out

    @classmethod
    def from_arrays(cls, arrays: typing.Mapping[str, np.ndarray], prefix: str = "") -> Self:
        """Inverse of `to_arrays`. Raises ValueError when a required field is absent."""
        values: dict[str, Any] = {}
        for spec in _specs(cls):
            key = prefix + spec.name
            if spec.kind == "nested":
                present = any(name.startswith(key + ".") for name in arrays)
                values[spec.name] = spec.nested.from_arrays(arrays, key + ".") if present else None
            elif key not in arrays:
                values[spec.name] = None
            elif spec.kind == "meta":
                values[spec.name] = _tuples(json.loads(str(arrays[key])))
            else:
                values[spec.name] = torch.from_numpy(np.array(arrays[key]))
            if values[spec.name] is None and not spec.optional:
                raise ValueError(f"{cls.__name__}: stored data lacks the field {key!r}")
        return cls(**values).validate()

    def save(self, path: str | Path) -> Path:
        """Write as ``.npz`` (exact) or ``.json`` (readable), by the file's ending.

        The file appears under its name only when it is complete.
        """
        path = Path(path)
        arrays = self.to_arrays()
        partial = path.with_name(path.name + ".tmp")
        if path.suffix == ".npz":
            with open(partial, "wb") as file:
                np.savez_compressed(file, __type__=type(self).__name__, __schema__=SCHEMA_VERSION, **arrays)
        elif path.suffix == ".json":
            partial.write_text(self.to_json())
        else:
            raise ValueError(f"save: expected a path ending in .npz or .json, got {path.name!r}")
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises ValueError on another type or schema version."""
        path = Path(path)
        if path.suffix == ".json":
            return cls.from_json(path.read_text())
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        _check_header(cls, str(arrays.pop("__type__", "?")), int(arrays.pop("__schema__", -1)))
        return cls.from_arrays(arrays)

    def to_json(self) -> str:
        """JSON with shapes and dtypes, so that empty axes survive."""
        fields = {
            key: str(a)
            if a.dtype.kind == "U"
            else {"dtype": str(a.dtype), "shape": a.shape, "data": a.ravel().tolist()}
            for key, a in self.to_arrays().items()
        }
        return json.dumps({"type": type(self).__name__, "schema": SCHEMA_VERSION, "fields": fields})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`."""
        stored = json.loads(text)
        _check_header(cls, stored.get("type", "?"), stored.get("schema", -1))
        arrays = {
            key: np.array(v) if isinstance(v, str) else np.array(v["data"], dtype=v["dtype"]).reshape(v["shape"])
            for key, v in stored["fields"].items()
        }
        return cls.from_arrays(arrays)


def _check_header(cls: type, stored_type: str, schema: int) -> None:
    if stored_type != cls.__name__:
        raise ValueError(f"expected a stored {cls.__name__}, got {stored_type}")
    if schema != SCHEMA_VERSION:
        raise ValueError(f"{cls.__name__}: expected schema version {SCHEMA_VERSION}, got {schema}")


_KINDS = {
    "float": (torch.float64, torch.float32, torch.float16, torch.bfloat16),
    "bool": (torch.bool,),
    "int": (torch.int64, torch.int32),
}


def _check_tensor(where: str, spec: FieldSpec, value: Any, batch: tuple[int, ...], sizes: dict[str, int]) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{where}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype not in _KINDS[spec.kind]:
        raise TypeError(f"{where}: expected {spec.kind} values, got {value.dtype}")
    shape = tuple(value.shape)
    expected = [sizes.get(d, d) if not d.isdigit() else int(d) for d in spec.dims]
    tail = shape[len(shape) - len(expected) :]
    if len(tail) < len(expected) or shape[: len(shape) - len(tail)] != batch:
        raise ValueError(f"{where}: expected shape {_show(batch, expected)}, got {shape}")
    for dim, size, want in zip(spec.dims, tail, expected):
        if want == dim:
            sizes.setdefault(dim, size)
        elif size != want:
            raise ValueError(f"{where}: expected shape {_show(batch, expected)}, got {shape}")
    # A sum is finite only if all terms are; it may overflow where they are, so that one more look decides.
    if spec.kind == "float" and not math.isfinite(value.detach().sum().item()):
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise ValueError(f"{where}: expected finite numbers, got {bad} NaN or infinite of {value.numel()}")


def plain(value: Tensor) -> np.ndarray:
    """The values without history, for checks: several small ones are faster on arrays than on tensors."""
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.float16, torch.bfloat16) else value).numpy()


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _show(batch: tuple[int, ...], dims: list[Any]) -> str:
    return "(" + ", ".join(str(d) for d in (*batch, *dims)) + ")"


def _stack_padded(tensors: list[Tensor]) -> Tensor:
    shapes = [t.shape for t in tensors]
    if len({len(s) for s in shapes}) != 1:
        raise ValueError(f"stack: expected equal numbers of axes, got shapes {[tuple(s) for s in shapes]}")
    full = [max(sizes) for sizes in zip(*shapes)] if shapes[0] else []
    padded = []
    for t in tensors:
        if list(t.shape) != full:
            pads: list[int] = []
            for size, want in zip(reversed(t.shape), reversed(full)):
                pads += [0, want - size]
            t = torch.nn.functional.pad(t, pads)
        padded.append(t)
    return torch.stack(padded)
