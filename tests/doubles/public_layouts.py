"""The public datasets as their makers lay them out, a picture or two each, with the ids that must come of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

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
