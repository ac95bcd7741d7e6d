"""The command line: options become settings, mistakes become one clear message and an exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eval import cli
from eval.commands import drive as drive_command
from eval.config import RunConfig
from eval.run.samples import Sample, list_samples
from eval.run.store import RunDirError
from eval.typed_config import ConfigError
from perception.nuscenes_tables import DatasetError

runner = CliRunner()


def text(output: str) -> str:
    """Without colours, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", output))


@pytest.fixture
def driven(monkeypatch) -> list[tuple[RunConfig, Path, bool]]:
    """What `drive` was asked to do, instead of doing it."""
    calls: list[tuple[RunConfig, Path, bool]] = []

    def record(config: RunConfig, run_dir: Path, *, fresh: bool = False) -> int:
        calls.append((config, run_dir, fresh))
        return 0

    monkeypatch.setattr(drive_command, "drive", record)
    return calls


# -- options -----------------------------------------------------------------------
def test_options_become_settings(driven) -> None:
    command = (
        "drive --dataset nuscenes --dataroot data --version v1.0-mini --scene scene-0061 --scene scene-0103 "
        "--planner idm --planner expert --traffic both --out runs/x -j 3 --fresh --no-report simulation.seed=4"
    )
    assert runner.invoke(cli.app, command.split()).exit_code == 0
    [(config, run_dir, fresh)] = driven
    assert (config.data.dataset, config.data.dataroot, config.data.version) == ("nuscenes", "data", "v1.0-mini")
    assert config.data.scenes == ("scene-0061", "scene-0103")
    assert config.planners == ("idm", "expert")
    assert config.traffic == ("log_replay", "idm")
    assert (config.execution.workers, config.execution.report, config.simulation.seed) == (3, False, 4)
    assert (run_dir, fresh) == (Path("runs/x"), True)


