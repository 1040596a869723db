"""UBE, uncertainty boundary emphasis, and the simpler treatments of the boundary that it is compared with.

Pixels outside the band B count as in plain training. Inside, with ce their cross-entropy:

    ignore    0
    reduce    weight * ce, weight < 1
    clip      min(tau, ce)
    enhance   weight * ce, weight > 1
    ube       (1 + alpha * sigmoid((H - mean_B H) / (std_B H + eps))) * ce

H = -sum p log p is the entropy of the prediction, without gradient, its statistics those of B in that picture. The loss
is the sum over the number of labelled pixels, not over the sum of weights. Since H is standardised over B, the mean
weight of UBE is about 1 + alpha / 2 whatever the network knows: `enhance` with that weight is its fair control.
"""

from __future__ import annotations

import torch

from segtrain.methods.flex_seg.config import BoundarySettings

MIN_PIXELS = 64  # a picture with a smaller band takes the statistics of the batch
_EPS = 1e-6


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) float32 to (B, ...) in nats, without gradient."""
    logits = logits.detach()
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def entropy_weights(entropies: torch.Tensor, in_band: torch.Tensor, alpha: float) -> torch.Tensor:
    """(B, H, W) entropies and bool band to (B, H, W) weights: 1 + alpha * sigmoid(z) in the band, 1 elsewhere."""
    values, inside = entropies.flatten(1), in_band.flatten(1)
    own_mean, own_std = _statistics(values, inside)
    batch_mean, batch_std = _statistics(values.view(1, -1), inside.view(1, -1))
    enough = inside.sum(dim=1, keepdim=True) >= MIN_PIXELS
    mean, std = torch.where(enough, own_mean, batch_mean), torch.where(enough, own_std, batch_std)
    weights = 1 + alpha * torch.sigmoid((values - mean) / (std + _EPS))
    return torch.where(in_band, weights.view_as(entropies), 1.0)


def _statistics(values: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (B, 1) of the values (B, N) that are inside; 0 where none is."""
    number = inside.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (values * inside).sum(dim=1, keepdim=True) / number
    variance = ((values - mean).square() * inside).sum(dim=1, keepdim=True) / number
    return mean, variance.sqrt()


def emphasised(
    losses: torch.Tensor, logits: torch.Tensor, in_band: torch.Tensor, settings: BoundarySettings
) -> torch.Tensor:
    """(B, H, W) cross-entropies as the strategy counts them. `logits` (B, C, H, W), `in_band` (B, H, W) bool."""
    strategy = settings.boundary_strategy
    if strategy == "none":
        return losses
    if strategy == "ignore":
        return torch.where(in_band, 0.0, losses)
    if strategy == "clip":
        return torch.where(in_band, losses.clamp(max=settings.boundary_clip), losses)
    if strategy == "ube":
        return losses * entropy_weights(entropy(logits), in_band, settings.ube_alpha)
    weight = settings.boundary_reduce if strategy == "reduce" else settings.boundary_enhance
    return torch.where(in_band, weight * losses, losses)
