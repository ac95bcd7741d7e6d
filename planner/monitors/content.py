"""Is a stream of data alive? Age, order, and the same content under new stamps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from planner.monitors.verdict import MonitorVerdict, graded
from planner.scene import RawObstacles, RawStatus, VectorScene


@dataclass(frozen=True)
class ContentConfig:
    """degraded, minimal_risk (s): how long a stream may bring nothing new. moved (m): content that does not depend on
    noise may stay the same while ego has moved less than this since it last changed."""

    degraded: float = 0.15
    minimal_risk: float = 0.25
    moved: float = 0.05


class ContentMonitor:
    """One per stream. Rule: nothing new for longer than `degraded` -> DEGRADED, than `minimal_risk` -> MINIMAL_RISK;
    new content ends both. "Nothing new" is no message, the same content under any stamp, or an older stamp."""

    def __init__(self, name: str, config: ContentConfig | None = None) -> None:
        self.name, self.config = name, config or ContentConfig()
        self._content: bytes | None = None
        self._stamp_us: int | None = None
        self._fresh_us: int | None = None
        self._way = 0.0

    def update(self, content: bytes | None, stamp_us: int, now_us: int, moved: float = float("inf")) -> MonitorVerdict:
        """content: any digest, None for no message. stamp_us, now_us: the message's and the own clock. moved (m): by
        ego since the last update, for content without noise; leave it out for noisy sensors."""
        self._fresh_us = now_us if self._fresh_us is None else self._fresh_us
        self._way += moved
        why = "no message"
        if content is not None:
            backwards = self._stamp_us is not None and stamp_us < self._stamp_us
            same = content == self._content and self._way > self.config.moved
            why = "an older message" if backwards else "the same content" if same else ""
        if not why:
            if content != self._content:
                self._way = 0.0
            self._content, self._stamp_us, self._fresh_us = content, stamp_us, now_us
        silence = max(now_us - self._fresh_us, now_us - stamp_us if content is not None else 0) * 1e-6
        what = f"{why or 'an old stamp'} for {{value:.2f}} s, allowed {{limit:.2f}} s"
        return graded(self.name, silence, (self.config.degraded, self.config.minimal_risk), what)


class RawChannelMonitor:
    """The raw channel's own word. Rule: no sound measurement for longer than `degraded` -> DEGRADED, than
    `minimal_risk` -> MINIMAL_RISK; FROZEN counts from the first cycle."""

    name = "raw channel"

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config or ContentConfig()
        self._sound_us: int | None = None

    def update(self, raw: RawObstacles | None, now_us: int) -> MonitorVerdict:
        """raw: this cycle's report, None if the channel gave none."""
        status = RawStatus.ABSENT if raw is None else raw.status
        reason = "no report" if raw is None else str(raw.reason)
        if raw is not None and status is RawStatus.OK:
            self._sound_us, reason = int(raw.time_us), "an old report"
        self._sound_us = now_us if self._sound_us is None else self._sound_us
        silence = (now_us - self._sound_us) * 1e-6
        limit = 0.0 if status is RawStatus.FROZEN else self.config.degraded
        what = f"{status} for {{value:.2f}} s: {reason.replace('{', '(').replace('}', ')')}"
        return graded(self.name, silence, (limit, self.config.minimal_risk), what)


def scene_content(scene: VectorScene) -> bytes:
    """Digest of what a scene says about others and the map, in its own frame."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (scene.agents.box, scene.agents.velocity, scene.agents.track_id, scene.map.xy, scene.route.xy):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def objects_content(scene: VectorScene) -> bytes:
    """Digest of where the scene has the others, in ego's frame, to a millimetre; the stamp where there is nobody.

    The map goes on moving past ego when a detector is stuck, so the objects are looked at by themselves.
    """
    agents, there = scene.agents, scene.agents.valid
    if not bool(there.any()):
        return int(scene.ego.time_us).to_bytes(16, "big", signed=True)
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (agents.box[there], agents.velocity[there]):
        digest.update((tensor.detach().cpu().double() * 1e3).round().long().numpy().tobytes())
    digest.update(agents.track_id[there].detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
