"""One drive of a study: a scene, what is done to the loop, which layers are on; and the line it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from eval.config import NETWORK_MARK, DataConfig, RunConfig
from eval.layers import LAYERS
from eval.run.heap import frozen_heap
from eval.run.samples import Sample, load_sample
from eval.run.store import Key, sync_file
from eval.run.task import recording_hash, save_geometry_once, trace_path
from eval.simulation.injection import Injection
from eval.simulation.trace import Trace
from perception.recording import Recording

ALWAYS_KEPT = ("observe_ms", "traffic", "tracking_error", "state", "explanation")
"""What of a step's picture stays in the trace of a drive in which nothing happened."""


class Scene(NamedTuple):
    """Where a scene comes from: kind "protocol" (name: family, numbers: parameters), "generated" (name: family,
    numbers: seed) or "nuscenes" (name: scene)."""

    kind: str
    name: str
    numbers: tuple[tuple[str, float], ...] = ()

    @property
    def label(self) -> str:
        """As the scene's recording is called."""
        from eval.simulation.generate.protocols import cell_name

        if self.kind == "generated":
            return f"{self.name}_{int(dict(self.numbers)['seed']):04d}"
        return cell_name(self.name, dict(self.numbers)) if self.kind == "protocol" else self.name


@dataclass(frozen=True)
class DriveTask:
    """One drive. name: unique within the study and layers. facts: plain values for the result line.

    seconds: how long to drive at most. injection: arguments of the study's own maker of injections. perception: oracle
    or network.
    """

    name: str
    scene: Scene
    layers: tuple[str, ...] = LAYERS
    seconds: float | None = None
    traffic: str = "log_replay"
    injection: Any = None
    facts: dict[str, Any] = field(default_factory=dict)
    perception: str = "oracle"

    @property
    def key(self) -> Key:
        mark = NETWORK_MARK if self.perception == "network" else ""
        return Key(self.name, layers_label(self.layers) + mark, self.traffic)


def layers_label(layers: tuple[str, ...]) -> str:
    """The name under which a set of layers drives."""
    if layers == LAYERS:
        return "dualdrive"
    return "+".join(["planner", *layers])


@lru_cache(maxsize=4)
def load_scene(scene: Scene, data: DataConfig) -> Recording:
    """The recording of a scene; raises what its generator or reader raises."""
    if scene.kind == "protocol":
        from eval.simulation.generate.protocols import protocol_scene

        return protocol_scene(scene.name, dict(scene.numbers))
    if scene.kind == "generated":
        seed = int(dict(scene.numbers)["seed"])
        return load_sample(Sample(scene.label, scene.name, seed), replace(data, dataset="generated"))
    return load_sample(Sample(scene.name), replace(data, dataset="nuscenes"))


def drive_task(
    task: DriveTask,
    config: RunConfig,
    progress: Callable[[float], None],
    injection: Injection | None = None,
    recording: Recording | None = None,
) -> tuple[Recording, Trace]:
    """Drive it. recording: instead of the scene's own, such as one with other agents."""  # fmt: skip
    import torch

    from eval.pipeline import DualDrive
    from eval.simulation.observers import make_observer
    from eval.simulation.rollout import rollout

    torch.set_num_threads(1)
    recording = recording or load_scene(task.scene, config.data)
    driver = DualDrive(config.planner, config.supervisor, replace(config.driver, layers=task.layers), injection)
    observe, sensors = make_observer(
        recording, task.perception, config.perception, config.simulation, "second_channel" in task.layers
    )
    with frozen_heap():
        trace = rollout(
            recording, driver, task.traffic, replace(config.simulation, duration=task.seconds),
            progress=lambda done, steps: progress(done / steps), observe=observe, injection=injection, sensors=sensors,
        )  # fmt: skip
    trace.scenario, trace.planner = task.name, task.key.planner
    return recording, trace


def store_drive(
    task: DriveTask, recording: Recording, trace: Trace, run_dir: Path, *, notable: bool, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write the trace and the drawing geometry; return the line for `scenarios.jsonl`.

    notable: keep the full pictures of every step. facts: what the study makes of the drive.
    """
    from eval.metrics import evaluate

    metrics = {name: result.to_json() for name, result in evaluate(trace, recording).items()}
    if not notable:
        trace.steps = [{name: step[name] for name in ALWAYS_KEPT if name in step} for step in trace.steps]
    path = run_dir / trace_path(task.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    trace.save(path)
    sync_file(path)
    save_geometry_once(recording, run_dir / "recordings" / f"{task.name}.npz")
    return {
        **task.key._asdict(),
        "status": "completed",
        "error": None,
        "metrics": metrics,
        "trace": trace_path(task.key),
        "state_hash": trace.state_hash(),
        "recording_hash": recording_hash(recording),
        "study": {"scene": task.scene.label, "layers": list(task.layers), **task.facts, **facts},
    }
