"""`python -m benchmarks.compatibility [--with PYTHON]`: opens what synthgen writes with other people's tools and writes docs/COMPATIBILITY.md.

Each check reads every sample with the tool and compares every pixel and id with what the shards hold; it fails by an AssertionError. A tool whose
pins do not go with ours can live in an environment of its own: `--with` names its Python, which must find synthgen too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.drawn_dataset import drawn_dataset
from synthgen.dataset.reader import Dataset, StoredSample
from synthgen.export.catalogue import available, find
from synthgen.export.run import export

PAGE = Path(__file__).parents[1] / "docs" / "COMPATIBILITY.md"


@dataclasses.dataclass(frozen=True)
class Made:
    """What the checks open."""

    objects: Path  # a finished dataset with 254 and 255 in its masks
    streets: Path  # one with the classes of Cityscapes
    exports: Path  # a folder for each format; cityscapes is of `streets`

    def truth(self, dataset: Path | None = None, split: str | None = None) -> dict[str, StoredSample]:
        return {sample.key: sample for sample in Dataset(dataset or self.objects).samples(split)}


@dataclasses.dataclass(frozen=True)
class Check:
    tool: str
    package: str  # distribution
    module: str
    opened: str
    run: Callable[[Made], str]


CHECKS: dict[str, Check] = {}


def check(package: str, opened: str, module: str = "", tool: str = "") -> Callable[[Callable[[Made], str]], Callable[[Made], str]]:
    def add(function: Callable[[Made], str]) -> Callable[[Made], str]:
        CHECKS[function.__name__] = Check(tool or package, package, module or package.replace("-", "_"), opened, function)
        return function

    return add


def make(folder: Path) -> Made:
    """Both datasets and every export, below a new folder."""
    objects, streets = drawn_dataset(folder / "objects"), drawn_dataset(folder / "streets", "streets", 6)
    for name in available():
        export(streets if name == "cityscapes" else objects, name, folder / "exports" / name)
    return Made(objects, streets, folder / "exports")


def same(found: Any, wanted: np.ndarray, what: str) -> None:
    found = np.asarray(found)
    assert found.shape == wanted.shape and (found == wanted).all(), f"{what} differs: {found.shape} {found.dtype}, must be {wanted.shape}"


def same_keys(found: Any, wanted: Any) -> None:
    assert sorted(found) == sorted(wanted), f"keys differ: {sorted(found)[:3]} ..., must be {sorted(wanted)[:3]} ..."


# shards


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
                    facts = {name: tuple(value) if isinstance(value, list) else value for name, value in row["json"].items()}
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
            rows = list(datasets.load_dataset("parquet", data_files=files, split="train", streaming=streaming, cache_dir=cache))
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
            text = [item.decode() for item in found] if isinstance(value, tuple) else found.decode() if isinstance(found, bytes) else found
            assert (tuple(text) if isinstance(value, tuple) else text) == value, (name, found, value)
    splits = {record["splits/name"] for record in document.records("splits")}
    assert {name.decode() if isinstance(name, bytes) else name for name in splits} == {"train", "validation"}
    return f"{len(document.metadata.issues.warnings)} warnings; images, masks, confidences, samples equal"


def _forget_unpacked_tars() -> None:
    """mlcroissant unpacks each tar once for ever, by its file name alone: another dataset's train-000000.tar would be taken for ours."""
    from etils import epath
    from mlcroissant._src.operation_graph.operations import extract

    extract.EXTRACT_PATH = epath.Path(tempfile.mkdtemp(prefix="croissant-"))


@check("huggingface_hub", "README.md as DatasetCard")
def hub_card(made: Made) -> str:
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(made.objects / "README.md").data.to_dict()
    assert data["configs"][0]["data_files"][0] == {"split": "train", "path": "train-*.tar"} and data["task_categories"] == ["image-segmentation"]
    return "YAML read; splits, licence and task as written"


@check("webdataset", "dali-index: offsets of every member (DALI itself is not on the package index)", tool="DALI .idx")
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
                assert header.startswith(name.encode() + b"\0") and int(header[124:135], 8) == int(size) and name.split(".", 1)[1] == suffix
                count += 1
    return f"format v1.2, {count} members lie where it says; not opened with DALI"


