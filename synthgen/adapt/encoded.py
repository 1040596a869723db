"""Crops, maps and captions as the denoiser sees them: encoded once, kept in parts on the disk, read row by row.

`crops-00003.npy` is a part: a structured array whose rows hold the latents of a picture and of its map. A part exists
whole or not at all, so a killed encoding goes on with the next one, and several processes share the parts out. A
training maps the files and reads the rows that it draws: its memory does not grow with the number of pictures.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.pictures import read_image
from synthgen.adapt.crops import Crop, crop
from synthgen.adapt.labelled import LabelledPictures
from synthgen.errors import InputError
from synthgen.files import file_digest, write_bytes, write_text
from synthgen.models.control import Control, class_shares, control_latents, control_pixels, painted
from synthgen.recipe import Recipe
from synthgen.sources.folder import read_label

PICTURES_A_PART = 64
CAPTIONS_A_PART = 64
_AT_ONCE = 4  # windows of one call of the VAE


class Encoder:
    """Encodes parts with the base's VAE and text encoders. Raises StorageError if a part cannot be written."""

    def __init__(self, recipe: Recipe, pictures: LabelledPictures, control: Control, folder: Path) -> None:
        self._recipe, self._pictures, self._control, self._folder = recipe, pictures, control, folder

    @property
    def crop_parts(self) -> list[range]:
        """The pictures of each part."""
        return _parts(len(self._pictures.pairs), PICTURES_A_PART)

    def crops(self, probabilities: np.ndarray, part: int) -> Iterator[Crop]:
        """The windows of a part, picture by picture."""
        settings, size_px = self._recipe.adapt, (self._recipe.render.height_px, self._recipe.render.width_px)
        space = self._pictures.space
        for number in self.crop_parts[part]:
            pair = self._pictures.pairs[number]
            image, mask, content = read_image(pair.image), read_label(pair, space), file_digest(pair.image)
            for window in range(settings.crops.per_image):
                yield crop(
                    image, mask, size_px, window, content, self._recipe.seed, probabilities, space,
                    settings.crops, settings.captions,
                )  # fmt: skip

    def encode_crops(self, vae: Any, config: Any, probabilities: np.ndarray, part: int) -> None:
        """Write a part of crops; `config` is the ControlNet's, whose flags say how its condition is encoded."""
        rows: list[np.ndarray] = []
        captions: list[str] = []
        for batch in _batches(self.crops(probabilities, part), _AT_ONCE):
            rows.append(self._rows(vae, config, batch))
            captions += [item.caption for item in batch]
        write_text(json.dumps(captions, ensure_ascii=False), self._folder / f"captions-{part:05d}.json")
        write_array(np.concatenate(rows), self._folder / f"crops-{part:05d}.npy")

    def _rows(self, vae: Any, config: Any, batch: Sequence[Crop]) -> np.ndarray:
        import torch

        device = next(vae.parameters()).device
        masks = np.stack([item.mask for item in batch])
        with torch.inference_mode():
            pixels = control_pixels(np.stack([item.image for item in batch])).to(device)
            latents = vae.encode(pixels).latent_dist.mean - vae.config.shift_factor
            latents = (latents * vae.config.scaling_factor).float().cpu().numpy()
            space = self._pictures.space
            condition = control_latents(control_pixels(painted(space, masks)).to(device), config, vae).float().cpu()
            if self._control.kind == "onehot":
                condition = torch.cat([condition, class_shares(space, masks, latents.shape[2:])], dim=1)
        dtype = [
            ("latents", np.float16, latents.shape[1:]),
            ("control", np.float16, tuple(condition.shape[1:])),
            ("shares", np.float16, batch[0].shares.shape),
        ]
        rows = np.empty(len(batch), dtype=dtype)
        rows["latents"], rows["control"] = latents, condition.numpy()
        rows["shares"] = np.stack([item.shares for item in batch])
        return rows

    def captions(self) -> list[str]:
        """Every caption once, sorted; the empty one is always among them."""
        every = {""}
        for part in range(len(self.crop_parts)):
            every.update(_captions(self._folder, part))
        return sorted(every)

    def encode_captions(self, encoder: Any, captions: Sequence[str], part: int) -> None:
        """Write a part of captions: tokens (T, D) and pooled (P,) of each, float16."""
        made = [encoder.encode([text])[0] for text in captions[part * CAPTIONS_A_PART : (part + 1) * CAPTIONS_A_PART]]
        dtype = [("tokens", np.float16, made[0].tokens.shape), ("pooled", np.float16, made[0].pooled.shape)]
        rows = np.empty(len(made), dtype=dtype)
        rows["tokens"] = np.stack([item.tokens for item in made])
        rows["pooled"] = np.stack([item.pooled for item in made])
        write_array(rows, self._folder / f"texts-{part:05d}.npy")

    def missing(self, kind: str, parts: int) -> list[int]:
        """Numbers of the parts of `crops` or `texts` that are not there yet."""
        return [part for part in range(parts) if not (self._folder / f"{kind}-{part:05d}.npy").is_file()]


