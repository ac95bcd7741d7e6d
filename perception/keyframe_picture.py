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
COLOR = {
    AgentClass.CAR: "#ff9e1b",
    AgentClass.TRUCK: "#ff5f3c",
    AgentClass.BUS: "#ff3ca6",
    AgentClass.MOTORCYCLE: "#c05bff",
    AgentClass.BICYCLE: "#8f7bff",
    AgentClass.PEDESTRIAN: "#29b6ff",
    AgentClass.STATIC: "#7ee081",
}
PLACES = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")


def draw_keyframe(
    dataroot: str | Path, version: str, sample_token: str, out_png: str | Path, radius: float = 50.0
) -> Path:
    """Annotated boxes in the six images and over the LiDAR seen from above, as one PNG; returns its path.

    Boxes within `radius` (m) of the ego. Sensors without files stay empty. The picture holds data
    under the data set's licence. Raises DatasetError as loading does, OSError as writing does,
    ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame, boxes = load_sensor_frame(dataroot, version, sample_token), load_boxes(dataroot, version, sample_token)
    near = np.hypot(*(boxes.center[:, :2] - frame.global_from_ego[:2, 3]).T) < radius
    boxes = Boxes3D(boxes.center[near], boxes.size[near], boxes.yaw[near], boxes.agent_class[near])
    figure = Figure(figsize=(22, 8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 1, 1.15))
    for place, channel in enumerate(PLACES):
        axes = figure.add_subplot(grid[place // 3, place % 3])
        axes.set_title(channel, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        if frame.cameras is not None and channel in frame.cameras.channel:
            _draw_camera(axes, frame.cameras, frame.cameras.channel.index(channel), boxes)
    _draw_above(figure.add_subplot(grid[:, 3]), frame, boxes, radius)
    figure.savefig(out_png, dpi=90)
    return Path(out_png)


def _draw_camera(axes: Any, cameras: CameraImages, index: int, boxes: Boxes3D) -> None:
    image = cameras.image[index]
    axes.imshow(image)
    corners = transform(cameras.camera_from_global(index), boxes.corners())
    for box, kind in zip(corners, boxes.agent_class):
        for a, b in EDGES:
            edge = _cut(box[a], box[b])
            if edge is None:
                continue
            pixels = edge / edge[:, 2:] @ cameras.intrinsics[index].T
            axes.plot(pixels[:, 0], pixels[:, 1], color=COLOR[AgentClass(int(kind))], linewidth=0.9)
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


def _draw_above(axes: Any, frame: Any, boxes: Boxes3D, radius: float) -> None:
    """Seen from above in the ego frame, x up and y left."""
    ego_from_global = np.linalg.inv(frame.global_from_ego)
    if frame.lidar is not None:
        points = transform(ego_from_global, frame.lidar.points_in_global())
        height = np.clip(points[:, 2], 0, 3)
        axes.scatter(-points[:, 1], points[:, 0], s=0.4, c=height, cmap="Greys", vmin=-1.5, vmax=3, linewidths=0)
    corners = transform(ego_from_global, boxes.corners())[:, [0, 1, 2, 3, 0]]
    for box, kind in zip(corners, boxes.agent_class):
        axes.plot(-box[:, 1], box[:, 0], color=COLOR[AgentClass(int(kind))], linewidth=1.1)
        axes.plot(*np.stack([-box[:2, 1].mean(keepdims=True), box[:2, 0].mean(keepdims=True)]), "k.", markersize=1.5)
    axes.plot([0], [0], marker="^", color="red", markersize=7)
    axes.set_xlim(-radius, radius)
    axes.set_ylim(-radius, radius)
    axes.set_aspect("equal")
    axes.set_title("LiDAR and boxes from above, x up, m", fontsize=9)
