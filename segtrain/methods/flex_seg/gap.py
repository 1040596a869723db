"""GAP, granular adaptive prototypes: a prototype for each class and each granularity of its boundary.

A token is the projected feature f of a boundary pixel; its cell is (class, ring of the band), numbered class * rings +
ring. The bank P holds a unit vector a cell, pulled along by the batches, P <- norm(m P + (1 - m) mean f), and

    L_GAP = 1/N sum_i w[cell_i] * -log( exp(<f_i, P[cell_i]> / tau) / sum over cells seen of exp(<f_i, P[cell]> / tau) )

so the boundary pixels of a class gather around its own prototypes, whatever the style of their picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from segtrain import bands

_UNSEEN = -1e4  # the score of a cell without a prototype: exp of it is 0, and 0 times it is no nan


class Projector(nn.Module):
    """Two 1x1 convolutions from decoder features to tokens, as linear layers: only boundary pixels go through them."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, width_in) to (N, width) of length 1."""
        tokens: torch.Tensor = functional.normalize(self.layers(pixels.float()), dim=1)
        return tokens


class PrototypeBank:
    """The prototypes, and how often each was updated. No gradient goes through it."""

    def __init__(self, num_classes: int, num_rings: int, width: int, momentum: float, device: torch.device) -> None:
        self._num_rings, self._momentum = num_rings, momentum
        self.prototypes = torch.zeros(num_classes * num_rings, width, device=device)
        """(cells, width) of length 1; 0 where a cell was never seen."""
        self.counts = torch.zeros(num_classes * num_rings, dtype=torch.int64, device=device)
        """(cells,) int64: batches in which the cell occurred."""

    @torch.no_grad()
    def update(self, tokens: torch.Tensor, cells: torch.Tensor) -> None:
        """With the mean token (N, width) of each cell (N,) that occurs; the first one is taken as it is."""
        sums = torch.zeros_like(self.prototypes).index_add_(0, cells, tokens.detach().to(self.prototypes.dtype))
        numbers = torch.bincount(cells, minlength=len(self.counts))
        means = sums / numbers.clamp(min=1)[:, None]
        share = torch.where(self.counts > 0, self._momentum, 0.0)[:, None]
        moved = functional.normalize(share * self.prototypes + (1 - share) * means, dim=1)
        self.prototypes = torch.where(numbers[:, None] > 0, moved, self.prototypes)
        self.counts = self.counts + (numbers > 0)

    def weights(self, exponent: float, low: float, high: float) -> torch.Tensor:
        """(cells,) float32: (mean count of the cells seen / (count + 1)) ^ exponent, in low..high: rare cells count
        more.
        """
        seen = self.counts > 0
        mean = self.counts.sum() / seen.sum().clamp(min=1)
        return (mean / (self.counts + 1)).pow(exponent).clamp(low, high)

    def loss(
        self, tokens: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """L_GAP of tokens (N, width) in cells (N,); 0 if no token is of a cell with a prototype.

        Cells without a prototype are neither in the denominator nor do their tokens count.
        """
        seen = self.counts > 0
        scores = (tokens @ self.prototypes.T / temperature).masked_fill(~seen, _UNSEEN)
        losses = functional.cross_entropy(scores, cells, reduction="none")
        counted = seen[cells]
        return (losses * weights[cells] * counted).sum() / counted.sum().clamp(min=1)

    def empty_classes(self) -> list[int]:
        """Channels of the classes of which no boundary was ever seen."""
        seen = self.counts.view(-1, self._num_rings).sum(dim=1)
        return torch.nonzero(seen == 0).flatten().tolist()

    def state(self) -> dict[str, torch.Tensor]:
        """`prototypes` (classes, rings, width) and `counts` (classes, rings)."""
        return {
            "prototypes": self.prototypes.view(-1, self._num_rings, self.prototypes.shape[1]),
            "counts": self.counts.view(-1, self._num_rings),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.prototypes = state["prototypes"].flatten(0, 1).to(self.prototypes.device)
        self.counts = state["counts"].flatten().to(self.counts.device)


def boundary_cells(targets: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
    """(B, h, w) targets to (B, h, w) int64: the cell of each boundary pixel, -1 elsewhere."""
    ring = bands.rings(targets, widths)
    return torch.where(ring == bands.NO_RING, -1, targets.long() * len(widths) + ring)


def choose_tokens(cells: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of (B, h, w) cells, -1 = none, at most `most` pixels a picture: their places in the flattened batch, and cells.

    A picture that has more gives each of its cells the same number, as far as that cell reaches. Which pixels of a cell
    are taken is drawn from torch's global generator.
    """
    flat = cells.flatten()
    places = torch.nonzero(flat >= 0).flatten()
    picture = torch.div(places, cells[0].numel(), rounding_mode="floor")
    if len(places) <= most or int(torch.bincount(picture).max()) <= most:
        return places, flat[places]
    shuffled = torch.randperm(len(places), device=places.device)
    places, picture = places[shuffled], picture[shuffled]
    group = picture * (int(flat.max()) + 1) + flat[places]
    turn = _rank_within(group)  # the first of each cell, then the second of each, ...
    order = torch.argsort(picture * (len(places) + 1) + turn, stable=True)
    chosen = order[_rank_within(picture[order]) < most]
    chosen = chosen[torch.argsort(places[chosen])]  # in reading order, so that sums do not depend on the shuffle
    return places[chosen], flat[places[chosen]]


def _rank_within(group: torch.Tensor) -> torch.Tensor:
    """(N,) numbers to (N,): how many earlier items are of the same group."""
    order = torch.argsort(group, stable=True)
    ordered = group[order]
    starts = torch.nonzero(torch.cat([ordered.new_ones(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])).flatten()
    place = torch.arange(len(group), device=group.device)
    first = starts[torch.searchsorted(starts, place, right=True) - 1]
    rank = torch.empty_like(group)
    rank[order] = place - first
    return rank
