"""The rows that stages hand to one another, and their parquet schema.

    PromptRecord -> RenderRecord -> MaskRecord -> ScoredRecord -> Sample -> ShardRecord
                      each step may also give Rejected(stage, reason)

A stage reads exactly one manifest, its predecessor's, so a record carries what its successor needs: no joins, no
free-form metadata. The arrow schema comes from the type hints alone. Paths are relative to the run folder, with forward
slashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclasses.dataclass(frozen=True, slots=True)
class PromptRecord:
    """One accepted prompt of the bank.

    `key` is its identity, `parent` is the key of what it was made from ("" for none).
    """

    key: str
    parent: str
    class_name: str  # the class that the prompt is for; "" where an image is not about one class
    class_id: int  # its id in the label space; 255 where there is none
    prompt: str
    attributes: tuple[str, ...]  # "name=value", sorted: place=sand, time=night ...
    source: str  # which candidate source proposed it
    order: int  # position in the order of proposal, from 0
    similarity: float  # cosine to the nearest prompt accepted before it in its bank; -1 for the first
    nearest: str  # key of that prompt, "" for the first
    embedder: str  # id of the text encoder whose scale `similarity` has
    embedding_file: str  # safetensors with tokens/pooled of this prompt under its key; "" if none is stored
    photograph: str  # an existing image to use instead of rendering; "" for none
    layout: str  # a label map to render from; "" for none


@dataclasses.dataclass(frozen=True, slots=True)
class RenderRecord:
    """One image."""

    key: str
    parent: str  # the prompt's key
    class_name: str
    class_id: int
    prompt: str
    attributes: tuple[str, ...]
    seed: int  # of this sample's noise; follows from `key`
    image: str  # lossless PNG
    height_px: int
    width_px: int
    renderer: str  # backend and model: "sd3:mini/objects"
    model_revision: str
    steps: int
    guidance: float
    layout: str  # the label map that it was rendered from; "" for none
    # how often the denoiser's blocks ran for it, over steps and guidance branches; a step cache makes it fewer
    denoiser_runs: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class MaskRecord:
    """One image with its masks.

    Every step's mask stays an artefact of its own (8-bit L PNG, class ids, 255 = unlabelled).
    """

    key: str
    parent: str
    class_name: str
    class_id: int
    prompt: str
    attributes: tuple[str, ...]
    seed: int
    image: str
    height_px: int
    width_px: int
    renderer: str
    model_revision: str
    steps: int
    guidance: float
    layout: str
    coarse: str  # what the proposer gave
    filtered: str  # after APF
    relabelled: str  # after APR
    mask: str  # after SABR: the final one
    confidence: str  # 8-bit L PNG, 0..255 = 0..1
    num_regions: int  # regions that the proposer gave, background not counted
    num_kept_regions: int  # of them kept by APF
    region_similarity: float  # area-weighted mean cosine of kept regions to their prototype; -1 if none was kept
    filled_fraction: float  # share of the pixels freed by APF that APR labelled again; 1 if none was freed
    labelled_fraction: float  # share of pixels of the final mask that are not 255
    class_fraction: float  # share of pixels of the final mask that have `class_id`
    num_sam_boxes: int
    sam_predicted_iou: float  # mean over boxes; -1 if none was used


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredRecord:
    """One labelled image with every score that a filter rule may ask for. No decision is taken yet."""

    key: str
    parent: str
    class_name: str
    class_id: int
    prompt: str
    attributes: tuple[str, ...]
    seed: int
    image: str
    height_px: int
    width_px: int
    renderer: str
    model_revision: str
    steps: int
    guidance: float
    layout: str
    coarse: str
    mask: str
    confidence: str
    region_similarity: float
    filled_fraction: float
    labelled_fraction: float
    class_fraction: float
    sam_predicted_iou: float
    text_image_score: float  # cosine of the scorer's image and prompt embeddings; 0 if there is no prompt
    # place of the wanted class among all classes by image-text similarity, 0 = best; -1 if there is no class
    class_rank: int
    pixel_std: float  # standard deviation of the grey image, 0..255: near 0 is a blank image
    image_embedding: tuple[float, ...]  # of the scorer, L2-normalised


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One kept sample: what goes into a shard."""

    key: str
    parent: str
    split: str
    class_name: str
    class_id: int
    prompt: str
    attributes: tuple[str, ...]
    seed: int
    image: str
    height_px: int
    width_px: int
    renderer: str
    model_revision: str
    steps: int
    guidance: float
    layout: str
    mask: str
    confidence: str
    region_similarity: float
    filled_fraction: float
    labelled_fraction: float
    class_fraction: float
    sam_predicted_iou: float
    text_image_score: float
    class_rank: int
    pixel_std: float
    nearest_image_similarity: float  # cosine to the most similar image kept before it; -1 for the first


