"""What batching the mask decoder saves: rows refine/sam_speedup and refine/sam_speedup_reencoding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.row import Row, spread_of
from segkit.regions import connected_components
from synthgen.backends import load
from synthgen.drawn import streets
from synthgen.models import MaskPrompts
from synthgen.models.mask_decoders.segment_anything import load_sam
from synthgen.refine.regions import padded_boxes
from synthgen.settings import Execution

MODEL = "mini/sam"
REGIONS = 8
IMAGES = 8
SIZE_PX = (96, 144)


def sam_speedup() -> Iterator[Row]:
    """The decoder backend (an image is encoded once, all of its boxes are decoded in one call) against a loop over
    regions.

    `sam_speedup` is against what a script does that follows segment_anything's own example: `set_image` once an image,
    then `predict(box=box, multimask_output=False)` for each region, on the same weights. `sam_speedup_reencoding` is
    against a loop that calls `set_image` again for each region. Images are drawn street scenes with the boxes of their
    8 largest regions. Times are CPU seconds on one thread, so other work on the machine does not enter; a row is the
    ratio of medians over images, its spread that of the images' own ratios. Raises RuntimeError if a single mask pixel
    differs from a baseline's.
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
            [(masks, ious)] = _timed(
                times, "ours", lambda image=image, boxes=boxes: ours.decode([image], [MaskPrompts(boxes)])
            )
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
    for row, baseline in (
        ("refine/sam_speedup", "set_image once"),
        ("refine/sam_speedup_reencoding", "set_image per region"),
    ):
        ratios = np.array(seconds[baseline]) / np.array(seconds["ours"])
        yield Row(row, medians[baseline] / medians["ours"], "x", spread_of(ratios), len(images))


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
