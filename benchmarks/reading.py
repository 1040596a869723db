"""How fast finished datasets are read: rows read/*.

Datasets of drawn streets of 64 x 96 px and of 512 x 768 px, of which the split `train` is read. `read/{reader}_*` is
samples a second, image and mask as a batch of uint8 tensors, through torch's DataLoader with 1, 2 or 4 workers, files
in the cache; rounds of the readers in turn. What a user would take instead of ours:

    ours          `segtrain`'s own reader, samples in random order
    webdataset    webdataset.WebDataset, shard after shard, members decoded by Pillow in a map
    datasets      load_dataset("webdataset", streaming=True) of Hugging Face, which decodes to Pillow pictures

`read/crops_*` is crops a second of `segtrain`'s batches without workers: reading, scaling, cropping, flip, jitter.
`read/loop_*` is training steps a second of `segtrain train` and of a plain torch loop over the same batches with the
same network and optimiser, one thread, and their ratio. Spread is over rounds.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.drawn_dataset import drawn_dataset
from benchmarks.row import SCRATCH, Row, spread_of
from benchmarks.trainings import whole
from segtrain.config import TrainConfig, checked
from segtrain.data.mixture import Mixture, open_sources
from segtrain.data.shards import ShardSource
from segtrain.losses import cross_entropy
from segtrain.methods.supervised.method import train
from segtrain.segmenter import build_segmenter

BATCH = 16
SIZES = {64: (6_144, 256), 512: (576, 48)}  # height in px -> samples, a third of them not read; samples a shard
WORKERS = (1, 2, 4)
READERS = ("ours", "webdataset", "datasets")
ROUNDS = 5
LOOP_STEPS = (20, 120)
READ_ROWS = tuple(f"read/{reader}_{size}_{workers}" for size in SIZES for workers in WORKERS for reader in READERS)
CROP_ROWS = tuple(f"read/crops_{size}" for size in SIZES)
LOOP_ROWS = tuple(f"read/loop_{what}" for what in ("ours_steps_s", "plain_steps_s", "ratio"))


def readers() -> Iterator[Row]:
    """read/{ours,webdataset,datasets}_{64,512}_{1,2,4}."""
    for size in SIZES:
        for workers in WORKERS:
            yield from reader_rows(dataset(size), size, workers)


def crops() -> Iterator[Row]:
    """read/crops_{64,512}."""
    for size in SIZES:
        yield from crop_rows(dataset(size), size)


def loop() -> Iterator[Row]:
    """read/loop_*."""
    yield from loop_rows(dataset(64))


def dataset(size: int) -> Path:
    """A drawn dataset of that height; made where it lacks."""
    count, per_shard = SIZES[size]
    place = SCRATCH / "reading" / f"streets-{size}"
    return whole(place, lambda run: drawn_dataset(run, "streets", count, size, per_shard, noisy=False)) / "dataset"


def reader_rows(folder: Path, size: int, workers: int, rounds: int = ROUNDS) -> Iterator[Row]:
    """Of one dataset and number of workers."""
    speeds: dict[str, list[float]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader, of_reader in speeds.items():
            of_reader.append(samples_a_second(loader(reader, folder, workers), workers))
    for reader, of_reader in speeds.items():
        name = f"read/{reader}_{size}_{workers}"
        yield Row(name, float(np.median(of_reader)), "samples/s", spread_of(of_reader), rounds)


def samples_a_second(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], workers: int) -> float:
    """Of all batches but the first of each worker: they come with its start, and all at once, so that the others' would
    be counted without the time that they took."""
    whole_pass = iter(batches)
    for _ in range(workers):
        next(whole_pass)
    began, samples = time.perf_counter(), 0
    for images, masks in whole_pass:
        assert images.shape[:3] == masks.shape
        samples += len(images)
    return samples / (time.perf_counter() - began)


def loader(reader: str, folder: Path, workers: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Once through the split `train`: batches (B, H, W, 3) and (B, H, W) uint8. `reader`: one of READERS."""
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": workers, "collate_fn": _stacked}
    if reader == "ours":
        source = ShardSource(folder, "train")
        order = torch.Generator().manual_seed(0)
        rows = _Rows(source)
        return DataLoader(rows, sampler=RandomSampler(rows, generator=order), **options)
    shards = sorted(str(path) for path in folder.glob("train-*.tar"))
    if reader == "webdataset":
        import webdataset

        stream = webdataset.WebDataset(shards, shardshuffle=False).map(_decoded)
    else:
        import datasets

        files = {"train": shards}
        stream = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True)
        stream = stream.select_columns(["jpg", "png"]).map(_of_pillow, remove_columns=["jpg", "png"])
    return DataLoader(stream, **options)


