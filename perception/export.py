"""The network part as `torch.export` program or ONNX file; encoding points and decoding answers stay outside.

Tensors come and go in the order of `INPUTS` and `OUTPUTS`; shapes are fixed, batch of one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from perception.config import PerceptionConfig
from perception.encoders import pillar_channels
from perception.heads import EGO_STATE, ROUTE_POINTS, AgentOutputs, EgoOutputs
from perception.heads_lines import LineOutputs
from perception.network import NetworkInputs, NetworkOutputs, PerceptionNetwork

INPUTS = tuple(NetworkInputs.__dataclass_fields__)
OUTPUTS = (
    *(f"agents.{name}" for name in AgentOutputs.__dataclass_fields__),
    *(f"lines.{name}" for name in LineOutputs.__dataclass_fields__),
    *(f"ego.{name}" for name in EgoOutputs.__dataclass_fields__),
)
OPSET = 18


class Flat(nn.Module):
    """The network with plain tensors in and out."""

    def __init__(self, network: PerceptionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        pillars: Tensor,
        lidar_seen: Tensor,
        images: Tensor,
        image_from_ego: Tensor,
        camera_seen: Tensor,
        ego: Tensor,
        route: Tensor,
    ) -> tuple[Tensor, ...]:
        """In the order of INPUTS and OUTPUTS."""
        return flat(self.network(NetworkInputs(pillars, lidar_seen, images, image_from_ego, camera_seen, ego, route)))


def flat(outputs: NetworkOutputs) -> tuple[Tensor, ...]:
    """Outputs as a tuple, in the order of OUTPUTS."""
    parts = (outputs.agents, outputs.lines, outputs.ego)
    return tuple(getattr(part, name) for part in parts for name in part.__dataclass_fields__)


def example_inputs(config: PerceptionConfig, seed: int = 0) -> NetworkInputs:
    """Random inputs of the right shapes, batch of one: nothing of them stays in what is exported."""
    generator = torch.Generator().manual_seed(seed)
    p, sweeps = config.preprocessing, len(config.preprocessing.lidar_lags)
    cameras, (height, width) = len(p.cameras), p.image
    looks = torch.tensor([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.5], [1.0, 0.0, 0.0, 0.0]])
    pixels = torch.tensor([[width / 2, 0.0, width / 2], [0.0, width / 2, height / 2], [0.0, 0.0, 1.0]])
    return NetworkInputs(
        pillars=torch.rand(1, sweeps * pillar_channels(p), p.cells, p.cells, generator=generator),
        lidar_seen=torch.ones(1, sweeps),
        images=2 * torch.rand(1, cameras, 3, height, width, generator=generator) - 1,
        image_from_ego=(pixels @ looks).expand(1, cameras, 3, 4).contiguous(),
        camera_seen=torch.ones(1, cameras),
        ego=torch.randn(1, EGO_STATE, generator=generator),
        route=10 * torch.randn(1, ROUTE_POINTS, 4, generator=generator),
    )


def export_program(network: PerceptionNetwork) -> torch.export.ExportedProgram:
    """The network part as a program without Python."""
    plain = Flat(network.cpu().eval().to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]
    with torch.no_grad():
        return torch.export.export(plain, example_inputs(network.config).tensors(), strict=False)


def export_onnx(network: PerceptionNetwork, path: str | Path) -> Path:
    """Write an ONNX file (opset 18), weights inside. Raises ImportError where onnx or onnxscript is not installed."""
    path = Path(path)
    program = torch.onnx.export(
        export_program(network), input_names=list(INPUTS), output_names=list(OUTPUTS), opset_version=OPSET, dynamo=True
    )
    assert program is not None
    partial = path.with_name(path.name + ".tmp")
    program.save(str(partial), external_data=False)
    partial.replace(path)
    return path
