"""Result directories of studies: resumed, never mixed, every table and page made from their lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eval.commands.ablation import ablation_rows
from eval.commands.inject import search_rows, table_rows
from eval.config import RunConfig, updated
from eval.layers import LAYERS
from eval.run.executor import Event
from eval.run.store import Key, RunDirError
from eval.run.task import trace_path
from eval.studies import study
from eval.studies.drives import DriveTask, Scene
from eval.studies.page import Cell, Table, link, write_page
from eval.studies.study import completed, open_study

CONFIG = updated(RunConfig(), {"execution": {"workers": 1, "retries": 0}})
SCENE = Scene("protocol", "CCRs", (("ego_kmh", 30.0),))


def in_this_process(tasks, work, **_how):
    """Stands for the executor, which has tests of its own."""
    for task in tasks:
        yield Event("started", task, 0)
        try:
            yield Event("finished", task, 0, work(task, lambda fraction: None))
        except Exception as error:
            yield Event("failed", task, 0, str(error))


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch) -> None:
    monkeypatch.setattr(study, "run_tasks", in_this_process)


def tasks(*names: str) -> list[DriveTask]:
    return [DriveTask(name, SCENE, facts={"kind": "k"}) for name in names]


def quick_drive(task: DriveTask, progress: Callable[[float], None], *, config: RunConfig, run_dir: Path) -> dict:
    """A line without a drive; leaves a mark per call. The task's name says what happens: "raise"."""
    marks = run_dir.parent / "calls"
    marks.mkdir(exist_ok=True)
    (marks / f"{task.name}.{len(list(marks.glob(f'{task.name}.*')))}").touch()
    if task.name.startswith("raise"):
        raise ValueError("no way through")
    path = run_dir / trace_path(task.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"trace")
    facts = {"scene": task.scene.label, "note": "", **task.facts}
    return {**task.key._asdict(), "status": "completed", "error": None, "trace": trace_path(task.key), "study": facts}


def run(run_dir: Path, *names: str, settings: dict | None = None, config: RunConfig = CONFIG) -> list[dict]:
    with open_study("test", run_dir, config, quick_drive, settings or {"a": 1}, fresh=False) as opened:
        return opened.run(tasks(*names))


def test_finished_drives_are_kept_and_failed_ones_get_another_chance(tmp_path) -> None:
    folder = tmp_path / "study"
    first = run(folder, "one", "raise1")
    assert [line["status"] for line in first] == ["completed", "failed"]
    assert "no way through" in first[1]["error"]
    assert len(completed(first)) == 1
    again = run(folder, "one", "raise1", "two")
    assert [line["scenario"] for line in again] == ["one", "raise1", "two"]
    calls = sorted(path.name for path in (tmp_path / "calls").iterdir())
    assert calls == ["one.0", "raise1.0", "raise1.1", "two.0"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["study"], manifest["settings"], manifest["status"]) == ("test", {"a": 1}, "failed")
    assert (manifest["seed"], manifest["samples"]) == (0, 3)
    assert {"configuration", "code version", "study"} == set(manifest["identity"])


def test_results_of_another_study_are_not_mixed_in(tmp_path) -> None:
    folder = tmp_path / "study"
    run(folder, "one")
    with pytest.raises(RunDirError, match="another study"):
        run(folder, "one", settings={"a": 2})
    with pytest.raises(RunDirError, match="another configuration"):
        run(folder, "one", config=updated(CONFIG, {"simulation": {"seed": 1}}))


def test_layers_are_part_of_a_drives_name() -> None:
    names = [replace(tasks("one")[0], layers=LAYERS[:n]).key.planner for n in range(5)]
    assert len(set(names)) == 5
    assert (names[0], names[2], names[4]) == ("planner", "planner+checker+tail", "dualdrive")


def fact(margin: float, *, hit: int = 0, passed: bool = True, size: float = 1.0, mode: str = "sweep") -> dict:
    key = Key(f"s~{size:g}", "dualdrive", "log_replay")
    found = 0.3 if passed else None
    return {
        "row": 1, "kind": "missed", "size": size, "onset": 2.0, "mode": mode, "scene": "s", "criterion": "c",
        "faults": [f"missed_{size:g}"], "at_fault": hit, "twin_at_fault": 0, "survived": not hit, "passed": passed,
        "detection": found, "without_tail": 1, "margin": margin, "key": key,
    }  # fmt: skip


def test_a_row_of_the_fault_table() -> None:
    (row,) = table_rows([fact(2.0), fact(-3.0, hit=1, passed=False, size=5.0), fact(1.0, size=3.0)])
    assert (row["injected"], row["survived"], row["collisions"], row["passed"], row["detected"]) == (3, 2, 1, 2, 2)
    assert row["worst_margin"] == -3.0
    assert row["worst"] == ["s~5", "dualdrive", "log_replay"]
    assert row["detection_s"] == 0.3
    low, high = row["collision_interval"]
    assert low == pytest.approx(0.0084, abs=1e-3)  # Clopper-Pearson, 1 of 3
    assert high == pytest.approx(0.9057, abs=1e-3)


def test_what_the_search_adds() -> None:
    (row,) = search_rows([fact(2.0)], [fact(1.5, mode="search"), fact(0.5, size=2.5, mode="search")])
    assert (row["swept"], row["searched"], row["size"], row["drives"]) == (2.0, 0.5, 2.5, 2)


def test_a_layer_that_is_worth_nothing_is_said_to_be() -> None:
    bad, good = fact(-3.0, hit=1, passed=False), fact(1.0)
    rows = ablation_rows({(): [bad], LAYERS[:1]: [good], LAYERS[:2]: [good]})
    assert [row["at_fault"] for row in rows] == [1, 0, 0]
    assert rows[0]["worth"] == ""
    assert rows[1]["worth"] == "1 collisions fewer, 0 more, row criteria +1"
    assert rows[2]["worth"] == "nothing on these drives"
    worse = ablation_rows({LAYERS[:1]: [good], LAYERS[:2]: [bad]})[1]
    assert worse["worth"] == "0 collisions fewer, 1 more, row criteria -1"


def test_every_drive_is_one_click_away(tmp_path) -> None:
    key = Key("s~missed_8_at2", "dualdrive", "log_replay")
    assert link(key, 3.25) == "report.html#s~missed_8_at2/dualdrive/log_replay/3.2"
    table = Table("T", ["a", "b"], [["<x>", Cell("1.0", "n & m", "bad", key, "dualdrive …")]])
    page = write_page(tmp_path / "p.html", "A < B", ["lead"], [table]).read_text()
    assert f'<a href="{link(key)}">' in page
    assert "&lt;x&gt;" in page
    assert "n &amp; m" in page
    assert '<td class="bad"' in page
    assert "http" not in page  # opens offline
