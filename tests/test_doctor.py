"""The doctor names what is broken, why, and the command that mends it."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from eval import doctor
from eval.doctor import Finding, State, check_clashes, check_machine, check_packages, check_python, check_solver
from planner import build_native
from planner.qp import native

GOOD = {"numpy": "1.26.4", "torch": "2.13.0+cpu", "nuscenes-devkit": "1.2.0", "cvxpy": "1.7.5", "cvxpylayers": "1.0.4"}


def by_name(findings: list[Finding], name: str) -> Finding:
    [found] = [finding for finding in findings if finding.name.split(" ")[0] == name]
    return found


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), State.BROKEN), ((3, 11, 0), State.OK), ((3, 12, 9), State.OK), ((3, 13, 0), State.BROKEN)],
)
def test_python_just_inside_and_just_outside_the_range(version: tuple[int, ...], state: State) -> None:
    assert check_python(version).state is state


def test_the_verified_set_has_no_clash() -> None:
    assert [finding.state for finding in check_clashes(GOOD.get)] == [State.OK]


@pytest.mark.parametrize(
    ("change", "name", "fix"),
    [
        ({"pyarrow": "26.0.1"}, "pyarrow", "pip install 'pyarrow<26'"),
        ({"torchvision": "0.28.0"}, "torchvision", "pip uninstall -y torchvision"),
        ({"numpy": "2.4.6"}, "numpy", "pip install 'numpy==1.26.4'"),
        ({"cvxpylayers": "1.1.0"}, "cvxpylayers", "pip install 'cvxpylayers<1.1'"),
        ({"cvxpy": "1.9.3"}, "cvxpy", "pip install 'cvxpy<1.8'"),
        ({"rerun-sdk": "0.24.0"}, "rerun-sdk", "pip install 'rerun-sdk==0.23.1'"),
        (
            {"opencv-python": "4.11.0.86", "opencv-python-headless": "4.11.0.86"},
            "opencv",
            "pip uninstall -y opencv-python",
        ),
        ({"opencv-python-headless": "4.12.0"}, "opencv", "pip install 'opencv-python-headless<4.12'"),
    ],
)
def test_every_known_clash_is_found_with_its_fix(change: dict[str, str], name: str, fix: str) -> None:
    finding = by_name(check_clashes({**GOOD, **change}.get), name)
    assert (finding.state, finding.fix) == (State.BROKEN, fix)


@pytest.mark.parametrize(
    "change",
    [
        {"pyarrow": "25.0.1"},
        {"cvxpylayers": "1.0.9"},
        {"rerun-sdk": "0.23.1"},
        {"opencv-python-headless": "4.11.0.86"},
        {"torchvision": "0.28.0", "torch": "2.13.0+cu130"},
    ],
)
def test_what_is_just_allowed_is_no_clash(change: dict[str, str]) -> None:
    assert [finding.state for finding in check_clashes({**GOOD, **change}.get)] == [State.OK]


def test_a_missing_required_package_is_broken_and_a_missing_extra_is_a_note() -> None:
    findings = check_packages({}.get, {"torch": "2.13.0"})
    assert by_name(findings, "torch") == Finding("torch", State.BROKEN, "not installed", "pip install 'torch==2.13.0'")
    matplotlib = by_name(findings, "matplotlib")
    assert matplotlib.state is State.NOTE
    assert matplotlib.fix == "pip install -c constraints.txt '.[report]'"


def test_another_version_than_the_verified_one_is_a_note() -> None:
    scipy = by_name(check_packages({"scipy": "1.11.0"}.get, {"scipy": "1.17.1"}), "scipy")
    assert (scipy.state, scipy.fix) == (State.NOTE, "pip install 'scipy==1.17.1'")
    torch = by_name(check_packages({"torch": "2.13.0+cpu"}.get, {"torch": "2.13.0"}), "torch")
    assert torch.state is State.OK


def test_a_package_that_cannot_be_imported_is_broken(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "daqp", None)
    daqp = by_name(check_packages({"daqp": "0.11.0"}.get, {}), "daqp")
    assert daqp.state is State.BROKEN
    assert "cannot be imported" in daqp.detail


def test_a_folder_that_cannot_be_written_is_broken(tmp_path) -> None:
    findings = [doctor._check_writable(tmp_path), doctor._check_writable(tmp_path / "absent")]
    assert [finding.state for finding in findings] == [State.OK, State.BROKEN]


def test_a_missing_browser_costs_a_note_only(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert by_name(check_machine(tmp_path), "Chromium").state is State.NOTE


@pytest.mark.parametrize(
    ("compiler", "fix"),
    [
        (["c++"], "python -m planner.build_native"),
        (None, "apt-get install -y g++ && python -m planner.build_native"),
    ],
)
def test_a_missing_compiled_solver_is_a_note_that_says_what_it_costs(monkeypatch, compiler, fix) -> None:
    monkeypatch.setattr(native, "_library", lambda: (None, "libdualdrive_qp.so is missing"))
    monkeypatch.setattr(build_native, "compiler", lambda: compiler)
    finding = check_solver()
    assert (finding.state, finding.fix) == (State.NOTE, fix)
    assert "missing" in finding.detail
    assert "slower" in finding.detail


@pytest.mark.skipif(not native.available(), reason=native.why_not())
def test_a_compiled_solver_is_named_with_its_instruction_set() -> None:
    finding = check_solver()
    assert finding.state is State.OK
    assert native.best_level().name in finding.detail


def test_the_exit_code_and_the_fixes_that_are_printed(monkeypatch) -> None:
    def printed(*findings: Finding) -> tuple[int, str]:
        for name in ("check_packages", "check_clashes", "check_machine"):
            monkeypatch.setattr(doctor, name, list)
        monkeypatch.setattr(doctor, "check_packages", lambda: list(findings))
        monkeypatch.setattr(doctor, "check_python", lambda: Finding("Python", State.OK, "3.11"))
        out = io.StringIO()
        return doctor.run_doctor(Console(file=out, width=200)), out.getvalue()

    code, text = printed(Finding("a", State.NOTE, "old", "mend a"))
    assert code == 0
    assert "a: mend a" in text
    code, text = printed(Finding("b", State.BROKEN, "gone", "mend b"))
    assert code == 1
    assert "b: mend b" in text
    assert "Broken: b" in text


def test_this_environment_is_the_verified_one() -> None:
    """Runs only where constraints.txt was used; a mismatch means that its pins are not what was tested."""
    findings = [*check_packages(), *check_clashes()]
    assert not [finding for finding in findings if finding.state is State.BROKEN]


def test_constraints_pin_everything_that_is_declared() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(doctor.__file__).parent.parent / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for e in project["optional-dependencies"].values() for d in e)]
    names = {doctor._normal(doctor.re.match(r"[\w.-]+", requirement)[0]) for requirement in wanted}
    assert not names - set(doctor.verified_versions())
