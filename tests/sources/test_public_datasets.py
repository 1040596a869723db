"""Every public dataset gives exact ids from its own layout; what is wrong is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doubles.public_layouts import CASES, CITYSCAPES, SIZE, cityscapes, ids, mask_of, picture, png16, sbd, synthia, voc
from PIL import Image

from segkit.labels import Label, LabelSpace
from segkit.masks import read_mask
from synthgen.errors import InputError, LabelError, StorageError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.shipped import shipped_folder
from synthgen.sources.catalogue import read_source, source_names
from synthgen.sources.convert import convert
from synthgen.sources.folder import list_labelled, read_labelled
from synthgen.sources.listing import list_source, source_hash


def read_only_pair(name: str, root: Path, split: str, space: LabelSpace | None = None) -> np.ndarray:
    (pair,) = list_source(name, root, split)
    image, mask = read_labelled(pair, space or read_label_space(read_source(name).space))
    assert image.shape == (*mask.shape, 3) and mask.dtype == np.uint8
    return mask


@pytest.mark.parametrize(
    ("name", "split", "build", "expected"), CASES, ids=[f"{name}-{split or 'first'}" for name, split, _, _ in CASES]
)
def test_ids_of_the_exact_layout(
    tmp_path: Path, name: str, split: str, build: Callable[[Path], None], expected: list[int]
) -> None:
    build(tmp_path)
    assert read_only_pair(name, tmp_path, split).ravel()[: len(expected)].tolist() == expected


def test_every_dataset_has_a_case() -> None:
    public = {name for name in source_names() if not read_source(name).is_export}  # exports: test_tool_exports.py
    assert {name for name, *_ in CASES} | {"coco_instances", "coco_panoptic"} == public


@pytest.mark.parametrize("name", source_names())
def test_descriptions_are_whole(name: str) -> None:
    source = read_source(name)
    assert source.name == name and source.title and source.licence and len(source.download) > 80
    assert source.is_export == (source.space == "")
    if source.is_export:
        return
    space = read_label_space(source.space)
    known = (
        {label.name for label in space.labels}
        | {"anomaly"}
        | ({"background"} if space.background is not None else set())
    )
    for table in source.classes.values():
        assert set(table.names.values()) <= known, "every class of the mapping is one of its label space"
        assert not set(table.names) & set(table.ignored)
    if source.space in ("voc", "camvid") or name in ("cityscapes", "acdc", "gta5", "mapillary_vistas", "muad"):
        for table in source.classes.values():
            assert {label.name for label in space.labels} <= set(table.names.values()), (
                "no class is left without a value"
            )
    for layout in source.layouts:
        assert layout.classes or layout.encoding.startswith("coco"), layout


def test_another_label_space_is_met_by_name_and_synonym(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    camvid_space = read_label_space("camvid")
    found = read_only_pair("cityscapes", tmp_path, "train", camvid_space).ravel()[:19].tolist()
    expected = {
        "road": 3,
        "sidewalk": 4,
        "building": 1,
        "fence": 7,
        "pole": 2,
        "traffic light": 6,
        "traffic sign": 6,
        "vegetation": 5,
        "sky": 0,
    }
    expected |= {"person": 9, "rider": 10, "car": 8, "truck": 8, "bus": 8}
    assert found == [expected.get(name.replace("_", " "), 255) for name in CITYSCAPES.split()]
    with pytest.raises(
        LabelError, match=r"label space 'fruit' has none of this dataset's classes \(bicycle, building, "
    ):
        read_only_pair("cityscapes", tmp_path, "train", LabelSpace("fruit", (Label(0, "apple", (1, 2, 3)),)))


def test_values_of_another_dataset_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images/00001.png")
    ids(tmp_path / "labels/00001.png", (7, 77))
    with pytest.raises(
        LabelError, match=r"00001\.png: stored values 77 are not of this dataset; check that support\.source"
    ):
        read_only_pair("gta5", tmp_path, "all")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source 'cityscape' is not known; there are: folder, acdc, "):
        list_source("cityscape", tmp_path)
    with pytest.raises(
        InputError, match=r"source 'voc' has no split 'test' with labels; there are: train, val, trainval, train_aug"
    ):
        list_source("voc", tmp_path, "test")
    with pytest.raises(
        InputError,
        match=r"holds no labels of Cityscapes, fine .*'train' \(.*train_extra\): there is no gtFine/train/\{city\}",
    ):
        list_source("cityscapes", tmp_path, "train")
    with pytest.raises(InputError, match=r"nowhere: no such folder; `synthgen sources voc` says what to download"):
        list_source("voc", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"split 'val': a source 'folder' has none"):
        list_source("folder", tmp_path, "val")
    voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png").unlink()
    with pytest.raises(
        InputError, match=r"2007_000032\.png: no such file, but 2007_000032\.jpg asks for it; the download"
    ):
        list_source("voc", tmp_path, "train")
    cityscapes(tmp_path)
    next(tmp_path.glob("leftImg8bit/train/*/*")).unlink()
    with pytest.raises(InputError, match=r"leftImg8bit\.png: no such file, but .*labelIds\.png asks for it"):
        list_source("cityscapes", tmp_path, "train")


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n broken"])
def test_damaged_label_files_are_one_line(tmp_path: Path, damage: bytes) -> None:
    synthia(tmp_path)
    sbd(tmp_path)
    (tmp_path / "RAND_CITYSCAPES/GT/LABELS/0000000.png").write_bytes(damage)
    (tmp_path / "benchmark_RELEASE/dataset/cls/2008_000002.mat").write_bytes(damage)
    for name in ("synthia", "sbd"):
        with pytest.raises(InputError) as error:
            read_only_pair(name, tmp_path, "")
        assert "\n" not in str(error.value)


def test_hash_follows_names_and_sizes_and_not_the_place(tmp_path: Path) -> None:
    for place in ("a", "b"):
        cityscapes(tmp_path / place)
    assert source_hash("cityscapes", tmp_path / "a") == source_hash("cityscapes", tmp_path / "b")
    before = source_hash("cityscapes", tmp_path / "a")
    picture(tmp_path / "a/leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png")
    ids(tmp_path / "a/gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png", (7,))
    assert source_hash("cityscapes", tmp_path / "a") != before


def test_convert_gives_a_plain_folder_and_never_writes_over_one(tmp_path: Path) -> None:
    cityscapes(tmp_path / "in")
    space, out = read_label_space("cityscapes"), tmp_path / "out"
    assert list(convert("cityscapes", tmp_path / "in", "train", space, out)) == [(1, 1)]
    (pair,) = list_labelled(out)
    assert pair.stem == "aachen_aachen_000000_000019"
    assert (read_labelled(pair, space)[1] == read_only_pair("cityscapes", tmp_path / "in", "train")).all()
    with pytest.raises(StorageError, match="exists and is not empty; give a new folder"):
        list(convert("cityscapes", tmp_path / "in", "train", space, out))


def test_a_run_takes_its_support_from_a_public_dataset(tmp_path: Path) -> None:
    from synthgen.recipe import Recipe
    from synthgen.refine.support import support_shots

    inner = tmp_path / "VOC2012"
    (inner / "ImageSets/Segmentation").mkdir(parents=True)
    for number, stem in enumerate(("a", "b", "c")):
        (inner / "JPEGImages").mkdir(exist_ok=True)
        Image.new("RGB", (12, 12), (number, 0, 0)).save(inner / f"JPEGImages/{stem}.jpg")
        write_image_of(inner / f"SegmentationClass/{stem}.png", 15 if stem != "c" else 12)
    (inner / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\n")
    support = {"folder": str(tmp_path), "source": "voc", "split": "train", "shots": 2}
    recipe = Recipe.model_validate({"name": "t", "labels": {"space": "voc", "classes": ["person"]}, "support": support})
    shots = support_shots(recipe, read_label_space("voc"))
    assert [shot.class_id for shot in shots] == [15, 15] and all((shot.mask == 15).any() for shot in shots)
    limited = (
        Recipe.model_validate({**recipe.model_dump(), "seed": seed, "support": {**support, "limit": 2}})
        for seed in range(9)
    )
    few = [support_shots(each, read_label_space("voc")) for each in limited]
    assert {len(shots) for shots in few} == {1, 2}, "one of the three images shows no person"
    with pytest.raises(InputError, match="source 'vocs' is not known"):
        support_shots(
            Recipe.model_validate({"name": "t", "labels": {"space": "voc"}, "support": {**support, "source": "vocs"}}),
            read_label_space("voc"),
        )


def test_a_class_that_a_public_dataset_does_not_show_is_told_before_a_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from synthgen import pipeline
    from synthgen.recipe import Recipe
    from synthgen.refine import support as module

    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("".join(f"{number}\n" for number in range(3)))
    (tmp_path / "JPEGImages").mkdir()
    for number in range(3):
        Image.new("RGB", (12, 12)).save(tmp_path / f"JPEGImages/{number}.jpg")
        write_image_of(tmp_path / f"SegmentationClass/{number}.png", 15)
    space = LabelSpace("mine", (Label(0, "background"), Label(1, "person"), Label(2, "dog"), Label(3, "crane")), 0)
    (tmp_path / "labels.yaml").write_text(json.dumps(space.to_json()))

    def wants(*classes: str) -> Recipe:
        renderer = {"name": "sd3", "model": "mini/objects"}
        return Recipe.model_validate(
            {
                "name": "t",
                "labels": {"space": str(tmp_path / "labels.yaml"), "classes": classes},
                "support": {"folder": str(tmp_path), "source": "voc", "limit": len(classes) and 2},
                "render": {"renderer": renderer},
            }
        )

    with pytest.raises(
        InputError, match=r"voc has no class 'crane' \(id 3\); it has 'aeroplane, .*: make one a synonym"
    ):
        pipeline.begin(wants("person", "crane"), tmp_path / "run")
    with pytest.raises(InputError, match=r"no image shows enough of class 'dog' \(id 2\); add one or leave it out"):
        pipeline.begin(wants("person", "dog"), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing was begun"
    monkeypatch.setattr(module, "_MOST_LOOKED_AT", 1)
    module.check_support(wants("person", "dog"), space, "again")
    assert "none of 1 labels of voc shows enough of 'dog'" in caplog.text
    caplog.clear()
    module.check_support(wants("person"), space, "again")
    assert not [line for line in caplog.messages if "shows enough" in line]


def write_image_of(path: Path, class_id: int) -> None:
    path.parent.mkdir(exist_ok=True)
    mask = np.zeros((12, 12), np.uint8)
    mask[:6] = class_id
    write_image(mask, path)


CAMVID = shipped_folder("prompts").parent.parent / "shared" / "data" / "camvid"


@pytest.mark.skipif(
    not CAMVID.is_dir(), reason=f"NO REAL DATA: {CAMVID} is absent; CamVid is tested on drawn pictures only"
)
def test_camvid_on_the_real_photographs() -> None:
    space = read_label_space("camvid")
    pairs = {split: list_source("camvid", CAMVID, split) for split in ("train", "val")}
    assert {split: len(found) for split, found in pairs.items()} == {"train": 367, "val": 101}
    seen = np.zeros(256, np.int64)
    for pair in pairs["train"][::40] + pairs["val"][::20]:
        image, mask = read_labelled(pair, space)
        assert image.shape == (360, 480, 3)
        stored = read_mask(pair.label)
        assert (mask == np.where(stored == 11, 255, stored)).all()
        seen += np.bincount(mask.ravel(), minlength=256)
    assert (seen[:11] > 0).all() and seen[255] > 0 and seen[:11].sum() + seen[255] == seen.sum()
    assert seen[3] > seen[9], "more road than pedestrians"


def test_stored_ids_never_wrap(tmp_path: Path) -> None:
    """A 16-bit value of 256 + 3 is not a road."""
    picture(tmp_path / "RGB/0000000.png")
    png16(tmp_path / "GT/LABELS/0000000.png", np.stack([mask_of((259, 3)), np.zeros(SIZE), np.zeros(SIZE)], axis=-1))
    with pytest.raises(LabelError, match="stored values 259 are not of this dataset"):
        read_only_pair("synthia", tmp_path, "")


def test_catalogue_is_json_able() -> None:
    assert json.loads(json.dumps(read_source("voc").model_dump(mode="json")))["splits"] == [
        "train",
        "val",
        "trainval",
        "train_aug",
    ]
