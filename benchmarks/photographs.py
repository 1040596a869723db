"""What the refinement does on photographs of streets that the support set has not seen: rows photographs/*.

CamVid's three sequences are held out one by one: the support set is 10 images of the other two, taken evenly, and 24
frames of the third, taken evenly, are labelled. Consecutive frames of a video are nearly the same picture, so a split
at random, or by the published train and val, whose val shares its sequence with train, says nothing about another
street. A row is the mean over the three sequences, its spread that over the sequences (n = 3). Not used to choose any
setting: those were chosen with other support images and 13 other frames of each sequence. `plain_coarse` are prototypes
in the same features as they are, `plain_320_coarse` in the coarser ones that the recipe had before; `gain_whitening` is
over the former, `gain_recipe` over the latter.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.masks import CAMVID, STEPS, Masks, refine
from benchmarks.row import Row, scored, spread_of
from segkit.labels import IGNORE, LabelSpace
from segkit.masks import read_mask
from segkit.pictures import read_image
from segkit.regions import connected_components
from segtrain.metrics.boundary import boundary_f, mean_of_images, tolerance_px
from segtrain.metrics.iou import mean_iou
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe, read_recipe
from synthgen.refine import stage
from synthgen.shipped import shipped_folder

SUPPORT, FRAMES = 10, 24
MIN_SHARE = 0.002  # objects of the SAM row: at least this share of the image
WITH_SABR = ("refine.sabr.enabled=true", "refine.mask_decoder={name: segment_anything, model: mini/sam}")
PLAIN = {
    "plain": ("refine.whitening=null",),
    "plain_320": ("refine.whitening=null", "refine.features={name: efficientnet_lite0}"),
}
GAINS = {"whitening": "plain", "recipe": "plain_320"}
THINGS = ("car", "pedestrian", "bicyclist", "sign")


def unseen() -> Iterator[Row]:
    """The recipe label-photos with SABR switched on (mini/sam), step by step, prototypes from 10 images."""
    if not CAMVID.is_dir():
        print(f"  not run: no CamVid in {CAMVID}; set SYNTHGEN_CAMVID to the folder that holds train/ and val/")
        return
    space = read_label_space("camvid")
    frames = by_sequence()
    values: dict[str, list[float]] = {}
    for name, own in frames.items():
        others = [frame for other, more in frames.items() if other != name for frame in more]
        asked = evenly(others, SUPPORT), evenly(own, FRAMES), space
        scores = _scores(*labelled(*asked, WITH_SABR), space)
        for plain, settings in PLAIN.items():
            of_plain = _scores(*labelled(*asked, settings), space)
            scores |= {f"{plain}_{name}": of_plain[name] for name in ("coarse_miou", "coarse_boundary_f")}
        print(f"  {name}: " + ", ".join(f"{key} {value:.4f}" for key, value in scores.items()), flush=True)
        for key, value in scores.items():
            values.setdefault(key, []).append(value)
    for key, of_sequences in values.items():
        yield Row(
            f"photographs/{key}", float(np.mean(of_sequences)), "fraction", spread_of(of_sequences), len(of_sequences)
        )
    over = {"apr": "coarse", "sabr": "coarse"} | {name: f"{plain}_coarse" for name, plain in GAINS.items()}
    for name, base in over.items():
        step = "apr" if name in GAINS else name
        gains = np.array(values[f"{step}_miou"]) - np.array(values[f"{base}_miou"])
        yield Row(f"photographs/gain_{name}_miou", float(gains.mean()), "fraction", spread_of(gains), len(gains))


def sam() -> Iterator[Row]:
    """Boxes of true objects of photographs to masks by mini/sam, and the filled box beside it: mean IoU over objects.

    Every second frame of the held-out frames of all sequences; connected components of four classes of things.
    """
    from synthgen.backends import load
    from synthgen.models import MaskPrompts
    from synthgen.settings import Execution

    if not CAMVID.is_dir():
        print(f"  not run: no CamVid in {CAMVID}")
        return
    space = read_label_space("camvid")
    ids = [space.by_name(name).id for name in THINGS]
    decoder = load("mask_decoder", {"name": "segment_anything", "model": "mini/sam"}, Execution(device="cpu"))
    by_sam: list[float] = []
    by_box: list[float] = []
    for frames in by_sequence().values():
        for image_path, label_path in evenly(frames, FRAMES)[::2]:
            image, mask = read_image(image_path), read_mask(label_path)
            others = tuple(i for i in range(256) if i not in ids)
            regions = connected_components(mask, exclude=others)
            wanted = np.flatnonzero(regions.areas_px >= MIN_SHARE * mask.size)
            if not len(wanted):
                continue
            boxes = regions.boxes[wanted].astype(np.float32)
            [(masks, _)] = decoder.decode([image], [MaskPrompts(boxes)])
            for region, box, answer in zip(wanted, boxes, masks, strict=True):
                truth = regions.index == region + 1
                left, top, right, bottom = box.astype(int)
                filled = np.zeros_like(truth)
                filled[top:bottom, left:right] = True
                by_sam.append(float((answer & truth).sum() / (answer | truth).sum()))
                by_box.append(float((filled & truth).sum() / (filled | truth).sum()))
    yield Row("photographs/sam_box_iou", float(np.mean(by_sam)), "fraction", spread_of(by_sam), len(by_sam))
    yield Row("photographs/filled_box_iou", float(np.mean(by_box)), "fraction", spread_of(by_box), len(by_box))


def by_sequence() -> dict[str, list[tuple[Path, Path]]]:
    """Sequence -> (image, label) of its frames in order."""
    frames: dict[str, list[tuple[Path, Path]]] = {}
    for split in ("train", "val"):
        for image in sorted((CAMVID / split / "images").iterdir()):
            label = CAMVID / split / "labels" / f"{image.stem}.png"
            frames.setdefault(image.name.partition("_")[0], []).append((image, label))
    return {name: sorted(own) for name, own in sorted(frames.items())}


def evenly(frames: list[tuple[Path, Path]], count: int) -> list[tuple[Path, Path]]:
    return [frames[n] for n in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def labelled(
    support: list[tuple[Path, Path]], frames: list[tuple[Path, Path]], space: LabelSpace, settings: Sequence[str]
) -> tuple[list[Masks], list[np.ndarray]]:
    """Each frame's masks by the recipe label-photos with `settings`, and its true mask; (image, label) files."""
    with tempfile.TemporaryDirectory() as place:
        recipe = recipe_for(support, space, Path(place), settings)
        run = Path(place) / "run"
        run.mkdir()
        images = [read_image(image) for image, _ in frames]
        masks = refine(stage.build(recipe, run), run, images, [IGNORE] * len(images))
    return masks, true_masks(frames, space)


