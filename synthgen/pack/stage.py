"""Stage `pack`: kept samples to shards. One unit of work is one shard.

A unit's folder holds `{unit}.tar` and `samples.json`, the shard's rows of the index: they are counted here,
where each mask is in memory anyway, so that `finish` need not decode a million masks again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segkit.index import SPLIT_FORM, VERSION
from segkit.labels import IGNORE, LabelSpace
from segkit.metadata import KEY_FORM, is_key
from synthgen.errors import InputError
from synthgen.files import write_bytes
from synthgen.images import jpeg_bytes, png_bytes, read_image, read_mask
from synthgen.labels import read_label_space
from synthgen.models.control import nearest
from synthgen.pack import mark
from synthgen.pack.counts import MaskRate, RunCounts
from synthgen.pack.fields import metadata_of
from synthgen.pack.index import ROWS_FILE
from synthgen.pack.tar import PackedSample, write_shard
from synthgen.recipe import Recipe
from synthgen.records import Sample, ShardRecord
from synthgen.rows import SLICE_ROWS, Picked, StoredRows, column, take
from synthgen.runner import StageRun

NAME, VERB = "pack", "pack"
READS, GIVES = Sample, ShardRecord
BY_ROW = False
SINGLE_UNIT = False


def settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that change a shard's bytes."""
    return {
        "format_version": VERSION,
        "samples_per_shard": recipe.pack.samples_per_shard,
        "jpeg_quality": recipe.pack.jpeg_quality,
        **mark.settings(recipe),
    }


def plan(rows: Sequence[Sample] | StoredRows, recipe: Recipe) -> list[tuple[str, Sequence[Sample] | Picked]]:
    """(unit name, its rows) for each shard: `train-000000` and on, counted within the split, rows sorted by
    split and key. Of stored rows only keys and splits are read; the rows of a unit come when they are gone through.

    Raises InputError for a key that occurs twice or that no loader could read, and for a split name that no
    shard could carry.
    """
    keys, splits = column(rows, "key"), column(rows, "split")
    _check_keys(keys)
    by_key = pc.sort_indices(keys).to_numpy().astype(np.uint32)  # text sorts by code points here and in Python
    names = splits.dictionary_encode().unify_dictionaries()
    of_row = np.concatenate([np.empty(0, np.int32), *(chunk.indices.to_numpy() for chunk in names.chunks)])[by_key]
    units: list[tuple[str, Sequence[Sample] | Picked]] = []
    known = names.chunk(0).dictionary.to_pylist() if names.num_chunks else []
    for split in sorted(known):
        if re.fullmatch(SPLIT_FORM, split) is None:
            raise InputError(f"split {split!r} must be lower-case letters, digits and _, for example `train`")
        members = by_key[of_row == known.index(split)]
        for number, start in enumerate(range(0, len(members), recipe.pack.samples_per_shard)):
            chosen = members[start : start + recipe.pack.samples_per_shard]
            units.append(
                (f"{split}-{number:06d}", Picked(rows, chosen) if isinstance(rows, StoredRows) else take(rows, chosen))
            )
    return units


def _check_keys(keys: pa.ChunkedArray) -> None:
    ordered = keys.take(pc.sort_indices(keys))
    before = ""
    for start in range(0, len(ordered), SLICE_ROWS):
        for key in ordered.slice(start, SLICE_ROWS).to_pylist():
            if key == before:
                raise InputError(f"sample key {key!r} occurs twice; keys must be unique over the whole dataset")
            if not is_key(key):
                raise InputError(f"sample key {key!r} must be {KEY_FORM}")
            before = key


def build(recipe: Recipe, run: Path) -> Packer:
    """No model is loaded. Raises LabelError if the label space cannot be read, RecipeError if images cannot be
    signed."""
    return Packer(run, read_label_space(recipe.labels.space), recipe.pack.jpeg_quality, mark.marker(recipe))


