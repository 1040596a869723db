"""PASCAL VOC 2012 with the extra masks of SBD, in the layout that few-shot work uses (PFENet, BAM, DIaM, POP).

root/JPEGImages/2007_000032.jpg
root/SegmentationClassAug/2007_000032.png    VOC's and SBD's masks together: 8-bit PNG of ids 0..20, 255 = void
root/SegmentationClass/2007_000032.png       VOC's own masks; read if there is no SegmentationClassAug
root/ImageSets/Segmentation/trainaug.txt     10,582 names: VOC train and SBD, without VOC val
root/ImageSets/Segmentation/{train,val}.txt  VOC's own lists; val has 1,449 names

A line of a list is a name without suffix, or the two paths that the lists of PFENet and DeepLab have
(`JPEGImages/2007_000032.jpg SegmentationClassAug/2007_000032.png`, with or without a leading slash). SBD's own release
holds .mat files; they must have been converted to PNG, as all of these projects ask.
"""

from __future__ import annotations

from pathlib import Path

from segkit.files import read_regular
from segkit.folders import Pair
from segkit.label_map import require_classes_of
from segkit.printable import in_one_line
from segtrain.data.folders import PairSource
from segtrain.data.source import Source, benchmark_label_space
from segtrain.errors import DataError

LISTS = {
    "train": (
        "ImageSets/Segmentation/trainaug.txt",
        "ImageSets/Segmentation/train_aug.txt",
        "ImageSets/SegmentationAug/train_aug.txt",
        "ImageSets/Segmentation/train.txt",
    ),
    "val": ("ImageSets/Segmentation/val.txt",),
}
_MAX_LIST_BYTES = 2**26
_MASKS = ("SegmentationClassAug", "SegmentationClass")


def is_voc(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir()


def voc_source(root: Path, split: str) -> Source:
    """`split` is `train` (trainaug if that list is there), `val`, or the name of another list;

    empty or `validation` = val.

    Raises DataError that names the list, the line or the file that is missing, and for a folder of other classes.
    """
    space = benchmark_label_space("voc")
    require_classes_of(root, space)
    split = "val" if split in ("", "validation") else split
    candidates = LISTS.get(split, (f"ImageSets/Segmentation/{split}.txt",))
    path = next((root / name for name in candidates if (root / name).is_file()), None)
    if path is None:
        raise DataError(f"{root}: PASCAL VOC without a list for split {split!r}: needs one of {', '.join(candidates)}")
    masks = next((name for name in _MASKS if (root / name).is_dir()), None)
    if masks is None:
        raise DataError(f"{root}: PASCAL VOC without masks: needs {' or '.join(_MASKS)}")
    pairs = []
    try:
        lines = read_regular(path, _MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text: {in_one_line(error)}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            pairs.append(_pair(root, masks, line.split(), f"{path}:{number}"))
    if not pairs:
        raise DataError(f"{path}: an empty list")
    return PairSource(root, path.stem, space, pairs, "voc")


def _pair(root: Path, masks: str, words: list[str], where: str) -> Pair:
    if len(words) == 1:
        words = [f"JPEGImages/{words[0]}.jpg", f"{masks}/{words[0]}.png"]
    if len(words) != 2:
        raise DataError(f"{where}: {len(words)} words; a line is a name, or the paths of an image and its mask")
    image, mask = (root / word.lstrip("/") for word in words)
    for path in (image, mask):
        if ".." in path.relative_to(root).parts:
            raise DataError(f"{where}: {path} leads out of the dataset")
        if not path.is_file():
            raise DataError(f"{where}: the list names {path}, which does not exist")
    return Pair(image.stem, image, mask)
