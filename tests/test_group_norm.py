"""Group normalisation: torch's own values, and torch's own gradient in float64, in every layout."""

import pytest
import torch
from torch import nn

from perception.group_norm import GroupNorm


def pair(dtype: torch.dtype, layout: torch.memory_format) -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ours, reference = GroupNorm(4, 12), nn.GroupNorm(4, 12).double()
    with torch.no_grad():
        ours.weight.copy_(torch.rand(12, generator=generator) + 0.5)
        ours.bias.copy_(torch.randn(12, generator=generator))
    reference.load_state_dict(ours.state_dict())
    x = (3 * torch.randn(2, 12, 7, 5, generator=generator) + 2).to(dtype).contiguous(memory_format=layout)
    up = torch.randn(2, 12, 7, 5, generator=generator).to(dtype)
    return ours.train(), reference, x, up


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)], ids=["f32", "bf16"])
def test_values_and_gradients_are_those_of_torch(
    dtype: torch.dtype, tolerance: float, layout: torch.memory_format
) -> None:
    ours, reference, x, up = pair(dtype, layout)
    here, there = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = ours(here), reference(there)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
    y.backward(up)
    expected.backward(up.double())
    for got, wanted in [(here, there), (ours.weight, reference.weight), (ours.bias, reference.bias)]:
        assert got.grad is not None
        assert wanted.grad is not None
        scale = float(wanted.grad.abs().max())
        torch.testing.assert_close(got.grad.double() / scale, wanted.grad / scale, rtol=0, atol=tolerance)


def test_what_is_asked_without_training_is_torchs_own_operator() -> None:
    ours, _, x, _ = pair(torch.float32, torch.channels_last)
    exported = torch.export.export(ours.eval(), (x,))
    assert any("group_norm" in str(node.target) for node in exported.graph.nodes)
