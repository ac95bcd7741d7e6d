"""Writes docs/configuration.md from the configuration dataclasses: `python -m eval.config_docs`.

A test holds the file in step with the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path
from typing import Any

import yaml

from eval.config import RunConfig
from eval.typed_config import to_mapping

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration

Written by `python -m eval.config_docs` from the dataclasses themselves; a test fails when it is out of step.

One YAML file per run (`--config my.yaml`, or a shipped one by name: `demo`, `nuscenes`, `families`), and any number of
`key=value` overrides on the command line, which win over the file. Options such as `--scene` win over both.

```
dualdrive drive --config nuscenes data.dataroot=data/nuscenes planner.comfort.headway=1.5 'traffic=[log_replay]'
```

- What is not given keeps its default, so an empty file is a valid one.
- An unknown key is refused with the nearest valid name, a wrong type with what was expected and what came. `3` is a
  number where `3.0` is expected, but nothing else is converted silently.
- Values are read as YAML: `true`, `3.5`, `[a, b]`, `null`.
- Every result directory holds `config.yaml` with all settings written out; `--config DIR/config.yaml` repeats the run.
- Everything except `execution.*` decides results: a directory is resumed only with equal settings.
"""


def document() -> str:
    """The whole text of docs/configuration.md."""
    return _INTRODUCTION + "".join(_section(RunConfig(), "", RunConfig))


def field_comments(cls: type) -> dict[str, str]:
    """What the comments at the end of a dataclass's field lines say."""
    pattern = re.compile(r"^    (\w+)\s*:[^#\n]*#\s*(.+)$", re.MULTILINE)
    return {name: text.strip() for name, text in pattern.findall(inspect.getsource(cls))}


def docstring_entries(cls: type) -> tuple[str, dict[str, str]]:
    """The docstring of a configuration class, split into its introduction and what it says about each field.

    An entry starts with one or more field names, each perhaps with its unit in parentheses, and a colon (or, where the
    unit says it all, a full stop). `start_*` speaks for every field that begins so.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    prefixes = sorted({name.split("_")[0] + "_*" for name in names})
    one = (
        "(?:" + "|".join(re.escape(n) for n in sorted([*names, *prefixes], key=len, reverse=True)) + r")(?: \([^)]*\))?"
    )
    text = re.sub(r"[ \n]*\n[ \n]*", " ", inspect.getdoc(cls) or "")
    heads = list(re.finditer(rf"(?<![\w.`*])({one}(?:, {one})*)(:|\.)(?=\s|$)", text))
    heads = [head for head in heads if head.group(2) == ":" or "(" in head.group(1)]
    entries: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None]):
        meaning = text[head.end() : following.start() if following else len(text)].strip()
        parts = re.findall(r"([\w*]+)(?: \(([^)]*)\))?", head.group(1))
        last_unit = parts[-1][1]
        for pattern, unit in parts:
            for name in names:
                if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                    entries[name] = "; ".join(filter(None, [unit or last_unit, meaning]))
    return text[: heads[0].start()].strip() if heads else text.strip(), entries


def undocumented(cls: type) -> list[str]:
    """Fields of a configuration class that neither its docstring nor a comment names; sections explain themselves."""
    known = {*docstring_entries(cls)[1], *field_comments(cls), *re.findall(r"\w+", inspect.getdoc(cls) or "")}
    hints = typing.get_type_hints(cls)
    return [
        f.name for f in dataclasses.fields(cls) if f.name not in known and not dataclasses.is_dataclass(hints[f.name])
    ]


def config_classes(config: Any = None) -> list[type]:
    """All dataclasses that a run's configuration is composed of, outermost first."""
    config = RunConfig() if config is None else config
    found = [type(config)]
    for value in _nested(config).values():
        found += [cls for cls in config_classes(value) if cls not in found]
    return found


def _nested(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    out = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    for name, value in values.items():
        if isinstance(value, dict) and value and dataclasses.is_dataclass(first := next(iter(value.values()))):
            out[f"{name}.*"] = first
    return out


def _section(config: Any, path: str, cls: type) -> list[str]:
    heading = f"\n## `{path}`\n" if path else "\n## Top level\n"
    introduction, entries = docstring_entries(cls)
    nested, hints = _nested(config), typing.get_type_hints(cls)
    meaning = {**entries, **field_comments(cls)}
    told_as_a_text = any(field.name not in {*meaning, *nested} for field in dataclasses.fields(cls))
    lines = [heading, f"\n{(inspect.getdoc(cls) if told_as_a_text else introduction) or ''}\n"]
    rows = [
        f"| `{field.name}` | {_type(hints[field.name])} | {_default(getattr(config, field.name))} "
        f"| {_cell(meaning.get(field.name, ''))} |\n"
        for field in dataclasses.fields(cls)
        if field.name not in nested
    ]
    if rows:
        lines += ["\n| setting | type | default | meaning |\n|---|---|---|---|\n", *rows]
    for name, value in nested.items():
        lines += _section(value, f"{path}.{name}" if path else name, type(value))
    return lines


def _type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return _cell(re.sub(r"\b[\w.]+\.(\w+)", r"\1", text))


def _default(value: Any) -> str:
    if isinstance(value, dict) and value and dataclasses.is_dataclass(next(iter(value.values()))):
        return "one entry each for " + ", ".join(_key(k) for k in value)
    plain = to_mapping(_Holder(value))["value"]
    return (
        f"`{_cell(yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip())}`"
    )


def _key(key: Any) -> str:
    return f"`{key.name.lower()}`" if hasattr(key, "name") else f"`{key}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


@dataclasses.dataclass
class _Holder:
    value: Any


if __name__ == "__main__":
    DOCUMENT.write_text(document())
