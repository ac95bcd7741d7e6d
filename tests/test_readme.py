"""What the README and the how-tos show, works: the example runs, the commands exist, the links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex

import pytest
from conftest import REPOSITORY
from typer.main import get_command

from eval.cli import app

DOCUMENTS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])


def blocks(name: str, language: str) -> list[str]:
    """Fenced code blocks of a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", (REPOSITORY / name).read_text(), re.MULTILINE | re.DOTALL)


def test_the_planner_example_runs_and_is_ten_lines(capsys) -> None:
    [program] = blocks("README.md", "python")
    statements = [node for node in ast.parse(program).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(statements) <= 10
    names: dict = {}
    exec(compile(program, "README.md", "exec"), names)
    result = names["result"]
    assert str(result.status) == "solved"
    front = names["scene"].ego.x + 3.442
    assert float(result.chosen.trajectory.x[-1] + front) < 45.0 - 2.25  # stays behind the car
    assert float(result.chosen.tail.v[-1]) == pytest.approx(0.0, abs=1e-3)
    assert "7" in capsys.readouterr().out  # names the car that holds it back


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_shown_exists_with_its_options(document) -> None:
    for line in re.findall(r"^(?:\$ )?(dualdrive [a-z-][^#\n]*)", document.read_text(), re.MULTILINE):
        words, command = shlex.split(line)[1:], get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.split("=")[0] for word in words if word.startswith("-")} <= options, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
        name, _, heading = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name} links to {target}"
        if heading:
            found = [re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in _headings(path)]
            assert heading in found, f"{document.name} links to {target}"


def _headings(path) -> list[str]:
    return re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)


def test_the_readme_names_every_command() -> None:
    text = (REPOSITORY / "README.md").read_text()
    for name in get_command(app).commands:
        assert f"dualdrive {name}" in text


def test_make_targets_that_are_named_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for document in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)", document.read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document.name}: make {target}"
