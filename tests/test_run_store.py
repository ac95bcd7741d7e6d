"""Runs survive exceptions, kill -9, Ctrl-C and a full disk; nothing finished is lost, nothing is counted twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from run_doubles import STEPS, count_calls, quick_work

from eval.commands import drive as drive_command
from eval.config import RunConfig, load_config
from eval.run.executor import Event, is_disk_full
from eval.run.samples import Sample
from eval.run.store import Key, ResultStore, RunDirError, read_lines, write_atomic

TESTS = Path(__file__).resolve().parent


def inline(tasks, work, **_):
    """`eval.run.executor.run_tasks` without processes."""
    for task in tasks:
        yield Event("started", task, 0)
        try:
            yield Event("finished", task, 0, work(task, lambda fraction: None))
        except Exception as error:
            if is_disk_full(error):
                raise
            yield Event("failed", task, 0, traceback.format_exc())


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Drives doubles by name, in `tmp_path / "out"`: `code = run("a", "b")`."""
    monkeypatch.setattr(drive_command, "run_tasks", inline)
    monkeypatch.setattr(drive_command, "code_hash", lambda: "code")

    def call(*names: str, fresh: bool = False, overrides: tuple[str, ...] = ()) -> int:
        monkeypatch.setattr(drive_command, "list_samples", lambda data: [Sample(name) for name in names])
        config = load_config(
            None,
            ["planners=[idm]", "traffic=[idm]", "execution.report=false", *overrides],
        )
        return drive_command.drive(config, tmp_path / "out", fresh=fresh, work=quick_work)

    return call


