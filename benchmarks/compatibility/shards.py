"""Tools that read shards and the files beside them."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.compatibility.checks import Made, check, same, same_keys
from segkit.shards import StoredSample


@check("webdataset", "shards, every decode mode of images")
def webdataset_decode(made: Made) -> str:
    import webdataset as wds
    from webdataset.autodecode import imagespecs

    truth = made.truth()
    urls = [str(path) for path in sorted(made.objects.glob("*.tar"))]
    modes = sorted(imagespecs)
    for mode in modes:
        seen = []
        for sample in wds.WebDataset(urls, shardshuffle=False).decode(mode):
            wanted = truth[sample["__key__"]]
            seen.append(sample["__key__"])
            for member, array in (("png", wanted.mask), ("conf.png", wanted.confidence)):
                same(_first_channel(sample[member], mode), array, f"{mode}: {member}")
            if "l" not in mode.removeprefix("pil").removeprefix("torch")[:1]:
                same(_channels(sample["jpg"], mode)[..., :3], wanted.image, f"{mode}: jpg")
            assert sample["json"]["prompt"] == wanted.meta["prompt"]
        same_keys(seen, truth)
    return f"{len(modes)} modes x {len(truth)} samples: every pixel and id equal"


def _channels(value: Any, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of what a decode mode gives: floats are 0..1, torch has the channels first."""
    array = np.asarray(value)
    if mode.startswith("torch") and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return np.rint(array * 255).astype(np.uint8) if array.dtype.kind == "f" else array


def _first_channel(value: Any, mode: str) -> np.ndarray:
    array = _channels(value, mode)
    return array if array.ndim == 2 else array[..., 0]


@check("torch", "shards through webdataset, DataLoader with 2 workers", tool="torch DataLoader")
def dataloader(made: Made) -> str:
    import torch
    import webdataset as wds

    truth = made.truth()
    urls = [str(path) for path in sorted(made.objects.glob("*.tar"))]
    stream = wds.WebDataset(urls, shardshuffle=False).decode("torchl8").to_tuple("__key__", "png", "json")
    seen = []
    for key, mask, meta in torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2):
        same(mask, truth[key].mask, key)
        assert meta["key"] == key
        seen.append(key)
    same_keys(seen, truth)
    return f"{len(seen)} samples, each once"


@check("datasets", "dataset folder by its card; in memory and streaming", tool="HF datasets")
def hf_datasets(made: Made) -> str:
    import datasets

    for streaming in (False, True):
        for split in ("train", "validation"):
            truth = made.truth(split=split)
            with _quiet_datasets() as cache:
                seen = []
                for row in datasets.load_dataset(str(made.objects), split=split, streaming=streaming, cache_dir=cache):
                    wanted = truth[row["__key__"]]
                    seen.append(row["__key__"])
                    assert row["jpg"].mode == "RGB" and row["png"].mode == "L", (row["jpg"].mode, row["png"].mode)
                    same(row["jpg"], wanted.image, "jpg")
                    same(row["png"], wanted.mask, "png")
                    same(row["conf.png"], wanted.confidence, "conf.png")
                    facts = {
                        name: tuple(value) if isinstance(value, list) else value for name, value in row["json"].items()
                    }
                    assert facts == wanted.meta, facts
                same_keys(seen, truth)
    return "2 splits, every pixel, id and JSON value equal"


@check("datasets", "parquet beside the shards, in memory and streaming", tool="HF datasets")
def hf_parquet(made: Made) -> str:
    import datasets

    truth = made.truth()
    for streaming in (False, True):
        with _quiet_datasets() as cache:
            files = [str(path) for path in sorted(made.objects.glob("*.parquet"))]
            rows = list(
                datasets.load_dataset("parquet", data_files=files, split="train", streaming=streaming, cache_dir=cache)
            )
            _same_rows(rows, truth)
    return f"{len(truth)} rows equal to the JSON members"


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[str]:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        yield cache