def text_parts(captions: Sequence[str]) -> int:
    """How many parts so many captions make."""
    return len(_parts(len(captions), CAPTIONS_A_PART))


class EncodedSet:
    """What training draws from: rare class sampling over the encoded crops."""

    def __init__(self, encoder: Encoder, folder: Path, probabilities: np.ndarray, min_share: float) -> None:
        """Map the parts of `folder`. Raises InputError if one is damaged, or if no crop shows a class."""
        self._crops = [_read(folder / f"crops-{part:05d}.npy") for part in range(len(encoder.crop_parts))]
        captions = encoder.captions()
        self._texts = [_read(folder / f"texts-{part:05d}.npy") for part in range(text_parts(captions))]
        number_of = {text: number for number, text in enumerate(captions)}
        self._empty = number_of[""]
        self._caption = np.array(
            [number_of[text] for part in range(len(self._crops)) for text in _captions(folder, part)], dtype=np.int32
        )
        shares = np.concatenate([part["shares"] for part in self._crops])
        self._starts = np.cumsum([0, *map(len, self._crops)])
        self._showing = [np.flatnonzero(shares[:, k] >= min_share).astype(np.int32) for k in range(shares.shape[1])]
        weights = probabilities * np.array([len(rows) > 0 for rows in self._showing])
        if not weights.sum():
            raise InputError(
                f"adapt.crops.min_share = {min_share:g}: no crop shows a class to this share; give a smaller one"
            )
        self._probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def draw(self, rng: np.random.Generator) -> int:
        """A row: a class by P(c), then one of the crops that show it."""
        rows = self._showing[int(rng.choice(len(self._probabilities), p=self._probabilities))]
        return int(rows[rng.integers(len(rows))])

    def row(self, number: int, with_caption: bool = True) -> dict[str, np.ndarray]:
        """latents (C, h, w), control (C', h, w), states (T, D), pooled (P,): float16."""
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        crop_row = self._crops[part][number - self._starts[part]]
        text = int(self._caption[number]) if with_caption else self._empty
        text_row = self._texts[text // CAPTIONS_A_PART][text % CAPTIONS_A_PART]
        return {
            "latents": crop_row["latents"],
            "control": crop_row["control"],
            "states": text_row["tokens"],
            "pooled": text_row["pooled"],
        }

    def batches(self, empty: float) -> Callable[[np.random.Generator, int], dict[str, Any]]:
        """`batch_of(rng, size)` for training.loop: CPU tensors, the caption left out of the share `empty`."""
        import torch

        def batch_of(rng: np.random.Generator, size: int) -> dict[str, Any]:
            rows = [self.row(self.draw(rng), bool(rng.random() >= empty)) for _ in range(size)]
            return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

        return batch_of


def _parts(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _batches(crops: Iterator[Crop], size: int) -> Iterator[list[Crop]]:
    batch: list[Crop] = []
    for item in crops:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _captions(folder: Path, part: int) -> list[str]:
    texts: list[str] = read_json(folder / f"captions-{part:05d}.json", InputError)
    return texts


def write_array(rows: np.ndarray, path: Path) -> None:
    """A .npy file, whole or not at all. Raises StorageError in one line."""
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    write_bytes(file.getvalue(), path)


def _read(path: Path) -> np.ndarray:
    try:
        rows: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it, and the same command makes it again") from error
    return rows
