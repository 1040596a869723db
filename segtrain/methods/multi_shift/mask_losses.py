"""Segmentation losses of the mask model (Mask2Former) and its noise-aware selection (MultiShiftSeg, section 3.3, code).

Each class of a picture is one target mask; a query is matched to each (the Hungarian matcher of transformers) and
learns its class, and its mask at random points by binary cross-entropy and dice, after every decoder layer. Originals
learn from points drawn uniformly. In augmented pictures, where picture and label may disagree, more points are drawn
and those of smallest cross-entropy are kept, beside a few fresh ones. Unknown (254) and unlabelled (255) points count
for nothing. The class loss knows no selection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from segkit.labels import OUT_OF_DISTRIBUTION
from segkit.networks.mask2former import MaskFeatures, Queries

FRESH = 0.05  # share of the points that no loss has chosen [code]
Matcher = Callable[..., list[tuple[torch.Tensor, torch.Tensor]]]


def matcher_of(config: Any, points: int) -> Matcher:
    """The matcher of a transformers Mask2Former, with the costs of its configuration."""
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

    matcher: Matcher = Mask2FormerHungarianMatcher(config.class_weight, config.mask_weight, config.dice_weight, points)
    return matcher


def mask_losses(
    features: MaskFeatures,
    rows: slice,
    targets: torch.Tensor,
    matcher: Matcher,
    *,
    points: int,
    keep: float,
    no_object_weight: float,
) -> dict[str, torch.Tensor]:
    """`class`, `mask` and `dice`, scalars, each the sum over the decoder layers. Where nothing is labelled `mask` and
    `dice` are 0, and every query learns the class "none".

    `rows` are the pictures of the batch that `targets` (B, H, W), channels, 254 and 255, belong to. Of `points` points
    a mask, those are kept that have the smallest losses of 1 / `keep` as many; 1 = no selection.
    """
    masks_of = [_target_masks(target) for target in targets]
    total: dict[str, torch.Tensor] = {}
    with torch.autocast(targets.device.type, enabled=False):
        for layer in features.layers:
            own = Queries(layer.hidden[rows], layer.masks[rows].float(), layer.classes[rows].float())
            for name, value in _layer_losses(own, targets, masks_of, matcher, points, keep, no_object_weight).items():
                total[name] = total[name] + value if name in total else value
    return total


def _layer_losses(
    queries: Queries,
    targets: torch.Tensor,
    masks_of: list[tuple[torch.Tensor, torch.Tensor]],
    matcher: Matcher,
    points: int,
    keep: float,
    no_object_weight: float,
) -> dict[str, torch.Tensor]:
    none = queries.classes.shape[2] - 1
    wanted = torch.full(queries.classes.shape[:2], none, dtype=torch.int64, device=queries.classes.device)
    entropy = dice = queries.masks.new_zeros(())
    count = max(1, sum(len(classes) for classes, _ in masks_of))
    for number, (classes, masks) in enumerate(masks_of):
        if not len(classes):
            continue
        one = slice(number, number + 1)
        ((chosen, labels),) = matcher(queries.masks[one], queries.classes[one], masks[None], classes[None])
        wanted[number, chosen] = classes[labels.to(classes.device)]
        of_points = point_losses(
            queries.masks[number, chosen], masks[labels], targets[number] < OUT_OF_DISTRIBUTION, points, keep
        )
        entropy, dice = entropy + of_points[0] / count, dice + of_points[1] / count
    weights = queries.classes.new_ones(none + 1)
    weights[none] = no_object_weight
    of_class = functional.cross_entropy(queries.classes.transpose(1, 2), wanted, weights)
    return {"class": of_class, "mask": entropy, "dice": dice}


def _target_masks(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(M,) int64 classes of a picture's target (H, W), and a mask (M, H, W) float32 of each."""
    classes = torch.unique(target[target < OUT_OF_DISTRIBUTION]).long()
    return classes, (target[None] == classes[:, None, None]).float()


def point_losses(
    logits: torch.Tensor, masks: torch.Tensor, known: torch.Tensor, points: int, keep: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary cross-entropy (mean over a mask's points) and dice of M masks, each summed over them.

    `logits` (M, h, w); `masks` (M, H, W) float 0 or 1; `known` (H, W) bool. With torch's global generator.
    """
    places = drawn_points(logits, masks, known, points, keep)
    values, truths, counts = _at(logits, masks, known, places)
    each = functional.binary_cross_entropy_with_logits(values, truths, reduction="none") * counts
    entropy = each.sum(dim=1) / counts.sum(dim=1).clamp(min=1)
    shares = values.sigmoid() * counts
    both, either = (shares * truths).sum(dim=1), shares.sum(dim=1) + (truths * counts).sum(dim=1)
    return entropy.sum(), (1 - (2 * both + 1) / (either + 1)).sum()


@torch.no_grad()
def drawn_points(
    logits: torch.Tensor, masks: torch.Tensor, known: torch.Tensor, points: int, keep: float
) -> torch.Tensor:
    """(M, `points`, 2) places x, y in 0..1 for each of M masks."""
    number = len(masks)
    if keep >= 1:
        return torch.rand(number, points, 2, device=logits.device)
    fresh = round(FRESH * points)
    many = torch.rand(number, round((points - fresh) / keep), 2, device=logits.device)
    values, truths, counts = _at(logits, masks, known, many)
    each = functional.binary_cross_entropy_with_logits(values, truths, reduction="none")
    smallest = each.masked_fill(counts == 0, torch.inf).topk(points - fresh, dim=1, largest=False).indices
    kept = many.gather(1, smallest[..., None].expand(-1, -1, 2))
    return torch.cat([kept, torch.rand(number, fresh, 2, device=logits.device)], dim=1)


def _at(
    logits: torch.Tensor, masks: torch.Tensor, known: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logit (bilinear), truth and whether it counts (nearest), each (M, P) float, at places (M, P, 2)."""
    grid = 2 * places[:, :, None] - 1
    values = functional.grid_sample(logits[:, None], grid, align_corners=False)
    labels = torch.stack([masks, known.float().expand_as(masks)], dim=1)
    nearest = functional.grid_sample(labels, grid, mode="nearest", align_corners=False)
    return values[:, 0, :, 0], nearest[:, 0, :, 0], nearest[:, 1, :, 0]
