"""What a teacher's answer says of unlabelled crops, how sure it is, and how it follows what was pasted into a view."""

from __future__ import annotations

import dataclasses

import torch

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segtrain.data.joint import LABELLED, UNLABELLED, Views
from segtrain.losses import mean_over, pixel_losses
from segtrain.self_training.config import SelfTrainingSettings


@dataclasses.dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Of U crops (U, H, W)."""

    channels: torch.Tensor  # int64, 255 = none; 254 where a method says so
    weights: torch.Tensor  # float32, 0..1, of a pixel's loss


def pseudo_labels(logits: torch.Tensor, inside: torch.Tensor, config: SelfTrainingSettings) -> PseudoLabels:
    """The teacher's likeliest classes of logits (U, C, H, W), weighted as `config` says; none where `inside` is 0."""
    within = inside.bool()
    if config.sinkhorn:
        probability = sinkhorn(logits, within, config.sinkhorn_temperature, config.sinkhorn_iterations)
    else:
        probability = logits.softmax(dim=1)
    best, channels = probability.max(dim=1)
    return PseudoLabels(
        channels.masked_fill(~within, IGNORE), confidence_weights(best, within, config.confidence, config.threshold)
    )


def confidence_weights(probability: torch.Tensor, within: torch.Tensor, kind: str, threshold: float) -> torch.Tensor:
    """Weights (U, H, W) float32 of pixels with that highest probability; `within` are the pixels that count.

    `none` 1; `threshold` 1 where the probability is at least that (FixMatch, eq. 4; UniMatch, eq. 2); `share` the share
    of such pixels in each crop, for all of its pixels (DACS, section 3.2).
    """
    sure = (probability >= threshold) & within
    if kind == "threshold":
        return sure.float()
    if kind == "share":
        share = sure.flatten(1).sum(dim=1) / within.flatten(1).sum(dim=1).clamp(min=1)
        return share[:, None, None].expand_as(probability).float()
    return torch.ones_like(probability)


def sinkhorn(logits: torch.Tensor, within: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """Soft assignment (U, C, H, W) of the pixels of `within` to classes; each pixel's sums to 1, 0 where not within.

    Q = exp(logits / temperature) is scaled `iterations` times, so that every class has 1 / C of the mass and every
    pixel 1 / N of it (Cuturi, NeurIPS 2013; SwAV, section 3.1; SENSE's pseudo-labels). In logarithms: nothing
    overflows.
    """
    classes = logits.shape[1]
    rows = (logits.float() / temperature).movedim(1, -1)[within]  # (N, C)
    for _ in range(iterations):
        rows = rows - torch.logsumexp(rows, dim=0, keepdim=True)  # equal mass of the classes
        rows = rows - torch.logsumexp(rows, dim=1, keepdim=True)  # every pixel is one pixel
    assigned = logits.new_zeros((*within.shape, classes))
    assigned[within] = rows.exp()
    return assigned.movedim(-1, 1)


def agreed(labels: PseudoLabels, said: torch.Tensor) -> PseudoLabels:
    """The teacher's labels where masks (U, H, W) of the pictures speak too: sure (weight 1) where both say the same
    class, none where they do not. Where a mask says nothing (254, 255) the teacher's stand as they are."""
    speaks = (said < OUT_OF_DISTRIBUTION) & (labels.channels != IGNORE)
    same = said == labels.channels
    return PseudoLabels(
        labels.channels.masked_fill(speaks & ~same, IGNORE), labels.weights.masked_fill(speaks & same, 1.0)
    )


def of_students_view(labels: PseudoLabels, views: Views) -> PseudoLabels:
    """Labels and weights of the students' crops: those of the pasted boxes are the partner's, pasted classes are
    true and weigh 1. `views` on the device of the labels."""
    channels, weights = labels.channels, labels.weights
    from_partner = views.origin == UNLABELLED
    channels = torch.where(from_partner, channels[views.partner], channels)
    weights = torch.where(from_partner, weights[views.partner], weights)
    from_labelled = views.origin == LABELLED
    channels = torch.where(from_labelled, views.pasted.long(), channels)
    return PseudoLabels(channels, weights.masked_fill(from_labelled, 1.0))


def weighted_cross_entropy(logits: torch.Tensor, labels: PseudoLabels) -> torch.Tensor:
    """Sum of weight * cross-entropy over the number of pixels that have a label, 0 if none has one.

    Not over the sum of the weights: what is unsure makes the loss smaller, not the rest larger (UniMatch, DACS).
    """
    losses, labelled = pixel_losses(logits, labels.channels)
    return mean_over(losses * labels.weights, labelled)


def moved(views: Views, device: torch.device) -> Views:
    """The same on a device."""
    return Views(*(getattr(views, field.name).to(device) for field in dataclasses.fields(views)))
