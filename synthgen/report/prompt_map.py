"""The prompt bank on a plane:

the two principal components of the L2-normalised text embeddings of the accepted prompts.

Refused near-duplicates have no stored embedding, only their cosine c to the accepted prompt that they repeat. Unit
vectors at that cosine are sqrt(2 - 2c) apart, so they are drawn at that distance from it; the direction follows from
their key and means nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from pathlib import Path

import numpy as np

from synthgen.errors import RunError
from synthgen.models.embedding_files import read_tensors
from synthgen.records import Rejected, seed_of
from synthgen.report.run_rows import Row
from synthgen.rows import damaged

MAX_POINTS = 2500
"""More points are a blot, and the covariance of 2500 vectors is a matter of seconds."""
_BETWEEN = " is too near to "


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One prompt. `near` is the index of the accepted prompt that a refused one repeats, -1 for an accepted one."""

    x: float
    y: float
    prompt: str
    class_name: str
    attributes: tuple[str, ...]
    near: int
    similarity: float


@dataclasses.dataclass(frozen=True, slots=True)
class PromptMap:
    """Accepted points come first. `explained` are the shares of variance of the two axes."""

    points: tuple[Point, ...]
    explained: tuple[float, float]
    num_prompts: int  # with an embedding, drawn or not


def prompt_map(
    run: Path, prompts: list[Row], rejected: tuple[Rejected, ...], limit: int = MAX_POINTS
) -> PromptMap | None:
    """None if the run stores no prompt embeddings. Raises RunError for a damaged embedding file.

    Of more than `limit` prompts those with the lowest keys are drawn; keys are hashes, so that is a random draw.
    """
    stored = [row for row in prompts if row["embedding_file"]]
    rows = sorted(stored, key=lambda row: row["key"])[:limit]
    if len(rows) < 3:
        return None
    vectors = _vectors(run, rows)
    centred = vectors - vectors.mean(axis=0)
    axes, shares = principal_axes(centred)
    plane = centred @ axes
    points = [
        Point(
            float(x), float(y), row["prompt"], row["class_name"], tuple(row["attributes"]), -1, float(row["similarity"])
        )
        for row, (x, y) in zip(rows, plane, strict=True)
    ]
    return PromptMap((*points, *_near_duplicates(points, rejected, limit)), shares, len(stored))


def principal_axes(centred: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """(D, 2) axes of the largest variance of centred rows (N, D), and their shares of it all. Signs are fixed:

    the largest entry is positive.
    """
    from scipy.linalg import eigh

    covariance = centred.T.astype(np.float64) @ centred
    dimensions = len(covariance)
    _, vectors = eigh(covariance, subset_by_index=[max(0, dimensions - 2), dimensions - 1])
    axes = np.zeros((dimensions, 2))
    axes[:, : vectors.shape[1]] = vectors[:, ::-1]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), range(2)] < 0, -1, 1)
    total = float(np.trace(covariance))
    spread = ((centred @ axes) ** 2).sum(axis=0) / total if total else np.zeros(2)
    return axes, (float(spread[0]), float(spread[1]))


def duplicate_pair(detail: str) -> tuple[str, str] | None:
    """(refused prompt, accepted prompt) of a near-duplicate's detail; None if it is not of that form."""
    start = detail.find(_BETWEEN)
    while start >= 0:  # a prompt may hold the words itself
        try:
            pair = ast.literal_eval(detail[:start]), ast.literal_eval(detail[start + len(_BETWEEN) :])
        except (ValueError, SyntaxError):
            start = detail.find(_BETWEEN, start + 1)
            continue
        return pair if all(isinstance(text, str) for text in pair) else None
    return None


def _near_duplicates(points: list[Point], rejected: tuple[Rejected, ...], limit: int) -> list[Point]:
    place = {point.prompt: index for index, point in enumerate(points)}
    found: list[Point] = []
    for refusal in sorted(rejected, key=lambda row: row.key):
        pair = duplicate_pair(refusal.detail) if refusal.reason == "near_duplicate" else None
        if pair is None or pair[1] not in place or len(found) == limit:
            continue
        near = points[place[pair[1]]]
        distance = math.sqrt(max(0.0, 2 - 2 * refusal.score))
        angle = seed_of(refusal.key) / 2**62 * 2 * math.pi
        x, y = near.x + distance * math.cos(angle), near.y + distance * math.sin(angle)
        found.append(Point(x, y, pair[0], near.class_name, (), place[pair[1]], refusal.score))
    return found


def _vectors(run: Path, rows: list[Row]) -> np.ndarray:
    """(N, P) float32 pooled embeddings of length 1."""
    from safetensors import SafetensorError

    found: dict[str, np.ndarray] = {}
    for name in sorted({row["embedding_file"] for row in rows}):
        path = run / name
        keys = [row["key"] for row in rows if row["embedding_file"] == name]
        try:
            found |= zip(keys, read_tensors(path, [f"{key}.pooled" for key in keys]), strict=True)
        except (SafetensorError, OSError) as error:
            raise RunError(damaged(path, error)) from error
    vectors = np.stack([found[row["key"]] for row in rows]).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