def lines(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Result lines by scenario; fails if one stands twice."""
    found = read_lines(tmp_path / "out" / "scenarios.jsonl")
    assert len({line["scenario"] for line in found}) == len(found)
    return {line["scenario"]: line for line in found}


def read(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "out" / name).read_text())


def result(scenario: str, status: str = "completed") -> dict[str, Any]:
    return {"scenario": scenario, "planner": "idm", "traffic": "idm", "status": status, "trace": "t.npz", "metrics": {}}


# -- a whole run -------------------------------------------------------------------
def test_a_clean_run_leaves_everything_the_documentation_names(run, tmp_path) -> None:
    assert run("a", "hit", "grass") == 0
    summary = read(tmp_path, "summary.json")
    assert (summary["schema"], summary["command"], summary["status"]) == (1, "drive", "completed")
    [row] = summary["runs"]
    assert (row["planner"], row["traffic"], row["scenarios"], row["completed"]) == ("idm", "idm", 3, 3)
    assert (row["at_fault_collisions"], row["off_road"]) == (1, 1)
    assert row["plans_without_tail"] == 3  # the first step of each double
    assert row["steps"] == 3 * STEPS
    assert row["score_cls"] == 0.5
    assert row["score_valid"] is True
    assert row["cycle_ms"] == {"p50": 9.0, "p99": STEPS - 1.0, "p999": STEPS - 1.0}
    manifest = read(tmp_path, "manifest.json")
    assert manifest["status"] == "completed"
    assert manifest["samples"] == 3
    assert {"python", "torch", "numpy"} <= set(manifest["versions"])
    assert load_config(tmp_path / "out" / "config.yaml").planners == ("idm",)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_failing_scenario_is_recorded_with_its_traceback_and_the_others_go_on(run, tmp_path) -> None:
    assert run("raise", "a", "b") == 1
    found = lines(tmp_path)
    assert found["raise"]["status"] == "failed"
    assert "ValueError: no road in raise" in found["raise"]["error"]
    assert "run_doubles.py" in found["raise"]["error"]
    assert found["a"]["status"] == found["b"]["status"] == "completed"
    [row] = read(tmp_path, "summary.json")["runs"]
    assert (row["completed"], row["failed"], row["score_valid"]) == (2, ["raise"], False)
    assert read(tmp_path, "manifest.json")["status"] == "failed"


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(run, tmp_path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run("a", "full", "b")
    assert set(lines(tmp_path)) == {"a"}
    assert read(tmp_path, "manifest.json")["status"] == "failed"


# -- resuming ----------------------------------------------------------------------
def test_the_same_command_again_drives_nothing_twice(run, tmp_path) -> None:
    assert run("a", "b") == 0
    first = (tmp_path / "out" / "summary.json").read_text()
    assert run("a", "b") == 0
    assert count_calls(tmp_path / "out") == 2
    assert (tmp_path / "out" / "summary.json").read_text() == first


def test_a_failed_scenario_gets_another_chance_and_a_finished_one_is_kept(run, tmp_path) -> None:
    run("raise", "a")
    assert run("raise", "a") == 1
    assert count_calls(tmp_path / "out") == 3
    assert len(lines(tmp_path)) == 2


def test_a_result_whose_trace_is_gone_is_driven_again(run, tmp_path) -> None:
    run("a", "b")
    (tmp_path / "out" / lines(tmp_path)["a"]["trace"]).unlink()
    assert run("a", "b") == 0
    assert count_calls(tmp_path / "out") == 3


@pytest.mark.parametrize("what", ["configuration", "list of scenarios", "code version"])
def test_results_of_another_run_are_not_mixed(run, tmp_path, monkeypatch, what) -> None:
    run("a")
    before = (tmp_path / "out" / "scenarios.jsonl").read_bytes()
    if what == "code version":
        monkeypatch.setattr(drive_command, "code_hash", lambda: "another")
    names = ("a", "b") if what == "list of scenarios" else ("a",)
    with pytest.raises(RunDirError, match=f"1 results of another {what}") as refused:
        run(*names, overrides=("simulation.seed=1",) if what == "configuration" else ())
    assert "--fresh" in refused.value.fix
    assert (tmp_path / "out" / "scenarios.jsonl").read_bytes() == before


def test_fresh_starts_again_and_removes_only_what_a_run_wrote(run, tmp_path) -> None:
    run("a")
    note = tmp_path / "out" / "my-notes.txt"
    note.write_text("keep")
    assert run("b", fresh=True) == 0
    assert set(lines(tmp_path)) == {"b"}
    assert not (tmp_path / "out" / "traces" / "idm" / "idm" / "a.npz").exists()
    assert note.read_text() == "keep"


def _start(tmp_path: Path, count: int) -> subprocess.Popen[str]:
    """A run of slow doubles in a process of its own."""
    program = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores from its shell on
sys.path.insert(0, {str(TESTS)!r})
if __name__ == "__main__":
    from pathlib import Path
    from run_doubles import quick_work
    from eval.commands import drive
    from eval.config import load_config
    from eval.run.samples import Sample
    drive.code_hash = lambda: "code"
    drive.list_samples = lambda data: [Sample(f"slow{{i}}") for i in range({count})]
    config = load_config(None, ["planners=[idm]", "traffic=[idm]", "execution.workers=1", "execution.report=false"])
    sys.exit(drive.drive(config, Path({str(tmp_path / "out")!r}), work=quick_work))
"""
    script = tmp_path / "run.py"
    script.write_text(program)
    return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_lines(tmp_path: Path, count: int) -> None:
    path, deadline = tmp_path / "out" / "scenarios.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"no {count} finished scenarios within 60 s")


def _stop_after(tmp_path: Path, count: int, how: signal.Signals) -> tuple[int, str, str]:
    """Start (or continue) the run, stop it after that many results; exit code and what it said."""
    process = _start(tmp_path, 5)
    _wait_for_lines(tmp_path, count)
    process.send_signal(how)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


def test_a_run_that_is_interrupted_and_then_killed_continues_where_it_was(tmp_path) -> None:
    def calls_of(name: str) -> int:
        return len(list((tmp_path / "calls").glob(f"{name}.*")))

    code, _, errors = _stop_after(tmp_path, 1, signal.SIGINT)
    assert code == 130
    assert "of 5 results are kept" in errors
    assert read(tmp_path, "manifest.json")["status"] == "interrupted"
    first = set(lines(tmp_path))
    assert 1 <= len(first) < 4

    code, output, _ = _stop_after(tmp_path, len(first) + 1, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert read(tmp_path, "manifest.json")["status"] == "running"
    second = set(lines(tmp_path))
    assert first < second
    assert len(second) < 5
    calls = {name: calls_of(name) for name in second}
    assert all(calls[name] == 1 for name in first)

    again = _start(tmp_path, 5)
    output, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert f"{len(second)} of 5 results are there and kept" in output
    assert len(lines(tmp_path)) == 5
    assert {name: calls_of(name) for name in second} == calls  # what was finished was not driven again
    assert read(tmp_path, "summary.json")["runs"][0]["completed"] == 5


# -- the store ---------------------------------------------------------------------
def opened(tmp_path: Path, **identity: str) -> ResultStore:
    return ResultStore.open(tmp_path, identity or {"configuration": "1"}, config_yaml="")


def test_a_torn_last_line_is_dropped_and_damage_before_it_is_not(tmp_path) -> None:
    with opened(tmp_path) as store:
        (tmp_path / "t.npz").touch()
        (tmp_path / "manifest.json").write_text('{"identity": {"configuration": "1"}}')
        store.add(result("a"))
        store.add(result("b"))
    path = tmp_path / "scenarios.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert len(read_lines(path)) == whole[:cut].count(b"\n")
    path.write_bytes(whole[:-5])
    with opened(tmp_path) as store:
        assert list(store.results) == [Key("a", "idm", "idm")]
        store.add(result("b"))
    assert path.read_bytes() == whole
    path.write_bytes(whole[:5] + b"\n" + whole[6:])
    with pytest.raises(RunDirError, match="line 1 is damaged"):
        read_lines(path)


def test_nothing_is_counted_twice(tmp_path) -> None:
    with opened(tmp_path) as store:
        store.add(result("a"))
        with pytest.raises(ValueError, match="already recorded"):
            store.add(result("a"))


def test_a_write_that_fails_half_way_leaves_only_whole_lines(tmp_path, monkeypatch) -> None:
    with opened(tmp_path) as store:
        store.add(result("a"))
        whole = (tmp_path / "scenarios.jsonl").read_bytes()

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.add(result("b"))
        assert (tmp_path / "scenarios.jsonl").read_bytes() == whole
        assert Key("b", "idm", "idm") not in store.results
        with pytest.raises(OSError, match="No space left"):
            write_atomic(tmp_path / "config.yaml", "new")
        assert (tmp_path / "config.yaml").read_text() == ""
        assert not (tmp_path / "config.yaml.tmp").exists()


def test_two_runs_cannot_write_into_one_directory(tmp_path) -> None:
    with opened(tmp_path), pytest.raises(RunDirError, match="another dualdrive command is writing"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_half_written_files_of_a_killed_run_are_removed(tmp_path) -> None:
    for name in ("traces/idm/idm/a.npz.tmp", "recordings/.a.17.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    opened(tmp_path).close()
    assert not list(tmp_path.rglob("*a*npz*"))


def test_default_configuration_is_what_the_issue_lists() -> None:
    assert RunConfig().planners == ("dualdrive", "expert", "constant_velocity", "idm", "pdm_style")
