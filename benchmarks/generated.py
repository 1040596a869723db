"""Masks of *generated* images, which is what the pipeline makes: rows masks/generated/*.

Nobody has the truth of a generated image. An oracle stands for it: a segmenter trained on 3,000 exact drawings of the
same world (seeds that nothing else uses), which has seen neither a generated image nor the pipeline's masks. Its own
mIoU on held-out drawings is a row beside, and so is what it reaches there in the measure of the masks (`oracle_iou`):
the ceiling by its own error. A mask is broken where its IoU is below 0.5. A mask is compared with the oracle's object
pixels, of whatever class: whether the image shows the wanted class is another question (minis/object_obedience). Images
are those of the default recipe, before the filter; those in which the oracle sees no object (under 1 % of the image)
are left out and counted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.row import SCRATCH, Row, spread_of
from segtrain.config import train_config
from segtrain.evaluate import evaluate
from segtrain.methods.supervised.method import train
from segtrain.metrics.boundary import boundary_f, tolerance_px
from segtrain.segmenter import Segmenter, load_model
from synthgen import stages
from synthgen.drawn import objects as objects_world
from synthgen.drawn.split import write_split
from synthgen.images import read_image, read_mask
from synthgen.records import flat

TRAIN_SEED, NUM_TRAIN = 600_000, 3_000
HELD_OUT_SEED, NUM_HELD_OUT = 3_000, 300
STEPS = 1_500
BROKEN = 0.5
ORACLE = SCRATCH / "oracle-objects"
COLUMNS = {"coarse": "coarse", "apf": "filtered", "apr": "relabelled", "final": "mask"}


def masks() -> Iterator[Row]:
    """Mean IoU over images (n = images) of each step's mask and of the final masks that the filter keeps."""
    segmenter = oracle()
    held_out = _drawings("oracle-held-out", NUM_HELD_OUT, HELD_OUT_SEED)
    of_drawings = evaluate(ORACLE, held_out).miou or 0
    yield Row("masks/generated/oracle_drawn_miou", float(of_drawings), "fraction", "", NUM_HELD_OUT)
    drawings = [objects_world.draw(HELD_OUT_SEED + n) for n in range(NUM_HELD_OUT)]
    found = segmenter.predict([drawing.image for drawing in drawings])
    own = [iou(mask != 0, drawing.mask != 0) for mask, drawing in zip(found, drawings, strict=True)]
    yield Row("masks/generated/oracle_iou", float(np.mean(own)), "fraction", spread_of(own), NUM_HELD_OUT)
    runs = SCRATCH / "runs"
    command = [sys.executable, "-m", "synthgen", "run", "syn4seg-mini", "--runs", str(runs), "--run", "generated"]
    subprocess.run(command, check=True, capture_output=True)
    every = stages.stages(runs / "generated")
    rows = every["refine"].rows()
    kept = {row.key for row in every["filter"].rows()}
    images = [read_image(runs / "generated" / row.picture.image) for row in rows]
    objects = [prediction != 0 for prediction in segmenter.predict(images)]
    overlaps: dict[str, list[float]] = {step: [] for step in (*COLUMNS, "kept_final")}
    contours: dict[str, list[float]] = {step: [] for step in COLUMNS}
    of_class: dict[int, list[float]] = {}
    unseen = 0
    for row, truth in zip(rows, objects, strict=True):
        if truth.mean() < 0.01:
            unseen += 1
            continue
        for step, column in COLUMNS.items():
            mask = read_mask(runs / "generated" / flat(row)[column]) == row.subject.class_id
            overlaps[step].append(iou(mask, truth))
            score = boundary_f(mask.astype(np.uint8), truth.astype(np.uint8), [1], tolerance_px(truth.shape))
            contours[step].append(score or 0.0)
        of_class.setdefault(row.subject.class_id, []).append(overlaps["final"][-1])
        if row.key in kept:
            overlaps["kept_final"].append(overlaps["final"][-1])
    for step, values in overlaps.items():
        yield Row(f"masks/generated/{step}_iou", float(np.mean(values)), "fraction", spread_of(values), len(values))
    for step in ("coarse", "final"):
        broken = float(np.mean(np.asarray(overlaps[step]) < BROKEN))
        yield Row(f"masks/generated/{step}_broken", broken, "fraction", "", len(overlaps[step]))
        edges = contours[step]
        yield Row(f"masks/generated/{step}_boundary_f", float(np.mean(edges)), "fraction", spread_of(edges), len(edges))
    worst = min(of_class.values(), key=np.mean)
    yield Row("masks/generated/worst_class_iou", float(np.mean(worst)), "fraction", spread_of(worst), len(worst))
    for class_id, values in sorted(of_class.items()):
        print(f"  {objects_world.CLASSES[class_id - 1]}: {np.mean(values):.3f}", flush=True)
    yield Row("masks/generated/no_object", unseen, "images", "", len(rows))


def oracle() -> Segmenter:
    """The judge, trained where it lacks."""
    train(
        train_config(
            data=(str(_drawings("oracle-drawings", NUM_TRAIN, TRAIN_SEED)),), out=ORACLE, steps=STEPS, crop_px=64,
            batch_size=16, seed=0, num_threads=1, encoder="tu-tf_efficientnet_lite0", encoder_weights="package",
        )
    )  # fmt: skip
    return load_model(ORACLE, "cpu")


def _drawings(name: str, count: int, first_seed: int) -> Path:
    folder = SCRATCH / name
    if not folder.exists():
        write_split(folder, "objects", count, first_seed)
    return folder


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Of two bool masks, `truth` not empty."""
    return float((mask & truth).sum() / (mask | truth).sum())
