"""Trains the mini CLIP (Radford et al., 2021) on images and captions of both drawn worlds;

masks and boxes play no part.

The image embedding is the mean of the projected patch tokens (`pool_type: avg`), so that the same projection of a
single token is a dense feature in the space of the texts. Next to the contrast of whole captions, each image of an
object is asked which classes its caption names: once of the pooled embedding, since filter rules ask for "a photo of a
car", and once of the best patches (log-sum-exp pooling as in Pinheiro and Collobert, CVPR 2015), since only an object's
own patches can answer that well, which ties features to places without any mask.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch.nn.functional import interpolate, log_softmax, normalize

from synthgen.drawn.objects import CLASSES, SPOKEN
from synthgen.files import write_bytes
from synthgen.minis.train.arguments import add_arguments, schedule_of
from synthgen.minis.train.model_card import write_model_card
from synthgen.minis.train.scenes import Scenes, augmented, scenes
from synthgen.training.loop import train

CONFIG_FILE = "open_clip_config.json"
VOCABULARY_FILE = "bpe_simple_vocab.txt.gz"
NUM_MERGES = 7_678  # 2 * 256 bytes + merges + 2 special tokens = 8,192 ids
IMAGE_PX = 96
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": IMAGE_PX,
            "patch_size": 8,
            "width": 128,
            "layers": 4,
            "head_width": 32,
            "pool_type": "avg",
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 2 * 256 + NUM_MERGES + 2,
            "tokenizer_kwargs": {"bpe_path": VOCABULARY_FILE},  # relative to the folder; the loader makes it absolute
            "width": 128,
            "heads": 4,
            "layers": 3,
        },
    },
    "preprocess_cfg": {
        "size": IMAGE_PX,
        "mode": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}
PAIR_PROBABILITY = 0.3
WORD_WEIGHT = 0.5  # of each of the two losses on class words, against 1 for captions


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Image i belongs to caption i; image i shows class c where `named[i, c]`.

    Rows without any class (streets) are not asked.
    """

    images: torch.Tensor  # (N, 3, S, S) float32, normalised
    captions: torch.Tensor  # (N, T) int64
    words: torch.Tensor  # (C, T) int64, one text a class
    named: torch.Tensor  # (N, C) bool


class Objective(torch.nn.Module):
    """Symmetric contrastive loss of captions, and cross-entropy of class words for whole images and for their best
    patches.
    """

    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.model = model
        model.visual.output_tokens = True

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        model, device = self.model, self.model.logit_scale.device
        pooled, tokens = model.visual(batch.images.to(device))
        images = normalize(pooled.float(), dim=-1)
        patches = normalize((tokens @ model.visual.proj).float(), dim=-1)
        texts = model.encode_text(torch.cat([batch.captions, batch.words]).to(device), normalize=True).float()
        captions, words = texts[: len(images)], texts[len(images) :]
        # beyond 100 the loss stops saying how far off a wrong caption is (CLIP, section 2.5)
        scale = model.logit_scale.clamp(max=float(np.log(100))).exp()
        logits = scale * images @ captions.T
        own = torch.eye(len(images), dtype=torch.bool, device=device)
        caption_loss = (contrast(logits, own) + contrast(logits.T, own)) / 2
        asked = batch.named.any(dim=1)
        named = batch.named[asked].to(device)
        of_image = scale * images[asked] @ words.T
        of_patches = (scale * patches[asked] @ words.T).logsumexp(dim=1)
        word_loss, patch_loss = contrast(of_image, named), contrast(of_patches, named)
        return {
            "loss": caption_loss + WORD_WEIGHT * (word_loss + patch_loss),
            "caption": caption_loss.detach(),
            "word": word_loss.detach(),
            "patch": patch_loss.detach(),
            "top1": (logits.argmax(dim=1) == own.int().argmax(dim=1)).float().mean(),
            "word_top1": named.gather(1, of_image.argmax(dim=1, keepdim=True)).float().mean(),
            "scale": scale.detach(),
        }