def _same_rows(rows: list[dict[str, Any]], truth: dict[str, StoredSample]) -> None:
    same_keys([row["key"] for row in rows], truth)
    for row in rows:
        meta = truth[row["key"]].meta
        for name, value in meta.items():
            assert (tuple(row[name]) if isinstance(value, tuple) else row[name]) == value, (name, row[name], value)
        counts = {int(entry["id"]): int(entry["pixels"]) for entry in row["class_pixels"]}
        ids, pixels = np.unique(truth[row["key"]].mask, return_counts=True)
        assert counts == dict(zip(ids.tolist(), pixels.tolist(), strict=True))


@check("wids", "wids-train.json, wids-validation.json; random access")
def wids_lists(made: Made) -> str:
    import wids

    for split in ("train", "validation"):
        truth = made.truth(split=split)
        with tempfile.TemporaryDirectory() as cache:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                data = wids.ShardListDataset(str(made.objects / f"wids-{split}.json"), cache_dir=cache, keep=True)
            assert len(data) == len(truth)
            keys = []
            for number in reversed(range(len(data))):
                row = data[number]
                wanted = truth[row["__key__"]]
                keys.append(row["__key__"])
                same(row[".jpg"], wanted.image, "jpg")
                same(row[".png"], wanted.mask, "png")
                member = row[".conf.png"]
                raw = member.read() if hasattr(member, "read") else member
                same(Image.open(io.BytesIO(raw)) if isinstance(raw, bytes) else raw, wanted.confidence, "conf.png")
            assert keys[::-1] == list(truth), "the order is not that of the shards"
    return "2 splits, backwards: every pixel and id equal"


@check("duckdb", "parquet beside the shards, SQL over all of them")
def duckdb_tables(made: Made) -> str:
    import duckdb

    truth = made.truth()
    with duckdb.connect() as connection:
        table = f"read_parquet('{made.objects}/*.parquet')"
        query = f"select c.id, sum(c.pixels) from (select unnest(class_pixels) as c from {table}) group by 1 order by 1"
        found = {int(class_id): int(pixels) for class_id, pixels in connection.execute(query).fetchall()}
        ids, pixels = np.unique(np.concatenate([sample.mask.ravel() for sample in truth.values()]), return_counts=True)
        assert found == dict(zip(ids.tolist(), pixels.tolist(), strict=True)), found
        cursor = connection.execute(f"select * from {table}")
        columns = [entry[0] for entry in cursor.description or []]
        _same_rows([dict(zip(columns, row, strict=True)) for row in cursor.fetchall()], truth)
    return "rows equal; class pixels by SQL equal those of the masks"


@check("pandas", "parquet beside the shards")
def pandas_tables(made: Made) -> str:
    import pandas as pd

    frame = pd.concat([pd.read_parquet(path) for path in sorted(made.objects.glob("*.parquet"))])
    assert str(frame["region_similarity"].dtype) == "float64" and str(frame["steps"].dtype) == "int64"
    _same_rows(frame.to_dict("records"), made.truth())
    return f"{len(frame)} rows equal to the JSON members"


@check("mlcroissant", "croissant.json: validates, all record sets iterated")
def croissant(made: Made) -> str:
    import mlcroissant as mlc

    _forget_unpacked_tars()
    truth = made.truth()
    document = mlc.Dataset(str(made.objects / "croissant.json"))
    assert not document.metadata.issues.errors, document.metadata.issues.report()
    for set_name, field in (("images", "image"), ("masks", "mask"), ("confidences", "confidence")):
        seen = []
        for record in document.records(set_name):
            key = record[f"{set_name}/key"].decode()
            seen.append(key)
            same(record[f"{set_name}/{field}"], getattr(truth[key], field), field)
        same_keys(seen, truth)
    rows = [{name.partition("/")[2]: value for name, value in record.items()} for record in document.records("samples")]
    same_keys([row["key"].decode() for row in rows], truth)
    for row in rows:
        for name, value in truth[row["key"].decode()].meta.items():
            found = row[name]
            text = (
                [item.decode() for item in found]
                if isinstance(value, tuple)
                else found.decode()
                if isinstance(found, bytes)
                else found
            )
            assert (tuple(text) if isinstance(value, tuple) else text) == value, (name, found, value)
    splits = {record["splits/name"] for record in document.records("splits")}
    assert {name.decode() if isinstance(name, bytes) else name for name in splits} == {"train", "validation"}
    return f"{len(document.metadata.issues.warnings)} warnings; images, masks, confidences, samples equal"


