"""Forecasts of a second ago against what happened since: the coverage monitor's samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.scene import AgentClass, VectorScene


@dataclass(frozen=True)
class ForecastScoreConfig:
    """horizon (s): of the forecasts that are judged. radius: of the predicted set in standard deviations (score 1 is
    its rim). sigma_min (m): smallest standard deviation. probability_min: modes below it do not count.
    moving (m/s): slower agents are not judged, they would hide the shortfall of the others. range (m): from ego.
    """

    horizon: float = 1.0
    radius: float = 2.8
    sigma_min: float = 0.25
    probability_min: float = 0.02
    moving: float = 0.5
    range: float = 60.0


@dataclass(frozen=True)
class _Pending:
    due_us: int
    mean: np.ndarray  # [M, 2] m, global frame
    precision: np.ndarray  # [M, 2, 2] 1/m^2, global axes


class ForecastScores:
    """Remembers one forecast per agent until it is due; one sample per agent and horizon, so they hardly overlap.

    Score: the least Mahalanobis distance to a mode's mean, divided by `radius`.
    """

    def __init__(self, config: ForecastScoreConfig | None = None) -> None:
        self.config = config or ForecastScoreConfig()
        self._pending: dict[int, _Pending] = {}

    def update(self, scene: VectorScene) -> np.ndarray:
        """Scores ``[n]`` of the forecasts that are due at this (single, validated) scene. Agents that are gone leave no
        score."""
        now = int(scene.ego.time_us)
        pose = scene.global_from_ego.detach().cpu().numpy().astype(float)
        rotation = _rotation(pose[2])
        box = scene.agents.box.detach().cpu().numpy()
        place = box[:, :2] @ rotation.T + pose[:2]
        track = scene.agents.track_id.cpu().numpy()
        there = scene.agents.valid.cpu().numpy()
        scores = []
        for i in np.flatnonzero(there):
            waiting = self._pending.get(int(track[i]))
            if waiting is not None and now >= waiting.due_us:
                del self._pending[int(track[i])]
                if now - waiting.due_us <= 60_000:  # a forecast is judged at its time or not at all
                    off = place[i] - waiting.mean
                    distance = np.sqrt(np.einsum("mi,mij,mj->m", off, waiting.precision, off))
                    scores.append(float(distance.min()) / self.config.radius)
        self._remember(scene, now, pose, there, track)
        seen = {int(t) for t in track[there]}
        self._pending = {k: p for k, p in self._pending.items() if k in seen or now < p.due_us}
        return np.array(scores)

    def _remember(self, scene: VectorScene, now: int, pose: np.ndarray, there: np.ndarray, track: np.ndarray) -> None:
        config, futures = self.config, scene.futures
        time = futures.time.cpu().numpy()
        near = np.flatnonzero(np.abs(time - config.horizon) < 0.051)
        if not len(near):
            return
        k = int(near[0])
        speed = scene.agents.velocity.norm(dim=-1).cpu().numpy()
        away = scene.agents.box[:, :2].norm(dim=-1).cpu().numpy()
        kind = scene.agents.agent_class.cpu().numpy()
        judged = there & (speed >= config.moving) & (away <= config.range) & (kind != AgentClass.STATIC)
        said = futures.valid[:, :, k].cpu().numpy() & (futures.probability.cpu().numpy() >= config.probability_min)
        rotation = _rotation(pose[2])
        for i in np.flatnonzero(judged & said.any(1)):
            if int(track[i]) in self._pending:
                continue
            modes = np.flatnonzero(said[i])
            mean = futures.mean[i, modes, k].detach().cpu().numpy() @ rotation.T + pose[:2]
            spread = rotation @ futures.covariance[i, modes, k].detach().cpu().numpy() @ rotation.T
            precision = np.linalg.inv(spread + config.sigma_min**2 * np.eye(2))
            self._pending[int(track[i])] = _Pending(now + round(float(time[k]) * 1e6), mean, precision)


def _rotation(yaw: float) -> np.ndarray:
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s], [s, c]])