def recipe_for(support: list[tuple[Path, Path]], space: LabelSpace, place: Path, settings: Sequence[str]) -> Recipe:
    """The recipe label-photos with `settings` and these support images, which are copied into `place`."""
    folder = place / "support"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for image, label in support:
        shutil.copy(image, folder / "images")
        write_image(_own_ids(read_mask(label), space), folder / "labels" / f"{image.stem}.png")
    shutil.copy(shipped_folder("prompts") / "camvid" / "labels.yaml", folder)
    where = [f"support.folder={folder}", f"prompts.source.folder={folder / 'images'}"]
    return read_recipe("label-photos", [*where, *settings])


def true_masks(frames: list[tuple[Path, Path]], space: LabelSpace) -> list[np.ndarray]:
    """(H, W) uint8 of each frame, 255 for what is no class of the space."""
    return [_own_ids(read_mask(label), space) for _, label in frames]


def _scores(masks: list[Masks], truth: list[np.ndarray], space: LabelSpace) -> dict[str, float]:
    scores: dict[str, float] = {}
    for step in STEPS:
        made = [m[step] for m in masks]
        scores[f"{step}_miou"] = scored(mean_iou(made, truth, space.ids))
        of_images = [boundary_f(m, t, space.ids, tolerance_px(t.shape)) for m, t in zip(made, truth, strict=True)]
        scores[f"{step}_boundary_f"] = scored(mean_of_images(of_images))
    for before, after in (("coarse", "apf"), ("apf", "apr"), ("apr", "sabr")):
        touched = np.mean([np.mean(m[before] != m[after]) for m in masks])
        scores[f"{after}_touched"] = float(touched)
    return scores


def _own_ids(mask: np.ndarray, space: LabelSpace) -> np.ndarray:
    return np.where(np.isin(mask, space.ids), mask, IGNORE).astype(np.uint8)
