"""THE PAGE of training: read, augment, forward, losses, backward, step; log, save, go on after any stop.

    for step in train(network, samples, run_dir, TrainConfig(), validation): print(step.step, step.numbers["loss"])

One process, or several under torchrun (gloo on CPUs, NCCL on GPUs): every process takes its share of each step's batch.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from perception.checkpoint import config_facts, save_network
from perception.data import Batch, data_hash, load_batch
from perception.losses import line_targets, losses, make_hints, total
from perception.network import PerceptionNetwork, channels_last
from perception.train.config import TrainConfig
from perception.train.planning import PlanningLoss
from perception.train.state import TrainState, indices, learning_rate

STATE, LOG, NETWORK = "state.safetensors", "log.jsonl", "network.safetensors"
Validate = Callable[[PerceptionNetwork], dict[str, float]]


class TrainingError(RuntimeError):
    """Training cannot go on: the message says why."""


@dataclass
class Step:
    """step: how many are done, of how many; numbers: what the log says of it (empty where nothing is logged)."""

    step: int
    steps: int
    numbers: dict[str, float]


def train(
    network: PerceptionNetwork,
    samples: Sequence[Path],
    run_dir: Path,
    config: TrainConfig,
    validate: Validate | None = None,
    facts: dict[str, Any] | None = None,
    tensorboard: bool = False,
) -> Iterator[Step]:
    """Train in place, from the run's saved state where there is one; yields after every step.

    run_dir gets `state.safetensors` (to go on from), `log.jsonl`, and at the end `network.safetensors`: the averaged
    weights with configuration, preprocessing, data hash and metrics inside. validate: numbers of a network (the
    average). facts: further JSON values for the checkpoint. Raises ValueError for bad settings, CheckpointError where
    run_dir holds another run, TrainingError when gradients stay without numbers.
    """
    config.validate()
    rank, world = join_processes()
    if config.batch % world:
        raise ValueError(f"batch: expected a multiple of {world} processes, got {config.batch}")
    device = next(network.parameters()).device
    network.train().requires_grad_(True)
    state = TrainState.fresh(network, config)
    identity = {
        **config_facts(network.config),
        "train": json.loads(json.dumps(asdict(config))),
        "data": data_hash(samples),
    }
    identity = json.loads(json.dumps(identity))
    if (run_dir / STATE).exists():
        state.restore(run_dir / STATE, identity)
    planning = PlanningLoss(config.weights, network.config)
    log = _Log(run_dir, state.step, tensorboard) if rank == 0 else None
    skipped, began = 0, time.perf_counter()
    while state.step < config.steps:
        chosen = indices(state.step, len(samples), config)[rank::world]
        with_planner = planning.wanted and state.step >= config.plan_from * config.steps
        seed = (config.seed, state.step)
        batch = load_batch([samples[i] for i in chosen], network.config, config.augment, seed, with_planner)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, config)

        state.optimiser.zero_grad(set_to_none=True)
        loss, numbers = _loss(network, batch, chosen, planning if with_planner else None, config, state.step, device)
        loss.backward()
        norms = _gradients(network, world, config.clip, sound=math.isfinite(numbers["loss"]))
        if math.isfinite(norms["gradient"]):
            state.optimiser.step()
            skipped = 0
        else:
            skipped += 1
            if skipped >= 20:
                raise TrainingError(f"step {state.step}: gradients have been NaN or infinite for {skipped} steps")
        state.step += 1
        state.follow(config.average)

        shown: dict[str, float] = {}
        if state.step % config.log_every == 0 or state.step == config.steps:
            numbers = _mean({**numbers, "skipped": float(skipped)}, world, device) | norms
            speed = config.batch * config.log_every / max(time.perf_counter() - began, 1e-9)
            shown = numbers | {"learning_rate": state.optimiser.param_groups[0]["lr"], "samples_per_s": speed}
            began = time.perf_counter()
        if rank == 0:
            due = config.validate_every and state.step % config.validate_every == 0
            if validate is not None and (due or state.step == config.steps):
                shown |= {f"validation/{k}": v for k, v in validate(averaged(state)).items()}
            if log is not None and shown:
                log.write(state.step, shown)
            if state.step == config.steps:  # before the last state: whoever finds that one finds the network too
                result = {"step": state.step, "data": identity["data"], "train": identity["train"], "metrics": shown}
                save_network(run_dir / NETWORK, averaged(state), {**result, **(facts or {})})
            if state.step % config.save_every == 0 or state.step == config.steps:
                state.save(run_dir / STATE, identity)
        yield Step(state.step, config.steps, shown)
    if world > 1:
        distributed.barrier()


def averaged(state: TrainState) -> PerceptionNetwork:
    """A network with the averaged weights, ready to be asked."""
    out = PerceptionNetwork(state.network.config)
    out.load_state_dict(state.average)
    device = next(iter(state.average.values())).device
    return channels_last(out.to(device)).eval().requires_grad_(False)


def _loss(
    network: PerceptionNetwork,
    batch: Batch,
    chosen: Sequence[int],
    planning: PlanningLoss | None,
    config: TrainConfig,
    step: int,
    device: torch.device,
) -> tuple[Tensor, dict[str, float]]:
    """Mean over this process's samples, and the terms' means."""
    inputs = batch.inputs.to(device)
    lines = line_targets(batch.targets, network.config, device)
    hints = make_hints(batch.targets, lines, [hash((config.seed, step, i)) % 2**31 for i in chosen], device)
    low = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    with torch.autocast(device.type, torch.bfloat16, enabled=low):
        outputs = network(inputs, hints)
    terms = losses(outputs, batch.targets, lines, inputs, network.config)
    numbers: dict[str, float] = {}
    if planning is not None:
        planned, numbers = planning(outputs, inputs, batch.scenes)
        terms |= planned
    value = total(terms, config.weights).mean()
    return value, {"loss": float(value.detach()), **{k: float(v.detach().mean()) for k, v in terms.items()}, **numbers}


def _gradients(network: PerceptionNetwork, world: int, clip: float, sound: bool) -> dict[str, float]:
    """Sum the processes' gradients, clip them; norms before clipping, of all and of each part of the network.

    sound: this process's loss is a number; where it is not, the gradient of all processes becomes NaN, for the
    gradients of a NaN may well be zero.
    """
    parameters = [p for p in network.parameters() if p.grad is not None]
    if not sound:
        parameters[0].grad.fill_(math.nan)  # type: ignore[union-attr]
    if world > 1:
        flat = torch.cat([p.grad.reshape(-1) for p in parameters])  # type: ignore[union-attr]
        distributed.all_reduce(flat)
        for p, piece in zip(parameters, (flat / world).split([p.numel() for p in parameters])):
            p.grad = piece.view_as(p)
    parts = {f"gradient/{name}": _norm(list(module.parameters())) for name, module in network.named_children()}
    return {"gradient": float(torch.nn.utils.clip_grad_norm_(parameters, clip, foreach=False)), **parts}


def _norm(parameters: Sequence[Tensor]) -> float:
    squares = [p.grad.square().sum() for p in parameters if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _mean(numbers: dict[str, float], world: int, device: torch.device) -> dict[str, float]:
    if world == 1:
        return numbers
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
    distributed.all_reduce(values)
    return dict(zip(numbers, (values / world).tolist()))


def join_processes() -> tuple[int, int]:
    """This process's rank and the number of processes; joins them where torchrun started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not distributed.is_initialized():
        # One may prepare data for hours while the others wait.
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(hours=12))
    return int(os.environ.get("RANK", "0")), world


class _Log:
    """JSON lines, one a logged step, and TensorBoard if asked; lines after the step to go on from are dropped."""

    def __init__(self, run_dir: Path, step: int, tensorboard: bool) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / LOG
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        partial = self.path.with_name(LOG + ".tmp")
        partial.write_text("".join(line + "\n" for line in kept))
        partial.replace(self.path)
        self.board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in numbers.items()}}) + "\n")
        if self.board is not None:
            for name, value in numbers.items():
                self.board.add_scalar(name, value, step)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # cut off when the process was killed
