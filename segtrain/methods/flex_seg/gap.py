"""GAP, granular adaptive prototypes: a prototype for each class and each granularity of its boundary.

A token is the projected feature f of a boundary pixel; its cell is (class, ring of the band), numbered class * rings +
ring. The bank P holds a unit vector a cell, pulled along by the batches, P <- norm(m P + (1 - m) mean f), and

    L_GAP = 1/N sum_i w[cell_i] * -log( exp(<f_i, P[cell_i]> / tau) / sum over cells seen of exp(<f_i, P[cell]> / tau) )

so the boundary pixels of a class gather around its own prototypes, whatever the style of their picture.
"""

from __future__ import annotations

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
        self.num_rings, self._momentum = num_rings, momentum
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
        # The prototype of a cell that was never seen is 0, so the first mean is taken as it is.
        moved = functional.normalize(self._momentum * self.prototypes + (1 - self._momentum) * means, dim=1)
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
        seen = self.counts.view(-1, self.num_rings).sum(dim=1)
        return torch.nonzero(seen == 0).flatten().tolist()

    def state(self) -> dict[str, torch.Tensor]:
        """`prototypes` (classes, rings, width) and `counts` (classes, rings)."""
        return {
            "prototypes": self.prototypes.view(-1, self.num_rings, self.prototypes.shape[1]),
            "counts": self.counts.view(-1, self.num_rings),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.prototypes = state["prototypes"].flatten(0, 1).to(self.prototypes.device)
        self.counts = state["counts"].flatten().to(self.counts.device)


def boundary_cells(targets: torch.Tensor, ring: torch.Tensor, num_rings: int) -> torch.Tensor:
    """(B, h, w) targets and rings (`bands.rings`) to (B, h, w) int64: the cell of each boundary pixel, -1 elsewhere."""
    return torch.where(ring == bands.NO_RING, -1, targets.long() * num_rings + ring)


def choose_tokens(cells: torch.Tensor, most: int, num_cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of (B, h, w) cells, -1 = none, at most `most` pixels a picture: their places in the flattened batch, ascending,
    and their cells.

    A picture that has more gives each of its cells the same number, as far as that cell reaches. Which pixels of a cell
    are taken is drawn from torch's global generator.
    """
    flat = cells.flatten()
    places = torch.nonzero(flat >= 0).flatten()
    of = flat[places]
    group = torch.div(places, cells[0].numel(), rounding_mode="floor") * num_cells + of
    sizes = torch.bincount(group, minlength=len(cells) * num_cells)
    if int(sizes.view(len(cells), -1).sum(dim=1).max()) <= most:
        return places, of
    # One sort puts the pixels of each group side by side and in random order.
    device = torch.device("cpu") if group.device.type == "mps" else group.device  # Apple's GPUs have no float64
    drawn = torch.rand(len(group), dtype=torch.float64, device=device)
    order = torch.argsort(group.to(device) + drawn).to(group.device)
    rank = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group[order]]
    kept = torch.zeros(len(group), dtype=torch.bool, device=group.device)
    kept[order] = rank < _quotas(sizes.view(len(cells), -1), most).flatten()[group[order]]
    return places[kept], of[kept]


def _quotas(sizes: torch.Tensor, most: int) -> torch.Tensor:
    """(B, cells) pixels there to (B, cells) pixels to take: `most` in each row if it has so many, and as evenly as the
    cells allow.
    """
    ordered, cell = sizes.sort(dim=1, stable=True)
    places = torch.arange(sizes.shape[1], device=sizes.device)
    before, left = ordered.cumsum(dim=1) - ordered, sizes.shape[1] - places
    level = (most - before) // left  # what each cell from here on may give, if all smaller ones give everything
    first = (ordered > level).long().argmax(dim=1, keepdim=True)  # from here on cells give less than they have
    share, over = level.gather(1, first), (most - before - level * left).gather(1, first)
    given = share + ((places >= first) & (places < first + over))
    quota = torch.minimum(ordered, torch.where((ordered > level).any(dim=1, keepdim=True), given, ordered))
    return torch.zeros_like(sizes).scatter_(1, cell, quota)