@dataclasses.dataclass(frozen=True, slots=True)
class ShardRecord:
    """One tar of the dataset. `parents` are the keys of its samples in tar order."""

    key: str
    parents: tuple[str, ...]
    split: str
    shard: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """An input that gave nothing, and why. `parent` is the key of the input row; `reason` is a short snake_case word."""

    key: str
    parent: str
    stage: str
    reason: str
    detail: str
    score: float  # the value that failed the rule; NaN-free: 0 where there is none


_ARROW = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[float, ...]: pa.list_(pa.float32()),
}


def schema_of(record: type) -> pa.Schema:
    """Arrow schema of a record type, from its type hints; no column is nullable."""
    hints = typing.get_type_hints(record)
    return pa.schema([pa.field(f.name, _ARROW[hints[f.name]], nullable=False) for f in dataclasses.fields(record)])


def carry(target: type, source: object, **new: object) -> typing.Any:
    """A `target` record with the fields that `source` has under the same name, and `new` for the others.

    Raises TypeError if a field of `target` is in neither.
    """
    shared = {f.name: getattr(source, f.name) for f in dataclasses.fields(target) if hasattr(source, f.name)}
    return target(**{**shared, **new})


def write_rows(rows: Sequence[object], record: type, path: Path) -> None:
    """Write rows of one record type as parquet, in order. The same rows give the same bytes."""
    columns = {f.name: [plain_value(getattr(row, f.name)) for row in rows] for f in dataclasses.fields(record)}
    pq.write_table(
        pa.Table.from_pydict(columns, schema=schema_of(record)), path, compression="zstd", write_page_checksum=True
    )


def read_rows(path: Path, record: type) -> list[typing.Any]:
    """Read back what `write_rows` wrote.

    Raises pyarrow.ArrowInvalid on a file that is not whole, or that holds rows of another type.
    """
    # a reader that is told the schema would fill missing columns with nulls
    if not pq.read_schema(path).equals(schema_of(record)):
        raise pa.ArrowInvalid(f"columns are not those of {record.__name__}, perhaps of another version")
    return rows_of(pq.read_table(path, schema=schema_of(record), page_checksum_verification=True), record)


def rows_of(table: pa.Table, record: type) -> list[typing.Any]:
    """The rows of an arrow table as records."""
    names = [f.name for f in dataclasses.fields(record)]
    columns: Iterable[list[object]] = [table.column(name).to_pylist() for name in names]
    return [record(*(tuple(v) if isinstance(v, list) else v for v in values)) for values in zip(*columns, strict=True)]


def plain_value(value: object) -> object:
    """As arrow takes it: tuples become lists."""
    return list(value) if isinstance(value, tuple) else value


def key_of(kind: str, *content: object) -> str:
    """A key from content: one letter for the kind and 15 hex digits, for example `s3f1b...`.

    It has no dot (webdataset splits names at the first one) and never consists of digits alone (CSV readers would eat
    leading zeros).
    """
    if len(kind) != 1 or not kind.isalpha():
        raise ValueError(f"kind must be one letter, not {kind!r}")
    text = "\x1f".join(f"{type(item).__name__}:{item}" for item in content)
    return kind + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()[:15]


def seed_of(key: str) -> int:
    """The noise seed of a sample, in [0, 2**62): it follows from the key alone, never from batch, rank or order."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, person=b"seed").digest(), "big") >> 2