def _forget_unpacked_tars() -> None:
    """mlcroissant unpacks each tar once for ever, by its file name alone:

    another dataset's train-000000.tar would be taken for ours.
    """
    from etils import epath
    from mlcroissant._src.operation_graph.operations import extract

    global _UNPACKED
    _UNPACKED = tempfile.TemporaryDirectory(prefix="croissant-")
    extract.EXTRACT_PATH = epath.Path(_UNPACKED.name)


_UNPACKED: tempfile.TemporaryDirectory[str] | None = None  # lives until the next check or the end of the process


@check("huggingface_hub", "README.md as DatasetCard")
def hub_card(made: Made) -> str:
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(made.objects / "README.md").data.to_dict()
    assert data["configs"][0]["data_files"][0] == {"split": "train", "path": "train-*.tar"} and data[
        "task_categories"
    ] == ["image-segmentation"]
    return "YAML read; splits, licence and task as written"


@check(
    "nvidia-dali-cuda120",
    "shards with export dali-index; readers.webdataset, decoders.image on the CPU",
    module="nvidia.dali",
    tool="NVIDIA DALI",
)
def dali_reader(made: Made) -> str:
    from nvidia.dali import fn, pipeline_def, types

    shards = [str(path) for path in sorted(made.objects.glob("*.tar"))]
    indexes = [str(made.exports / "dali-index" / f"{Path(path).stem}.idx") for path in shards]
    truth = made.truth()

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)  # type: ignore[untyped-decorator, unused-ignore]
    def read() -> Any:
        image, mask, confidence, text = fn.readers.webdataset(
            paths=shards, index_paths=indexes, ext=["jpg", "png", "conf.png", "json"]
        )
        grey = {"device": "cpu", "output_type": types.GRAY}
        return (
            fn.decoders.image(image, device="cpu", output_type=types.RGB),
            fn.decoders.image(mask, **grey),
            fn.decoders.image(confidence, **grey),
            text,
        )

    reading = read()
    reading.build()
    assert sum(reading.epoch_size().values()) == len(truth)
    seen, worst = [], 0
    for _ in truth:
        image, mask, confidence, text = (np.asarray(output.at(0)) for output in reading.run())
        key = json.loads(bytes(text))["key"]
        same(mask[..., 0], truth[key].mask, "mask")
        same(confidence[..., 0], truth[key].confidence, "confidence")
        worst = max(worst, int(np.abs(image.astype(int) - truth[key].image).max()))
        seen.append(key)
    same_keys(seen, truth)
    assert worst <= 2, worst
    return f"{len(seen)} samples: every id equal; JPEG by its own decoder, at most {worst} of 255 away"


@check(
    "",
    "export dali-index: where each member lies, by the written form",
    module="synthgen",
    tool="DALI .idx, without DALI",
)
def dali_offsets(made: Made) -> str:
    count = 0
    for path in sorted((made.exports / "dali-index").glob("*.idx")):
        head, *lines = path.read_text().splitlines()
        data = (made.objects / f"{path.stem}.tar").read_bytes()
        assert head == f"v1.2 {len(lines)}"
        for line in lines:
            words = line.split(" ")
            for suffix, offset, size, name in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True):
                header = data[int(offset) - 512 : int(offset)]
                assert (
                    header.startswith(name.encode() + b"\0")
                    and int(header[124:135], 8) == int(size)
                    and name.split(".", 1)[1] == suffix
                )
                count += 1
    return f"format v1.2, {count} members lie where it says"
