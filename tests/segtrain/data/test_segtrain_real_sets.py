"""Readers of VOC, COCO and the drawn folders, on hand-made folders of the exact layout."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtrain.data.formats import brings_label_space, open_dataset
from segtrain.errors import ConfigError, DataError
from segtrain.methods.few_shot.folds import known_folds, novel_of_fold, read_folds

SIZE = (6, 8)


def jpeg(path: Path, grey: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, SIZE[::-1], grey if mode == "L" else (grey,) * 3).save(path, "JPEG")


def mask_png(path: Path, ids: list[int], palette: bool = False) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.resize(np.array(ids, np.uint8), SIZE)
    picture = Image.fromarray(mask)
    if palette:
        # What VOC ships: the colour of an id says nothing about the id.
        picture = Image.frombytes("P", SIZE[::-1], mask.tobytes())
        picture.putpalette([v % 256 for v in range(7, 7 + 768)])
    picture.save(path, "PNG")
    return mask


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2012"
    for number, name in enumerate(("2007_000032", "2007_000039", "2008_000002", "2011_003103")):
        jpeg(root / "JPEGImages" / f"{name}.jpg", 10 * number)
        mask_png(root / "SegmentationClassAug" / f"{name}.png", [0, 1, 20, 255], palette=number % 2 == 0)
    mask_png(root / "SegmentationClass" / "2007_000032.png", [0, 3])
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "trainaug.txt").write_text("2007_000032\n2008_000002\n2011_003103\n")
    (lists / "train.txt").write_text("2007_000032\n")
    (lists / "val.txt").write_text("2007_000039\n\n")
    return root


def test_voc_with_sbd(voc: Path) -> None:
    train, val = open_dataset(voc, "train", None), open_dataset(voc, "", None)
    assert (train.split, train.group_sizes, val.split, val.group_sizes) == ("trainaug", (3,), "val", (1,))
    sample = train.read(1)
    image, mask, where = sample.image, sample.mask, sample.where
    assert image.shape == (*SIZE, 3) and abs(int(image[0, 0, 0]) - 20) < 3
    assert set(np.unique(mask)) == {0, 1, 20, 255}, "palette PNGs give ids, not colours"
    assert where.endswith("2008_000002.jpg")
    assert np.array_equal(train.read_mask(1), mask)
    assert [c.id for c in train.label_space.labels] == list(range(21))
    assert train.label_space.labels[5].name == "bottle" and train.label_space.background == 0
    assert brings_label_space(voc)
    assert train.identity != val.identity


def test_voc_lists_with_two_paths_a_line_and_other_lists(voc: Path) -> None:
    lists = voc / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").write_text("/JPEGImages/2008_000002.jpg /SegmentationClassAug/2008_000002.png\n")
    (lists / "mine.txt").write_text("2011_003103\n2007_000039\n")
    assert open_dataset(voc, "train", None).group_sizes == (1,)
    assert open_dataset(voc, "mine", None).read(0).where.endswith("2011_003103.jpg")
    (lists / "trainaug.txt").unlink()
    assert open_dataset(voc, "train", None).split == "train"


def test_a_voc_list_may_begin_with_a_byte_order_mark(voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("2008_000002\n", encoding="utf-8-sig")
    assert open_dataset(voc, "train", None).name(0) == "2008_000002.jpg"


def test_voc_without_sbd_reads_its_own_masks(voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    (voc / "SegmentationClassAug").rename(voc / "elsewhere")
    assert set(np.unique(open_dataset(voc, "train", None).read(0).mask)) == {0, 3}


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("background:0,0,0::", True),
        ("diningtable:192,128,0::", True),
        ("ignored:224,224,192::", True),
        ("out_of_distribution:255,0,255::", True),
        ("road:128,64,128::", False),
        ("bicycle:128,0,0::", False),  # VOC's class, but the id of another one
    ],
)
def test_other_classes_in_the_layout_of_voc_are_not_taken_for_its_own(voc: Path, line: str, fits: bool) -> None:
    (voc / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{line}\n", encoding="utf-8-sig")
    if fits:
        assert open_dataset(voc, "train", None).group_sizes == (3,)
        return
    with pytest.raises(
        DataError, match=r"labelmap.txt: '(road|bicycle)' \(.*\) is no class of 'voc', so the masks' ids"
    ):
        open_dataset(voc, "train", None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2009_000001", r"trainaug.txt:1: the list names .*JPEGImages/2009_000001.jpg, which does not exist"),
        ("a b c", r"trainaug.txt:1: 3 words; a line is a name, or the paths of an image and its mask"),
        ("../../x.jpg y.png", r"trainaug.txt:1: .* leads out of the dataset"),
        ("", "trainaug.txt: an empty list"),
    ],
)
def test_a_bad_voc_list_is_named(voc: Path, line: str, says: str) -> None:
    (voc / "ImageSets" / "Segmentation" / "trainaug.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=says):
        open_dataset(voc, "train", None)


def test_voc_without_lists_or_masks_is_named(voc: Path) -> None:
    with pytest.raises(
        DataError, match=r"without a list for split 'test': needs one of ImageSets/Segmentation/test.txt"
    ):
        open_dataset(voc, "test", None)
    for name in ("SegmentationClassAug", "SegmentationClass"):
        (voc / name).rename(voc / f"no{name}")
    with pytest.raises(DataError, match="without masks: needs SegmentationClassAug or SegmentationClass"):
        open_dataset(voc, "", None)


@pytest.mark.parametrize(
    "folders", [("train_no_crowd", "val_no_crowd"), ("annotations/train2014", "annotations/val2014"), ("train", "val")]
)
def test_coco_in_the_layouts_of_pop_pfenet_and_diam(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = tmp_path / "coco"
    for split, masks in zip(("train", "val"), folders, strict=True):
        for number in (9, 25):
            stem = f"COCO_{split}2014_{number:012d}"
            jpeg(root / f"{split}2014" / f"{stem}.jpg", number, mode="L" if number == 9 else "RGB")
            mask_png(root / masks / f"{stem}.png", [0, 80, 1])
        jpeg(root / f"{split}2014" / f"COCO_{split}2014_000000000030.jpg", 0)  # an image without objects has no mask
    train, val = open_dataset(root, "train", None), open_dataset(root, "validation", None)
    assert train.group_sizes == val.group_sizes == (2,)
    sample = train.read(0)
    image, mask, where = sample.image, sample.mask, sample.where
    assert image.shape == (*SIZE, 3), "COCO has grey photographs"
    assert set(np.unique(mask)) == {0, 1, 80} and where.endswith("COCO_train2014_000000000009.jpg")
    assert (len(train.label_space.labels), train.label_space.labels[80].name) == (81, "toothbrush")


def test_coco_mistakes_are_named(tmp_path: Path) -> None:
    jpeg(tmp_path / "train2014" / "a.jpg", 0)
    with pytest.raises(
        DataError, match="without PNG masks of split 'train': needs one of train_no_crowd, annotations/train2014, train"
    ):
        open_dataset(tmp_path, "train", None)
    with pytest.raises(DataError, match=r"COCO without val2014/"):
        open_dataset(tmp_path, "", None)
    mask_png(tmp_path / "train_no_crowd" / "b.png", [0])
    with pytest.raises(DataError, match=r"b.png: no image b\.\* in .*train2014"):
        open_dataset(tmp_path, "train", None)
    (tmp_path / "train_no_crowd" / "b.png").unlink()
    with pytest.raises(DataError, match="no masks"):
        open_dataset(tmp_path, "train", None)


def test_folds_are_those_of_the_literature() -> None:
    """Arithmetic of the published definitions, against the lists that ship."""
    assert known_folds() == ["coco-20i", "pascal-5i"]
    for name, classes in (("pascal-5i", 20), ("coco-20i", 80)):
        folds = read_folds(name)
        ids = {c.name: c.id for c in folds.label_space.labels}
        assert sorted(ids.values()) == list(range(classes + 1)) and ids["background"] == 0
        for k in range(4):
            wanted = set(range(5 * k + 1, 5 * k + 6)) if classes == 20 else set(range(k + 1, k + 78, 4))
            assert {ids[novel] for novel in novel_of_fold(name, k)} == wanted
    assert novel_of_fold("pascal-5i", 3) == ("pottedplant", "sheep", "sofa", "train", "tvmonitor")
    assert novel_of_fold("coco-20i", 0)[:3] == ("person", "airplane", "boat")
    with pytest.raises(ConfigError, match="folds 'voc': not known; there are: coco-20i, pascal-5i"):
        novel_of_fold("voc", 0)
    with pytest.raises(ConfigError, match="fold 4: pascal-5i has the folds 0 to 3"):
        novel_of_fold("pascal-5i", 4)


def test_a_colour_of_no_class_is_named(voc: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", SIZE[::-1], (1, 2, 3)).save(buffer, "PNG")
    (voc / "SegmentationClassAug" / "2007_000039.png").write_bytes(buffer.getvalue())
    for read in (lambda s: s.read(0), lambda s: s.read_mask(0)):
        with pytest.raises(DataError, match=r"2007_000039.png: colours \[1, 2, 3\] .*"):
            read(open_dataset(voc, "", None))
