"""Do both perception channels see the same? Objects only one of them has, on ego's way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.monitors.verdict import MonitorLevel, MonitorVerdict
from planner.scene import AgentClass, RawObstacles, RawStatus, VectorScene


@dataclass(frozen=True)
class DisagreementConfig:
    """ahead (m): how far along the route. margin (m): by which a raw box may lie outside a scene box and still be the
    same object; inset (m): by which it must reach into the surface that ego's direction may use.
    observed: sweeps before a raw obstacle counts. ghost_range (m): range within which a scene object must have left a
    trace in the sight. cycles: in a row with the same kind of disagreement, DEGRADED; cycles_long: MINIMAL_RISK.
    """

    ahead: float = 45.0
    margin: float = 0.7
    inset: float = 0.3
    observed: int = 3
    ghost_range: float = 30.0
    cycles: int = 3
    cycles_long: int = 30


class DisagreementMonitor:
    """Rule: `cycles` in a row in which the raw channel has something on ego's way that the scene has not ("missed"), or
    sees the ground behind an object of the scene ("ghost") -> DEGRADED; `cycles_long` in a row -> MINIMAL_RISK, because
    one of the channels is broken. A raw channel that is not OK is silent here; another monitor speaks for it.
    """

    name = "disagreement"

    def __init__(self, config: DisagreementConfig | None = None) -> None:
        self.config = config or DisagreementConfig()
        self._missed = self._ghost = 0

    def update(self, scene: VectorScene, raw: RawObstacles | None) -> MonitorVerdict:
        """scene, raw: single ones in the same ego frame."""
        if raw is None or raw.status is not RawStatus.OK:
            self._missed = self._ghost = 0
            return MonitorVerdict(self.name, MonitorLevel.OK, "", 0.0, float(self.config.cycles))
        boxes = scene.agents.box[scene.agents.valid].detach().cpu().numpy().astype(float)
        kind = scene.agents.agent_class[scene.agents.valid].cpu().numpy()
        missed, ghosts = self._only_raw(scene, raw, boxes), self._only_scene(raw, boxes, kind)
        self._missed = self._missed + 1 if missed else 0
        self._ghost = self._ghost + 1 if ghosts else 0
        cycles = max(self._missed, self._ghost)
        if cycles < self.config.cycles:
            return MonitorVerdict(self.name, MonitorLevel.OK, "", float(cycles), float(self.config.cycles))
        what = f"raw obstacle at {_place(missed)} is not in the scene"
        if self._ghost > self._missed:
            what = f"scene object at {_place(ghosts)}: the raw channel sees the ground behind it"
        level, limit = MonitorLevel.DEGRADED, self.config.cycles
        if cycles >= self.config.cycles_long:
            level, limit = MonitorLevel.MINIMAL_RISK, self.config.cycles_long
        return MonitorVerdict(self.name, level, f"{what}, for {cycles} cycles", float(cycles), float(limit))

    def _only_raw(self, scene: VectorScene, raw: RawObstacles, boxes: np.ndarray) -> list[np.ndarray]:
        """Centres of raw obstacles on ego's way that no scene box explains."""
        sure = (raw.valid & (raw.observed >= self.config.observed)).cpu().numpy()
        centre, yaw = raw.centre.cpu().numpy()[sure], raw.yaw.cpu().numpy()[sure]
        size = np.stack([raw.length.cpu().numpy()[sure], raw.width.cpu().numpy()[sure]], -1)
        corner = _corners(centre, yaw, size)
        points = np.concatenate([corner, centre[:, None]], 1)  # [O, 5, 2]
        on_way = self._on_way(scene, points).any(1)
        if len(boxes):
            c, s = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
            away = points[:, :, None] - boxes[None, None, :, :2]
            x, y = c * away[..., 0] + s * away[..., 1], c * away[..., 1] - s * away[..., 0]
            m = self.config.margin
            within = (np.abs(x) <= boxes[:, 3] / 2 + m) & (np.abs(y) <= boxes[:, 4] / 2 + m)
            # A box is explained if any of its points belongs to an object: merged returns are a feature of the channel.
            on_way &= ~within.any((1, 2))
        return list(centre[on_way])

    def _on_way(self, scene: VectorScene, points: np.ndarray) -> np.ndarray:
        """Which points ``[..., 2]`` lie ahead on the surface that ego's direction of travel may use."""
        route, valid = scene.route, scene.route.valid.cpu().numpy()
        xy = route.xy.detach().cpu().numpy()[valid]
        left, right = route.left.detach().cpu().numpy()[valid], route.right.detach().cpu().numpy()[valid]
        start = int(np.hypot(*xy.T).argmin())
        way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy[start:], axis=0).T))])
        keep = way <= self.config.ahead
        xy, left, right = (a[start:][keep] for a in (xy, left, right))
        if len(xy) < 2:
            return np.zeros(points.shape[:-1], dtype=bool)
        along = np.gradient(xy, axis=0)
        along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
        away = points[..., None, :] - xy
        nearest = (away**2).sum(-1).argmin(-1)
        step = np.take_along_axis(away, nearest[..., None, None], -2)[..., 0, :]
        t = along[nearest]
        aside = t[..., 0] * step[..., 1] - t[..., 1] * step[..., 0]
        ahead = (t * step).sum(-1)
        inset = self.config.inset
        inside = (aside <= left[nearest] - inset) & (aside >= -right[nearest] + inset)
        end = (nearest == len(xy) - 1) & (ahead > 1.0) | (nearest == 0) & (ahead < 0.0)
        return inside & ~end

    def _only_scene(self, raw: RawObstacles, boxes: np.ndarray, kind: np.ndarray) -> list[np.ndarray]:
        """Centres of scene objects that the raw channel looks through: in all sectors across their middle half the
        ground is seen behind them."""
        azimuth, sight = raw.azimuth.cpu().numpy(), raw.sight.cpu().numpy()
        measured = raw.sight_valid.cpu().numpy()
        found = []
        for box, what in zip(boxes, kind):
            distance = float(np.hypot(*box[:2]))
            reach = float(np.hypot(box[3], box[4])) / 2
            if distance > self.config.ghost_range or distance < reach + 2.0 or what == AgentClass.STATIC:
                continue  # low objects of class static may lie below what the raw channel calls an obstacle
            middle = np.arctan2(box[1], box[0])
            half = max(0.25 * min(box[3], box[4]) / distance, np.pi / raw.sectors)
            across = np.abs(np.angle(np.exp(1j * (azimuth - middle)))) <= half
            if across.any() and measured[across].all() and (sight[across] > distance + reach + 0.5).all():
                found.append(box[:2])
        return found


def _corners(centre: np.ndarray, yaw: np.ndarray, size: np.ndarray) -> np.ndarray:
    local = size[:, None] * np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y = c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]
    return centre[:, None] + np.stack([x, y], -1)


def _place(points: list[np.ndarray]) -> str:
    x, y = points[0] if points else (np.nan, np.nan)
    return f"({x:.1f}, {y:.1f}) m"
