"""The results as one HTML file that opens offline: tables, diagrams, and some key frames from above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.commands.perception_tables import interval, number
from eval.perception.evaluate import DataSet
from eval.perception.matches import matched_frames
from eval.perception.pictures import bird_eye, bird_eye_legend, distance_diagram, reliability_diagram
from eval.perception.prediction import METHODS, TRUE
from eval.perception.run import Seen
from eval.studies.page import Cell, Figures, Table, write_page

PICTURES = 8
"""Key frames drawn at most."""
LABELS = {
    "min_ade_1": "minADE_1", "min_ade_5": "minADE_5", "min_ade_6": "minADE_6", "min_fde_1": "minFDE_1",
    "min_fde_6": "minFDE_6", "miss_rate_1": "miss rate_1", "miss_rate_6": "miss rate_6",
}  # fmt: skip
_STYLE = """
td small { white-space: nowrap; }
.bev { border: 1px solid var(--line); background: #fff; color: #222; }
.bev polyline { fill: none; stroke-linejoin: round; } .bev .window { fill: #00000008; stroke: #0003; }
.bev .true { stroke: #0003; stroke-width: 3.5; } .bev .centre { stroke-width: 1.5; stroke-dasharray: 5 4; }
.bev .said { stroke-width: 1.3; } .bev .there { fill: #8886; stroke: #666; stroke-width: 0.8; }
.bev .unseen { fill: none; stroke-dasharray: 2 2; } .bev .went { stroke: #777; stroke-width: 3; opacity: 0.45; }
.bev .mode { stroke-width: 1; } .bev .ego { fill: #222; }
"""


def write_perception_page(path: Path, results: dict[str, Any], seen: dict[str, list[Seen]], data: DataSet) -> Path:
    """Write the page. seen: answers of the checkpoint whose pictures are shown, the last of the results."""
    info, parts = results["data"], results["checkpoints"]
    part = parts[-1]
    lead = [
        f"{info['version']} {info['split']}: {len(info['scenes'])} scenes, {info['key_frames']} key frames. "
        f"Sensor data: {info['sensors']}.",
        f"{len(parts)} checkpoint(s): " + "; ".join(f"{c['path']} (SHA-256 {c['sha256'][:16]})" for c in parts)
        + f". Key frames: SHA-256 {info['sample_list_hash'][:16]} of the list. Classes, diagrams and pictures below "
        f"are of the last checkpoint.",
    ]  # fmt: skip
    if part["sensors_missing"]:
        gone = ", ".join(f"{name} at {count} key frames" for name, count in part["sensors_missing"].items())
        lead.append(f"Sensor data missing: {gone}.")
    frames = [f for f in matched_frames(_chosen(seen), data.truth) if f.seen is _middle(seen[f.truth.scene])]
    blocks: list[Table | Figures] = [
        _headline(results["headline"], len(parts)), *_detection(part["detection"]), _forecast(part["forecast"]),
        _map(part["map"]), *_tracking(part.get("tracking")), *_calibration(part["calibration"]),
        Figures(
            "Key frames from above",
            [(f"{f.truth.scene}, key frame {f.truth.token[:8]}", bird_eye(f)) for f in frames],
            "The middle key frame of scenes spread evenly over the list, whatever came out. Dashed grey boxes: no "
            "LiDAR point lies on them. The rectangle is the window in which the map is perceived. Boxes tell class and "
            "existence when pointed at.",
            bird_eye_legend(frames),
        ),
        _provenance(results),
    ]  # fmt: skip
    return write_page(path, f"Perception on {info['version']} {info['split']}", lead, blocks, _STYLE)


def _chosen(seen: dict[str, list[Seen]]) -> dict[str, list[Seen]]:
    names = list(seen)
    step = max(len(names) / PICTURES, 1.0)
    picked = [names[int(i * step)] for i in range(min(PICTURES, len(names)))]
    return {name: seen[name] for name in picked}


def _middle(frames: Sequence[Seen]) -> Seen:
    return frames[len(frames) // 2]


def _headline(rows: Sequence[dict[str, Any]], checkpoints: int) -> Table:
    over = "seeds" if checkpoints > 1 else "scenes"
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    said = ". ".join(f"[{index}] {protocol}" for index, protocol in enumerate(protocols, start=1))
    about = f"Intervals over scenes: bootstrap, whole scenes drawn; over seeds: Student's. {said}."
    table = Table(
        "Headline", ["figure", "value", f"95 % over {over}", *(["each"] if checkpoints > 1 else [])], about=about
    )
    for row in rows:
        name = f"{row['name']} [{protocols.index(row['protocol']) + 1}]"
        each = [", ".join(number(v) for v in row["each"])] if checkpoints > 1 else []
        table.rows.append([name, number(row["value"], row["unit"]), interval(row), *each])
    return table


def _detection(detection: dict[str, Any]) -> list[Table | Figures]:
    errors = {
        "trans_err": "ATE m",
        "scale_err": "ASE",
        "orient_err": "AOE rad",
        "vel_err": "AVE m/s",
        "attr_err": "AAE",
    }
    about = f"{detection['protocol']}. Heights are nominal and attributes guessed from speed: neither is perceived."
    if detection["absent"]:
        about += f" Not annotated here: {', '.join(detection['absent'])}."
    table = Table(
        "Detection", ["class", "annotated", "AP", "0.5 m", "1 m", "2 m", "4 m", *errors.values()], about=about
    )
    names = [name for name in detection["classes"] if name not in detection["absent"]]
    for name in names:
        one = detection["classes"][name]
        values = [one["mean_ap"], *one["ap"].values(), *(one["errors"][e] for e in errors)]
        table.rows.append([name, str(one["annotated"]), *map(number, values)])
    if not names:
        return [table]
    bands = detection["by_distance"]
    first = bands[names[0]]
    columns = ["class", *(f"{b['from']:g} to {b['to']:g} m" for b in first)]
    sure = detection["recall_existence"]
    distances = Table("AP and recall by distance", columns, about=(
        f"Large: mean AP of the four thresholds; small: share of the annotated found within 2 m at existence {sure:g}, "
        f"and how many there are. The devkit judges pedestrians and cycles up to 40 m, cones and barriers up to 30 m."
    ))  # fmt: skip
    for name in names:
        distances.rows.append([name, *(_band(b) for b in bands[name])])
    figures = Figures("AP and recall over distance", [
        ("Average precision", distance_diagram(bands, names, "ap", "AP")),
        (f"Recall at existence {sure:g}", distance_diagram(bands, names, "recall", "recall")),
    ])  # fmt: skip
    return [table, distances, figures]


def _band(band: dict[str, Any]) -> Cell:
    if not band["annotated"]:
        return Cell("-")
    return Cell(number(band["ap"]), f"recall {number(band['recall'])}, {band['annotated']}")


def _forecast(forecast: dict[str, Any]) -> Table:
    figures = tuple(LABELS)
    columns = ["horizon", "agents", "forecast", "judged", *(LABELS[f] for f in figures)]
    table = Table("Forecasts", columns, about=(
        f"{forecast['protocol']}. Metres; intervals over scenes below. Constant velocity and lane following start from "
        f"what the network perceived and have one and up to five modes; the true state is known to no perception."
    ))  # fmt: skip
    for horizon, part in forecast["horizons"].items():
        for moving, words in (("every", ""), ("moving", "moving ")):
            for group in ("all", "vehicles", "pedestrians"):
                one = part[moving][group]
                if not one["agents"]:
                    continue
                best = _best(one["methods"])
                for method in METHODS:
                    values = one["methods"][method]
                    tone = "good" if method == best else ""
                    table.rows.append([
                        f"{horizon} s", f"{words}{group}", method, str(one["agents"]),
                        *(
                            Cell(number(values[f]["value"]), interval(values[f]), tone if f == "min_ade_6" else "")
                            for f in figures
                        ),
                    ])  # fmt: skip
    return table


def _best(methods: dict[str, Any]) -> str:
    """Of those that start from what was perceived."""
    return min((m for m in METHODS if m != TRUE), key=lambda m: methods[m]["min_ade_6"]["value"] or 0.0)


def _map(lines: dict[str, Any]) -> Table:
    about = f"{lines['protocol']}. The mean is over MapTR's three classes where they occur; centrelines are apart."
    if lines["absent"]:
        about += f" Not on this map: {', '.join(lines['absent'])}."
    table = Table("Map", ["class", "annotated", "AP", "95 % over scenes", "0.5 m", "1 m", "1.5 m"], about=about)
    for name, one in lines["classes"].items():
        if name not in lines["absent"]:
            mean = one["mean_ap"]
            row = [name, str(one["annotated"]), number(mean["value"]), interval(mean), *map(number, one["ap"].values())]
            table.rows.append(list(row))
    return table


def _tracking(tracks: dict[str, Any] | None) -> list[Table | Figures]:
    if not tracks:
        return []
    about = f"{tracks['protocol']}. Association: {tracks['association']}. Intervals over scenes."
    columns = {"amota": "AMOTA", "amotp": "AMOTP m", "recall": "recall", "ids": "identity switches"}
    table = Table("Tracking", ["class", *columns.values()], about=about)
    averages = tracks["averages"]
    table.rows.append(
        ["classes that occur", *(Cell(number(averages[f]["value"]), interval(averages[f])) for f in columns)]
    )
    for name, one in tracks["classes"].items():
        table.rows.append([name, *(number(one[f]) for f in columns)])
    return [table]


def _calibration(calibration: dict[str, Any] | None) -> list[Table | Figures]:
    if calibration is None:
        return [Table("Calibration", ["note"], [["Every scene was used to find the calibration."]])]
    found = calibration["found_on"] or "none in the checkpoint, before and after are the same"
    left = (
        f" Left out, since it was found on them: {', '.join(calibration['left_out'])}."
        if calibration["left_out"]
        else ""
    )
    about = f"{calibration['protocol']}. Calibration found on: {found}.{left} {len(calibration['scenes'])} scenes."
    columns = ["class", "horizon", "examples", "50 % region, before", "50 %, after", "90 %, before", "90 %, after"]
    sentence = "Share of truths inside regions that should hold 50 % or 90 %; too many is as wrong as too few."
    table = Table("Coverage of regions", columns, about=sentence)
    for row in calibration["coverage"]:
        horizon = "now" if row["horizon"] == 0 else f"{row['horizon']:g} s"
        cells = [Cell(number(row[when][p]), tone=_tone(row[when][p], float(p))) for p in ("0.5", "0.9")
                 for when in ("before", "after")]  # fmt: skip
        table.rows.append([row["class"], horizon, str(row["examples"]), *cells])
    existence = Table("Existence error by class", ["class", "before", "after"], [
        [name, number(calibration["before"]["classes"][name]), number(value)]
        for name, value in calibration["after"]["classes"].items()
    ], "Expected calibration error: mean gap between said and observed, weighted by answers.")  # fmt: skip
    diagram = Figures("Reliability of existence", [("", reliability_diagram(calibration))], about)
    return [diagram, existence, table]


def _tone(share: float, wanted: float) -> str:
    return "good" if abs(share - wanted) <= 0.05 else "warn" if abs(share - wanted) <= 0.15 else "bad"


def _provenance(results: dict[str, Any]) -> Table:
    run = results["run"]
    rows: list[list[Cell | str]] = [["command", " ".join(run["command"])], ["started", run["started"]]]
    for one in results["checkpoints"]:
        facts = one["facts"]
        words = ", ".join(f"{k} {facts[k]}" for k in ("version", "dataset", "seed", "step") if k in facts)
        rows.append(["checkpoint", f"{one['path']}: {words}"])
        cycle = one["cycle_ms"]
        if cycle["p50"] is not None:
            rows.append(["cycle, beside whatever else ran", f"p50 {cycle['p50']:.0f} ms, p99 {cycle['p99']:.0f} ms"])
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())])
    return Table("How this was made", ["", ""], rows)
