"""The planner in its own process: killed, frozen, slow, leaking and babbling, it never costs more than its plans."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checker_scenes import F64, drive, make_scene, with_tail

from eval.config import DriverConfig
from eval.pipeline import DualDrive
from eval.simulation.generate import generate
from eval.simulation.injection import Injection
from eval.simulation.rollout import rollout
from eval.simulation.simulation_config import SimulationConfig
from planner.deployed import PlannerProcess, ProcessConfig, Status, process
from planner.deployed.messages import pack, plan_to_bytes
from planner.result import Candidate, PlanResult, PlanStatus
from planner.supervise import SupervisedPlan, Supervisor

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="watches processes through /proc")
DEADLINE = 0.3  # s to plan; generous, because tests share their machine


# -- a double that misbehaves on command ---------------------------------------------------


class Loop:
    """Supervisor and planner process, cycle by cycle; ego drives what it is told, straight on."""

    def __init__(self, folder: Path, config: ProcessConfig) -> None:
        self.folder = folder
        self.mode("good")
        self.planner = PlannerProcess(config=config)
        self.planner.wait_until_ready()
        self.supervisor = Supervisor()
        self.t = self.x = self.v = self.a = 0.0
        self.v = 8.0
        self.took = 0.0

    def mode(self, name: str) -> None:
        (self.folder / "mode.txt").write_text(name)

    def cycle(self) -> SupervisedPlan:
        scene = make_scene(self.v, a=self.a, time_us=round(self.t * 1e6), pose=(self.x, 0.0, 0.0))
        began = time.perf_counter()
        plan, failure = self.planner.plan(scene, DEADLINE)
        self.took = time.perf_counter() - began
        out = self.supervisor.supervise(scene, plan, elapsed=0.0, failure=failure, probation=self.planner.probation)
        self.planner.judged(out.plan_accepted)
        assert out.tail_accepted
        m = out.trajectory
        self.x += float(np.interp(0.1, m.time, m.x))
        self.v, self.a = (float(np.interp(0.1, m.time, f)) for f in (m.v, m.a))
        self.t += 0.1
        return out


@pytest.fixture
def loop(tmp_path, monkeypatch):
    made = []

    def make(**config) -> Loop:
        monkeypatch.setattr(process, "WORKER", "planner_double")
        monkeypatch.setenv("PLANNER_DOUBLE", str(tmp_path))
        motion = drive(8.0)
        plan = PlanResult(
            PlanStatus.SOLVED,
            [Candidate("go on", "hold", {}, PlanStatus.SOLVED, 1.0, motion, with_tail(motion))],
            torch.zeros(2, 2, dtype=F64), 0.01, 0.02,
        )  # fmt: skip
        (tmp_path / "plan.bin").write_bytes(plan_to_bytes(plan))
        (tmp_path / "ready.bin").write_bytes(pack({"kind": "ready"}, {}))
        made.append(Loop(tmp_path, ProcessConfig(**{"block": 1, **config})))
        return made[-1]

    yield make
    for each in made:
        each.planner.close()


def test_a_sound_process_is_driven(loop) -> None:
    it = loop()
    for _ in range(5):
        out = it.cycle()
        assert (out.source, out.reason, out.state) == ("candidate", "", "NORMAL")
    assert it.planner.status is Status.SERVING


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("silent", "did not answer in time"),
        ("garbage", "did not answer in time (no message: wrong magic"),
        ("broken", "malformed plan"),
        ("truncated", "malformed plan"),
        ("replay", "did not answer in time"),
        ("stale", "did not answer in time (stale: sent 10"),
        ("slow", "did not answer in time"),
        ("exit", "planner process died: ended with status 3"),
    ],
)
def test_every_misbehaviour_is_the_tail_in_the_same_cycle_with_its_reason(loop, mode: str, reason: str) -> None:
    it = loop()
    assert it.cycle().source == "candidate"
    it.mode(mode)
    out = it.cycle()
    assert (out.source, out.state) == ("tail", "DEGRADED")
    assert reason in out.reason
    assert it.took < DEADLINE + 0.25, "no waiting beyond the deadline"


@pytest.mark.parametrize("mode", ["silent", "garbage", "broken", "truncated", "replay", "stale"])
def test_one_bad_answer_costs_one_cycle(loop, mode: str) -> None:
    it = loop()
    it.cycle()
    it.mode(mode)
    assert it.cycle().source == "tail"
    it.mode("good")
    assert it.cycle().source == "candidate", "the same process, answering soundly again"
    assert it.planner.restarts == 0


def test_a_slow_process_is_late_and_not_killed(loop) -> None:
    it = loop(hang_after=2.0)
    it.cycle()
    it.mode("slow")
    pid = it.planner.pid
    states = [it.cycle().state for _ in range(8)]
    assert states[-1] == "MINIMAL_RISK"
    assert it.planner.pid == pid


def test_a_silent_process_is_replaced_and_in_the_end_given_up(loop) -> None:
    it = loop(hang_after=0.1, restarts=2)
    it.cycle()
    it.mode("silent")
    seen, by = {it.planner.pid}, time.monotonic() + 20
    while it.planner.status is not Status.DOWN and time.monotonic() < by:
        it.cycle()
        seen.add(it.planner.pid)
        time.sleep(0.02)
    assert it.planner.status is Status.DOWN
    assert len(seen - {None}) == 3
    assert it.planner.log[0].startswith("hung: no answer for 0.")
    assert it.planner.log[0].endswith("s; restart 1 of 2")
    assert it.planner.log[-1].endswith("no restart left")
    out = it.cycle()
    assert "planner process down" in out.reason
    assert it.supervisor.state == "MINIMAL_RISK"


def test_a_growing_process_is_replaced(loop) -> None:
    it = loop(growth_max=0.5)
    it.mode("leak")
    while it.planner.restarts == 0:
        it.cycle()
        assert it.t < 10.0
    assert it.planner.log[-1].startswith("memory grew from")


# -- the real process, in closed loop ------------------------------------------------------

STEPS = 22


class Assault(Injection):
    """Does something to the planner's process before given steps, and remembers what was asked of it."""

    def __init__(self, actions: dict[int, object]) -> None:
        self.actions = actions
        self.driver: DualDrive | None = None
        self.status: list[str] = []

    def scene(self, scene):
        step = round(self.time / 0.1)
        if step in self.actions:
            self.actions[step](self.driver._process)
        self.status.append(str(self.driver._process.status))
        return scene