class _Rows(Dataset):
    def __init__(self, source: ShardSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return sum(self._source.group_sizes)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self._source.read(row)
        return sample.image, sample.mask


def _decoded(members: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What the handbook of webdataset does, for masks without a detour through RGB."""
    image = np.asarray(Image.open(io.BytesIO(members["jpg"])).convert("RGB"))
    return image, np.asarray(Image.open(io.BytesIO(members["png"])))


def _of_pillow(members: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"image": np.asarray(members["jpg"].convert("RGB")), "mask": np.asarray(members["png"])}


def _stacked(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [(s["image"], s["mask"]) if isinstance(s, dict) else s for s in samples]
    images, masks = (np.stack([np.asarray(pair[part], dtype=np.uint8) for pair in pairs]) for part in (0, 1))
    return torch.from_numpy(images), torch.from_numpy(masks)


def crop_rows(folder: Path, size: int, rounds: int = ROUNDS, batches: int = 20) -> Iterator[Row]:
    """Of one dataset, crops as large as the picture is high, but 512 at the most."""
    data, _, _ = _mixture(folder, {"crop_px": size, "steps": batches * rounds + 1})
    data.batch(0)
    speeds = []
    for number in range(rounds):
        steps = range(1 + number * batches, 1 + (number + 1) * batches)
        began = time.perf_counter()
        for step in steps:
            data.batch(step)
        speeds.append(batches * BATCH / (time.perf_counter() - began))
    yield Row(f"read/crops_{size}", float(np.median(speeds)), "crops/s", spread_of(speeds), rounds)


def loop_rows(folder: Path, steps: tuple[int, int] = LOOP_STEPS, rounds: int = ROUNDS) -> Iterator[Row]:
    """Steps a second are those between a short and a long training; rounds of both in turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    ways: dict[str, Callable[[Path, int], None]] = {"ours": _segtrain, "plain": _plain}
    try:
        for _ in range(rounds):
            for way, of_way in speeds.items():
                short, long = (_seconds(ways[way], folder, number) for number in steps)
                of_way.append((steps[1] - steps[0]) / (long - short))
            print(f"  ours {speeds['ours'][-1]:.2f}, plain {speeds['plain'][-1]:.2f} steps/s", flush=True)
    finally:
        torch.set_num_threads(threads)
    for way, of_way in speeds.items():
        yield Row(f"read/loop_{way}_steps_s", float(np.mean(of_way)), "1/s", spread_of(of_way), rounds)
    ratios = np.array(speeds["ours"]) / np.array(speeds["plain"])
    yield Row("read/loop_ratio", float(ratios.mean()), "ratio", spread_of(ratios), rounds)


def _seconds(way: Callable[[Path, int], None], folder: Path, steps: int) -> float:
    began = time.perf_counter()
    way(folder, steps)
    return time.perf_counter() - began


def _segtrain(folder: Path, steps: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        train(_config(folder, Path(place) / "model", steps=steps))


def _plain(folder: Path, steps: int) -> None:
    """What one would write by hand: no schedule, no log, no checkpoint but the weights at the end."""
    data, config, space = _mixture(folder, {"steps": steps})
    torch.manual_seed(0)
    segmenter = build_segmenter(config, space, torch.device("cpu"))
    optimiser = torch.optim.AdamW(segmenter.network.parameters(), lr=config.learning_rate)
    segmenter.network.train()
    for step in range(steps):
        batch = data.batch(step)
        optimiser.zero_grad(set_to_none=True)
        cross_entropy(segmenter.logits(batch.images), batch.targets).backward()
        optimiser.step()
    with tempfile.TemporaryDirectory() as place:
        torch.save(segmenter.network.state_dict(), Path(place) / "weights.pt")


def _mixture(folder: Path, changes: dict[str, Any]) -> tuple[Mixture, TrainConfig, Any]:
    config = _config(folder, Path("unused"), **changes)
    sources, space = open_sources(config)
    return Mixture(sources, space, config), config, space


def _config(folder: Path, out: Path, **changes: Any) -> TrainConfig:
    values = {"data": [str(folder)], "out": out, "batch_size": BATCH, "device": "cpu", "num_threads": 1}
    network = {"encoder": "resnet18", "decoder_channels": "64,32,32,16,16"}
    return checked(TrainConfig, {**values, **network, **changes})
