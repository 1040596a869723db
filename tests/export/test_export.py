"""Exports: masks are carried, a kill costs one shard at the most, nobody's folder is written to, memory stays flat."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.rows import changed
from doubles.shouting import contents

from benchmarks import drawn_dataset as drawn_dataset_module
from benchmarks.drawn_dataset import drawn_dataset
from segkit.metadata import MEMBERS, ORIGINAL_MEMBERS
from segkit.shards import Dataset
from segtrain.data.folders import FolderSource
from synthgen.errors import DatasetError, InputError, LabelError
from synthgen.export.catalogue import available, find
from synthgen.export.run import dataset_folder, export
from synthgen.images import read_image, read_mask
from synthgen.labels import read_label_space
from synthgen.sources.folder import list_labelled, read_labelled
from synthgen.sources.listing import list_source
from synthgen.sources.own_space import space_of

GOLDEN = Path(__file__).parents[1] / "golden" / "shards"
FORMATS = [name for name in available() if name not in ("cityscapes", "photographs")]


def test_what_the_command_line_names_is_what_there_is(cli: Any) -> None:
    named = (
        "coco, coco-panoptic, voc, cityscapes, mmseg, detectron2, yolo-seg, fiftyone, folder, photographs, dali-index"
    )
    assert available() == sorted(named.split(", "))
    shown = cli("export", "--help").output.replace("-\n", "-")
    assert all(name.split("-")[0] in shown for name in available())
    for name in available():
        assert isinstance(find(name).LOSS, str) and find(name).USE


@pytest.mark.parametrize("name", FORMATS)
def test_a_finished_export_is_left_alone_and_a_repeated_one_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    report = export(GOLDEN, name, tmp_path / "a")
    assert (report.num_samples, report.num_new) == (12, 12)
    assert not (tmp_path / "a" / ".unfinished").exists()
    facts = json.loads((tmp_path / "a" / "export.json").read_text())
    assert facts["num_samples"] == 12 and facts["format"] == name
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert export(GOLDEN, name, tmp_path / "a").num_new == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    export(GOLDEN, name, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("name", FORMATS)
def test_a_kill_at_any_sample_loses_its_shard_only(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(GOLDEN, name, tmp_path / "whole")
    shard_samples = Dataset.shard_samples
    for killed_at in (0, 2, 5, 11):
        out = tmp_path / f"killed{killed_at}"
        count = 0

        def dying(self: Dataset, number: int, killed_at: int = killed_at) -> Any:
            nonlocal count
            for sample in shard_samples(self, number):
                if count == killed_at:
                    raise KeyboardInterrupt
                count += 1
                yield sample

        monkeypatch.setattr(Dataset, "shard_samples", dying)
        with pytest.raises(KeyboardInterrupt):
            export(GOLDEN, name, out)
        monkeypatch.undo()
        assert not (out / "export.json").exists()
        assert export(GOLDEN, name, out).num_new == 12 - killed_at // 4 * 4
        assert contents(out) == contents(tmp_path / "whole")


def test_a_voc_export_of_other_classes_is_not_taken_for_pascal_voc(tmp_path: Path) -> None:
    """Its ids are other classes there; the way out that the message names gives the same masks."""
    export(GOLDEN, "voc", tmp_path / "voc")
    with pytest.raises(LabelError, match=r"labelmap.txt: .* is no class of 'voc'.*`synthgen convert cvat_masks` makes"):
        list_source("voc", tmp_path / "voc")
    space = Dataset(GOLDEN).labels
    assert {label.name for label in space_of("own", list_source("cvat_masks", tmp_path / "voc")).labels} == {
        "background",
        *(label.name for label in space.labels),
    }
    for file, sample in zip(list_source("cvat_masks", tmp_path / "voc"), Dataset(GOLDEN), strict=True):
        assert file.stem == sample.key
        assert np.array_equal(read_labelled(file, space)[1], sample.mask)


def test_a_run_folder_will_do(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "run", count=3)
    assert dataset_folder(tmp_path / "run") == dataset == dataset_folder(dataset)
    with pytest.raises(DatasetError, match="no finished dataset here"):
        export(tmp_path, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_formats(tmp_path: Path) -> None:
    for name in ("cocco", "../coco", "no.such.module"):
        with pytest.raises(InputError, match="coco-panoptic"):
            export(GOLDEN, name, tmp_path / "out")
    with pytest.raises(InputError, match="did you mean 'coco'"):
        export(GOLDEN, "cooc", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cityscapes_wants_its_own_classes(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="box, disc: no class of Cityscapes"):
        export(GOLDEN, "cityscapes", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    dataset = drawn_dataset(tmp_path / "run", "streets", 3)
    export(dataset, "cityscapes", tmp_path / "out")
    keys = dict(line.split(",") for line in (tmp_path / "out/keys.csv").read_text().splitlines()[1:])
    samples = {sample.key: sample for sample in Dataset(dataset)}
    assert sorted(keys.values()) == sorted(samples)
    ids = np.zeros(256, dtype=np.uint8)
    for label in read_label_space("cityscapes").labels:
        ids[label.id] = find("cityscapes").LABELS[label.name][0]
    for place, key in keys.items():
        wanted = samples[key].mask
        np.testing.assert_array_equal(
            read_image(tmp_path / f"out/leftImg8bit/{place}_leftImg8bit.png"), samples[key].image
        )
        np.testing.assert_array_equal(read_mask(tmp_path / f"out/gtFine/{place}_gtFine_labelIds.png"), ids[wanted])
        np.testing.assert_array_equal(
            read_mask(tmp_path / f"out/gtFine/{place}_gtFine_labelTrainIds.png"), np.where(wanted >= 254, 255, wanted)
        )


def test_the_plain_folder_is_a_support_folder(tmp_path: Path) -> None:
    export(GOLDEN, "folder", tmp_path / "out")
    space = read_label_space(str(tmp_path / "out" / "labels.yaml"))
    assert space.labels == Dataset(GOLDEN).labels.labels
    samples = {sample.key: sample for sample in Dataset(GOLDEN)}
    for split, count in (("train", 8), ("validation", 4)):
        pairs = list_labelled(tmp_path / "out" / split)
        assert len(pairs) == count
        for pair in pairs:
            image, mask = read_labelled(pair, space)
            np.testing.assert_array_equal(image, samples[pair.stem].image)
            np.testing.assert_array_equal(mask, samples[pair.stem].mask)
        lines = (tmp_path / "out" / split / "metadata.jsonl").read_text().splitlines()
        assert [json.loads(line)["key"] for line in lines] == [pair.stem for pair in pairs]


def test_cityscapes_knows_its_classes_in_another_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = drawn_dataset(tmp_path / "run", "streets", 3)
    export(dataset, "cityscapes", tmp_path / "out")
    text = (dataset / "index.json").read_text()
    assert '"traffic light"' in text
    (dataset / "index.json").write_text(text.replace('"traffic light"', '"Traffic_Light"'))
    export(dataset, "cityscapes", tmp_path / "again")
    assert contents(tmp_path / "out" / "gtFine") == contents(tmp_path / "again" / "gtFine")


@pytest.mark.parametrize("name", [*FORMATS, "cityscapes"])
def test_the_originals_of_pairs_go_into_the_plain_folder_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pair(*arguments: Any) -> Any:
        sample = one(*arguments)
        return changed(sample, original=sample.picture.image, original_mask=sample.labelling.mask)

    one = drawn_dataset_module._sample
    monkeypatch.setattr(drawn_dataset_module, "_sample", pair)
    dataset = drawn_dataset(tmp_path / "run", "streets", count=3)
    assert Dataset(dataset).index.members == MEMBERS + ORIGINAL_MEMBERS
    assert export(dataset, name, tmp_path / "out").num_samples == 3
    originals = sorted(path.parent.name for path in (tmp_path / "out").rglob("orig_*/*"))
    assert originals == (["orig_images"] * 3 + ["orig_labels"] * 3 if name == "folder" else [])
    if name == "folder":
        pairs = FolderSource(tmp_path / "out" / "train", read_label_space(str(tmp_path / "out" / "labels.yaml")))
        for row, sample in enumerate(Dataset(dataset).samples("train")):
            read = pairs.read(row, original=True)
            assert read.original is not None
            for here, there in zip(read.original, (sample.image, sample.mask), strict=True):
                np.testing.assert_array_equal(here, there)


def test_mmseg_config_is_python_that_fits_the_files(tmp_path: Path) -> None:
    export(GOLDEN, "mmseg", tmp_path / "out")
    values: dict[str, Any] = {}
    exec((tmp_path / "out" / "dataset_config.py").read_text(), values)  # it is a file that we have just written
    assert values["label_ids"] == (0, 3, 7) and values["metainfo"]["classes"] == ("ground", "box", "disc")
    for word, split in (("train", "train"), ("val", "validation")):
        prefix = values[f"{word}_dataset"]["data_prefix"]
        stems = (tmp_path / "out" / "splits" / f"{word}.txt").read_text().split()
        wanted = {sample.key: sample.mask for sample in Dataset(GOLDEN).samples(split)}
        assert stems == list(wanted)
        for stem in stems:
            mask = read_mask(tmp_path / "out" / prefix["seg_map_path"] / f"{stem}.png")
            ids = np.array([0, 3, 7, *[0] * 252, 255])
            np.testing.assert_array_equal(ids[mask], np.where(wanted[stem] == 254, 255, wanted[stem]))


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    """What is held over the number of samples is the index; pictures and rows come and go."""

    def peak(count: int) -> int:
        dataset = drawn_dataset(tmp_path / f"run{count}", count=count)
        tracemalloc.start()
        export(dataset, "coco", tmp_path / f"out{count}")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(3)  # whatever is loaded once
    assert peak(48) - peak(6) < 42 * 4000  # index rows and some slack; a picture alone has 7 kB, an annotation row 1 kB


def test_the_command_says_what_is_lost_and_how_to_open_it(cli: Any, tmp_path: Path) -> None:
    done = cli("export", GOLDEN, "--to", "yolo-seg", "--out", tmp_path / "out")
    assert (
        done.exit_code == 0
        and "12 samples as yolo-seg" in done.output
        and "not carried: 255" in done.output
        and "open: yolo" in done.output
    )
    assert (
        json.loads(cli("export", GOLDEN, "--to", "yolo-seg", "--out", tmp_path / "out", "--json").output)["num_new"]
        == 0
    )
    refused = cli("export", GOLDEN, "--to", "voc", "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "holds another export (format 'yolo-seg', not 'voc')" in refused.stderr


def test_a_damaged_shard_stops_the_export_with_one_line(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "run", count=6)
    path = dataset / "validation-000000.tar"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DatasetError, match=r"validation-000000\.tar"):
        export(dataset, "coco", tmp_path / "out")
    assert not (tmp_path / "out" / "export.json").exists()


def test_a_format_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "keys.py").write_text(
        "from synthgen.export.catalogue import Exported\nLOSS, USE = 'the masks', 'cat keys.txt'\n"
        "class Keys:\n    def sample(self, number, split, sample):\n        return Exported({}, (('keys', "
        "sample.key),))\n"
        "    def closing(self, rows):\n        yield 'keys.txt', rows('keys')\n"
        "def build(dataset):\n    return Keys()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    export(GOLDEN, "mine.keys", tmp_path / "out")
    assert (tmp_path / "out" / "keys.txt").read_text().count("s0000") == 12


def test_a_shard_of_a_split_that_is_not_listed_is_refused_and_nothing_is_left_out_silently(tmp_path: Path) -> None:
    for split in ("other", ".unfinished", "../../x", ""):
        folder = shutil.copytree(GOLDEN, tmp_path / f"dataset{split.strip('./')}", dirs_exist_ok=True)
        index = json.loads((folder / "index.json").read_text())
        index["shards"][0]["split"] = split
        (folder / "index.json").write_text(json.dumps(index))
        for name in ("coco", "folder"):
            with pytest.raises(DatasetError, match=r"index\.json: "):
                export(folder, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipe_in_the_place_of_a_shard_ends_the_export_in_one_line(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "dataset")
    (folder / "train-000001.tar").unlink()
    os.mkfifo(folder / "train-000001.tar")
    for name in ("coco", "dali-index"):
        with pytest.raises(DatasetError, match=r"train-000001\.tar: is a named pipe, must be a regular file"):
            export(folder, name, tmp_path / name)


def test_a_class_name_that_a_label_map_cannot_hold_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "dataset")
    index = json.loads((folder / "index.json").read_text())
    index["classes"][1]["name"] = "tram: red"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(LabelError, match=r"class 'tram: red': labelmap\.txt parts its fields with colons"):
        export(folder, "voc", tmp_path / "out")


def test_a_label_map_tells_classes_apart_to_which_nobody_gave_a_colour(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "dataset")
    index = json.loads((folder / "index.json").read_text())
    for entry in index["classes"]:
        entry["colour"] = [0, 0, 0]
    (folder / "index.json").write_text(json.dumps(index))
    for name in ("voc", "mmseg", "detectron2"):
        export(folder, name, tmp_path / name)
    config = runpy.run_path(str(tmp_path / "mmseg" / "dataset_config.py"))
    assert len({tuple(colour) for colour in config["metainfo"]["palette"]}) == len(config["metainfo"]["classes"])
    stuff = json.loads((tmp_path / "detectron2" / "metadata.json").read_text())
    assert len({tuple(colour) for colour in stuff["stuff_colors"]}) == len(stuff["stuff_classes"])
    for file, sample in zip(list_source("cvat_masks", tmp_path / "voc"), Dataset(folder), strict=True):
        assert np.array_equal(read_labelled(file, Dataset(folder).labels)[1], sample.mask)
