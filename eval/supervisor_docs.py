"""Writes the table of the supervisor's rules into docs/safety.md: `python -m eval.supervisor_docs`.

A test holds the file in step with the code.
"""

from __future__ import annotations

import re
from pathlib import Path

from planner.supervision.supervisor_state import rules_table

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "safety.md"
_BETWEEN = re.compile(r"(<!-- rules -->\n).*?(<!-- /rules -->)", re.DOTALL)


def with_rules(text: str) -> str:
    """The document with the table between its markers exchanged. Raises ValueError where there are none."""
    if not _BETWEEN.search(text):
        raise ValueError("expected <!-- rules --> and <!-- /rules --> in the document")
    return _BETWEEN.sub(lambda match: f"{match[1]}\n{rules_table()}\n\n{match[2]}", text)


if __name__ == "__main__":
    DOCUMENT.write_text(with_rules(DOCUMENT.read_text()))
    print(f"wrote {DOCUMENT}")
