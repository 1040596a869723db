"""Trains the mini SAM (Kirillov et al., 2023): box and point prompts on both drawn worlds.

Each prompt is answered by SAM's single-mask token and by its three multimask tokens; of the three only the best one
learns from the mask (SAM, section 3), and the IoU head learns from all four.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from scipy import ndimage
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import MaskDecoder
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn.functional import binary_cross_entropy_with_logits

from segkit.networks.sam import MINI, construct
from synthgen.files import write_bytes
from synthgen.minis.train.arguments import add_arguments, schedule_of
from synthgen.minis.train.model_card import write_model_card
from synthgen.minis.train.scenes import Scenes, augmented, scenes
from synthgen.training.loop import train

PAIR_PROBABILITY = 0.3
PROMPTS_PER_IMAGE = 4
SHARE_OF_POINTS = 0.1
SHARE_OF_SLOPPY_BOXES = 0.15
MIN_REGION_PX = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Images of one size with PROMPTS_PER_IMAGE prompts each, in SAM's input frame (longest side = image size)."""

    images: torch.Tensor  # (N, 3, h, w) float32, 0..255
    original_size: tuple[int, int]  # (H, W)
    prompts: torch.Tensor  # (N * P, 2, 2) float32: two corners, or a point and a padding point
    labels: torch.Tensor  # (N * P,) bool, True = box, False = point
    masks: torch.Tensor  # (N * P, H, W) float32, 0 or 1


class Objective(torch.nn.Module):
    """Binary cross-entropy + dice of the masks at the images' own size, squared error of the predicted IoU."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, groups: list[Group]) -> dict[str, torch.Tensor]:
        sam, device = self.sam, self.sam.device
        inputs = torch.cat([sam.preprocess(group.images.to(device)) for group in groups])
        embeddings = sam.image_encoder(inputs).repeat_interleave(PROMPTS_PER_IMAGE, dim=0)
        sparse, dense = encode_prompts(
            sam, torch.cat([g.prompts for g in groups]).to(device), torch.cat([g.labels for g in groups]).to(device)
        )
        logits, predicted = decode_batch(sam.mask_decoder, embeddings, sam.prompt_encoder.get_dense_pe(), sparse, dense)
        mask_losses, ious = [], []
        for group, low in zip(groups, logits.float().split([len(g.masks) for g in groups]), strict=True):
            full = sam.postprocess_masks(low, tuple(group.images.shape[-2:]), group.original_size)
            loss, iou = mask_loss(full, group.masks.to(device))
            mask_losses.append(loss)
            ious.append(iou)
        per_token, iou = torch.cat(mask_losses), torch.cat(ious)
        single, best = per_token[:, 0].mean(), per_token[:, 1:].min(dim=1).values.mean()
        quality = (predicted.float() - iou).square().mean()
        return {
            "loss": single + 0.5 * best + quality,
            "single": single.detach(),
            "best_of_three": best.detach(),
            "quality": quality.detach(),
            "iou": iou[:, 0].mean(),
        }


def encode_prompts(sam: Sam, prompts: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse (N, 2, C) and dense embeddings of prompts (N, 2, 2) of which `boxes` (N,) are boxes, the others one point
    each.
    """
    both = torch.empty(len(prompts), 2, sam.prompt_encoder.embed_dim, device=prompts.device)
    if boxes.any():
        both[boxes] = sam.prompt_encoder(points=None, boxes=prompts[boxes].flatten(1), masks=None)[0]
    if not boxes.all():
        points = prompts[~boxes][:, :1]
        ones = torch.ones(points.shape[:2], device=prompts.device)
        both[~boxes] = sam.prompt_encoder(points=(points, ones), boxes=None, masks=None)[0]
    dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    return both, dense.expand(len(prompts), -1, *sam.prompt_encoder.image_embedding_size)


