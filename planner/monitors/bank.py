"""The page of the monitors: everything they watch in one cycle, and what they say about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from planner.monitors.content import ContentConfig, ContentMonitor, RawChannelMonitor, objects_content, scene_content
from planner.monitors.coverage import CoverageConfig, CoverageMonitor
from planner.monitors.deviation import DeviationConfig, DeviationMonitor
from planner.monitors.disagreement import DisagreementConfig, DisagreementMonitor
from planner.monitors.forecast_scores import ForecastScoreConfig, ForecastScores
from planner.monitors.grip import GripConfig, GripMonitor
from planner.monitors.localisation import LocalisationConfig, LocalisationMonitor
from planner.monitors.map_place import MapConfig, MapMonitor
from planner.monitors.verdict import MonitorLevel, MonitorVerdict
from planner.scene import RawObstacles, Trajectory, VectorScene, VehicleParameters, frames


@dataclass(frozen=True)
class MonitorsConfig:
    """Settings of each monitor."""

    coverage: CoverageConfig = field(default_factory=CoverageConfig)
    forecasts: ForecastScoreConfig = field(default_factory=ForecastScoreConfig)
    deviation: DeviationConfig = field(default_factory=DeviationConfig)
    content: ContentConfig = field(default_factory=ContentConfig)
    localisation: LocalisationConfig = field(default_factory=LocalisationConfig)
    map: MapConfig = field(default_factory=MapConfig)
    disagreement: DisagreementConfig = field(default_factory=DisagreementConfig)
    grip: GripConfig = field(default_factory=GripConfig)


class Monitors:
    """One per vehicle. `update` before a decision, `driven` after it."""

    def __init__(self, config: MonitorsConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config, self.vehicle = config or MonitorsConfig(), vehicle or VehicleParameters()
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new drive begins."""
        config = self.config
        self.coverage, self._scores = CoverageMonitor(config.coverage), ForecastScores(config.forecasts)
        self._deviation, self._localisation = (
            DeviationMonitor(config.deviation),
            LocalisationMonitor(config.localisation),
        )
        self._scene, self._raw = ContentMonitor("scene", config.content), RawChannelMonitor(config.content)
        self._objects = ContentMonitor("objects", config.content)
        self._map = MapMonitor(config.map)
        self._grip = GripMonitor(config.grip, self.vehicle)
        self._disagreement = DisagreementMonitor(config.disagreement)
        self._last: tuple[np.ndarray, int] | None = None
        self._driven: tuple[Trajectory, np.ndarray, int] | None = None

    @property
    def widening(self) -> float:
        """Factor >= 1 for the checker's sets, from the coverage monitor."""
        return self.coverage.widening

    @property
    def grip(self) -> float:
        """Share in (0, 1] of the vehicle's grip that the road is known to give, from the grip monitor."""
        return self._grip.share

    def update(
        self, scene: VectorScene, raw: RawObstacles | None = None, *, now_us: int, with_raw: bool = True
    ) -> tuple[MonitorVerdict, ...]:
        """This cycle's verdicts. Never raises: a monitor that cannot work says MINIMAL_RISK.

        scene: single; one that does not validate is no message. now_us: the own clock, microseconds. with_raw: False
        where the vehicle has no raw channel at all.
        """
        try:
            return self._update(scene, raw, now_us, with_raw)
        except Exception as error:
            reason = f"monitors failed: {type(error).__name__}: {error}"
            return (MonitorVerdict("monitors", MonitorLevel.MINIMAL_RISK, reason),)

    def trusted(self, scene: VectorScene) -> VectorScene:
        """The scene to be planned, checked and driven in; call after `update`. One that does not validate is handed on.

        After a jump or drift of the localisation that is not taken back: ego where dead reckoning leads, map and route
        around it. What is measured from ego (agents, ego's motion) stays; forecasts were made on the wrong map and
        stay, too.
        """
        if (here := self._localisation.reckoned) is None:
            return scene
        try:
            scene.validate()
        except (ValueError, TypeError, AttributeError):  # the supervisor's door says what is wrong with it
            return scene
        return _seen_at(scene, here)

    def driven(self, scene: VectorScene, trajectory: Trajectory) -> None:
        """What is driven from this scene on; forgotten where the scene cannot be read. Never raises."""
        try:
            self._driven = (trajectory, _pose(scene), int(scene.ego.time_us))
        except Exception:
            self._driven = None

    def _update(
        self, scene: VectorScene, raw: RawObstacles | None, now_us: int, with_raw: bool
    ) -> tuple[MonitorVerdict, ...]:
        try:
            scene.validate()
        except (ValueError, TypeError, AttributeError):  # the supervisor's door says what is wrong with it
            silent = self._scene.update(None, 0, now_us)
            self._objects.update(None, 0, now_us)
            return (silent, self._raw.update(raw, now_us)) if with_raw else (silent,)
        pose, stamp = _pose(scene), int(scene.ego.time_us)
        v, yaw_rate = float(scene.ego.v), float(scene.ego.yaw_rate)
        localised = self._localisation.update(pose, v, yaw_rate, stamp)
        dt = 0.0 if self._last is None else max(stamp - self._last[1], 0) * 1e-6
        self._last = (pose, stamp)
        moved = abs(v) * dt
        verdicts = [
            localised,
            self._scene.update(scene_content(scene), stamp, now_us, moved),
            self._objects.update(objects_content(scene), stamp, now_us, moved),
        ]
        if (driven := self._driven) is not None and 0 < stamp - driven[2] <= 500_000:
            a, curvature = float(scene.ego.a), float(scene.ego.curvature)
            verdicts.append(self._grip.update(driven[0], v, a, curvature, (stamp - driven[2]) * 1e-6, now_us))
        if localised.level is MonitorLevel.OK:  # otherwise poses cannot be compared, and that has been said
            verdicts.append(self._map.update(scene, pose, stamp))
            verdicts.append(self.coverage.update(self._scores.update(scene)))
            if driven is not None and 0 < stamp - driven[2] <= 500_000:
                now = _seen_from(driven[1], pose)
                verdicts.append(self._deviation.update(driven[0], now, v, (stamp - driven[2]) * 1e-6))
        if with_raw:
            verdicts += [self._raw.update(raw, now_us), self._disagreement.update(scene, raw)]
        return tuple(verdicts)


def _pose(scene: VectorScene) -> np.ndarray:
    return scene.global_from_ego.detach().cpu().numpy().astype(float)


def _seen_at(scene: VectorScene, pose: np.ndarray) -> VectorScene:
    """The same ego with map and route as seen from a global pose ``[3]``."""
    global_from_ego = torch.from_numpy(pose).to(scene.global_from_ego)
    moved = frames.compose(frames.inverse(global_from_ego), scene.global_from_ego)
    other, route = scene.route.alternative, scene.route
    return scene.replace(
        map=scene.map.replace(xy=frames.transform_points(moved, scene.map.xy)),
        route=route.replace(
            xy=frames.transform_points(moved, route.xy),
            alternative=None if other is None else frames.transform_points(moved, other),
        ),
        global_from_ego=global_from_ego,
    )


def _seen_from(frame: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """A global pose ``[3]`` in another global pose's frame."""
    c, s = np.cos(frame[2]), np.sin(frame[2])
    dx, dy = pose[:2] - frame[:2]
    return np.array([c * dx + s * dy, c * dy - s * dx, pose[2] - frame[2]])