def finish(recipe: Recipe, run: Path, stage: StageRun, facts: Mapping[str, Any]) -> Path:
    """Shards, contact sheet, card and index into `dataset/`; the index is written last. `facts` are those of the stages
    (synthgen/stages.py: card_facts).
    """
    from synthgen.pack.finish import finish as finish_dataset
    from synthgen.pack.models_used import models_used

    assert stage.reads is not None
    rates = tuple(MaskRate(**rate) for rate in facts.get("mask_rates", ()))
    counts = RunCounts(**{**facts, "mask_rates": rates}, models=models_used(recipe))
    return finish_dataset(recipe, run, stage.stored(), stage.reads.stored(), counts)


class Packer:
    """Encodes samples and writes them as one tar."""

    def __init__(self, run: Path, labels: LabelSpace, jpeg_quality: int, marker: mark.Marker) -> None:
        self._run = run
        self._labels = labels
        self._jpeg_quality = jpeg_quality
        self._mark = marker

    def process(self, rows: Sequence[Sample], folder: Path, unit: str) -> Iterable[ShardRecord]:
        """Write `rows`, one planned unit, as `folder/{unit}.tar`; one sample is in memory at a time.

        Raises InputError that names the file for an image, mask or confidence map that is missing, damaged or
        of another size, LabelError for an id that is not in the label space.
        """
        split = unit.rpartition("-")[0]
        strange = next((row for row in rows if row.split != split), None)
        if strange is not None or not rows:
            found = f"split {strange.split!r}" if strange else "no rows"
            raise ValueError(f"unit {unit!r} must be one that plan() gave, it has {found}")
        alone = next((row for row in rows if bool(row.pair.original) != bool(rows[0].pair.original)), None)
        if alone is not None:
            raise InputError(f"sample {alone.key}: some samples have an original and some have none; pack them apart")
        entries: list[dict[str, Any]] = []
        written = write_shard(folder / f"{unit}.tar", self._encode(rows, entries))
        write_bytes(json.dumps(entries).encode(), folder / ROWS_FILE)
        keys = tuple(row.key for row in rows)
        shard = f"pack/{unit}/{unit}.tar"
        yield ShardRecord(unit, keys, split, shard, written.num_samples, written.num_bytes, written.sha256)

    def _encode(self, rows: Sequence[Sample], entries: list[dict[str, Any]]) -> Iterator[PackedSample]:
        for row in rows:
            image = read_image(self._run / row.picture.image)
            mask = read_mask(self._run / row.labelling.mask)
            confidence = read_mask(self._run / row.labelling.confidence)
            for path, picture in (
                (row.picture.image, image),
                (row.labelling.mask, mask),
                (row.labelling.confidence, confidence),
            ):
                if picture.shape[:2] != (row.picture.height_px, row.picture.width_px):
                    size = f"{picture.shape[0]} x {picture.shape[1]}"
                    wanted = f"{row.picture.height_px} x {row.picture.width_px}"
                    raise InputError(
                        f"{self._run / path}: is {size} pixels, must be {wanted}; remove or replace the file"
                    )
            self._labels.check(mask, self._run / row.labelling.mask)
            if row.subject.class_id != IGNORE:
                self._labels.by_id(row.subject.class_id)
            counts = np.bincount(mask.ravel(), minlength=256)
            pixels = [[int(class_id), int(counts[class_id])] for class_id in np.flatnonzero(counts)]
            entries.append({"key": row.key, "class_id": row.subject.class_id, "pixels": pixels})
            yield PackedSample(
                self._mark(jpeg_bytes(image, self._jpeg_quality), row),
                png_bytes(mask),
                png_bytes(confidence),
                metadata_of(row),
                self._original(row) if row.pair.original else None,
            )

    def _original(self, row: Sample) -> tuple[bytes, bytes]:
        """orig.jpg and orig.png: the picture that a pair was made from and its label map, both of the image's size."""
        size = (row.picture.height_px, row.picture.width_px)
        image = read_image(self._run / row.pair.original)
        if image.shape[:2] != size:
            raise InputError(
                f"{self._run / row.pair.original}: is {image.shape[0]} x {image.shape[1]} pixels, must be "
                f"{size[0]} x {size[1]}; remove or replace the file"
            )
        mask = nearest(read_mask(self._run / row.pair.original_mask), size)
        self._labels.check(mask, self._run / row.pair.original_mask)
        return jpeg_bytes(image, self._jpeg_quality), png_bytes(mask)
