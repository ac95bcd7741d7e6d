"""`dualdrive drive` and `dualdrive demo`: closed loop, many scenarios, resumable."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from eval.commands.console import EXIT_FAILED, EXIT_INTERRUPTED, console, error_console
from eval.commands.progress import RunView, short
from eval.commands.tables import print_summary
from eval.config import NETWORK_MARK, RunConfig
from eval.run.executor import run_tasks
from eval.run.manifest import code_hash, sample_list_hash, start_manifest, write_manifest
from eval.run.samples import list_samples
from eval.run.store import CONFIG, ResultStore
from eval.run.summary import summarize, write_summary
from eval.run.task import Task, failed_line, list_tasks, run_task
from eval.simulation.observers import network_hash
from eval.typed_config import ConfigError


def drive(config: RunConfig, run_dir: Path, *, fresh: bool = False, work: Any = run_task) -> int:
    """Drive everything that `config` names, into `run_dir`; results already there are kept. Returns the exit code.

    Raises ConfigError, RunDirError, DatasetError, CheckpointError or OSError where nothing (more) can be done; finished
    scenarios are then on disk. work: what is done per task, exchangeable for tests.
    """
    samples = list_samples(config.data)
    names = [sample.name for sample in samples]
    tasks = list_tasks(samples, config)
    identity = {
        "configuration": config.identity(),
        "list of scenarios": sample_list_hash(names),
        "code version": code_hash(),
    }
    if config.learned:
        identity["perception network"] = network_hash(config.perception.network)
    with ResultStore.open(run_dir, identity, config_yaml=config.to_yaml(), fresh=fresh) as store:
        manifest = start_manifest(identity, seed=config.simulation.seed, samples=names, total=len(tasks))
        manifest["perception"] = config.perceptions()
        write_manifest(run_dir, manifest, "running")
        missing = [task for task in tasks if task.key not in store.results]
        if kept := len(tasks) - len(missing):
            console.print(
                f"Resuming in {run_dir}: {kept} of {len(tasks)} results are there and kept.",
                highlight=False,
                soft_wrap=True,
            )
        try:
            _run(missing, tasks, config, store, work)
        except BaseException as error:
            store.remove_partial()
            _conclude(tasks, config, store, manifest, "interrupted" if _is_interrupt(error) else "failed", quiet=True)
            if not _is_interrupt(error):
                raise
            error_console.print(
                f"[bold yellow]Interrupted.[/] {len(store.results)} of {len(tasks)} results are kept in {run_dir}; "
                "the same command continues.",
                highlight=False,
                soft_wrap=True,
            )
            return EXIT_INTERRUPTED
        failed = [line for line in store.results.values() if line["status"] == "failed"]
        _conclude(tasks, config, store, manifest, "failed" if failed else "completed")
    return EXIT_FAILED if failed else 0


def with_network_at_hand(config: RunConfig) -> RunConfig:
    """Without the planners that ask a network, where the shipped one is wanted but not installed; says so."""
    try:
        if config.learned:
            config.perception.network.path()
        return config
    except ConfigError as error:
        left = tuple(
            name for name, driver in zip(config.planners, config.drivers()) if not driver.endswith(NETWORK_MARK)
        )
        if config.perception.network.checkpoint != "tiny" or not left:
            raise
        console.print(f"[yellow]Without learned perception:[/] {error}", highlight=False, soft_wrap=True)
        return replace(config, planners=left)


def _run(missing: list[Task], tasks: list[Task], config: RunConfig, store: ResultStore, work: Any) -> None:
    how = config.execution
    job = partial(work, config=config, run_dir=store.run_dir)
    events = run_tasks(missing, job, workers=how.workers, timeout_s=how.scenario_timeout_s, retries=how.retries)
    with RunView(console, len(tasks), len(tasks) - len(missing)) as view, closing(events):
        for event in events:
            task: Task = event.task
            note = ""
            if event.kind == "finished":
                store.add(event.value)
                note = _note(event.value)
            elif event.kind == "failed":
                store.add(failed_line(task, event.value))
                note = short(event.value)
            elif event.kind == "retried":
                note = str(event.value)
            view.show(event, f"{task.sample.name}  {task.planner}  {task.traffic}", note)


def _conclude(
    tasks: list[Task], config: RunConfig, store: ResultStore, manifest: dict[str, Any], status: str, quiet: bool = False
) -> None:
    """Write summary, manifest and report of what is there, and tell."""
    keys = [task.key for task in tasks]
    summary = summarize(store.run_dir, keys, store.results, status=status, perceptions=config.perceptions())
    try:
        write_summary(store.run_dir, summary)
        write_manifest(store.run_dir, manifest, status)
    except OSError:
        if not quiet:
            raise
        return  # the disk is full: the error on its way says so
    if quiet:
        return
    print_summary(console, summary)
    if config.execution.report and any(line["status"] == "completed" for line in store.results.values()):
        from eval.report import write_report

        with console.status("writing the report"):
            path = write_report(store.run_dir)
        console.print(f"Report:  [bold]{path}[/]  (one file, opens offline)", highlight=False, soft_wrap=True)
    console.print(
        f"Results: {store.run_dir}  (summary.json, scenarios.jsonl, traces/, {CONFIG})", highlight=False, soft_wrap=True
    )


def _is_interrupt(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt)


def _note(line: dict[str, Any]) -> str:
    score = line["metrics"].get("cls", {}).get("value")
    return "" if score is None else f"score {score:.3f}"
