"""A stored set of drawings to train on: drawn once in processes, read back through memory maps.

Seeds 0..9,999 are held out in every world: they measure, they never train. Training sets start at seed 1,000,000.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy import ndimage

from synthgen.drawn import objects, street_intruders, streets
from synthgen.drawn.drawing import Drawing
from synthgen.errors import StorageError

FIRST_TRAINING_SEED = 1_000_000
PART_ROWS = 2_000

_ARRAYS = ("images", "masks", "instances")
_SIZE_PX = {"objects": (64, 64), "streets": (64, 96)}
_NUM_PROBES = 8  # drawings whose bytes name a cache, so that a changed world never reads an old one


class Rows:
    """Rows that lie in several memory-mapped files, read as one array; `rows[indices]` copies, nothing else is read."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.shape = (int(self._starts[-1]), *self._parts[0].shape[1:])
        self.dtype = self._parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | tuple) -> np.ndarray:
        """One row for an integer, a fresh (N, ...) array for a slice or a 1-D sequence of integers.

        A tuple indexes the rows with its first item and what they hold with the others.
        """
        if isinstance(index, tuple):
            rows = self[index[0]]
            return rows[index[1:]] if isinstance(index[0], (int, np.integer)) else rows[(slice(None), *index[1:])]
        if isinstance(index, (int, np.integer)):
            return self[np.array([index])][0]
        wanted = np.arange(len(self))[index if isinstance(index, slice) else np.asarray(index, dtype=np.int64)]
        part_of = np.searchsorted(self._starts, wanted, side="right") - 1
        result = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        for part in np.unique(part_of):
            here = part_of == part
            result[here] = self._parts[part][wanted[here] - self._starts[part]]
        return result


@dataclasses.dataclass(frozen=True, slots=True)
class Scenes:
    """Drawings of consecutive seeds. Row i has seed `first_seed + i`."""

    world: str
    first_seed: int
    images: Rows  # (N, H, W, 3) uint8 RGB
    masks: Rows  # (N, H, W) uint8 class ids of the world
    instances: Rows  # (N, H, W) uint16, 0 = no countable object
    captions: tuple[str, ...]
    attributes: tuple[tuple[tuple[str, str], ...], ...]

    def __len__(self) -> int:
        return len(self.captions)


def scenes(
    world: str,
    count: int,
    first_seed: int = FIRST_TRAINING_SEED,
    *,
    cache: Path,
    workers: int = 2,
    size_px: tuple[int, int] | None = None,
    pair_probability: float = 0.0,
    intruder_probability: float = 0.0,
    domain: str | None = None,
) -> Scenes:
    """`count` drawings of `world` ("objects" or "streets") from `first_seed` on; drawn where `cache` lacks them.

    `pair_probability` is that of a second object (objects only), `intruder_probability` that of an object that no
    street has (streets only, one of those for training), `domain` the one weather of all streets.
    A set is stored in parts of PART_ROWS under a name that holds size and choices and a digest of some drawings, so
    another world or size never mixes in. Stopping loses the parts in work only. `workers`
    processes draw; 1 draws in this process.
    Raises ValueError for an unknown world or an empty set, StorageError if the cache cannot be written.
    """
    if world not in _SIZE_PX:
        raise ValueError(f"unknown world {world!r}; there are: {', '.join(_SIZE_PX)}")
    if count < 1:
        raise ValueError(f"count = {count}: a set has at least one drawing")
    height, width = size_px or _SIZE_PX[world]
    if world == "objects" and height != width:
        raise ValueError(f"size_px = {(height, width)}: the objects world draws squares")
    draw = functools.partial(_draw, world, (height, width), pair_probability, intruder_probability, domain)
    choices = f"pair{round(100 * pair_probability)}"
    if intruder_probability or domain:
        choices += f"-intruder{round(100 * intruder_probability)}-{domain or 'any'}"
    folder = cache / f"{world}-{height}x{width}-{choices}-{_digest(draw)}"
    spans = [(first_seed + at, min(PART_ROWS, count - at)) for at in range(0, count, PART_ROWS)]
    names = [folder / f"{first:08d}-{rows:04d}" for first, rows in spans]
    missing = [(name, span) for name, span in zip(names, spans, strict=True) if not name.is_dir()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if workers > 1 and len(missing) > 1:
            # Not fork: the caller has loaded torch by now, whose threads do not survive it.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
                for done in [pool.submit(_draw_part, draw, name, *span) for name, span in missing]:
                    done.result()
        else:
            for name, span in missing:
                _draw_part(draw, name, *span)
    except OSError as error:
        raise StorageError(
            f"{folder}: drawings cannot be stored ({error.strerror or error}); give another cache folder"
        ) from error
    arrays = {kind: Rows([np.load(name / f"{kind}.npy", mmap_mode="r") for name in names]) for kind in _ARRAYS}
    words = [json.loads((name / "words.json").read_text(encoding="utf-8")) for name in names]
    return Scenes(
        world,
        first_seed,
        arrays["images"],
        arrays["masks"],
        arrays["instances"],
        tuple(caption for part in words for caption in part["captions"]),
        tuple(tuple((n, v) for n, v in row) for part in words for row in part["attributes"]),
    )


def augmented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, contrast, softness and grain as a small diffusion model's images have them; (H, W, 3) uint8 -> uint8."""
    changed = image.astype(np.float32)
    if rng.random() < 0.4:
        sigma = rng.uniform(0.3, 0.9)
        changed = ndimage.gaussian_filter(changed, (sigma, sigma, 0))
    changed = (changed - 128) * rng.uniform(0.85, 1.15) + 128 + rng.uniform(-15, 15)
    if rng.random() < 0.3:
        changed += rng.normal(0, rng.uniform(1, 6), changed.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


def _draw(
    world: str,
    size_px: tuple[int, int],
    pair_probability: float,
    intruder_probability: float,
    domain: str | None,
    seed: int,
) -> Drawing:
    if world == "objects":
        return objects.draw(seed, size_px[0], pair_probability=pair_probability)
    return streets.draw(seed, size_px, domain=domain, intruder=street_intruders.chosen(seed, intruder_probability))


def _digest(draw: Callable[[int], Drawing]) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for seed in range(_NUM_PROBES):
        drawing = draw(seed)
        for array in (drawing.image, drawing.mask, drawing.instances):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(f"{drawing.caption}{drawing.attributes}".encode())
    return digest.hexdigest()


def _draw_part(draw: Callable[[int], Drawing], folder: Path, first_seed: int, rows: int) -> None:
    drawings = [draw(seed) for seed in range(first_seed, first_seed + rows)]
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(exist_ok=True)
    for kind, arrays in (
        ("images", [d.image for d in drawings]),
        ("masks", [d.mask for d in drawings]),
        ("instances", [d.instances.astype(np.uint16) for d in drawings]),
    ):
        np.save(temporary / f"{kind}.npy", np.stack(arrays))
    words = {"captions": [d.caption for d in drawings], "attributes": [d.attributes for d in drawings]}
    (temporary / "words.json").write_text(json.dumps(words), encoding="utf-8")
    for file in temporary.iterdir():
        with file.open("rb") as stored:
            os.fsync(stored.fileno())
    if not folder.is_dir():  # another process may have drawn the same bytes meanwhile
        temporary.rename(folder)
