"""Common-mode misses of the two perception channels on rendered scenes.

python benchmarks/common_mode.py                                     # generated scenes, all families
python benchmarks/common_mode.py --dataset nuscenes --dataroot ROOT  # annotated scenes, rendered LiDAR
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.config import DataConfig, parse_seeds
from eval.run.manifest import sample_list_hash
from eval.run.samples import list_samples, load_sample
from eval.studies.common_mode import FIRST, WEATHER, CommonMode, Seen, common_mode, observe, with_first, within
from planner.scene import AgentClass


def main() -> None:
    """Measure, print, and write the numbers with their configuration where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("generated", "nuscenes"), default="generated")
    parser.add_argument("--dataroot", default="")
    parser.add_argument("--seeds", default="2", help="a count, a range (10-19) or a list (3,7) of generated seeds")
    parser.add_argument("--every", type=float, default=0.5, help="s between the moments that are judged")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    args = parser.parse_args()
    data = DataConfig(dataset=args.dataset, dataroot=args.dataroot, seeds=parse_seeds(args.seeds))
    samples = list_samples(data)
    result: dict[str, Any] = {
        "config": {k: str(v) for k, v in vars(args).items()}, "scenes": len(samples),
        "sample_list_hash": sample_list_hash([s.name for s in samples]), "rows": [],
    }  # fmt: skip
    recordings = [load_sample(sample, data) for sample in samples]
    for weather in WEATHER:
        objects = [s for r in recordings for s in observe(r, weather, args.every)]
        for first in FIRST:
            seen = with_first(objects, first, weather)
            for low, high in ((0, 50), (0, 15), (15, 30), (30, 50)):
                if part := within(seen, low, high):
                    found = common_mode(part)
                    result["rows"].append({"weather": weather, "first": first, "range_m": [low, high], **asdict(found)})
                    print(line(weather, first, low, high, found), flush=True)
        print_classes(weather, objects)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))


def line(weather: str, first: str, low: int, high: int, r: CommonMode) -> str:
    """One row of the table."""
    rates = "  ".join(
        f"{100 * v[0]:5.2f} [{100 * v[1]:.2f}, {100 * v[2]:.2f}]" for v in (r.first, r.raw, r.both, r.product)
    )
    return (
        f"{weather:6}{first:16} {low:2}-{high:2} m {r.count:6} objects  first|raw|both|product %: {rates}  "
        f"ratio {r.ratio[0]:.2f} [{r.ratio[1]:.2f}, {r.ratio[2]:.2f}]"
    )


def print_classes(weather: str, seen: list[Seen]) -> None:
    """Misses of the raw channel by class, of objects that are at least half visible."""
    for kind in AgentClass:
        cells = []
        for low, high in ((0, 15), (15, 30), (30, 50)):
            part = [s for s in within(seen, low, high, 0.5) if s.kind is kind]
            cells.append(f"{low}-{high} m {sum(s.raw_missed for s in part)} of {len(part)}")
        print(f"  raw channel, {weather}, {kind.name.lower():11} at least half visible, missed: " + ", ".join(cells))


if __name__ == "__main__":
    main()