# exports


@check("pycocotools", "export coco")
def coco_masks(made: Made) -> str:
    from pycocotools import mask as coder
    from pycocotools.coco import COCO

    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(split=split)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(made.exports / f"coco/annotations/instances_{word}.json"))
        label_of = {entry["id"]: entry["label_id"] for entry in coco.loadCats(coco.getCatIds())}
        same_keys([image["file_name"].removesuffix(".jpg") for image in coco.imgs.values()], truth)
        for image in coco.imgs.values():
            wanted = truth[image["file_name"].removesuffix(".jpg")].mask
            found = np.zeros((image["height"], image["width"]), dtype=np.uint8)
            for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
                part = coco.annToMask(annotation)
                found[part > 0] = label_of[annotation["category_id"]]
                assert part.sum() == annotation["area"] and coder.toBbox(coco.annToRLE(annotation)).tolist() == annotation["bbox"]
            found[coder.decode(image["ignore_segmentation"]) > 0] = 255
            same(found, wanted, "mask")
    return "masks, areas and boxes equal; 255 from ignore_segmentation"


@check("torchvision", "exports voc, cityscapes", tool="torchvision")
def torchvision_loaders(made: Made) -> str:
    from torchvision.datasets import Cityscapes, VOCSegmentation

    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "VOCdevkit").mkdir()
        (Path(root) / "VOCdevkit" / "VOC2012").symlink_to(made.exports.resolve() / "voc")
        for split, word in (("train", "train"), ("validation", "val")):
            truth = list(made.truth(split=split).values())
            voc = VOCSegmentation(root, year="2012", image_set=word)
            assert len(voc) == len(truth)
            for (image, mask), wanted in zip(voc, truth, strict=True):
                same(image, wanted.image, "voc image")
                same(mask, wanted.mask, "voc mask")
    ids = find("cityscapes").LABELS
    space = Dataset(made.streets).labels
    keys = dict(line.split(",") for line in (made.exports / "cityscapes/keys.csv").read_text().splitlines())
    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(made.streets, split)
        data = Cityscapes(str(made.exports / "cityscapes"), split=word, target_type="semantic")
        assert len(data) == len(truth)
        for place, (image, mask) in enumerate(data):
            name = data.images[place].split("leftImg8bit/")[-1].removesuffix("_leftImg8bit.png")
            wanted = truth[keys[name]]
            table = np.zeros(256, dtype=np.uint8)
            for label in space.labels:
                table[label.id] = ids[label.name][0]
            same(image, wanted.image, "cityscapes image")
            same(mask, table[wanted.mask], "labelIds")
            train = Image.open(data.targets[place][0].replace("labelIds", "labelTrainIds"))
            same(train, np.where(wanted.mask >= 254, 255, wanted.mask), "labelTrainIds")
    return "VOCSegmentation and Cityscapes: every pixel and id equal"


