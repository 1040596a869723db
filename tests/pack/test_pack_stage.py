"""The pack stage: planning, what a shard holds, what is refused, and what webdataset reads from it."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from doubles.rows import changed
from PIL import Image

from synthgen.errors import InputError, LabelError
from synthgen.images import jpeg_bytes, read_image, read_mask, write_image
from synthgen.pack import stage
from synthgen.records import ShardRecord, flat

MakeRun = Callable[..., Any]
# webdataset 1.0.2 leaves the closing of its tars to the garbage collector
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file .*\.tar:ResourceWarning")


def _read(path: Path, *decode: Any) -> list[dict[str, Any]]:
    return list(wds.WebDataset(str(path), shardshuffle=False, empty_check=False).decode(*decode))


def _rgb(run: Any, image: str) -> np.ndarray:
    data = jpeg_bytes(read_image(run.folder / image), run.recipe.pack.jpeg_quality)
    return np.asarray(Image.open(io.BytesIO(data)))


def test_plan_is_by_split_and_key_in_chunks(make_run: MakeRun) -> None:
    run = make_run(count=10, samples_per_shard=3)
    units = stage.plan(run.samples, run.recipe)
    assert [name for name, _ in units] == ["train-000000", "train-000001", "train-000002", "validation-000000"]
    assert [len(rows) for _, rows in units] == [3, 3, 2, 2]
    train = [row.key for name, rows in units if name.startswith("train") for row in rows]
    assert train == sorted(row.key for row in run.samples if row.split == "train")
    assert stage.plan(run.samples[::-1], run.recipe) == units
    assert stage.plan([], run.recipe) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": "s1.5"}, r"'s1\.5' must be"),
        ({"key": "123"}, "'123' must be"),
        ({"split": "../train"}, "split '../train'"),
        ({"split": "Train"}, "split 'Train'"),
        ({"split": ""}, "split ''"),
    ],
)
def test_plan_refuses_names_that_no_shard_can_carry(make_run: MakeRun, changed: dict[str, str], message: str) -> None:
    run = make_run(count=2)
    with pytest.raises(InputError, match=message):
        stage.plan([run.samples[0], dataclasses.replace(run.samples[1], **changed)], run.recipe)


def test_plan_refuses_a_key_in_two_splits(make_run: MakeRun) -> None:
    run = make_run(count=1)
    twin = dataclasses.replace(run.samples[0], split="validation")
    with pytest.raises(InputError, match="occurs twice"):
        stage.plan([run.samples[0], twin], run.recipe)


def test_settings_are_plain_and_hold_no_execution(make_run: MakeRun) -> None:
    run = make_run(count=0, samples_per_shard=7, jpeg_quality=90)
    assert stage.settings(run.recipe) == {
        "format_version": 2,
        "samples_per_shard": 7,
        "jpeg_quality": 90,
        "mark": "iptc",
    }


def test_records_and_rows_of_the_index(make_run: MakeRun) -> None:
    run = make_run(count=7, samples_per_shard=4)
    shards = run.pack()
    assert all(isinstance(shard, ShardRecord) for shard in shards)
    assert sorted(key for shard in shards for key in shard.parents) == sorted(row.key for row in run.samples)
    by_key = {row.key: row for row in run.samples}
    for shard in shards:
        path = run.folder / shard.shard
        assert path.name == f"{shard.key}.tar" and shard.key.startswith(shard.split)
        assert (shard.num_samples, shard.num_bytes) == (len(shard.parents), path.stat().st_size)
        rows = json.loads((path.parent / "samples.json").read_text())
        assert [row["key"] for row in rows] == list(shard.parents)
        for row in rows:
            sample = by_key[row["key"]]
            ids, counts = np.unique(read_mask(run.folder / sample.labelling.mask), return_counts=True)
            assert row["pixels"] == [[int(i), int(n)] for i, n in zip(ids, counts, strict=True)]
            assert row["class_id"] == sample.subject.class_id


def test_same_samples_in_any_order_give_the_same_tars(make_run: MakeRun) -> None:
    first, second = make_run("a", samples_per_shard=4), make_run("b", samples_per_shard=4)
    second.samples.reverse()
    for one, other in zip(first.pack(), second.pack(), strict=True):
        assert one == other
        assert (first.folder / one.shard).read_bytes() == (second.folder / other.shard).read_bytes()


@pytest.mark.parametrize("spec", ["pil", "l8", "rgb8"])
def test_webdataset_sees_every_pixel(make_run: MakeRun, spec: str) -> None:
    run = make_run(count=6)
    by_key = {row.key: row for row in run.samples}
    seen = []
    for shard in run.pack():
        for item in _read(run.folder / shard.shard, spec):
            row = by_key[item["__key__"]]
            seen.append(row.key)
            assert {name for name in item if not name.startswith("__")} == {"jpg", "png", "conf.png", "json"}
            for field, artefact in (("png", row.labelling.mask), ("conf.png", row.labelling.confidence)):
                ids = read_mask(run.folder / artefact)
                wanted = ids if spec == "l8" else np.repeat(ids[..., None], 3, axis=2)
                np.testing.assert_array_equal(np.asarray(item[field]), wanted)
            if spec != "l8":
                np.testing.assert_array_equal(np.asarray(item["jpg"]), _rgb(run, row.picture.image))
            assert item["json"]["key"] == row.key and isinstance(item["json"]["guidance"], float)
    assert sorted(seen) == sorted(by_key)


def test_webdataset_pil_keeps_grey_masks(make_run: MakeRun) -> None:
    run = make_run(count=3)
    for shard in run.pack():
        for item in _read(run.folder / shard.shard, "pill"):
            row = next(row for row in run.samples if row.key == item["__key__"])
            np.testing.assert_array_equal(np.asarray(item["png"]), read_mask(run.folder / row.labelling.mask))


def test_json_is_the_sample_without_its_artefacts(make_run: MakeRun) -> None:
    run = make_run(count=1)
    (shard,) = run.pack()
    (item,) = _read(run.folder / shard.shard)
    (row,) = run.samples
    wanted = {**flat(row), "attributes": list(row.subject.attributes), "layout": "plan.png"}
    for artefact in ("image", "mask", "confidence", "original", "original_mask", "pasted"):
        del wanted[artefact]
    assert item["json"] == wanted


def test_image_is_jpeg_444(make_run: MakeRun) -> None:
    run = make_run(count=1)
    (shard,) = run.pack()
    (item,) = list(wds.WebDataset(str(run.folder / shard.shard), shardshuffle=False))
    image = Image.open(io.BytesIO(item["jpg"]))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    assert Image.open(io.BytesIO(item["png"])).mode == Image.open(io.BytesIO(item["conf.png"])).mode == "L"


@pytest.mark.parametrize("artefact", ["image", "mask", "confidence"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "size"])
def test_a_bad_artefact_is_named(make_run: MakeRun, artefact: str, damage: str) -> None:
    run = make_run(count=3)
    path = run.folder / flat(run.samples[1])[artefact]
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        write_image(np.zeros((24, 31, 3) if artefact == "image" else (24, 31), dtype=np.uint8), path)
    with pytest.raises(InputError) as caught:
        run.pack()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not list(run.folder.rglob("*.tar")) and not list(run.folder.rglob("*.tmp"))


def test_a_colour_mask_is_refused(make_run: MakeRun) -> None:
    run = make_run(count=1)
    write_image(np.zeros((24, 32, 3), dtype=np.uint8), run.folder / run.samples[0].labelling.mask)
    with pytest.raises(InputError, match=r"mask\.png: must be an 8-bit L PNG, this has 8 bits and colour type 2"):
        run.pack()


def test_ids_outside_the_label_space_are_refused(make_run: MakeRun) -> None:
    run = make_run(count=1)
    write_image(np.full((24, 32), 5, dtype=np.uint8), run.folder / run.samples[0].labelling.mask)
    with pytest.raises(LabelError, match=r"mask\.png: ids 5"):
        run.pack()
    write_image(np.full((24, 32), 254, dtype=np.uint8), run.folder / run.samples[0].labelling.mask)
    run.samples[0] = changed(run.samples[0], class_id=9)
    (run.folder / "pack" / ".train-000000").rmdir()
    with pytest.raises(LabelError, match="id 9"):
        run.pack()


def test_a_unit_that_was_not_planned_is_a_bug(make_run: MakeRun) -> None:
    run = make_run(count=5)
    packer = stage.build(run.recipe, run.folder)
    with pytest.raises(ValueError, match="must be one that plan"):
        list(packer.process(run.samples, run.folder, "train-000000"))
