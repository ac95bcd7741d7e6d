"""Diagrams and bird's-eye pictures as SVG: nothing to install, sharp at any size, follows the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from eval.perception.detection import SURE
from eval.perception.map_ap import NAMES, said_lines
from eval.perception.matches import Frame
from eval.perception.truth import WINDOW
from perception.calibrate import LIKELY
from perception.config import LINE_KINDS
from perception.decode import DecodeConfig
from planner.scene import AgentClass

REACH = 45.0
"""m: half-side of a bird's-eye picture."""
COLOR = {
    AgentClass.CAR: "#e07b00", AgentClass.TRUCK: "#e0482a", AgentClass.BUS: "#d6297f",
    AgentClass.MOTORCYCLE: "#a04be0", AgentClass.BICYCLE: "#6a5be8", AgentClass.PEDESTRIAN: "#0d8fd0",
    AgentClass.STATIC: "#2f9e44",
}  # fmt: skip
LINE_COLOR = {"divider": "#d4a106", "crossing": "#2f9e44", "boundary": "#d1495b", "centreline": "#5b8def"}
CLASS_COLOR = {
    **{k.name.lower(): color for k, color in COLOR.items() if k != AgentClass.STATIC},
    "trailer": "#8c6d1f", "construction_vehicle": "#b8860b", "traffic_cone": "#2f9e44", "barrier": "#5f7a8a",
}  # fmt: skip
BEFORE, AFTER = "#e07b00", "#0d8fd0"


