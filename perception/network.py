"""The network part: tensors in, tensors out, no shape that depends on data. It is what is trained and exported."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from perception.bev_fusion import BevFusion
from perception.config import PerceptionConfig
from perception.heads import AgentHead, AgentOutputs, DecoderLayer, EgoHead, EgoOutputs
from perception.heads_lines import LineHead, LineOutputs
from perception.heads_parts import mlp


@dataclass
class NetworkInputs:
    """What the network is told, for B scenes.

    pillars ``[B, I, H, W]`` (`encoders.pillars`); lidar_seen ``[B, F]``, camera_seen ``[B, C]``: 1 where the sensor is
    there; images ``[B, C, 3, h, w]`` RGB, -1 to 1; image_from_ego ``[B, C, 3, 4]``: homogeneous pixels from present ego
    coordinates; ego ``[B, 8]``, route ``[B, 24, 4]``: see `heads.EGO_STATE` and `heads.ROUTE_POINTS`.
    """

    pillars: Tensor
    lidar_seen: Tensor
    images: Tensor
    image_from_ego: Tensor
    camera_seen: Tensor
    ego: Tensor
    route: Tensor

    def to(self, device: torch.device | str) -> NetworkInputs:
        """The same inputs on another device."""
        return NetworkInputs(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of the fields."""
        return tuple(getattr(self, f.name) for f in fields(self))


@dataclass
class Hints:
    """Places at which training asks for answers besides the peaks: agents ``[B, G, 2]``, lines ``[B, H, 2]`` (m)."""

    agents: Tensor
    lines: Tensor


@dataclass
class NetworkOutputs:
    """Raw outputs; with hints, the hinted queries come after the `config.agents` and `config.lines` regular ones."""

    agents: AgentOutputs
    lines: LineOutputs
    ego: EgoOutputs


def channels_last(network: PerceptionNetwork) -> PerceptionNetwork:
    """The same network, its kernels laid out so that convolutions are several times faster on processors."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class PerceptionNetwork(nn.Module):
    """Encode each sensor, fuse on the bird's-eye grid, ask the queries."""

    def __init__(self, config: PerceptionConfig) -> None:
        """Raises ValueError for a configuration that does not fit together."""
        super().__init__()
        config.validate()
        self.config, d = config, config.query
        self.fusion = BevFusion(config)
        self.agents, self.lines, self.ego = AgentHead(config), LineHead(config), EgoHead(config)
        self.place = mlp(2, d, d)
        self.box = mlp(8, d, d)
        self.role = nn.Parameter(torch.randn(3, d) * 0.02)
        self.layers = nn.ModuleList(DecoderLayer(d, config.heads) for _ in range(config.layers))
        self.last = nn.LayerNorm(d)

    def forward(self, inputs: NetworkInputs, hints: Hints | None = None) -> NetworkOutputs:
        features = self.fusion(
            inputs.pillars, inputs.images, inputs.image_from_ego, inputs.lidar_seen, inputs.camera_seen
        )
        heat, place, said, query = self.agents.propose(features, None if hints is None else hints.agents)
        box = self.agents.box(query)
        lines, line_query = self.lines(features, None if hints is None else hints.lines)
        ego_query = self.ego.encode(torch.cat([inputs.ego, inputs.route.flatten(1) / 10], 1))[:, None]

        # Everybody in one set: agents (with the boxes they believe in), polylines, ego.
        known = torch.cat([box[..., 2:4], box[..., 4:6], box[..., 6:8] / 10, place / 50], -1).detach()
        query = torch.cat(
            [query + self.box(known) + self.role[0], line_query.detach() + self.role[1], ego_query + self.role[2]], 1
        )
        where = torch.cat([place + box[..., :2].detach(), lines.place, inputs.ego[:, None, 4:6]], 1)
        where = self.place(where / 50)
        allowed = self._allowed(place.shape[1], lines.place.shape[1], place.device) if hints is not None else None
        for layer in self.layers:
            query = layer(query, where, allowed)
        query = self.last(query)
        class_logit, future, mode_logit = self.agents.read(query[:, : place.shape[1]], said)
        agents = AgentOutputs(heat, place, class_logit, box, future, mode_logit)
        return NetworkOutputs(agents, lines, self.ego(query[:, -1]))

    def _allowed(self, agents: int, lines: int, device: torch.device) -> Tensor:
        """Nobody but itself sees a hinted query: it knows from the annotation where somebody is."""
        real = torch.zeros(agents + lines + 1, dtype=torch.bool, device=device)
        real[: self.config.agents] = True
        real[agents : agents + self.config.lines] = True
        real[-1] = True
        return real[None] | torch.eye(len(real), dtype=torch.bool, device=device)
