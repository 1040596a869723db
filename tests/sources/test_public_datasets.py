"""Every public dataset on a tiny folder of its exact layout: what is found, and which ids come out."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

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

SIZE = (4, 6)
CITYSCAPES = (
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky person "
    "rider car truck bus train motorcycle bicycle"
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (9, 90, 200)).save(path)


def mask_of(values: Any, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The values in reading order, the rest filled with the first."""
    flat = np.full(size[0] * size[1], values[0], np.int64)
    flat[: len(values)] = values
    return flat.reshape(size)


def ids(path: Path, values: Any, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask_of(values).astype(np.uint8))
    if palette:
        image.putpalette([number % 251 for number in range(768)])
    image.save(path)


def png16(path: Path, channels: np.ndarray) -> None:
    """A PNG of three 16-bit channels, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = channels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


Case = tuple[str, str, Callable[[Path], None], list[int]]
"""(source, split, what builds the folder, the ids that must come out for the first pixels of the only sample)"""
ALL = list(range(19))


def cityscapes(root: Path) -> None:
    picture(root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png")
    ids(root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png", (*LABEL_IDS, 0, 34))
    ids(root / "gtFine/train/aachen/aachen_000000_000019_gtFine_instanceTrainIds.png", (3,))
    picture(root / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png")


def cityscapes_train_ids(root: Path) -> None:
    picture(root / "leftImg8bit/val/munster/munster_000000_000019_leftImg8bit.png")
    ids(root / "gtFine/val/munster/munster_000000_000019_gtFine_labelTrainIds.png", (*ALL, 255))


def cityscapes_coarse(root: Path) -> None:
    picture(root / "leftImg8bit/train_extra/ulm/ulm_000000_000019_leftImg8bit.png")
    ids(root / "gtCoarse/train_extra/ulm/ulm_000000_000019_gtCoarse_labelIds.png", (7, 0, 26))


def acdc(root: Path) -> None:
    picture(root / "rgb_anon/fog/train/GOPR0475/GOPR0475_frame_000247_rgb_anon.png")
    ids(root / "gt/fog/train/GOPR0475/GOPR0475_frame_000247_gt_labelTrainIds.png", (*ALL, 255))
    ids(root / "gt/fog/train/GOPR0475/GOPR0475_frame_000247_gt_labelColor.png", (0,))
    picture(root / "rgb_anon/fog/train_ref/GOPR0475/GOPR0475_frame_000247_ref_anon.png")


def dark_zurich(root: Path) -> None:
    picture(root / "rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png")
    ids(root / "gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelTrainIds.png", (0, 10, 255, 18))


def bdd100k(root: Path) -> None:
    picture(root / "bdd100k/images/10k/val/7d06fefd-f7be05a6.jpg")
    ids(root / "bdd100k/labels/sem_seg/masks/val/7d06fefd-f7be05a6.png", (*ALL, 255))


def bdd100k_old(root: Path) -> None:
    picture(root / "bdd100k/seg/images/train/0a0a0b1a-7c39d841.jpg")
    ids(root / "bdd100k/seg/labels/train/0a0a0b1a-7c39d841_train_id.png", (13, 255, 0))


def vistas(root: Path) -> None:
    picture(root / "training/images/-0x_A.jpg")
    ids(
        root / "training/v1.2/labels/-0x_A.png",
        (13, 24, 41, 2, 15, 17, 6, 3, 45, 47, 48, 50, 30, 29, 27, 19, 20, 55, 61, 54, 58, 57, 52, 65),
        palette=True,
    )
    ids(root / "training/v2.0/labels/-0x_A.png", (99,))


def gta5(root: Path) -> None:
    picture(root / "images/00001.png")
    ids(root / "labels/00001.png", (*LABEL_IDS, 34, 3), palette=True)


def gta5_listed(root: Path) -> None:
    for stem in ("00001", "00002"):
        picture(root / f"images/{stem}.png")
        ids(root / f"labels/{stem}.png", (26 if stem == "00002" else 7,))
    savemat(root / "split.mat", {"trainIds": [[1]], "valIds": [[2]], "testIds": np.zeros((0, 1))})


def synthia(root: Path) -> None:
    picture(root / "RAND_CITYSCAPES/RGB/0000000.png")
    stored = mask_of((3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11, 0, 13, 14, 22))
    instances = np.full(SIZE, 513)
    png16(root / "RAND_CITYSCAPES/GT/LABELS/0000000.png", np.stack([stored, instances, np.zeros(SIZE)], axis=-1))


def voc(root: Path) -> None:
    inner = root / "VOCdevkit/VOC2012"
    for stem in ("2007_000032", "2007_000033"):
        picture(inner / f"JPEGImages/{stem}.jpg")
        ids(inner / f"SegmentationClass/{stem}.png", (*range(21), 255), palette=True)
    (inner / "ImageSets/Segmentation").mkdir(parents=True)
    (inner / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n")
    (inner / "ImageSets/Segmentation/val.txt").write_text("\ufeff2007_000033\r\n")  # a list that Windows has saved


def voc_aug(root: Path) -> None:
    picture(root / "JPEGImages/2008_000002.jpg")
    ids(root / "SegmentationClassAug/2008_000002.png", (0, 20, 255))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/trainaug.txt").write_text("2008_000002\n")


def sbd(root: Path) -> None:
    inner = root / "benchmark_RELEASE/dataset"
    picture(inner / "img/2008_000002.jpg")
    (inner / "cls").mkdir(parents=True)
    savemat(
        inner / "cls/2008_000002.mat",
        {"GTcls": {"Segmentation": mask_of(range(21)).astype(np.uint8), "CategoriesPresent": [[1]]}},
    )
    (inner / "train.txt").write_text("2008_000002\n")


def muad(root: Path) -> None:
    picture(root / "test_ood/leftImg8bit/000042_leftImg8bit.png")
    ids(root / "test_ood/leftLabel/000042_leftLabel.png", (*ALL, 19, 20, 21, 255))


def muad_same_stems(root: Path) -> None:
    picture(root / "MUAD/train/leftImg8bit/000042.png")
    ids(root / "MUAD/train/leftLabel/000042.png", (0, 21, 13))


def road_anomaly(root: Path) -> None:
    picture(root / "RoadAnomaly_jpg/frames/animals01_a.jpg")
    ids(root / "RoadAnomaly_jpg/frames/animals01_a.labels/labels_semantic.png", (0, 1, 2))
    ids(root / "RoadAnomaly_jpg/frames/animals01_a.labels/labels_instance.png", (7,))


def smiyc_anomaly(root: Path) -> None:
    picture(root / "dataset_AnomalyTrack/images/validation0000.jpg")
    picture(root / "dataset_AnomalyTrack/images/image0000.jpg")
    ids(root / "dataset_AnomalyTrack/labels_masks/validation0000_labels_semantic.png", (0, 1, 255))


def smiyc_obstacle(root: Path) -> None:
    picture(root / "dataset_ObstacleTrack/images/validation_1.webp")
    ids(root / "dataset_ObstacleTrack/labels_masks/validation_1_labels_semantic.png", (1, 0, 255))


def camvid(root: Path) -> None:
    picture(root / "CamVid/train/0001TP_006690.png")
    ids(root / "CamVid/trainannot/0001TP_006690.png", range(12))


def camvid_original(root: Path) -> None:
    picture(root / "701_StillsRaw_full/0001TP_006690.png")
    colours = [
        (128, 128, 128),
        (128, 0, 0),
        (64, 192, 0),
        (192, 192, 128),
        (128, 0, 192),
        (0, 0, 192),
        (192, 192, 0),
        (0, 64, 64),
        (64, 64, 128),
    ]
    colours += [(64, 128, 192), (192, 128, 64), (192, 0, 192), (0, 0, 0)]
    table = np.full((24, 3), 128, np.uint8)
    table[: len(colours)] = colours
    (root / "LabeledApproved_full").mkdir(parents=True)
    Image.fromarray(table.reshape(*SIZE, 3)).save(root / "LabeledApproved_full/0001TP_006690_L.png")


CASES: list[Case] = [
    ("cityscapes", "train", cityscapes, [*ALL, 255, 255]),
    ("cityscapes", "val", cityscapes_train_ids, [*ALL, 255]),
    ("cityscapes", "train_extra", cityscapes_coarse, [0, 255, 13]),
    ("acdc", "train", acdc, [*ALL, 255]),
    ("acdc", "fog_train", acdc, [*ALL, 255]),
    ("dark_zurich", "", dark_zurich, [0, 10, 255, 18]),
    ("bdd100k", "val", bdd100k, [*ALL, 255]),
    ("bdd100k", "train", bdd100k_old, [13, 255, 0]),
    (
        "mapillary_vistas",
        "training",
        vistas,
        [0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 255],
    ),
    ("gta5", "all", gta5, [*ALL, 255, 255]),
    ("gta5", "val", gta5_listed, [13]),
    ("synthia", "", synthia, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 255, 255, 255, 255]),
    ("voc", "train", voc, [*range(21), 255]),
    ("voc", "val", voc, [*range(21), 255]),
    ("voc", "train_aug", voc_aug, [0, 20, 255]),
    ("sbd", "train", sbd, list(range(21))),
    ("muad", "test_ood", muad, [*ALL, 254, 254, 255, 255]),
    ("muad", "train", muad_same_stems, [0, 255, 13]),
    ("road_anomaly", "", road_anomaly, [0, 0, 254]),
    ("smiyc", "anomaly", smiyc_anomaly, [0, 254, 255]),
    ("smiyc", "obstacle", smiyc_obstacle, [254, 0, 255]),
    ("camvid", "train", camvid, [*range(11), 255]),
    ("camvid", "all", camvid_original, [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255]),
]


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
