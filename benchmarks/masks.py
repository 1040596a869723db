"""Quality of the masks on images with known truth: rows masks/*. An unlabelled pixel (255) of a mask counts as missed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.row import Row
from synthgen.images import read_image, read_mask, write_image
from synthgen.labels import IGNORE, LabelSpace, read_label_space
from synthgen.minis.world import objects as objects_world
from synthgen.recipe import Recipe, read_recipe
from synthgen.records import MaskRecord, RenderRecord

STEPS = {"coarse": "coarse", "apf": "filtered", "apr": "relabelled", "sabr": "mask"}
TOLERANCE_PX = 1  # of the boundary F measure at 64 px
CAMVID = Path(os.environ.get("SYNTHGEN_CAMVID", Path(__file__).parents[2] / "shared" / "data" / "camvid"))


def drawn() -> Iterator[Row]:
    """The default recipe's refinement on 200 held-out drawings, ten of each class, with its own drawn support set; 3 support seeds."""
    scenes = [objects_world.draw(5000 + n, class_name=objects_world.CLASSES[n % 20]) for n in range(200)]
    found: dict[str, list[float]] = {}
    for seed in (7, 8, 9):
        recipe = read_recipe("syn4seg-mini", [f"support.drawn.seed={seed}"])
        space = read_label_space(recipe.labels.space)
        with tempfile.TemporaryDirectory() as place:
            names = [dict(scene.attributes)["class"] for scene in scenes]
            masks = refine(recipe, Path(place), [s.image for s in scenes], [space.by_name(name).id for name in names])
        truth = [scene.mask for scene in scenes]
        for step in STEPS:
            found.setdefault(f"{step}_miou", []).append(miou([m[step] for m in masks], truth, space))
            pairs = [(m[step] == space.by_name(name).id, t == space.by_name(name).id) for m, name, t in zip(masks, names, truth, strict=True)]
            found.setdefault(f"{step}_boundary_f", []).append(float(np.mean([boundary_f(a, b, TOLERANCE_PX) for a, b in pairs])))
    for name, values in found.items():
        yield Row(f"masks/drawn/{name}", float(np.mean(values)), "fraction", float(np.std(values)), len(values) * len(scenes))


def camvid() -> Iterator[Row]:
    """The recipe label-photos on the 101 CamVid val photographs, support of 10 images spread over the train split, real ImageNet features."""
    if not CAMVID.is_dir():
        print(f"  not run: no CamVid in {CAMVID}; set SYNTHGEN_CAMVID to the folder that holds train/ and val/")
        return
    recipe = read_recipe("label-photos", [f"support.folder={CAMVID}/train", f"prompts.source.folder={CAMVID}/val/images"])
    space = read_label_space(recipe.labels.space)
    files = sorted((CAMVID / "val" / "images").iterdir())
    with tempfile.TemporaryDirectory() as place:
        masks = refine(recipe, Path(place), [read_image(file) for file in files], [IGNORE] * len(files))
    truth = [read_mask(CAMVID / "val" / "labels" / f"{file.stem}.png") for file in files]
    truth = [np.where(np.isin(t, space.ids), t, IGNORE).astype(np.uint8) for t in truth]
    for name, step in (("coarse", "coarse"), ("final", "sabr")):
        yield Row(f"masks/camvid/{name}_miou", miou([m[step] for m in masks], truth, space), "fraction", "", len(files))


def refine(recipe: Recipe, run: Path, images: list[np.ndarray], class_ids: list[int]) -> list[dict[str, np.ndarray]]:
    """Each image's mask after every step, by the pipeline's own stage. `class_ids` 255 = any class."""
    from synthgen.refine import stage

    (run / "refine" / "0").mkdir(parents=True)
    rows = []
    for number, (image, class_id) in enumerate(zip(images, class_ids, strict=True)):
        write_image(image, run / f"{number}.png")
        rows.append(
            RenderRecord(
                key=f"s{number:05d}",
                parent="p",
                class_name="",
                class_id=class_id,
                prompt="",
                attributes=(),
                seed=0,
                image=f"{number}.png",
                height_px=image.shape[0],
                width_px=image.shape[1],
                renderer="",
                model_revision="",
                steps=0,
                guidance=0.0,
                layout="",
            )
        )
    made = {row.key: row for row in stage.build(recipe, run).process(rows, run / "refine" / "0", "0") if isinstance(row, MaskRecord)}
    return [{step: read_mask(run / getattr(made[row.key], field)) for step, field in STEPS.items()} for row in rows]


def miou(predicted: list[np.ndarray], truth: list[np.ndarray], space: LabelSpace) -> float:
    """Mean IoU over the classes that occur in the truth, background included; pixels whose truth is 255 do not count."""
    both = np.zeros(256, dtype=np.int64)
    either = np.zeros(256, dtype=np.int64)
    there = np.zeros(256, dtype=np.int64)
    for p, t in zip(predicted, truth, strict=True):
        valid = t != IGNORE
        p, t = p[valid], t[valid]
        hit, ours, theirs = np.bincount(t[p == t], minlength=256), np.bincount(p, minlength=256), np.bincount(t, minlength=256)
        both, either, there = both + hit, either + ours + theirs - hit, there + theirs
    present = [i for i in space.ids if there[i]]
    return float(np.mean([both[i] / either[i] for i in present]))


def boundary_f(predicted: np.ndarray, truth: np.ndarray, tolerance_px: int) -> float:
    """F measure of two masks' boundaries: a boundary pixel is right if the other boundary is within the tolerance (Csurka et al. 2013)."""
    ours, theirs = (mask & ~ndimage.binary_erosion(mask, border_value=1) for mask in (predicted, truth))
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    reach = np.ones((2 * tolerance_px + 1,) * 2, dtype=bool)
    precision = (ours & ndimage.binary_dilation(theirs, reach)).sum() / ours.sum()
    recall = (theirs & ndimage.binary_dilation(ours, reach)).sum() / theirs.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