def decode_batch(
    decoder: MaskDecoder, embeddings: torch.Tensor, image_pe: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`MaskDecoder.predict_masks` for prompts of different images:

    `embeddings` (N, C, h, w) has one row for each prompt.

    The library's own method takes one image at a time. Returns (N, 4, 4h, 4w) logits and (N, 4) predicted IoU.
    """
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
    source = embeddings + dense
    n, channels, height, width = source.shape
    states, source = decoder.transformer(source, image_pe.expand(n, -1, -1, -1), tokens)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(n, channels, height, width))
    kernels = torch.stack([mlp(states[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    return torch.einsum("nkc,nchw->nkhw", kernels, upscaled), decoder.iou_prediction_head(states[:, 0])


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and true IoU of each of the K masks: logits (N, K, H, W), masks (N, H, W) -> (N, K), (N, K)."""
    target = masks[:, None].expand_as(logits)
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(2, 3))
    total = probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    entropy = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
    with torch.no_grad():
        said, true = logits > 0, target > 0.5
        iou = (said & true).sum(dim=(2, 3)) / (said | true).sum(dim=(2, 3)).clamp(min=1)
    return 2 * entropy + dice, iou


def regions(mask: np.ndarray, instances: np.ndarray, stuff: bool) -> list[np.ndarray]:
    """(H, W) bool of every countable object and, if `stuff`, of every connected part of an uncountable class;

    small ones left out.
    """
    found = [instances == number for number in np.unique(instances) if number]
    if stuff:
        for class_id in np.unique(mask[instances == 0]):
            parts, count = ndimage.label((mask == class_id) & (instances == 0))
            found += [parts == number for number in range(1, count + 1)]
    return [region for region in found if np.count_nonzero(region) >= MIN_REGION_PX]


def box_of(region: np.ndarray) -> np.ndarray:
    """(4,) float32 XYXY pixel edges of the tight box around an (H, W) bool region that is not empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def jittered(box: np.ndarray, share: float, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """`box` with every edge moved by up to `share` of the box's side, inside the image of `size` (H, W)."""
    sides = np.tile([box[2] - box[0], box[3] - box[1]], 2)
    limits = np.array([size[1], size[0]] * 2)
    return np.clip(box + rng.uniform(-share, share, 4) * sides, 0, limits).astype(np.float32)


def group_of(drawn: Scenes, rows: np.ndarray, rng: np.random.Generator) -> Group:
    """Prompts for some rows of a set, half of the images mirrored."""
    resize = ResizeLongestSide(MINI["image_size"])
    images, prompts, labels, masks = [], [], [], []
    for row in rows:
        flip = -1 if rng.random() < 0.5 else 1
        image, mask = drawn.images[row][:, ::flip], drawn.masks[row][:, ::flip]
        found = regions(mask, drawn.instances[row][:, ::flip], stuff=drawn.world == "streets")
        size = mask.shape
        images.append(resize.apply_image(augmented(image, rng)))
        # without replacement while there are enough of them
        chosen = rng.permutation(np.resize(rng.permutation(len(found)), max(len(found), PROMPTS_PER_IMAGE)))
        for index in chosen[:PROMPTS_PER_IMAGE]:
            region = found[index]
            is_box = rng.random() >= SHARE_OF_POINTS
            if is_box:
                share = 0.25 if rng.random() < SHARE_OF_SLOPPY_BOXES else 0.1
                corners = jittered(box_of(region), share, size, rng).reshape(2, 2)
            else:
                y, x = np.argwhere(region)[rng.integers(np.count_nonzero(region))]
                corners = np.array([[x, y], [0, 0]], dtype=np.float32)
            prompts.append(resize.apply_coords(corners, size))
            labels.append(is_box)
            masks.append(region)
    return Group(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float(),
        drawn.masks.shape[1:],
        torch.from_numpy(np.stack(prompts)).float(),
        torch.tensor(labels),
        torch.from_numpy(np.stack(masks)).float(),
    )


