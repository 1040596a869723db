"""What batching the mask decoder saves: row refine/sam_speedup."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.row import Row
from synthgen.backends import load
from synthgen.drawn import streets
from synthgen.models.mask_decoders.segment_anything import load_sam
from synthgen.recipe import Execution
from synthgen.refine.regions import connected_components, padded_boxes

MODEL = "mini/sam"
REGIONS = 8
IMAGES = 8
SIZE_PX = (96, 144)


def sam_speedup() -> Iterator[Row]:
    """The decoder backend (an image is encoded once, all of its boxes are decoded in one call) against a loop over
    regions.

    Baseline: the straightforward loop of a script that refines one region at a time, with segment_anything's own
    SamPredictor on the same weights: for each region `set_image(image)`, then `predict(box=box,
    multimask_output=False)`. Second baseline, printed only: `set_image` once an image, then one `predict` a box. Images
    are drawn street scenes with the boxes of their 8 largest regions. Times are CPU seconds on one thread, so other
    work on the machine does not enter; the row is the ratio of medians over images, the spread that of the images' own
    ratios. Raises RuntimeError if a single mask pixel differs from the baseline's.
    """
    from segment_anything import SamPredictor

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours = load("mask_decoder", {"name": "segment_anything", "model": MODEL}, Execution(device="cpu"))
        predictor = SamPredictor(load_sam(MODEL))
        images = list(_street_scenes())
        seconds: dict[str, list[float]] = {"ours": [], "set_image per region": [], "set_image once": []}
        for number, (image, boxes) in enumerate([images[0], *images]):  # the first one twice: it warms up
            times: dict[str, float] = {}
            [(masks, ious)] = _timed(times, "ours", lambda image=image, boxes=boxes: ours.decode([image], [boxes]))
            naive = _timed(
                times,
                "set_image per region",
                lambda image=image, boxes=boxes: [_predict(predictor, image, box) for box in boxes],
            )
            once = _timed(
                times, "set_image once", lambda image=image, boxes=boxes: _predict_all(predictor, image, boxes)
            )
            for theirs in (naive, once):
                _require_equal(masks, ious, theirs)
            if number:
                for name, value in times.items():
                    seconds[name].append(value)
    finally:
        torch.set_num_threads(threads)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, value in medians.items():
        print(
            f"  {name}: {1000 * value:.1f} ms an image of {REGIONS} regions, {value / medians['ours']:.2f} x",
            flush=True,
        )
    each = np.array(seconds["set_image per region"]) / np.array(seconds["ours"])
    yield Row(
        "refine/sam_speedup", medians["set_image per region"] / medians["ours"], "x", float(each.std()), len(images)
    )


def _street_scenes() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images with the padded boxes (8, 4) of their largest regions."""
    found, seed = 0, 0
    while found < IMAGES:
        scene, seed = streets.draw(9000 + seed, SIZE_PX), seed + 1
        regions = connected_components(scene.mask)
        if len(regions) >= REGIONS:
            largest = np.sort(np.argsort(-regions.areas_px, kind="stable")[:REGIONS])
            found += 1
            yield scene.image, padded_boxes(regions.boxes[largest], 0.05, SIZE_PX)


def _timed(times: dict[str, float], name: str, call: Any) -> Any:
    began = time.process_time()
    result = call()
    times[name] = time.process_time() - began
    return result


def _predict(predictor: Any, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float]:
    predictor.set_image(image)
    masks, scores, _ = predictor.predict(box=box, multimask_output=False)
    return masks[0], float(scores[0])


def _predict_all(predictor: Any, image: np.ndarray, boxes: np.ndarray) -> list[tuple[np.ndarray, float]]:
    predictor.set_image(image)
    found = []
    for box in boxes:
        masks, scores, _ = predictor.predict(box=box, multimask_output=False)
        found.append((masks[0], float(scores[0])))
    return found


def _require_equal(masks: np.ndarray, ious: np.ndarray, theirs: list[tuple[np.ndarray, float]]) -> None:
    """Same masks to the pixel; predicted IoUs to float rounding, ours clipped to 0..1."""
    differ = int(np.count_nonzero(masks != np.stack([mask for mask, _ in theirs])))
    if differ:
        raise RuntimeError(f"{differ} pixels of {masks.size} differ from segment_anything's own predictor")
    np.testing.assert_allclose(ious, np.clip([score for _, score in theirs], 0, 1), atol=1e-4)
