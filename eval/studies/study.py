"""A study's result directory: drives only what is missing, shows progress, ends with tables and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.commands.console import console
from eval.commands.progress import RunView, short
from eval.config import RunConfig
from eval.run.executor import run_tasks
from eval.run.manifest import code_hash, start_manifest, write_manifest
from eval.run.store import Key, ResultStore
from eval.studies.drives import DriveTask

Work = Callable[..., dict[str, Any]]


@dataclass
class Study:
    """An open result directory. config: of every drive. work: what is done per task."""

    store: ResultStore
    config: RunConfig
    work: Work

    @property
    def run_dir(self) -> Path:
        return self.store.run_dir

    def run(self, tasks: Sequence[DriveTask]) -> list[dict[str, Any]]:
        """The lines of the tasks, in their order; those that are not there yet are driven, the failed ones too."""
        missing = [task for task in tasks if task.key not in self.store.results]
        if missing:
            how = self.config.execution
            job = partial(self.work, config=self.config, run_dir=self.run_dir)
            events = run_tasks(missing, job, workers=how.workers, timeout_s=how.scenario_timeout_s, retries=how.retries)
            with RunView(console, len(tasks), len(tasks) - len(missing)) as view, closing(events):
                for event in events:
                    note = ""
                    if event.kind == "finished":
                        self.store.add(event.value)
                        note = str(event.value["study"].get("note", ""))
                    elif event.kind == "failed":
                        self.store.add(_failed(event.task.key, event.value))
                        note = short(event.value)
                    elif event.kind == "retried":
                        note = str(event.value)
                    view.show(event, f"{event.task.name}  {event.task.key.planner}", note)
        return [self.store.results[task.key] for task in tasks]


@contextmanager
def open_study(
    name: str, run_dir: Path, config: RunConfig, work: Work, settings: dict[str, Any], *, fresh: bool
) -> Iterator[Study]:
    """Open or resume a study. settings: what else decides its numbers. Writes the manifest at both ends.

    Raises RunDirError where the directory holds results of another study, configuration or code.
    """
    identity = {
        "study": f"{name} {sorted(settings.items())}",
        "configuration": config.identity(),
        "code version": code_hash(),
    }
    with ResultStore.open(run_dir, identity, config_yaml=config.to_yaml(), fresh=fresh) as store:
        manifest = start_manifest(identity, seed=config.simulation.seed, samples=[], total=0)
        manifest |= {"study": name, "settings": settings}
        write_manifest(run_dir, manifest, "running")
        status = "interrupted"
        try:
            yield Study(store, config, work)
            failed = any(line["status"] == "failed" for line in store.results.values())
            status = "failed" if failed else "completed"
        except Exception:
            status = "failed"
            raise
        finally:
            store.remove_partial()
            manifest["samples"] = manifest["results_expected"] = len(store.results)
            write_manifest(run_dir, manifest, status)


def completed(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The facts of the drives that finished."""
    return [line["study"] | {"key": _key(line)} for line in lines if line["status"] == "completed"]


def _key(line: dict[str, Any]) -> Key:
    return Key(line["scenario"], line["planner"], line["traffic"])


def _failed(key: Key, error: str) -> dict[str, Any]:
    return {
        **key._asdict(), "status": "failed", "error": error, "metrics": {}, "trace": None, "state_hash": None,
        "recording_hash": None, "study": {"error": short(error)},
    }  # fmt: skip
