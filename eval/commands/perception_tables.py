"""The figures of `dualdrive perception` as tables for people; every one names its protocol."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from eval.perception.prediction import METHODS


def print_results(console: Console, results: dict[str, Any]) -> None:
    """Headline, then the first checkpoint's classes, forecasts, map and calibration."""
    data, parts = results["data"], results["checkpoints"]
    console.print()
    console.print(
        f"[bold]{data['version']} {data['split']}[/]: {len(data['scenes'])} scenes, {data['key_frames']} key frames; "
        f"sensor data {data['sensors']}.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    over = "seeds" if len(parts) > 1 else "scenes"
    table = _table("figure", "value", f"95 % over {over}")
    protocols = list(dict.fromkeys(row["protocol"] for row in results["headline"]))
    for row in results["headline"]:
        name = f"{row['name']} [{protocols.index(row['protocol']) + 1}]".replace("[", "\\[")
        table.add_row(name, number(row["value"], row["unit"]), interval(row))
    console.print(table)
    for index, protocol in enumerate(protocols, start=1):
        console.print(f"\\[{index}] {protocol}.", style="dim", highlight=False, soft_wrap=True)
    first = parts[0]
    _print_detection(console, first["detection"])
    _print_forecast(console, first["forecast"])
    if first.get("tracking"):
        _print_tracking(console, first["tracking"])
    _print_map(console, first["map"])
    _print_calibration(console, first["calibration"])
    if first["sensors_missing"]:
        gone = ", ".join(f"{name} at {count}" for name, count in first["sensors_missing"].items())
        console.print(f"[yellow]Sensor data missing[/] (key frames): {gone}.", highlight=False, soft_wrap=True)
    cycle = first["cycle_ms"]
    if cycle["p50"] is not None:
        console.print(
            f"One cycle, points and images to tracks, beside whatever else ran: p50 {cycle['p50']:.0f} ms, "
            f"p99 {cycle['p99']:.0f} ms.", style="dim", highlight=False, soft_wrap=True,
        )  # fmt: skip


def _print_detection(console: Console, detection: dict[str, Any]) -> None:
    table = _table("class", "annotated", "AP", *(f"AP {t} m" for t in ("0.5", "1", "2", "4")), "ATE m", "ASE", "AOE",
                   "AVE m/s", "AAE")  # fmt: skip
    for name, one in detection["classes"].items():
        if name not in detection["absent"]:
            errors = (number(one["errors"][e]) for e in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"))
            table.add_row(
                name, str(one["annotated"]), number(one["mean_ap"]), *map(number, one["ap"].values()), *errors
            )
    console.print(table)
    console.print(f"{detection['protocol']}; heights and attributes are not perceived.", style="dim", highlight=False)
    if detection["absent"]:
        console.print(f"Not annotated here: {', '.join(detection['absent'])}.", style="dim", highlight=False)


def _print_forecast(console: Console, forecast: dict[str, Any]) -> None:
    table = _table(
        "forecast", "horizon", "agents", "minADE_1", "minADE_6", "minFDE_6", "miss rate_6", "moving: minADE_6"
    )
    for horizon, part in forecast["horizons"].items():
        for method in METHODS:
            every, moving = (part[g]["all"] for g in ("every", "moving"))
            one = every["methods"][method]
            figures = (one[f]["value"] for f in ("min_ade_1", "min_ade_6", "min_fde_6", "miss_rate_6"))
            last = number(moving["methods"][method]["min_ade_6"]["value"])
            table.add_row(method, f"{horizon} s", str(every["agents"]), *map(number, figures), last)
    console.print(table)
    console.print(f"{forecast['protocol']}. Metres.", style="dim", highlight=False, soft_wrap=True)


def _print_tracking(console: Console, tracks: dict[str, Any]) -> None:
    table = _table("tracks of", "AMOTA", "AMOTP m", "recall", "identity switches")
    rows = {"the classes that occur": {f: e["value"] for f, e in tracks["averages"].items()}, **tracks["classes"]}
    for name, one in rows.items():
        switches = one["ids"]
        known = switches is not None and switches == switches
        table.add_row(
            name, *(number(one[f]) for f in ("amota", "amotp", "recall")), f"{switches:.0f}" if known else "-"
        )
    console.print(table)
    console.print(f"{tracks['protocol']}; association {tracks['association']}.", style="dim", highlight=False)


def _print_map(console: Console, lines: dict[str, Any]) -> None:
    table = _table("map class", "annotated", "AP", *(f"AP {t} m" for t in ("0.5", "1", "1.5")))
    for name, one in lines["classes"].items():
        if name not in lines["absent"]:
            table.add_row(
                name, str(one["annotated"]), number(one["mean_ap"]["value"]), *map(number, one["ap"].values())
            )
    console.print(table)
    console.print(f"{lines['protocol']}.", style="dim", highlight=False, soft_wrap=True)
    if lines["absent"]:
        console.print(f"Not on this map: {', '.join(lines['absent'])}.", style="dim", highlight=False)


def _print_calibration(console: Console, calibration: dict[str, Any] | None) -> None:
    if calibration is None:
        console.print("Calibration: every scene was used to find it; nothing is left to judge it on.", style="yellow")
        return
    table = _table("region of", "horizon", "examples", "50 % before", "50 % after", "90 % before", "90 % after")
    for row in calibration["coverage"]:
        shares = [number(row[when][p]) for p in ("0.5", "0.9") for when in ("before", "after")]
        horizon = "now" if row["horizon"] == 0 else f"{row['horizon']:g} s"
        table.add_row(row["class"], horizon, str(row["examples"]), *shares)
    console.print(table)
    found = calibration["found_on"] or "none in the checkpoint"
    console.print(
        f"Share of truths inside, {len(calibration['scenes'])} scenes; calibration: {found}. "
        f"{calibration['protocol']}.",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip


def print_keyframe(console: Console, facts: dict[str, Any]) -> None:
    """Recall by distance of one key frame."""
    table = _table("class", *(f"{b['from']:.0f} to {b['to']:.0f} m" for b in next(iter(facts["recall"].values()))))
    for name, bands in facts["recall"].items():
        table.add_row(name, *(f"{b['found']} of {b['annotated']}" if b["annotated"] else "-" for b in bands))
    console.print(table)
    console.print(
        f"Annotated objects with a LiDAR point that a detection of existence at least {facts['existence']:g} and their "
        f"class found within {facts['reach']:g} m; {facts['wrong']} detections found nothing. Sensor data "
        f"{facts['sensors']}.", style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip


def number(value: float | None, unit: str = "") -> str:
    """Three decimals, "-" for what is not known."""
    return "-" if value is None or value != value else f"{value:.3f}{chr(160) + unit if unit else ''}"


def interval(estimate: dict[str, Any]) -> str:
    """Both ends, or "-"."""
    if estimate["low"] is None or estimate["low"] != estimate["low"]:
        return "-"
    return f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
    return table
