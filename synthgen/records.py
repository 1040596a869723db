"""The rows that stages hand to one another, and their parquet schema.

    PromptRecord -> RenderRecord -> MaskRecord -> ScoredRecord -> Sample -> ShardRecord
                      each step may also give Rejected(stage, reason)

A stage reads exactly one manifest, its predecessor's, so a record carries what its successor needs: no joins, no
free-form metadata. What several rows share is a record of its own: `Subject`, `Picture`, `Labelling`, `Scores`,
`Pair`. In parquet a row is flat: a nested record gives its own fields as columns, so a field name occurs once in a
whole row. The arrow schema comes from the type hints alone. Paths are relative to the run folder, with forward slashes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import operator
import typing
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What an image is meant to show."""

    class_name: str  # the class that the prompt is for; "" where an image is not about one class
    class_id: int  # its id in the label space; 255 where there is none
    prompt: str
    attributes: tuple[str, ...]  # "name=value", sorted: place=sand, time=night ...


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One image and how it was made."""

    image: str  # lossless PNG
    height_px: int
    width_px: int
    seed: int  # of this sample's noise; follows from its key
    renderer: str  # backend and model: "sd3:mini/objects"
    model_revision: str
    steps: int
    guidance: float
    # the label map that it was rendered from, an artefact of the prompts stage; with a pasted object in it, as 254, one
    # of the render stage; "" for none
    layout: str
    # the user's file that it was made from (photograph, label map), below the folder that was given; "" for none
    origin: str
    # that file's size, upright, if it is a photograph that was taken over, perhaps smaller; else 0
    origin_height_px: int = 0
    origin_width_px: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Labelling:
    """The final mask of an image and what is known of its quality. Masks are 8-bit L PNG, class ids, 255 =
    unlabelled."""

    mask: str  # after the last step
    confidence: str  # 8-bit L PNG, 0..255 = 0..1
    region_similarity: float  # area-weighted mean cosine of kept regions to their prototype; -1 if none was kept
    filled_fraction: float  # share of the pixels freed by APF that APR labelled again; 1 if none was freed
    labelled_fraction: float  # share of pixels of the final mask that are not 255
    class_fraction: float  # share of pixels of the final mask that have `class_id`
    sam_predicted_iou: float  # mean over boxes; -1 if none was used


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """What an image scorer says of an image."""

    text_image_score: float  # cosine of the scorer's image and prompt embeddings; 0 if there is no prompt
    # place of the wanted class among all classes by image-text similarity, 0 = best; -1 if there is no class
    class_rank: int
    pixel_std: float  # standard deviation of the grey image, 0..255: near 0 is a blank image


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """What an image was made from, and how it came through the gates (CG-Aug). Empty texts where there is no such
    picture."""

    original: str = ""  # the picture whose label map was rendered, of the image's size
    original_mask: str = ""  # its label map, of any size
    pasted: str = ""  # the object as it was pasted, 8-bit L PNG, 255 = object; in the final mask it is what SAM found
    attempts: int = 1  # images that were rendered for it, those before were rejected
    sam_agreement: float = -1.0  # IoU of SAM's mask and the pasted one; -1 if SAM was not asked
    known_probability: float = -1.0  # of the likeliest known class on the object; -1 if no segmenter was asked


@dataclasses.dataclass(frozen=True, slots=True)
class PromptRecord:
    """One accepted prompt of the bank. `key` is its identity, `parent` is the key of what it was made from ("" for
    none).
    """

    key: str
    parent: str
    subject: Subject
    source: str  # which candidate source proposed it
    order: int  # position in the order of proposal, from 0
    similarity: float  # cosine to the nearest prompt accepted before it in its bank; -1 for the first
    nearest: str  # key of that prompt, "" for the first
    embedder: str  # id of the text encoder whose scale `similarity` has
    embedding_file: str  # safetensors with tokens/pooled of this prompt under its key; "" if none is stored
    # an existing image to use instead of rendering, below the folder of the prompt source; "" for none
    photograph: str
    layout: str  # a label map to render from, an artefact of this stage; "" for none
    origin: str  # the user's file that the prompt stands for, below the folder that was given; "" for none
    control_image: str = ""  # a picture for the ControlNet beside the layout, an artefact of this stage; "" for none
    original: str = ""  # the picture that the layout is of, an artefact of this stage; "" where it does not go along
    cut: str = ""  # the end of the prompt that is beyond the context of the text encoder, and so compared with no other


@dataclasses.dataclass(frozen=True, slots=True)
class RenderRecord:
    """One image."""

    key: str
    parent: str  # the prompt's key
    subject: Subject
    picture: Picture
    # how often the denoiser's blocks ran for it, over steps and guidance branches; a step cache makes it fewer
    denoiser_runs: int = 0
    pair: Pair = Pair()


@dataclasses.dataclass(frozen=True, slots=True)
class MaskRecord:
    """One image with its masks. Every step's mask stays an artefact of its own."""

    key: str
    parent: str
    subject: Subject
    picture: Picture
    coarse: str  # what the proposer gave
    filtered: str  # after APF
    relabelled: str  # after APR
    labelling: Labelling  # after SABR: the final one
    num_regions: int  # regions that the proposer gave, background not counted
    num_kept_regions: int  # of them kept by APF
    num_sam_boxes: int
    pair: Pair = Pair()


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredRecord:
    """One labelled image with every score that a filter rule may ask for. No decision is taken yet."""

    key: str
    parent: str
    subject: Subject
    picture: Picture
    labelling: Labelling
    scores: Scores
    image_embedding: tuple[float, ...]  # of the scorer, L2-normalised
    pair: Pair = Pair()


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One kept sample: what goes into a shard."""

    key: str
    parent: str
    split: str
    subject: Subject
    picture: Picture
    labelling: Labelling
    scores: Scores
    nearest_image_similarity: float  # cosine to the most similar image kept before it; -1 for the first
    pair: Pair = Pair()


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
    """An input that gave nothing, and why. `parent` is the key of the input row; `reason` is a short snake_case
    word."""

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


@functools.cache
def columns_of(record: typing.Any) -> dict[str, typing.Any]:
    """Column name -> type of a record type, nested records in place. Raises TypeError if a name occurs twice."""
    columns: dict[str, typing.Any] = {}
    for name, hint in _hints(record).items():
        part = columns_of(hint) if _is_record(hint) else {name: hint}
        if repeated := columns.keys() & part.keys():
            raise TypeError(f"{record.__name__}: the column {min(repeated)!r} occurs twice")
        columns.update(part)
    return columns


@functools.cache
def schema_of(record: typing.Any) -> pa.Schema:
    """Arrow schema of a record type, from its type hints; no column is nullable."""
    return pa.schema([pa.field(name, _ARROW[hint], nullable=False) for name, hint in columns_of(record).items()])


@functools.cache
def defaults_of(record: typing.Any) -> dict[str, typing.Any]:
    """Column name -> value, of the columns whose fields have a default: files from before they were there lack them."""
    defaults: dict[str, typing.Any] = {}
    hints = _hints(record)
    for field in dataclasses.fields(record):
        if _is_record(hints[field.name]):
            inner = defaults_of(hints[field.name])
            defaults |= inner if field.default is dataclasses.MISSING else flat(field.default)
        elif field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
    return defaults


def flat(row: typing.Any) -> dict[str, typing.Any]:
    """Column name -> value of a row."""
    return {name: value(row) for name, value in getters(row.__class__).items()}


@functools.cache
def getters(record: typing.Any) -> dict[str, Callable[[object], typing.Any]]:
    """Column name -> function that takes its value from a row."""
    return {path.rpartition(".")[2]: operator.attrgetter(path) for path in _paths(record)}


def from_flat(record: type, values: Mapping[str, typing.Any]) -> typing.Any:
    """The row of a record type that has these columns; fields with a default may be missing.

    Raises TypeError for a missing or unknown column.
    """
    if unknown := values.keys() - columns_of(record).keys():
        raise TypeError(f"{record.__name__} has no column {min(unknown)!r}")
    return _nested(record, values)


def _nested(record: typing.Any, values: Mapping[str, typing.Any]) -> typing.Any:
    fields = {}
    for name, hint in _hints(record).items():
        if _is_record(hint):
            fields[name] = _nested(hint, values)
        elif name in values:
            fields[name] = values[name]
    return record(**fields)


@functools.cache
def _hints(record: typing.Any) -> dict[str, typing.Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _is_record(hint: typing.Any) -> bool:
    return dataclasses.is_dataclass(hint)


def _paths(record: typing.Any) -> Iterable[str]:
    for name, hint in _hints(record).items():
        if _is_record(hint):
            yield from (f"{name}.{path}" for path in _paths(hint))
        else:
            yield name


def rows_of(table: pa.Table, record: type) -> list[typing.Any]:
    """The rows of an arrow table as records."""
    names = list(columns_of(record))
    columns: Iterable[list[object]] = [table.column(name).to_pylist() for name in names]
    return [
        _nested(record, dict(zip(names, (tuple(v) if isinstance(v, list) else v for v in values), strict=True)))
        for values in zip(*columns, strict=True)
    ]


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


def digest_of(content: bytes) -> str:
    """32 hex digits of a file's or an array's bytes: what stands for it in a key."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def ids_digest(mask: np.ndarray) -> str:
    """The digest of a label map (H, W) uint8: of its ids, whatever file they were read from."""
    return digest_of(f"{mask.shape[0]}x{mask.shape[1]}:".encode() + mask.tobytes())


def pixels_digest(image: np.ndarray) -> str:
    """The digest of a picture (H, W, 3) uint8: of its pixels, whatever file they were read from."""
    return digest_of(f"{image.shape[0]}x{image.shape[1]}x{image.shape[2]}:".encode() + image.tobytes())


def seed_of(key: str) -> int:
    """The noise seed of a sample, in [0, 2**62): it follows from the key alone, never from batch, rank or order."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, person=b"seed").digest(), "big") >> 2
