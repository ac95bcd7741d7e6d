"""Typed configuration: frozen dataclasses from and to plain mappings, with errors that help.

Knows nothing about driving. A configuration is a dataclass of numbers, strings, booleans, enums, tuples,
mappings and further dataclasses; every field has a default. Unknown keys and wrong types are refused with
the dotted name, what was expected and what came.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import yaml

C = TypeVar("C")


class ConfigError(ValueError):
    """A configuration cannot be used; the message names the key, what was expected and what came."""


def from_mapping(cls: type[C], values: Mapping[str, Any], path: str = "") -> C:
    """Build `cls` from a nested mapping; what is left out keeps its default.

    Raises ConfigError for an unknown key (with the nearest valid name), a wrong type, or a value that the
    dataclass itself refuses.
    """
    return replaced(cls(), values, path)


def replaced(config: C, values: Mapping[str, Any], path: str = "") -> C:
    """A copy of the dataclass `config` with the given nested values exchanged. Raises ConfigError."""
    cls = type(config)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'configuration'}: expected a mapping of settings, got {_show(values)}")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in names:
            raise ConfigError(f"unknown setting {where!r}{_nearest(str(key), names, path)}")
        old = getattr(config, key)
        if dataclasses.is_dataclass(old) and not isinstance(old, type):
            changes[key] = replaced(old, value if value is not None else {}, where)
        elif isinstance(old, dict):
            changes[key] = _merged(old, value, hints[key], where)
        else:
            changes[key] = convert(value, hints[key], where)
    try:
        new = dataclasses.replace(config, **changes)  # type: ignore[type-var]
        if callable(validate := getattr(new, "validate", None)):
            validate()
        return new
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path or 'configuration'}: {error}") from error


def _merged(old: dict[Any, Any], values: Any, hint: Any, where: str) -> dict[Any, Any]:
    """A mapping with some entries exchanged; entries that are dataclasses themselves are exchanged in part."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {_show(values)}")
    key_hint, value_hint = typing.get_args(hint)
    new = dict(old)
    for raw, value in values.items():
        key = convert(raw, key_hint, where)
        if dataclasses.is_dataclass(old.get(key)):
            new[key] = replaced(old[key], value, f"{where}.{raw}")
        else:
            new[key] = convert(value, value_hint, f"{where}.{raw}")
    return new


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type, without loss: 3 is a float, 3.5 no int, "yes" no bool. Raises ConfigError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where}: expected one of {', '.join(map(str, arguments))}, got {_show(value)}")
    if origin in (tuple, list):
        return _convert_sequence(value, origin, arguments, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {_show(value)}")
        return {convert(k, arguments[0], where): convert(v, arguments[1], f"{where}.{k}") for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _convert_enum(value, hint, where)
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, members: Sequence[Any], where: str) -> Any:
    if value is None and type(None) in members:
        return None
    problems = []
    for member in members:
        if member is type(None):
            continue
        try:
            return convert(value, member, where)
        except ConfigError as error:
            problems.append(str(error))
    raise ConfigError(problems[0] if len(problems) == 1 else f"{where}: no alternative fits {_show(value)}")


def _convert_sequence(value: Any, kind: Any, arguments: Sequence[Any], where: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        value = [value]  # one value where several are allowed: `--set traffic=idm`
    if kind is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return kind(convert(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{where}: expected {len(arguments)} values, got {len(value)}")
    return tuple(convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, arguments)))


def _convert_enum(value: Any, hint: type[enum.Enum], where: str) -> enum.Enum:
    for member in hint:
        if value in (member, member.value) or (isinstance(value, str) and value.lower() == member.name.lower()):
            return member
    known = [str(m.value) if isinstance(m.value, str) else m.name.lower() for m in hint]
    raise ConfigError(f"{where}: expected one of {', '.join(known)}, got {_show(value)}")


def _convert_scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-3 as text
            value = float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, hint):
        raise ConfigError(f"{where}: expected {_NAMES.get(hint, getattr(hint, '__name__', hint))}, got {_show(value)}")
    if hint is float and math.isnan(value):
        raise ConfigError(f"{where}: expected a number, got NaN")
    return value


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested mapping of plain values that `from_mapping` turns back into an equal configuration."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    return value


def with_override(config: C, assignment: str) -> C:
    """`config` with one ``dotted.key=value`` assignment; the value is read as YAML. Raises ConfigError."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {assignment!r}: expected key=value, such as execution.workers=2")
    try:
        value: Any = yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"override {assignment!r}: the value is not readable ({error})") from error
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return replaced(config, value)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                raise ConfigError(f"the setting {key!r} stands twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """A YAML text as a mapping. Raises ConfigError naming the file and the line."""
    try:
        values = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not readable as YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected a mapping of settings, got {_show(values)}")
    return values


_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def _show(value: Any) -> str:
    kind = "nothing" if value is None else type(value).__name__
    return kind if value is None else f"{value!r} ({kind})"


def _nearest(key: str, names: Sequence[str], path: str) -> str:
    found = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    prefix = f"{path}." if path else ""
    if found:
        return f"; did you mean {prefix + found[0]!r}?"
    return f"; {path or 'the top level'} has: {', '.join(names)}"