def bird_eye(frame: Frame, size: int = 470) -> str:
    """A key frame from above, ego's x upwards: annotations grey, answers in colour."""
    scale = size / (2 * REACH)
    pose = frame.truth.pose

    def local(xy: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        return (xy - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])

    def pixels(xy: np.ndarray) -> str:
        return " ".join(f"{(REACH - y) * scale:.1f},{(REACH - x) * scale:.1f}" for x, y in xy)

    half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * WINDOW
    out = [f'<polygon points="{pixels(half)}" class="window"/>']
    for xy, kind in zip(frame.truth.line, frame.truth.line_kind):
        dash = "true centre" if NAMES[LINE_KINDS[kind]] == "centreline" else "true"
        out.append(f'<polyline points="{pixels(xy)}" class="{dash}"/>')
    told = DecodeConfig().line
    for name, sure, xy in said_lines(frame.seen.map):
        if sure >= told:
            out.append(f'<polyline points="{pixels(xy)}" class="said" stroke="{LINE_COLOR[name]}"/>')
    truth = frame.truth
    for i, box in enumerate(truth.box):
        if truth.distance[i] > 1.5 * REACH:
            continue
        there = truth.future_valid[i]
        ahead = local(np.concatenate([box[None, :2], truth.future[i, there]]))
        out.append(f'<polyline points="{pixels(ahead)}" class="went"/>')
        seen = "there" if truth.points[i] > 0 else "there unseen"
        out.append(f'<polygon points="{pixels(local(_corners(box)))}" class="{seen}"/>')
    for i in np.flatnonzero(frame.existence >= SURE):
        color = COLOR[AgentClass(int(frame.kind[i]))]
        for mean, p in zip(frame.mean[i], frame.probability[i]):
            if p >= LIKELY:
                ahead = local(np.concatenate([frame.place[i : i + 1, :2], mean]))
                out.append(
                    f'<polyline points="{pixels(ahead)}" class="mode" stroke="{color}" opacity="{0.3 + p:.2f}"/>'
                )
        box = np.array([*frame.place[i], *frame.size[i]])
        title = f"{AgentClass(int(frame.kind[i])).name.lower()} {frame.existence[i]:.2f}"
        corners = _corners(box)
        nose = np.stack([box[:2], corners[:2].mean(0)])
        out.append(
            f'<g stroke="{color}" fill="none"><title>{title}</title><polygon points="{pixels(local(corners))}" '
            f'stroke-width="1.6"/><polyline points="{pixels(local(nose))}"/></g>'
        )
    ego = np.array([[3.9, 1.0], [3.9, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    out.append(f'<polygon points="{pixels(ego)}" class="ego"/>')
    return (
        f'<svg viewBox="0 0 {size} {size}" width="{size}" height="{size}" class="bev" role="img" '
        f'aria-label="{escape(frame.truth.scene)}">{"".join(out)}</svg>'
    )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """A line of coloured marks with their words."""
    marks = (f'<span><i style="background:{color}"></i>{escape(words)}</span>' for color, words in entries)
    return f'<p class="legend">{"".join(marks)}</p>'


def bird_eye_legend(frames: Sequence[Frame]) -> str:
    """Of the classes and lines that occur in the pictures."""
    kinds = sorted({int(k) for f in frames for k in f.kind[f.existence >= SURE]})
    lines = dict.fromkeys(n for f in frames for n, sure, _ in said_lines(f.seen.map) if sure >= DecodeConfig().line)
    return legend([
        ("#8888", "annotated object, its way in the next 6 s, annotated lines (grey)"),
        *((COLOR[AgentClass(k)], f"{AgentClass(k).name.lower()}: detection, forecasts") for k in kinds),
        *((LINE_COLOR[n], f"{n} as perceived") for n in LINE_COLOR if n in lines),
    ])  # fmt: skip


def reliability_diagram(calibration: dict[str, Any], size: int = 360) -> str:
    """Said probability against the share that was right, before and after calibration; areas tell how many."""
    plot = _Axes(size, size, (0.0, 1.0), (0.0, 1.0), "said existence", "share that was right")
    out = [plot.line([(0, 0), (1, 1)], "diagonal")]
    for when, color, name in (("before", BEFORE, "before"), ("after", AFTER, "after")):
        bins = [b for b in calibration[when]["bins"] if b["answers"]]
        points = [(b["said"], b["right"]) for b in bins]
        out.append(plot.line(points, "series", color))
        most = max((b["answers"] for b in bins), default=1)
        for (x, y), b in zip(points, bins):
            radius = 2 + 6 * np.sqrt(b["answers"] / most)
            title = f"{name}: said {b['said']:.2f}, right {b['right']:.2f}, {b['answers']} answers"
            out.append(plot.dot(x, y, radius, color, title))
    words = [
        (color, f"{when} calibration, error {calibration[when]['existence_error']['value']:.3f}")
        for when, color in (("before", BEFORE), ("after", AFTER))
    ]
    return plot.svg(out) + legend(words)


def distance_diagram(
    by_distance: dict[str, Any], names: Sequence[str], figure: str, words: str, width: int = 460
) -> str:
    """A figure ("ap" or "recall") of each class over distance; bands with nobody annotated are left out."""
    far = max(b["to"] for b in by_distance[names[0]])
    plot = _Axes(width, 320, (0.0, far), (0.0, 1.0), "distance from ego, m", words)
    out = []
    for name in names:
        color = CLASS_COLOR[name]
        bands = [b for b in by_distance[name] if b["annotated"] and b[figure] is not None]
        points = [((b["from"] + b["to"]) / 2, b[figure]) for b in bands]
        out.append(plot.line(points, "series", color))
        for (x, y), b in zip(points, bands):
            title = f"{name}, {b['from']:g} to {b['to']:g} m: {y:.2f} of {b['annotated']} annotated"
            out.append(plot.dot(x, y, 3.5, color, title))
    return plot.svg(out) + legend([(CLASS_COLOR[name], name) for name in names])


class _Axes:
    """A small plot: pixel places, ticks and words."""

    def __init__(
        self, width: int, height: int, x: tuple[float, float], y: tuple[float, float], x_words: str, y_words: str
    ) -> None:
        self.width, self.height, self.x, self.y, self.words = width, height, x, y, (x_words, y_words)
        self.left, self.bottom, self.top, self.right = 48, 40, 12, 14

    def place(self, x: float, y: float) -> tuple[float, float]:
        wide, high = self.width - self.left - self.right, self.height - self.top - self.bottom
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + wide * across, self.height - self.bottom - high * up

    def line(self, points: Sequence[tuple[float, float]], kind: str, color: str = "currentColor") -> str:
        spots = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.place(x, y) for x, y in points))
        return f'<polyline points="{spots}" class="{kind}" stroke="{color}"/>'

    def dot(self, x: float, y: float, radius: float, color: str, title: str) -> str:
        a, b = self.place(x, y)
        mark = f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}" fill="{color}" fill-opacity="0.75">'
        return f"{mark}<title>{escape(title)}</title></circle>"

    def svg(self, body: Sequence[str]) -> str:
        out = []
        for i in range(6):
            x, y = (a + (b - a) * i / 5 for a, b in (self.x, self.y))
            (px, base), (edge, py) = self.place(x, self.y[0]), self.place(self.x[0], y)
            end = self.place(self.x[1], y)[0]
            out.append(f'<line x1="{edge:.1f}" x2="{end:.1f}" y1="{py:.1f}" y2="{py:.1f}" class="grid"/>')
            out.append(f'<text x="{px:.1f}" y="{base + 15:.1f}" text-anchor="middle">{x:g}</text>')
            out.append(f'<text x="{edge - 6:.1f}" y="{py + 4:.1f}" text-anchor="end">{y:g}</text>')
        middle = (self.left + self.width - self.right) / 2
        out.append(f'<text x="{middle:.0f}" y="{self.height - 6}" text-anchor="middle">{escape(self.words[0])}</text>')
        rise = (self.top + self.height - self.bottom) / 2
        turn = f'transform="rotate(-90 13 {rise:.0f})"'
        out.append(f'<text x="13" y="{rise:.0f}" text-anchor="middle" {turn}>{escape(self.words[1])}</text>')
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        return f'<svg {size} class="plot" role="img">{"".join([*out, *body])}</svg>'


def _corners(box: np.ndarray) -> np.ndarray:
    """``[4, 2]`` of x, y, yaw, length, width: front left, front right, rear right, rear left."""
    x, y, yaw, length, width = box
    cos, sin = np.cos(yaw), np.sin(yaw)
    local = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [length / 2, width / 2]
    return local @ np.array([[cos, sin], [-sin, cos]]) + [x, y]