@check("supervision", "exports coco (run-length masks) and yolo-seg (polygons)")
def supervision_loaders(made: Made) -> str:
    import supervision as sv

    truth = made.truth(split="train")
    space = Dataset(made.objects).labels
    images = str(made.exports / "coco/images/train")
    coco = sv.DetectionDataset.from_coco(images, str(made.exports / "coco/annotations/instances_train.json"), force_masks=True)
    for path, _, found in coco:
        wanted = truth[Path(path).stem].mask
        for mask, class_id in zip(found.mask, found.class_id, strict=True):
            name = coco.classes[class_id]
            same(mask.astype(bool), wanted == (254 if name == "out_of_distribution" else space.by_name(name).id), f"coco {name}")
    folder = made.exports / "yolo-seg"
    yolo = sv.DetectionDataset.from_yolo(str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml"), force_masks=True)
    ious = []
    for path, _, found in yolo:
        wanted = truth[Path(path).stem].mask
        for class_id in set(found.class_id.tolist()):
            both = found.mask[found.class_id == class_id].any(axis=0)
            mask = wanted == space.by_name(yolo.classes[class_id]).id
            ious.append((both & mask).sum() / (both | mask).sum())
    assert min(ious) == 1, f"yolo-seg: IoU of polygons and masks is {min(ious):.3f}"
    return f"coco masks equal; yolo-seg polygons, filled by it, equal the {len(ious)} masks"


@check("ultralytics", "export yolo-seg, its YOLODataset and polygon2mask")
def ultralytics_loader(made: Made) -> str:
    import yaml

    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("YOLO_CONFIG_DIR", scratch)
        from ultralytics.data.dataset import YOLODataset
        from ultralytics.data.utils import polygon2mask

        folder = Path(shutil.copytree(made.exports / "yolo-seg", Path(scratch) / "yolo-seg"))  # it writes a cache beside the labels
        names = yaml.safe_load((folder / "data.yaml").read_text())
        space = Dataset(made.objects).labels
        count = 0
        for split, word in (("train", "train"), ("validation", "val")):
            truth = made.truth(split=split)
            settings = {"task": "segment", "augment": False, "imgsz": 48, "rect": False}
            labels = YOLODataset(img_path=str(folder / "images" / word), data={**names, "channels": 3}, **settings).labels
            same_keys([Path(label["im_file"]).stem for label in labels], truth)
            for label in labels:
                wanted, classes = truth[Path(label["im_file"]).stem].mask, label["cls"].ravel().astype(int)
                for place in sorted(set(classes.tolist())):
                    found = np.zeros(wanted.shape, dtype=bool)
                    for polygon in (label["segments"][i] for i in np.flatnonzero(classes == place)):
                        pixels = (polygon * np.array(wanted.shape[::-1])).reshape(-1)
                        found |= polygon2mask(wanted.shape, [pixels], 1, 1).astype(bool)
                    same(found, wanted == space.by_name(names["names"][place]).id, names["names"][place])
                    count += 1
    return f"{count} masks filled by it equal ours"


@check("datumaro", "exports coco, coco-panoptic, voc, cityscapes")
def datumaro_loaders(made: Made) -> str:
    from datumaro.components.dataset import Dataset as Datumaro

    told = []
    for name, form in (("coco", "coco"), ("coco-panoptic", "coco_panoptic"), ("voc", "voc_segmentation"), ("cityscapes", "cityscapes")):
        source = made.streets if name == "cityscapes" else made.objects
        truth, space = made.truth(source), Dataset(source).labels
        data = Datumaro.import_from(str((made.exports / name).resolve()), form)
        names = [label.name for label in data.categories()[_label_type()].items]
        keys = dict(line.split(",") for line in (made.exports / "cityscapes/keys.csv").read_text().splitlines())
        keys = {place.partition("/")[2]: key for place, key in keys.items()}
        seen = 0
        for item in data:
            key = keys[item.id] if name == "cityscapes" else Path(item.id).name
            wanted = truth[key].mask
            for annotation in item.annotations:
                if not hasattr(annotation, "image") or annotation.label is None:
                    continue
                word = names[annotation.label]
                label_id = next((label.id for label in space.labels if label.name.replace(" ", "") == word.replace(" ", "")), None)
                if label_id is None:
                    assert word in ("out_of_distribution", "background", "unlabeled", "ignored"), word
                    continue
                same(np.asarray(annotation.image).astype(bool), wanted == label_id, f"{name} {key} {word}")
                seen += 1
        assert len(data) == len(truth) and seen >= len(truth), (name, len(data), len(truth), seen)
        told.append(f"{name} {seen} masks")
    return ", ".join(told) + ": equal"


def _label_type() -> Any:
    from datumaro.components.annotation import AnnotationType

    return AnnotationType.label


@check("pillow", "exports coco-panoptic, mmseg, detectron2, fiftyone, folder: the rules of their loaders", module="PIL", tool="Pillow")
def layouts(made: Made) -> str:
    """For tools that do not install beside us: what their documented readers do, in a few lines each."""
    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(split=split)
        space = Dataset(made.objects).labels
        places = {label.id: place for place, label in enumerate(space.labels)}
        for key, sample in truth.items():
            wanted = np.array([places.get(class_id, 255) for class_id in range(256)], dtype=np.uint8)[sample.mask]
            same(Image.open(made.exports / f"mmseg/ann_dir/{word}/{key}.png"), wanted, "mmseg")
            same(Image.open(made.exports / f"detectron2/labels/{word}/{key}.png"), wanted, "detectron2")
            same(Image.open(made.exports / f"fiftyone/{split}/labels/{key}.png"), sample.mask, "fiftyone")
            same(Image.open(made.exports / f"folder/{split}/labels/{key}.png"), sample.mask, "folder")
            same(Image.open(made.exports / f"folder/{split}/confidence/{key}.png"), sample.confidence, "folder")
            for path in (f"mmseg/img_dir/{word}", f"detectron2/images/{word}", f"fiftyone/{split}/data", f"folder/{split}/images"):
                same(Image.open(made.exports / path / f"{key}.jpg"), sample.image, path)
        document = json.loads((made.exports / f"coco-panoptic/annotations/panoptic_{word}.json").read_text())
        label_of = {entry["id"]: entry["label_id"] for entry in document["categories"]}
        for annotation in document["annotations"]:
            rgb = np.asarray(Image.open(made.exports / f"coco-panoptic/annotations/panoptic_{word}" / annotation["file_name"])).astype(np.int64)
            ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
            found = np.full(ids.shape, 255, dtype=np.uint8)
            for segment in annotation["segments_info"]:
                assert (ids == segment["id"]).sum() == segment["area"]
                found[ids == segment["id"]] = label_of[segment["category_id"]]
            same(found, truth[annotation["file_name"].removesuffix(".png")].mask, "panoptic")
    return "every pixel and id equal; mmsegmentation, detectron2, fiftyone and panopticapi themselves were not run"


# the page


def version(package: str) -> str:
    return metadata.version(package)


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(CHECKS[name].module) is not None


def run_check(name: str, made: Made) -> str:
    """The result in words; "differs: ..." where a comparison failed."""
    try:
        return CHECKS[name].run(made)
    except AssertionError as error:
        return f"**differs**: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--with", dest="other", default="", help="Python of another environment, for tools that do not install here")
    parser.add_argument("--only", nargs=2, metavar=("CHECK", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        name, folder = arguments.only
        made = Made(Path(folder) / "objects/dataset", Path(folder) / "streets/dataset", Path(folder) / "exports")
        print(json.dumps([version(CHECKS[name].package), run_check(name, made)]))
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lines = ["| tool | version | opened | result |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as scratch:
        made = make(Path(scratch))
        for name, entry in CHECKS.items():
            where = ""
            if is_installed(name):
                told = [version(entry.package), run_check(name, made)]
            elif arguments.other:
                command = [arguments.other, "-m", "benchmarks.compatibility", "--only", name, scratch]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else ["-", done.stderr.splitlines()[-1]]
                where = " (own environment)"
            else:
                told = ["-", "not installed, not run"]
            if entry.tool.startswith("DALI"):
                told[0] = "not run"
            lines.append(f"| {entry.tool} | {told[0]}{where} | {entry.opened} | {told[1]} |")
            print(lines[-1], flush=True)
    losses = [f"| `{name}` | {find(name).LOSS or 'nothing'} |" for name in available()]
    PAGE.write_text(_page(lines, losses), encoding="utf-8")


def _page(table: list[str], losses: list[str]) -> str:
    return "\n".join(
        [
            "# What opens our datasets",
            "",
            "Written by `python -m benchmarks.compatibility`. Each row opened every sample of a small packed dataset (254 and 255 in the masks,",
            "two splits, several shards) or of an export of it, and compared pixels, ids and values with what the shards hold.",
            "",
            *table,
            "",
            "Known traps of the tools themselves:",
            "",
            "- mlcroissant keeps what it unpacks under the tar's name alone: after one dataset another one's `train-000000.tar` is not unpacked.",
            "  Empty its cache folder between two local datasets.",
            "",
            "## What an export does not carry",
            "",
            "| format | lost |",
            "|---|---|",
            *losses,
            "",
            f"Python {sys.version_info.major}.{sys.version_info.minor}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
