"""Pages of studies: plain tables in one offline HTML file, every drive one click away in the report beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from eval.run.store import REPORT, Key, write_atomic

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a9d5c; --bad: #d1495b; --warn: #e0a030; --none: #8886; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px; max-width: 1500px; }
h1 { font-size: 20px; } h2 { font-size: 16px; margin-top: 28px; } p { max-width: 110ch; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { border: 1px solid var(--line); padding: 3px 8px; text-align: left; vertical-align: top; }
th { font-weight: 600; } td a { color: inherit; display: block; }
.good { background: color-mix(in srgb, var(--good) 28%, transparent); }
.bad { background: color-mix(in srgb, var(--bad) 55%, transparent); }
.warn { background: color-mix(in srgb, var(--warn) 35%, transparent); }
.none { background: var(--none); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 4px 0; font-size: 12px; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 5px; }
.row { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; } figure { margin: 0; }
figcaption { font-size: 12px; margin-bottom: 4px; }
svg { max-width: 100%; } svg text { fill: currentColor; font-size: 11px; } .grid { stroke: var(--line); }
.series { fill: none; stroke-width: 1.8; } .diagonal { fill: none; stroke-dasharray: 4 4; opacity: 0.6; }
small { opacity: 0.75; } code { font-size: 12px; }
"""


@dataclass(frozen=True)
class Cell:
    """text; note: below it. tone: "good", "bad", "warn", "none" or "". key: the drive to open. title: on hover."""

    text: str
    note: str = ""
    tone: str = ""
    key: Key | None = None
    title: str = ""


@dataclass
class Table:
    """A heading, a sentence, column names and rows; the first cell of a row is its label."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell | str]] = field(default_factory=list)
    about: str = ""


@dataclass
class Figures:
    """A heading, a sentence, and pictures side by side: (caption, SVG) pairs; legend: marked-up words below."""

    title: str
    pictures: Sequence[tuple[str, str]]
    about: str = ""
    legend: str = ""


def link(key: Key, seconds: float | None = None) -> str:
    """Address of a drive (at a moment) in the report of the same directory."""
    parts = [*key, *([f"{seconds:.1f}"] if seconds is not None else [])]
    return f"{REPORT}#{quote('/'.join(parts))}"


def write_page(path: Path, title: str, lead: Sequence[str], tables: Sequence[Table | Figures], style: str = "") -> Path:
    """Write the page; `lead`: paragraphs above the tables. style: CSS of its pictures."""
    body = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(text)}</p>" for text in lead)]
    for table in tables:
        body.append(f"<h2>{html.escape(table.title)}</h2>")
        if table.about:
            body.append(f"<p>{html.escape(table.about)}</p>")
        if isinstance(table, Figures):
            drawn = (f"<figure><figcaption>{html.escape(c)}</figcaption>{svg}</figure>" for c, svg in table.pictures)
            body.append(f'<div class="row">{"".join(drawn)}</div>{table.legend}')
            continue
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
        body.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}{style}</style></head><body>{''.join(body)}</body></html>\n"
    )
    return write_atomic(path, page)


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f"<td>{html.escape(cell)}</td>"
    inner = html.escape(cell.text) + (f"<br><small>{html.escape(cell.note)}</small>" if cell.note else "")
    if cell.key is not None:
        inner = f'<a href="{link(cell.key)}">{inner}</a>'
    tone = f' class="{cell.tone}"' if cell.tone else ""
    title = f' title="{html.escape(cell.title)}"' if cell.title else ""
    return f"<td{tone}{title}>{inner}</td>"
