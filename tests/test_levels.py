"""Every instruction set that this machine can run gives the same plans and gradients: whole scenes, all kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from level_plan import planned
from twins import needs_library

from planner import build_native
from planner.qp import native
from planner.qp.native import LEVEL_VARIABLE, Level

pytestmark = [needs_library, pytest.mark.skipif(not native.available(), reason=native.why_not() or "compiled")]
HERE = Path(__file__).resolve().parent
LIBRARIES = {
    Level.BASELINE: build_native.STAGES,
    Level.AVX2: build_native.STAGES_AVX2,
    Level.AVX512: build_native.STAGES_AVX512,
}
LOWER = [level for level in LIBRARIES if native.available() and level < native.best_level()]


@pytest.mark.parametrize("level", LOWER, ids=lambda level: level.name)
def test_a_lower_instruction_set_plans_the_same(level: Level, tmp_path: Path) -> None:
    out = tmp_path / "planned.pt"
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, LEVEL_VARIABLE: level.name.lower(), "PYTHONPATH": paths}
    subprocess.run([sys.executable, str(HERE / "level_plan.py"), str(out)], env=environment, check=True)
    found = torch.load(out)
    assert (found["level"], found["library"]) == (level, LIBRARIES[level].name)
    ours = planned()
    assert int((ours["status"] == 0).sum()) >= 6
    assert float(ours["by_mean"].abs().max()) > 0.0
    assert torch.equal(found["planned"].pop("status"), ours.pop("status"))
    for name, value in ours.items():
        torch.testing.assert_close(found["planned"][name], value, rtol=0, atol=1e-7 * (1 + float(value.abs().max())))


def test_the_variable_lowers_the_level_and_refuses_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    widest = native.best_level()
    for name, level in {"baseline": Level.BASELINE, "auto": widest, "avx512": widest, "": widest}.items():
        monkeypatch.setenv(LEVEL_VARIABLE, name)
        assert native.best_level() == min(level, widest)
    monkeypatch.setenv(LEVEL_VARIABLE, "mmx")
    with pytest.raises(ValueError, match=r"DUALDRIVE_LEVEL.*MMX"):
        native.best_level()