def deployed_drive(actions: dict, **config):
    recording = generate("car_following", 0)
    assault = Assault(actions)
    settings = DriverConfig(deployed=True, picture=False, process=ProcessConfig(**config))
    assault.driver = driver = DualDrive(config=settings, injection=assault)
    try:
        trace = rollout(recording, driver, "log_replay", SimulationConfig(duration=STEPS * 0.1), injection=assault)
    finally:
        driver.close()
    return trace, assault


def kill(number: int):
    return lambda planner: os.kill(planner.pid, number)


def ready(planner: PlannerProcess) -> None:
    planner.wait_until_ready()


@pytest.fixture(scope="module")
def assaulted():
    """One drive: killed before step 5, back before step 7; frozen before step 16."""
    return deployed_drive(
        {5: kill(signal.SIGKILL), 7: ready, 16: kill(signal.SIGSTOP)}, patience=0.6, hang_after=0.5, probation=3
    )


def test_killing_the_planner_costs_its_plans_until_the_replacement_has_proved_itself(assaulted) -> None:
    trace, assault = assaulted
    assert "planner process died: killed by SIGKILL" in trace.reason[5]
    assert "planner process starting" in trace.reason[6]
    assert trace.source[:10] == ["candidate"] * 5 + ["tail"] * 5
    assert all("planner restarted" in reason for reason in trace.reason[7:10])
    assert trace.source[10:16] == ["candidate"] * 6
    assert trace.tail_accepted.all()
    assert assault.status[6] == "starting"
    assert assault.status[7:10] == ["on probation"] * 3
    assert assault.status[10] == "serving"


def test_freezing_the_planner_is_the_tail_in_the_same_cycle_and_a_new_process(assaulted) -> None:
    trace, assault = assaulted
    assert "planner did not answer in time" in trace.reason[16]
    assert trace.source[16] == "tail"
    assert trace.tail_accepted.all()
    assert assault.status[17] == "starting"


def test_until_the_assault_the_drive_is_the_same_as_with_the_planner_in_this_process(assaulted) -> None:
    trace, _ = assaulted
    here = rollout(
        generate("car_following", 0), DualDrive(config=DriverConfig(picture=False)), "log_replay",
        SimulationConfig(duration=0.5),
    )  # fmt: skip
    for name in ("pose", "v", "a", "curvature"):
        np.testing.assert_array_equal(getattr(trace, name)[:6], getattr(here, name)[:6])


@pytest.mark.slow
def test_the_deployed_drive_is_the_same_drive() -> None:
    deployed, _ = deployed_drive({})
    here = rollout(
        generate("car_following", 0), DualDrive(config=DriverConfig(picture=False)), "log_replay",
        SimulationConfig(duration=STEPS * 0.1),
    )  # fmt: skip
    assert deployed.state_hash() == here.state_hash()


@pytest.mark.slow
def test_the_system_refuses_a_leaking_planner_more_memory(monkeypatch) -> None:
    monkeypatch.setattr(process, "WORKER", "leaking_worker")
    trace, _ = deployed_drive({8: ready}, memory_max=512, growth_max=100.0)
    died = [k for k, reason in enumerate(trace.reason) if "planner process died: ended with status 71" in reason]
    assert died
    assert trace.source[died[0]] == "tail"
    assert trace.tail_accepted.all()


def test_the_process_ends_with_its_owner() -> None:
    planner = PlannerProcess(config=ProcessConfig(block=1))
    pid = planner.pid
    planner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    orphan = PlannerProcess(config=ProcessConfig(block=1))
    pid = orphan.pid
    del orphan
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
