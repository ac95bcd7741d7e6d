"""Parts that several losses share: heat maps, focal terms, matching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from perception.raw_outputs import Boxes

_NEVER = 1e6


@dataclass
class Rows:
    """Some rows of boxes."""

    of: Boxes
    index: Tensor

    def boxes(self) -> Boxes:
        """The chosen rows."""
        return Boxes(*(value[self.index] for value in vars(self.of).values()))


def heat_map(shape: torch.Size, place: Tensor, kind: Tensor, spread: Tensor, half_x: float, half_y: float) -> Tensor:
    """``[K, H, W]``: 1 in the cell of each place ``[n, 2]`` (m), falling off as a Gaussian of standard deviation
    `spread`.

    The map covers -half_x to half_x in rows and -half_y to half_y in columns (m).
    """
    kinds, rows, columns = shape
    cell_x, cell_y = 2 * half_x / rows, 2 * half_y / columns
    x = (torch.arange(rows, device=place.device) + 0.5) * cell_x - half_x
    y = (torch.arange(columns, device=place.device) + 0.5) * cell_y - half_y
    centre_x = (((place[:, 0] + half_x) / cell_x).floor().clamp(0, rows - 1) + 0.5) * cell_x - half_x
    centre_y = (((place[:, 1] + half_y) / cell_y).floor().clamp(0, columns - 1) + 0.5) * cell_y - half_y
    across = torch.exp(-0.5 * ((x - centre_x[:, None]) / spread[:, None]).square())
    aside = torch.exp(-0.5 * ((y - centre_y[:, None]) / spread[:, None]).square())
    out = place.new_zeros(kinds, rows, columns)
    for a, b, k in zip(across, aside, kind.tolist()):
        torch.maximum(out[k], a[:, None] * b[None], out=out[k])
    return out


def heat_loss(logit: Tensor, wanted: Tensor, judged: Tensor) -> Tensor:
    """CenterNet's focal loss (alpha 2, beta 4) over ``[K, H, W]``, per annotated place; judged ``[H, W]`` bool."""
    positive = wanted > 0.999
    p = logit.sigmoid()
    up, down = torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)
    term = torch.where(positive, (1 - p).square() * up, (1 - wanted).pow(4) * p.square() * down * judged)
    return -term.sum() / positive.sum().clamp(min=1)


def focal(logit: Tensor, label: Tensor, alpha: float = 0.25) -> Tensor:
    """Sigmoid focal loss (Lin et al., 2017; gamma 2), elementwise. label: 0 to 1."""
    p = logit.sigmoid()
    cross = torch.nn.functional.binary_cross_entropy_with_logits(logit, label, reduction="none")
    weight = alpha * label + (1 - alpha) * (1 - label)
    return weight * (p - label).abs().square() * cross


def match(cost: Tensor, possible: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and annotations ``[m]`` each, matched one to one at least cost ``[Q, A]`` among the possible pairs."""
    if not cost.numel():
        empty = torch.zeros(0, dtype=torch.long, device=cost.device)
        return empty, empty.clone()
    table = torch.where(possible, cost, _NEVER).nan_to_num(_NEVER).cpu().numpy()
    rows, columns = linear_sum_assignment(table)
    kept = table[rows, columns] < _NEVER / 2
    return torch.from_numpy(rows[kept]).to(cost.device), torch.from_numpy(columns[kept]).to(cost.device)
