"""Tiny datasets and settings for the trainer's tests; nothing here knows of synthgen."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from segkit.labels import label_space_of
from segtrain.config import TrainConfig, train_config
from segtrain.segmenter import build_segmenter, save_model

Pair = tuple[np.ndarray, np.ndarray]
CLASSES = ({"id": 0, "name": "ground", "colour": [9, 9, 9]}, {"id": 5, "name": "thing", "colour": [200, 0, 0]})


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parents[1] / "golden" / "shards"


@pytest.fixture
def pairs() -> Callable[..., list[Pair]]:
    """`pairs(n, size)`: grey images with a bright square of id 5; image k has the grey value k.

    The square fills whole blocks of 8 x 8 px, so JPEG keeps the values.
    """

    def make(count: int, size: tuple[int, int] = (32, 32)) -> list[Pair]:
        made = []
        for number in range(count):
            image, mask = np.full((*size, 3), number, np.uint8), np.zeros(size, np.uint8)
            mask[8:24, 8:24] = 5
            image[mask == 5] = 220
            made.append((image, mask))
        return made

    return make


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


@pytest.fixture
def write_shards() -> Callable[..., Path]:
    """`write_shards(folder, pairs, shard_size=4, originals=None, **index keys)`.

    The confidence of a pixel is 200, or 90 where the mask is 5. With `originals`, pairs as well, it is version 2.
    """

    def write(
        folder: Path, pairs: Sequence[Pair], shard_size: int = 4, originals: Sequence[Pair] = (), **changes: Any
    ) -> Path:
        folder.mkdir(parents=True)
        shards = []
        for start in range(0, len(pairs), shard_size):
            path = folder / f"train-{len(shards):06d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for number, (image, mask) in enumerate(pairs[start : start + shard_size], start):
                    confidence = np.where(mask == 5, 90, 200).astype(np.uint8)
                    members = [("jpg", jpeg(image)), ("png", png(mask)), ("conf.png", png(confidence)), ("json", b"{}")]
                    if originals:
                        members += [("orig.jpg", jpeg(originals[number][0])), ("orig.png", png(originals[number][1]))]
                    for suffix, data in members:
                        info = tarfile.TarInfo(f"s{number:04d}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
            data = path.read_bytes()
            count = len(pairs[start : start + shard_size])
            digest = hashlib.sha256(data).hexdigest()
            shards.append(
                {"file": path.name, "split": "train", "num_samples": count, "num_bytes": len(data), "sha256": digest}
            )
        index = {
            "format": "synthgen-shards",
            "version": 2 if originals else 1,
            "name": "toy",
            "members": ["jpg", "png", "conf.png", "json", *(["orig.jpg", "orig.png"] if originals else [])],
            "ignore": 255,
            "out_of_distribution": 254,
            "background": 0,
            "classes": CLASSES,
            "num_samples": len(pairs),
            "splits": [{"name": "train", "num_samples": len(pairs), "num_shards": len(shards)}],
            "shards": shards,
            **changes,
        }
        (folder / "index.json").write_text(json.dumps(index))
        return folder

    return write


@pytest.fixture
def write_folder() -> Callable[..., Path]:
    """`write_folder(folder, pairs, label_space=True, classes=...)`: images/, labels/ and, if wanted, labels.yaml."""

    def write(folder: Path, pairs: Sequence[Pair], label_space: bool = True, classes: Sequence[Any] = CLASSES) -> Path:
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True)
        for number, (image, mask) in enumerate(pairs):
            (folder / "images" / f"f{number:04d}.png").write_bytes(png(image))
            (folder / "labels" / f"f{number:04d}.png").write_bytes(png(mask))
        if label_space:
            space = {"name": "toy", "background": 0, "labels": list(classes)}
            (folder / "labels.yaml").write_text(yaml.safe_dump(space))
        return folder

    return write


@pytest.fixture
def settings(tmp_path: Path, golden: Path) -> Callable[..., TrainConfig]:
    """A training of a second: the smallest network that timm has, 6 steps of 3 crops."""

    def make(**changes: Any) -> TrainConfig:
        values = {
            "data": [str(golden)],
            "out": tmp_path / "model",
            "steps": 6,
            "batch_size": 3,
            "crop_px": 32,
            "encoder": "tu-test_efficientnet",
            "decoder_channels": "8,8,8,8,8",
            "checkpoint_every": 2,
            "log_every": 3,
            "device": "cpu",
        }
        return train_config(**{**values, **changes})

    return make


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six unlabelled pictures of a bright square on a dark ground, of two sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        image = np.full((40, 32 + 8 * (number % 2), 3), 10 * number, np.uint8)
        image[8:24, 8:24] = 200
        Image.fromarray(image).save(folder / f"photo{number}.png")
    return folder


@pytest.fixture
def joint_values(settings, tmp_path: Path, write_folder, pairs, photos: Path) -> Callable[..., dict[str, Any]]:
    """Settings: 8 steps of 4 crops, of which the first two are of the five labelled pictures alone."""
    data = [str(write_folder(tmp_path / "labelled", pairs(5)))]

    def make(**changes: Any) -> dict[str, Any]:
        small = {"unlabelled": [str(photos)], "source_share": 0.25, "batch_size": 4}
        return {**settings(data=data, steps=8).model_dump(exclude_unset=True), **small, **changes}

    return make


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A model of random weights that nobody has trained: what uses models needs no more."""
    space = label_space_of({"name": "toy", "background": 0, "labels": list(CLASSES)}, "toy")
    settings = train_config(
        data=["none"], out="none", encoder="tu-test_efficientnet", decoder_channels="8,8,8,8,8", seed=3
    )
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(build_segmenter(settings, space, torch.device("cpu")), folder)
    return folder
