"""A small finished dataset of drawn scenes, made by the pack stage itself:

what fuzzing and the compatibility table open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import ndimage

from synthgen.drawn import objects, streets
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.pack import stage
from synthgen.pack.counts import ModelUse, RunCounts
from synthgen.pack.finish import finish
from synthgen.pack_settings import Pack
from synthgen.recipe import Recipe
from synthgen.records import Sample, ShardRecord, from_flat, key_of
from synthgen.settings import Labels

COUNTS = RunCounts(
    made={"filter": 9},
    rejected={"filter": {"blank_image": 1}},
    models=(ModelUse("renderer", "drawn:objects", "1", "apache-2.0"),),
)


def drawn_dataset(
    run: Path,
    world: str = "objects",
    count: int = 9,
    size_px: int = 48,
    samples_per_shard: int = 3,
    *,
    noisy: bool = True,
) -> Path:
    """Pack `count` scenes of `world` (objects or streets) in the new folder `run`; returns `run/dataset`.

    Every third sample is in `validation`; masks have 255 and 254 too, prompts have quotes and accents. Confidences are
    noise, or else as those of a run: sure but for boundaries. Noise cannot be compressed, so of large pictures it would
    be four fifths of the bytes.
    """
    space = {"objects": "objects", "streets": "cityscapes"}[world]
    pack_settings = Pack(
        samples_per_shard=samples_per_shard,
        creator="synthgen benchmarks",
        url="https://example.org/drawn",
        date_published="2026-11-21",
    )
    recipe = Recipe(name=f"drawn-{world}", title=f"Drawn {world}", labels=Labels(space=space), pack=pack_settings)
    (run / "art").mkdir(parents=True)
    samples = [_sample(run, world, number, size_px, noisy) for number in range(count)]
    packer = stage.build(recipe, run)
    shards: list[ShardRecord] = []
    for unit, rows in stage.plan(samples, recipe):
        (run / "pack" / unit).mkdir(parents=True)
        shards += packer.process(list(rows), run / "pack" / unit, unit)
    return finish(recipe, run, shards, samples, COUNTS)


def _sample(run: Path, world: str, number: int, size_px: int, noisy: bool) -> Sample:
    drawing = objects.draw(number, size_px) if world == "objects" else streets.draw(number, (size_px, size_px * 3 // 2))
    rng = np.random.default_rng(number)
    mask = drawing.mask.copy()
    mask[-3:, -7:] = 255
    if number % 2:
        mask[:4, :5] = 254
    ids = [
        label.id
        for label in read_label_space("objects" if world == "objects" else "cityscapes").labels
        if (mask == label.id).any()
    ]
    label = read_label_space("objects" if world == "objects" else "cityscapes").by_id(ids[-1])
    key = key_of("s", world, number)
    names = {part: f"art/{key}.{part}.png" for part in ("image", "mask", "confidence")}
    write_image(drawing.image, run / names["image"])
    write_image(mask, run / names["mask"])
    confidence = rng.integers(0, 256, mask.shape).astype(np.uint8) if noisy else _sure_but_for_boundaries(mask)
    write_image(confidence, run / names["confidence"])
    columns: dict[str, Any] = dict(  # noqa: C408 - reads like the record
        key=key,
        parent=key_of("p", world, number),
        split="validation" if number % 3 == 2 else "train",
        class_name=label.name,
        class_id=label.id,
        prompt=f'{drawing.caption}, "caf\u00e9" {number}',
        attributes=tuple(f"{name}={value}" for name, value in drawing.attributes),
        seed=number,
        image=names["image"],
        height_px=mask.shape[0],
        width_px=mask.shape[1],
        renderer=f"drawn:{world}",
        model_revision="1",
        steps=1,
        guidance=1.0,
        layout="",
        mask=names["mask"],
        confidence=names["confidence"],
        # 0.0, 0.5, 1.0: a column that readers take for whole numbers if fractions are dropped
        region_similarity=number / 2,
        filled_fraction=1.0,
        labelled_fraction=float(np.mean(mask != 255)),
        class_fraction=float(np.mean(mask == label.id)),
        sam_predicted_iou=-1.0,
        text_image_score=0.25,
        class_rank=0,
        pixel_std=float(drawing.image.std()),
        nearest_image_similarity=-1.0,
        origin="",
    )
    return cast(Sample, from_flat(Sample, columns))


def _sure_but_for_boundaries(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of ids (H, W): a half of 255 at a boundary, nearly 255 from a thirtieth of the height on; 0 where
    the id is 255."""
    inner = np.ones(mask.shape, bool)
    inner[1:] &= mask[1:] == mask[:-1]
    inner[:, 1:] &= mask[:, 1:] == mask[:, :-1]
    away = ndimage.distance_transform_edt(inner) * 150 / mask.shape[0]
    confidence: np.ndarray = np.where(mask == 255, 0, np.rint(255 / (1 + np.exp(-away)))).astype(np.uint8)
    return confidence