def test_what_is_not_given_stays_as_the_configuration_says(driven, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("planners: [idm]\ndata: {seeds: [7]}\nexecution: {workers: 5}\n")
    result = runner.invoke(cli.app, ["drive", "--config", str(tmp_path / "mine.yaml"), "data.families=[cut_in]"])
    assert result.exit_code == 0, result.output
    [(config, _, fresh)] = driven
    assert (config.planners, config.data.seeds, config.execution.workers) == (("idm",), (7,), 5)
    assert config.data.families == ("cut_in",)
    assert config.traffic == RunConfig().traffic
    assert not fresh


def test_options_win_over_overrides_and_overrides_over_the_file(driven) -> None:
    runner.invoke(cli.app, ["drive", "-c", "families", "--seeds", "10-11", "data.seeds=[3]", "planners=[idm]"])
    [(config, _, _)] = driven
    assert config.data.seeds == (10, 11)
    assert config.planners == ("idm",)


def test_demo_drives_the_shipped_configuration(driven) -> None:
    assert runner.invoke(cli.app, ["demo", "--out", "runs/y"]).exit_code == 0
    [(config, run_dir, _)] = driven
    assert config.data.dataset == "generated"
    assert run_dir == Path("runs/y")


# -- mistakes ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["drive", "planer.horizon=3"], 2, "did you mean 'planner'?"),
        (["drive", "execution.workers=two"], 2, "execution.workers: expected a whole number, got 'two'"),
        (["drive", "--config", "absent.yaml"], 2, "cannot read the configuration absent.yaml"),
        (["drive", "--seeds", "none"], 2, "seeds: expected a count (20)"),
        (["drive", "--planner", "idn"], 2, "idn"),
        (["drive", "--traffic", "jam"], 2, "jam"),
        (["drive", "--dataset", "nuscenes"], 2, "need --dataroot"),
        (["drive", "--family", "cut_im"], 2, "unknown family 'cut_im'; did you mean 'cut_in'?"),
        (["drive", "--dataset", "nuscenes", "--dataroot", "nowhere"], 1, "nowhere"),
        (["data", "check", "--dataroot", "nowhere"], 1, "nowhere"),
        (["report", "nowhere"], 1, "holds no scenarios.jsonl"),
        (["explain", "nowhere", "scene-0103"], 1, "holds no scenarios.jsonl"),
        (["evaluate", "open-loop"], 2, "need --dataroot"),
    ],
)
def test_a_mistake_is_one_clear_message_without_a_traceback(tmp_path, monkeypatch, arguments, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == code, result.output
    assert message in text(result.output)
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()  # nothing begun


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("a.b: wrong"), 2, "Error: a.b: wrong"),
        (RunDirError("x is locked", "wait"), 1, "Error: x is locked Fix: wait"),
        (DatasetError("table scene is cut off", "copy it again"), 1, "cut off Fix: copy it again"),
        (OSError(28, "No space left on device", "out/t.npz"), 1, "finished scenarios are kept Fix: make room"),
        (PermissionError(13, "Permission denied", "/out"), 1, "Permission denied: '/out'"),
    ],
)
def test_what_goes_wrong_in_a_run_is_told_with_its_fix(monkeypatch, error, code, message) -> None:
    def broken(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(drive_command, "drive", broken)
    result = runner.invoke(cli.app, ["drive"])
    assert result.exit_code == code
    assert message in text(result.output)


def test_a_bug_keeps_its_traceback(monkeypatch) -> None:
    def buggy(*_: object, **__: object) -> int:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(drive_command, "drive", buggy)
    assert isinstance(runner.invoke(cli.app, ["drive"]).exception, ZeroDivisionError)


def test_ctrl_c_ends_with_130(monkeypatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


# -- help --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "command", ["", "drive", "demo", "evaluate", "evaluate open-loop", "data check", "report", "explain", "doctor"]
)
def test_every_command_explains_itself(command: str) -> None:
    result = runner.invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version_and_help_do_not_load_the_numerical_libraries() -> None:
    program = (
        "import sys; from eval import cli; cli.app(['--version'], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("dualdrive 0.")


# -- what is driven ----------------------------------------------------------------
def test_generated_samples_are_families_times_seeds() -> None:
    data = RunConfig().data
    from eval.simulation.generate import FAMILIES

    assert len(list_samples(data)) == len(FAMILIES)
    assert Sample("cut_in_0000", "cut_in", 0) in list_samples(data)


def test_nuscenes_samples_are_scenes_in_order(nuscenes_root) -> None:
    import dataclasses

    data = dataclasses.replace(RunConfig().data, dataset="nuscenes", dataroot=str(nuscenes_root))
    names = [sample.name for sample in list_samples(data)]
    assert names == sorted(names)
    assert "scene-0061" in names
    with pytest.raises(ConfigError, match="unknown scene 'scene-61'; did you mean 'scene-0061'"):
        list_samples(dataclasses.replace(data, scenes=("scene-61",)))


# -- the whole way -----------------------------------------------------------------
def test_a_short_drive_from_the_command_to_the_report(tmp_path) -> None:
    """Ours and a baseline on a generated scenario, with one worker and with two: the same drives."""
    hashes = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        command = (
            f"drive --family cut_in --planner dualdrive --planner idm --traffic log_replay -j {workers} --out {out}"
        )
        result = runner.invoke(cli.app, [*command.split(), "simulation.duration=1.5"])
        assert result.exit_code == 0, result.output
        lines = [json.loads(line) for line in (out / "scenarios.jsonl").read_text().splitlines()]
        hashes.append({line["planner"]: line["state_hash"] for line in lines})
        assert "Report:" in result.output
        assert (out / "report.html").stat().st_size > 10_000
        assert (out / "recordings" / "cut_in_0000.npz").exists()
        summary = json.loads((out / "summary.json").read_text())
        assert [run["planner"] for run in summary["runs"]] == ["dualdrive", "idm"]
        assert all(run["completed"] == run["scenarios"] == 1 for run in summary["runs"])
        assert 0 < summary["runs"][0]["cycle_ms"]["p50"] <= summary["runs"][0]["cycle_ms"]["p999"]
        with np.load(out / lines[0]["trace"]) as trace:
            assert len(trace["time"]) == 16
    assert hashes[0] == hashes[1]

    explained = runner.invoke(cli.app, ["explain", str(tmp_path / "1"), "cut_in_0000"])
    assert explained.exit_code == 0, explained.output
    assert "at_fault_collisions" in explained.output
    moment = runner.invoke(cli.app, ["explain", str(tmp_path / "1"), "cut_in_0000", "--time", "1.0"])
    assert "1.0 s:" in text(moment.output)
    assert "decision" in moment.output
    assert runner.invoke(cli.app, ["explain", str(tmp_path / "1"), "cut_in_0000", "--time", "9"]).exit_code == 2
    assert runner.invoke(cli.app, ["explain", str(tmp_path / "1"), "cut_in_0001"]).exit_code == 2
    assert runner.invoke(cli.app, ["report", str(tmp_path / "1")]).exit_code == 0