def contrast(logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row of logits (N, M) against the uniform distribution over its positives (N, M) bool."""
    target = positive / positive.sum(dim=1, keepdim=True)
    return -(target * log_softmax(logits, dim=1)).sum(dim=1).mean()


def normalised(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, IMAGE_PX, IMAGE_PX) float32 as the saved `preprocess_cfg` makes them, but all at
    once.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    resized = interpolate(pixels, (IMAGE_PX, IMAGE_PX), mode="bicubic", antialias=True).round().clamp(0, 255) / 255
    return (resized - 0.5) / 0.25


def mirrored_words(caption: str) -> str:
    """The caption of the mirrored image: left and right change places."""
    return re.sub(r"\b(left|right)\b", lambda found: "right" if found[0] == "left" else "left", caption)


def batches(objects: Scenes, street: Scenes, tokenizer: SimpleTokenizer) -> Callable[[np.random.Generator, int], Batch]:
    """Two thirds objects, one third streets; some mirrored, some cropped a little, all with changed light."""

    words = tokenizer([class_text(name) for name in CLASSES])

    def batch_of(rng: np.random.Generator, size: int) -> Batch:
        num_objects = size * 2 // 3
        images, captions, named = [], [], np.zeros((size, len(CLASSES) + 1), dtype=bool)
        for n in range(size):
            drawn = objects if n < num_objects else street
            row = int(rng.integers(len(drawn)))
            image, caption = drawn.images[row], drawn.captions[row]
            if rng.random() < 0.5:
                image, caption = image[:, ::-1], mirrored_words(caption)
            images.append(normalised(_cropped(augmented(image, rng), rng)[None]))
            captions.append(caption)
            if drawn is objects:
                named[n, np.unique(drawn.masks[row])] = True  # what the caption names and nothing else
        return Batch(torch.cat(images), tokenizer(captions), words, torch.from_numpy(named[:, 1:]))

    return batch_of


def class_text(class_name: str) -> str:
    """What a filter rule asks for."""
    return f"a photo of a {SPOKEN[class_name]}"


def _cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At least 0.8 of each side: so little that nothing that the caption names is cut off."""
    height, width = image.shape[:2]
    share = rng.uniform(0.8, 1.0)
    tall, wide = round(share * height), round(share * width)
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    return image[top : top + tall, left : left + wide]


def write_vocabulary(folder: Path) -> Path:
    """CLIP's byte-pair vocabulary cut to its first NUM_MERGES merges: the same ids in an eighth of the embedding
    rows."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[: NUM_MERGES + 1]
    buffer = io.BytesIO()
    # a fixed time stamp and no trailing newline: the tokenizer would read it as one more merge
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
        file.write("\n".join(lines).encode())
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(buffer.getvalue(), folder / VOCABULARY_FILE)
    return folder / VOCABULARY_FILE


def build(seed: int) -> open_clip.CLIP:
    """The model with untrained weights."""
    torch.manual_seed(seed)
    return open_clip.CLIP(**CONFIG["model_cfg"])


def save(model: open_clip.CLIP, vocabulary: Path, out: Path) -> None:
    """A folder that `load_clip` of the open_clip backends reads; weights in half precision."""
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(json.dumps(CONFIG, indent=2).encode() + b"\n", out / CONFIG_FILE)
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}), out / "open_clip_model.safetensors")
    if vocabulary.parent != out:
        shutil.copyfile(vocabulary, out / VOCABULARY_FILE)


def main(argv: list[str]) -> None:
    """`python -m synthgen.minis.train clip`."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.minis.train clip", description=__doc__)
    add_arguments(parser, minutes=20, batch_size=96, learning_rate=1e-3)
    parser.add_argument(
        "--scenes", type=int, default=24_000, help="drawn scenes of the objects world; half as many of the streets"
    )
    parser.add_argument(
        "--held-out", type=int, default=512, help="drawn scenes of each world that the result is measured on"
    )
    arguments = parser.parse_args(argv)
    objects = scenes("objects", arguments.scenes, cache=arguments.cache, pair_probability=PAIR_PROBABILITY)
    street = scenes("streets", max(1, arguments.scenes // 2), cache=arguments.cache)
    vocabulary = write_vocabulary(arguments.out / "model")
    tokenizer = SimpleTokenizer(str(vocabulary), context_length=CONFIG["model_cfg"]["text_cfg"]["context_length"])
    model = build(arguments.seed)
    facts = train(Objective(model), batches(objects, street, tokenizer), schedule_of(arguments), arguments.out)
    folder = arguments.out / "model"
    save(model, vocabulary, folder)
    quality = measure(model, tokenizer, arguments.cache, arguments.held_out)
    print(json.dumps(facts | quality))
    write_model_card(
        folder,
        "mini/clip: CLIP in miniature",
        f"An open_clip model for images at {IMAGE_PX} px and short sentences; its patch tokens are dense "
        "features in the space of the texts.",
        f"{len(objects)} object and {len(street)} street scenes drawn by the project (`synthgen.drawn`) "
        "with their captions",
        facts,
        {name: str(value) for name, value in quality.items()},
        "It knows the words of the captions and no others, and drawings, not photographs.",
    )


@torch.no_grad()
def measure(model: open_clip.CLIP, tokenizer: SimpleTokenizer, cache: Path, rows: int) -> dict[str, float]:
    """Shares of right answers on `rows` held-out drawings of each world:

    own caption among 64, class of an object among 20.
    """
    model.eval()
    model.visual.output_tokens = False
    device = model.logit_scale.device
    result: dict[str, float] = {}
    embedded: dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]] = {}
    for world in ("objects", "streets"):
        drawn = scenes(world, rows, 0, cache=cache, pair_probability=PAIR_PROBABILITY if world == "objects" else 0.0)
        images = [
            model.encode_image(normalised(drawn.images[i : i + 64]).to(device), normalize=True)
            for i in range(0, rows, 64)
        ]
        texts = [
            model.encode_text(tokenizer(list(drawn.captions[i : i + 64])).to(device), normalize=True)
            for i in range(0, rows, 64)
        ]
        embedded[world] = (
            torch.cat(images).float().cpu().numpy(),
            torch.cat(texts).float().cpu().numpy(),
            drawn.captions,
        )
        result[f"{world}_top1_of_64"] = top1(*embedded[world], group=64)
        if world == "objects":
            asked = normalize(
                model.encode_text(tokenizer([class_text(name) for name in CLASSES]).to(device)).float(), dim=1
            )
            guess = (embedded[world][0] @ asked.cpu().numpy().T).argmax(axis=1)
            own = [CLASSES.index(dict(a)["class"]) for a in drawn.attributes]
            result["class_of_20"] = float(np.mean(guess == own))
    mixed = [
        np.stack([a, b], axis=1).reshape(2 * rows, -1)
        for a, b in zip(embedded["objects"][:2], embedded["streets"][:2], strict=True)
    ]
    words = tuple(w for pair in zip(embedded["objects"][2], embedded["streets"][2], strict=True) for w in pair)
    result["clip_top1_of_64"] = top1(mixed[0], mixed[1], words, group=64)
    return {name: round(value, 4) for name, value in result.items()}


def top1(images: np.ndarray, texts: np.ndarray, captions: tuple[str, ...], group: int) -> float:
    """Share of images (N, D) whose nearest text (N, D) among its group of consecutive rows has the image's own
    caption."""
    right = []
    for start in range(0, len(captions) - group + 1, group):
        rows = slice(start, start + group)
        best = (images[rows] @ texts[rows].T).argmax(axis=1)
        right += [captions[start + b] == captions[start + i] for i, b in enumerate(best)]
    return float(np.mean(right))
