"""Association of tracks, compared on the same detections: plain, relaxed by hand, relaxed and learned.

    dualdrive perception --dataroot data/sim --split sim_val --checkpoint C --out runs/judged
    python -m benchmarks.track_association --dataroot data/sim --split sim_val --checkpoint C --run runs/judged

Every checkpoint given with --learned (`dualdrive train-tracking`) is one more row; its network is not asked, only its
affinity is used. Intervals: over scenes; of differences, on the same scenes.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands.perception import ANSWERS
from eval.perception.run import Seen, answers_path, read_seen
from eval.perception.tracking import AVERAGES, estimate, evaluate, followed
from eval.run.store import write_atomic
from perception.affinity import Affinity
from perception.checkpoint import checkpoint_hash, read_tensors
from perception.track import KEY_FRAMES, TrackConfig
from perception.training_data import split_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataroot", type=Path, required=True)
    parser.add_argument("--version", default="v1.0-sim")
    parser.add_argument("--split", default="sim_val")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder of `dualdrive perception`")
    parser.add_argument("--learned", type=Path, nargs="*", default=[], help="checkpoints with an affinity")
    parser.add_argument("--devkit", action="store_true", help="the devkit's own count, minutes per row")
    args = parser.parse_args()
    digest = checkpoint_hash(args.checkpoint)
    drives = [
        read_seen(answers_path(args.run / ANSWERS, args.dataroot, args.version, scene, digest))
        for scene in split_scenes(args.dataroot, args.version, args.split)
    ]
    rows: list[tuple[str, TrackConfig, Affinity | None]] = [
        ("hungarian", replace(KEY_FRAMES, association="hungarian"), None),
        ("qp, by hand", replace(KEY_FRAMES, association="qp"), None),
    ]
    for path in args.learned:
        facts = read_tensors(path)[1].get("affinity")
        rows.append((f"qp, {path.stem}", replace(KEY_FRAMES, association="qp"), Affinity.from_facts(facts)))
    table: dict[str, Any] = {}
    first = None
    for name, config, affinity in rows:
        folder = args.run / "association" / name.replace(", ", "-").replace(" ", "-")
        report = evaluate(drives, args.dataroot, args.version, args.split, folder, config, affinity, not args.devkit)
        first = first or report
        row: dict[str, Any] = {"ms_per_frame": round(milliseconds(drives, config, affinity), 2)}
        for figure in AVERAGES:
            row[figure] = estimate([report], figure).facts()
            row[f"{figure}_more_than_hungarian"] = estimate([first, report], figure).facts()
        table[name] = row
        print(name, json.dumps(row), flush=True)
    write_atomic(args.run / "association.json", json.dumps(table, indent=1) + "\n")


def milliseconds(drives: list[list[Seen]], config: TrackConfig, affinity: Affinity | None) -> float:
    """Processor time of tracking per frame, median over the first drives."""
    spent = []
    for drive in drives[:10]:
        began = time.process_time()
        followed(drive, config, affinity)
        spent.append((time.process_time() - began) / len(drive))
    return float(np.median(spent)) * 1e3


if __name__ == "__main__":
    main()
