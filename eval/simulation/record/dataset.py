"""A recorded data set: the page. Plan the towns, record every scene, join maps and tables.

Everything is written under another name and moved into place; a scene counts as recorded only when its part file under
`record/` exists. Stopped in any way, the same call goes on with the scenes that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from eval.run.store import write_atomic
from eval.simulation.generate import FAMILIES, generate
from eval.simulation.record.config import FIRST_SCENE, RecordConfig
from eval.simulation.record.map_files import write_maps
from eval.simulation.record.map_layers import Layers, town_layers
from eval.simulation.record.scene import ScenePlan, ego_path, record_scene
from eval.simulation.record.schema import LIDAR, constant_tables, token
from eval.simulation.record.towns import place_towns
from eval.simulation.sensing.camera_rig import CAMERAS
from perception.nuscenes_tables import RECORDED, TABLES

SCENE_TIME_US = 100_000_000
"""Between the starts of two scenes."""
START_US = 1_700_000_000_000_000


def plan_scenes(config: RecordConfig, progress: Callable[[float], None] = lambda _: None) -> list[ScenePlan]:
    """All scenes with their names, times and places; every one is generated once to know the town's extent.

    Raises ValueError for a wrong setting or an unknown family.
    """
    config.validate()
    families = config.families or tuple(FAMILIES)
    chosen = [(s, f, n) for s, f in product(("train", "val"), families) for n in _seeds(config, s)]
    bounds = []
    for i, (_, family, seed) in enumerate(chosen):
        bounds.append(generate(family, seed).road.drivable.bounds)
        progress((i + 1) / len(chosen))
    places = place_towns(bounds, [split for split, _, _ in chosen])
    number = dict(FIRST_SCENE)
    plans = []
    for i, ((split, family, seed), place) in enumerate(zip(chosen, places)):
        start = START_US + i * SCENE_TIME_US
        plans.append(ScenePlan(f"scene-{number[split]:04d}", split, family, seed, place, start))
        number[split] += 1
    return plans


def _seeds(config: RecordConfig, split: str) -> tuple[int, ...]:
    return config.train_seeds if split == "train" else config.val_seeds


def part_path(root: Path, scene: str) -> Path:
    """The file that exists exactly when a scene is recorded."""
    return root / RECORDED / f"{scene}.json"


def record_part(
    plan: ScenePlan, config: RecordConfig, root: Path, progress: Callable[[float], None] = lambda _: None
) -> None:
    """Record one scene, and note in its part file that it is complete. Scenes may be recorded side by side."""
    rows, recording = record_scene(plan, config, root, progress)
    can_bus = root / "can_bus"
    can_bus.mkdir(parents=True, exist_ok=True)
    write_atomic(can_bus / f"{plan.name}_pose.json", json.dumps(ego_path(recording)))
    layers = town_layers(recording.road, plan.name)
    part = {"rows": rows, "layers": layers}
    path = part_path(root, plan.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(part))


def join_parts(plans: Sequence[ScenePlan], config: RecordConfig, root: Path) -> None:
    """Write maps, splits and the 13 tables from the parts of all scenes. Raises FileNotFoundError if one is missing."""
    channels = (LIDAR, *CAMERAS) if config.sensors.with_lidar else CAMERAS
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    tables |= constant_tables(channels if config.sensors.with_cameras else (LIDAR,))
    layers: dict[str, list[Layers]] = {}
    logs: dict[str, list[str]] = {}
    for plan in plans:
        part = json.loads(part_path(root, plan.name).read_text())
        for name, rows in part["rows"].items():
            tables[name] += rows
        layers.setdefault(plan.place.location, []).append(part["layers"])
        logs.setdefault(plan.place.location, []).extend(row["token"] for row in part["rows"]["log"])
    for location, towns in layers.items():
        tables["map"].append(
            {"token": token("map", location), "log_tokens": logs[location], "category": "semantic_prior",
             "filename": write_maps(root, location, towns)}
        )  # fmt: skip
    folder = root / config.version
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_atomic(folder / f"{name}.json", json.dumps(rows))
    splits = {f"sim_{s}": [p.name for p in plans if p.split == s] for s in ("train", "val")}
    write_atomic(folder / "splits.json", json.dumps({k: v for k, v in splits.items() if v}, indent=1))
