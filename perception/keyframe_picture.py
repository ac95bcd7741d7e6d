"""A picture that shows whether boxes, LiDAR and cameras of a key frame fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perception.nuscenes_sensors import load_boxes, load_sensor_frame
from perception.sensor_frame import Boxes3D, CameraImages, transform
from planner.scene import AgentClass

EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
NEAR = 0.5  # m in front of the camera: edges are cut off there
Layer = tuple[Boxes3D, tuple[str, str] | None]  # boxes, and their colours in images and from above (None: by class)
COLOR = {
    AgentClass.CAR: "#ff9e1b",
    AgentClass.TRUCK: "#ff5f3c",
    AgentClass.BUS: "#ff3ca6",
    AgentClass.MOTORCYCLE: "#c05bff",
    AgentClass.BICYCLE: "#8f7bff",
    AgentClass.PEDESTRIAN: "#29b6ff",
    AgentClass.STATIC: "#7ee081",
}
ANNOTATED = ("#ffffff", "#8c8c8c")
"""Colours of annotated boxes beside others: in images, from above."""
PLACES = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")


def draw_keyframe(
    dataroot: str | Path,
    version: str,
    sample_token: str,
    out_png: str | Path,
    radius: float = 50.0,
    said: Boxes3D | None = None,
    title: str = "",
) -> Path:
    """Annotated boxes in the six images and over the LiDAR seen from above, as one PNG; returns its path.

    Boxes within `radius` (m) of the ego. said: boxes to draw over them, in the colours of their classes; the annotated
    ones are then white in the images and grey from above. Sensors without files stay empty. The picture holds data
    under the data set's licence. Raises DatasetError as loading does, OSError as writing does,
    ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame, boxes = load_sensor_frame(dataroot, version, sample_token), load_boxes(dataroot, version, sample_token)
    boxes = _near(boxes, frame.global_from_ego[:2, 3], radius)
    layers = [(boxes, None if said is None else ANNOTATED)]
    if said is not None:
        layers.append((_near(said, frame.global_from_ego[:2, 3], radius), None))
    figure = Figure(figsize=(22, 8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 1, 1.15))
    for place, channel in enumerate(PLACES):
        axes = figure.add_subplot(grid[place // 3, place % 3])
        axes.set_title(channel, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        if frame.cameras is not None and channel in frame.cameras.channel:
            _draw_camera(axes, frame.cameras, frame.cameras.channel.index(channel), layers)
    above = figure.add_subplot(grid[:, 3])
    _draw_above(above, frame, layers, radius)
    if said is not None:
        _add_legend(above, layers)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.savefig(out_png, dpi=90)
    return Path(out_png)


def _near(boxes: Boxes3D, xy: np.ndarray, radius: float) -> Boxes3D:
    near = np.hypot(*(boxes.center[:, :2] - xy).T) < radius
    return Boxes3D(boxes.center[near], boxes.size[near], boxes.yaw[near], boxes.agent_class[near])


def _draw_camera(axes: Any, cameras: CameraImages, index: int, layers: list[Layer]) -> None:
    image = cameras.image[index]
    axes.imshow(image)
    for boxes, color in layers:
        corners = transform(cameras.camera_from_global(index), boxes.corners())
        for box, kind in zip(corners, boxes.agent_class):
            for a, b in EDGES:
                edge = _cut(box[a], box[b])
                if edge is None:
                    continue
                pixels = edge / edge[:, 2:] @ cameras.intrinsics[index].T
                paint = color[0] if color else COLOR[AgentClass(int(kind))]
                axes.plot(pixels[:, 0], pixels[:, 1], color=paint, linewidth=0.9)
    axes.set_xlim(0, image.shape[1])
    axes.set_ylim(image.shape[0], 0)


def _cut(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The part ``[2, 3]`` of an edge that is in front of the camera, or None."""
    if max(a[2], b[2]) <= NEAR:
        return None
    if a[2] < NEAR:
        a = b + (a - b) * (b[2] - NEAR) / (b[2] - a[2])
    elif b[2] < NEAR:
        b = a + (b - a) * (a[2] - NEAR) / (a[2] - b[2])
    return np.stack([a, b])


def _draw_above(axes: Any, frame: Any, layers: list[Layer], radius: float) -> None:
    """Seen from above in the ego frame, x up and y left."""
    ego_from_global = np.linalg.inv(frame.global_from_ego)
    if frame.lidar is not None:
        points = transform(ego_from_global, frame.lidar.points_in_global())
        height = np.clip(points[:, 2], 0, 3)
        axes.scatter(-points[:, 1], points[:, 0], s=0.4, c=height, cmap="Greys", vmin=-1.5, vmax=3, linewidths=0)
    for boxes, color in layers:
        corners = transform(ego_from_global, boxes.corners())[:, [0, 1, 2, 3, 0]]
        for box, kind in zip(corners, boxes.agent_class):
            paint = color[1] if color else COLOR[AgentClass(int(kind))]
            if color:
                axes.fill(-box[:, 1], box[:, 0], facecolor=paint, alpha=0.35, linewidth=0)
            axes.plot(-box[:, 1], box[:, 0], color=paint, linewidth=1.1)
            nose = -box[:2, 1].mean(keepdims=True), box[:2, 0].mean(keepdims=True)
            axes.plot(*nose, "k.", markersize=1.5)
    axes.plot([0], [0], marker="^", color="red", markersize=7)
    axes.set_xlim(-radius, radius)
    axes.set_ylim(-radius, radius)
    axes.set_aspect("equal")
    axes.set_title("LiDAR and boxes from above, x up, m", fontsize=9)


def _add_legend(axes: Any, layers: list[Layer]) -> None:
    from matplotlib.patches import Patch

    kinds = sorted({int(k) for boxes, color in layers if color is None for k in boxes.agent_class})
    marks = [Patch(facecolor=ANNOTATED[1], alpha=0.5, label="annotated (white in the images)")]
    marks += [Patch(facecolor="none", edgecolor=COLOR[AgentClass(k)], label=f"{AgentClass(k).name.lower()}, detected")
              for k in kinds]  # fmt: skip
    axes.legend(handles=marks, fontsize=8, loc="upper right")