def batches(objects: Scenes, street: Scenes) -> Callable[[np.random.Generator, int], list[Group]]:
    """Half of the images from each world."""

    def batch_of(rng: np.random.Generator, size: int) -> list[Group]:
        half = size // 2
        return [
            group_of(objects, rng.integers(len(objects), size=half), rng),
            group_of(street, rng.integers(len(street), size=size - half), rng),
        ]

    return batch_of


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What SAM gave for the tight box of one region."""

    class_id: int
    thing: bool
    area_fraction: float
    iou: float
    predicted_iou: float


def answers(sam: Sam, drawn: Scenes, rows: int) -> list[Answer]:
    """SamPredictor with tight boxes and a single mask on every region of the first `rows` drawings."""
    predictor = SamPredictor(sam.eval())
    given = []
    for row in range(rows):
        mask, instances = drawn.masks[row], drawn.instances[row]
        predictor.set_image(drawn.images[row])
        for region in regions(mask, instances, stuff=drawn.world == "streets"):
            masks, quality, _ = predictor.predict(box=box_of(region), multimask_output=False)
            iou = np.count_nonzero(masks[0] & region) / np.count_nonzero(masks[0] | region)
            thing = bool(instances[region][0])
            given.append(Answer(int(mask[region][0]), thing, float(region.mean()), iou, float(quality[0])))
    return given


def save(sam: Sam, out: Path) -> None:
    """`config.json` and half-precision `model.safetensors`, as `construct` and the mask decoder backend read them."""
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(json.dumps(MINI, indent=2).encode() + b"\n", out / "config.json")
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in sam.state_dict().items()}
    write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}), out / "model.safetensors")


def main(argv: list[str]) -> None:
    """`python -m synthgen.minis.train sam`."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.minis.train sam", description=__doc__)
    add_arguments(parser, minutes=20, batch_size=10, learning_rate=1e-3)
    parser.add_argument("--scenes", type=int, default=16_000, help="drawn scenes of each world")
    parser.add_argument(
        "--held-out", type=int, default=200, help="drawn scenes of each world that the result is measured on"
    )
    arguments = parser.parse_args(argv)
    objects = scenes("objects", arguments.scenes, cache=arguments.cache, pair_probability=PAIR_PROBABILITY)
    street = scenes("streets", arguments.scenes, cache=arguments.cache)
    torch.manual_seed(arguments.seed)
    sam = construct(MINI)
    facts = train(Objective(sam), batches(objects, street), schedule_of(arguments), arguments.out)
    folder = arguments.out / "model"
    save(sam, folder)
    quality = measure(sam, arguments.cache, arguments.held_out)
    print(json.dumps(facts | quality))
    write_model_card(
        folder,
        "mini/sam: Segment Anything in miniature",
        "segment_anything's `Sam` with a small `ImageEncoderViT` at 128 px: a mask and its expected IoU from a "
        "box or points.",
        f"{len(objects)} object and {len(street)} street scenes drawn by the project (`synthgen.drawn`) "
        "with exact instance masks",
        facts,
        {name: str(value) for name, value in quality.items()},
        "It knows drawings, not photographs. Poles, riders and other thin or small things come out worst.",
    )


def measure(sam: Sam, cache: Path, rows: int) -> dict[str, Any]:
    """Mean IoU with tight boxes on `rows` held-out drawings of each world, objects and street things above 1 % of the
    image.
    """
    objects = answers(sam, scenes("objects", rows, 0, cache=cache, pair_probability=PAIR_PROBABILITY), rows)
    street = answers(sam, scenes("streets", rows, 0, cache=cache), rows)
    large = [a for a in objects if a.area_fraction > 0.01]
    things = [a for a in street if a.thing and a.area_fraction > 0.01]
    return {
        "sam_box_miou": round(float(np.mean([a.iou for a in large + things])), 4),
        "objects": round(float(np.mean([a.iou for a in large])), 4),
        "street_things": round(float(np.mean([a.iou for a in things])), 4),
        "street_stuff": round(float(np.mean([a.iou for a in street if not a.thing])), 4),
        "street_all_sizes": round(float(np.mean([a.iou for a in street])), 4),
        "predicted_iou_error": round(float(np.mean([abs(a.iou - a.predicted_iou) for a in objects + street])), 4),
        "num_boxes": len(large) + len(things),
    }
