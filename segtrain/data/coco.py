"""COCO 2014 with one PNG of class ids an image, in the layout that few-shot work uses.

root/train2014/COCO_train2014_000000000009.jpg
root/val2014/COCO_val2014_000000000042.jpg
root/train_no_crowd/COCO_train2014_000000000009.png    as POP has them, or
root/annotations/train2014/...png                      as PFENet and BAM have them, or
root/train/...png                                      as DIaM has them; val likewise

The masks are drawn from the instance annotations of the 80 thing classes without the crowds (iscrowd = 0): id 0 is
background, 1..80 are the classes in the order of the annotation file, not its category ids, which have gaps and go to
90. Panoptic and stuff PNGs are another format and are not read. Only images that have a mask are samples: COCO has some
without any object.
"""

from __future__ import annotations

from pathlib import Path

from segkit.folders import MASK_SUFFIXES, Pair
from segkit.pictures import IMAGE_SUFFIXES
from segtrain.data.folders import PairSource
from segtrain.data.source import Source, benchmark_label_space
from segtrain.errors import DataError


def is_coco(folder: Path) -> bool:
    return (folder / "train2014").is_dir() or (folder / "val2014").is_dir()


def coco_source(root: Path, split: str) -> Source:
    """`split` is `train` or `val`; empty or `validation` = val. Raises DataError that names what is missing."""
    split = "val" if split in ("", "validation") else split
    if not (root / f"{split}2014").is_dir():
        raise DataError(f"{root}: COCO without {split}2014/, so without split {split!r}")
    folders = (f"{split}_no_crowd", f"annotations/{split}2014", split)
    mask_folder = next((root / name for name in folders if (root / name).is_dir()), None)
    if mask_folder is None:
        raise DataError(f"{root}: COCO without PNG masks of split {split!r}: needs one of {', '.join(folders)}")
    masks = _by_stem(mask_folder, MASK_SUFFIXES)
    images = _by_stem(root / f"{split}2014", IMAGE_SUFFIXES)
    if not masks:
        raise DataError(f"{mask_folder}: no masks (.png)")
    alone = sorted(set(masks) - set(images))
    if alone:
        raise DataError(
            f"{masks[alone[0]]}: no image {alone[0]}.* in {root / f'{split}2014'} ({len(alone)} such in all)"
        )
    pairs = [Pair(stem, images[stem], masks[stem]) for stem in sorted(masks)]
    return PairSource(root, split, benchmark_label_space("coco"), pairs, "coco")


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Visible files with one of the suffixes."""
    paths = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return {path.stem: path for path in paths if path.suffix.lower() in suffixes}
