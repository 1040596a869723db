"""Refinement from end to end beside a straightforward loop: rows refine/{64,256}/*.

Drawn objects of 64 and of 256 px with the settings of `syn4seg-mini`, five support images a class, the same ImageNet
features, the same mini SAM. `ours` is the stage `refine` as a run does it, in batches of BATCH. `loop` is what one
would write by hand after the paper: image after image, one network call each, features brought to the image's size and
compared pixel by pixel, regions one after the other, `SamPredictor.set_image` once an image and `predict` for each
region (segment_anything's own example), PNGs by Pillow as it comes. Both must give the same masks but for rounding (at
most LEEWAY of the pixels), or there is no row.

Images a second of the processor's time on one thread; for each step (features; coarse; ape: APF and APR; sabr: SAM and
what comes of it; files) and for all. Rounds of both in turn, the first left out; spread is over rounds.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from benchmarks.masks import OF_PROTOTYPES
from benchmarks.row import Row, spread_of
from segkit.labels import IGNORE
from synthgen.drawn import objects
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.models.mask_decoders.segment_anything import load_sam
from synthgen.recipe import Recipe, read_recipe
from synthgen.records import Picture, RenderRecord, Subject, key_of
from synthgen.refine import stage
from synthgen.refine.stage import RefineStage

SIZES = {64: 64, 256: 24}  # px -> images
STEPS = ("features", "coarse", "ape", "sabr", "files")
WAYS = ("ours", "loop")
ROUNDS = 5
LEEWAY = 0.002
ROWS = tuple(f"refine/{size}/{what}_{way}" for size in SIZES for what in (*STEPS, "all") for way in (*WAYS, "ratio"))


def rows() -> Iterator[Row]:
    """refine/{64,256}/{features,coarse,ape,sabr,files,all}_{ours,loop,ratio}."""
    for size, images in SIZES.items():
        yield from rows_of(size, images)


def rows_of(size: int, images: int, rounds: int = ROUNDS, sets: Sequence[str] = ()) -> Iterator[Row]:
    """Of one size; `sets` changes the recipe. Raises RuntimeError if the masks differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, list[defaultdict[str, float]]] = {way: [] for way in WAYS}
    try:
        with tempfile.TemporaryDirectory() as place:
            run = Path(place)
            recipe = read_recipe("syn4seg-mini", [f"support.drawn.size_px={size}", *OF_PROTOTYPES, *sets])
            records = pictures(run, recipe, size, images)
            built = stage.build(recipe, run)
            by_hand = Loop(recipe, built)
            for number in range(rounds + 1):
                for way in WAYS:
                    folder = run / f"{way}-{number}"
                    folder.mkdir()
                    clock = Clock()
                    if way == "ours":
                        _ours(built, records, folder, clock)
                    else:
                        by_hand.process(run, records, folder, clock)
                    if number:
                        found[way].append(clock.seconds)
                _require_same(records, run / f"ours-{number}", run / f"loop-{number}")
    finally:
        torch.set_num_threads(threads)
    for what in (*STEPS, "all"):
        speeds = {way: np.array([images / seconds[what] for seconds in found[way]]) for way in WAYS}
        for way, of_way in speeds.items():
            yield Row(f"refine/{size}/{what}_{way}", float(np.median(of_way)), "images/s", spread_of(of_way), rounds)
        ratios = speeds["ours"] / speeds["loop"]
        yield Row(f"refine/{size}/{what}_ratio", float(np.median(ratios)), "x", spread_of(ratios), rounds)


class Clock:
    """Processor seconds by step, and of `all`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Count what happens inside as `step`."""
        began = time.process_time()
        yield
        self.seconds[step] += time.process_time() - began


def pictures(run: Path, recipe: Recipe, size: int, count: int) -> list[RenderRecord]:
    """Drawn objects that no support set has, written as the stage `render` would."""
    space = read_label_space(recipe.labels.space)
    (run / "render").mkdir()
    found = []
    for number in range(count):
        name = objects.CLASSES[number % len(objects.CLASSES)]
        drawing = objects.draw(70_000 + number, size, class_name=name)
        key, path = key_of("s", "refine", number), f"render/{number:04d}.png"
        write_image(drawing.image, run / path)
        subject = Subject(name, space.by_name(name).id, drawing.caption, ())
        picture = Picture(path, size, size, number, "drawn", "1", 0, 0.0, "", "")
        found.append(RenderRecord(key, key_of("p", number), subject, picture))
    return found


def _ours(built: RefineStage, records: Sequence[RenderRecord], folder: Path, clock: Clock) -> None:
    """The stage with a clock at its seams."""

    def timed(step: str, call: Any) -> Any:
        def inner(*arguments: Any, **named: Any) -> Any:
            with clock.of(step):
                return call(*arguments, **named)

        return inner

    extractor, proposer, decoder = built._extractor, built._proposer, built._decoder
    assert extractor is not None and decoder is not None
    seams: list[tuple[Any, str, str]] = [
        (extractor, "features", "features"),
        (proposer, "propose_scored", "coarse"),
        (built, "_enhance", "ape"),
        (decoder, "decode", "sabr"),
        (built, "_finished", "sabr"),
        (stage, "write_image", "files"),
    ]
    with contextlib.ExitStack() as undo, clock.of("all"):
        for owner, name, step in seams:
            before = getattr(owner, name)
            undo.callback(setattr, owner, name, before)
            setattr(owner, name, timed(step, before))
        list(built.process(records, folder, "unit"))


class Loop:
    """Syn4Seg's steps by hand: one image, one region, one pixel's features after the other."""

    def __init__(self, recipe: Recipe, built: RefineStage) -> None:
        from segment_anything import SamPredictor

        self._settings, self._extractor = recipe.refine, built._extractor
        self._prototypes, self._background = built._prototypes, built._background
        self._predictor = SamPredictor(load_sam(recipe.refine.mask_decoder.model_dump()["model"]))

    def process(self, run: Path, records: Sequence[RenderRecord], folder: Path, clock: Clock) -> None:
        with clock.of("all"):
            for record in records:
                image = np.asarray(Image.open(run / record.picture.image))
                self._one(image, record, folder, clock)

    def _one(self, image: np.ndarray, record: RenderRecord, folder: Path, clock: Clock) -> None:
        assert self._extractor is not None and self._background is not None
        candidates = [record.subject.class_id, self._background]
        with clock.of("features"):
            [grid] = self._extractor.features([image])
            features = self._upsampled(grid, image.shape[:2], "bilinear")
        with clock.of("coarse"):
            coarse, _ = self._nearest(features, candidates, self._prototypes.vectors)
        with clock.of("ape"):
            of_cells = self._upsampled(grid, image.shape[:2], "nearest-exact")
            filtered = self._apf(coarse, of_cells)
            moved = self._moved(filtered, of_cells)
            best, cosines = self._nearest(features, candidates, moved)
            ordered = np.sort(cosines, axis=-1)
            apr = self._settings.apr
            sure = (ordered[..., -1] >= apr.min_cosine) & (ordered[..., -1] - ordered[..., -2] >= apr.min_margin)
            relabelled = np.where((filtered == IGNORE) & sure, best, filtered)
        with clock.of("sabr"):
            mask, scores = self._sabr(image, relabelled)
            confidence = self._confidence(mask, relabelled, cosines, candidates, scores)
        with clock.of("files"):
            parts = {"coarse": coarse, "filtered": filtered, "relabelled": relabelled, "mask": mask}
            for name, array in {**parts, "confidence": confidence}.items():
                Image.fromarray(array.astype(np.uint8)).save(folder / f"{record.key}_{name}.png")

    def _upsampled(self, grid: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
        """(h, w, D) to (H, W, D)."""
        planes = torch.from_numpy(grid).permute(2, 0, 1)[None]
        how = {"align_corners": False} if mode == "bilinear" else {}
        return functional.interpolate(planes, size, mode=mode, **how)[0].permute(1, 2, 0).numpy()

    def _nearest(
        self, features: np.ndarray, candidates: Sequence[int], vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest candidate (H, W) uint8, and the cosines (H, W, K)."""
        cosines = features @ vectors.T
        owners = np.asarray(self._prototypes.ids)
        by_class = np.stack([cosines[..., owners == k].max(axis=-1) for k in candidates], axis=-1)
        return np.asarray(candidates, np.uint8)[by_class.argmax(axis=-1)], by_class

    def _apf(self, coarse: np.ndarray, of_cells: np.ndarray) -> np.ndarray:
        filtered, apf = coarse.copy(), self._settings.apf
        for class_id in np.unique(coarse):
            if class_id in (IGNORE, self._background):
                continue
            labelled, count = ndimage.label(coarse == class_id, np.ones((3, 3)))
            vectors = self._prototypes.vectors[np.asarray(self._prototypes.ids) == class_id]
            for number in range(1, count + 1):
                region = labelled == number
                mean = of_cells[region].mean(axis=0)
                likeness = (vectors @ (mean / np.linalg.norm(mean))).max(initial=-np.inf)
                if likeness < apf.lambda_apf or region.sum() < apf.min_region_px:
                    filtered[region] = IGNORE
        return filtered

    def _moved(self, filtered: np.ndarray, of_cells: np.ndarray) -> np.ndarray:
        """The prototypes, moved towards the image."""
        moved, owners, beta = self._prototypes.vectors.copy(), np.asarray(self._prototypes.ids), self._settings.apr.beta
        for class_id in np.unique(filtered):
            rows = np.flatnonzero(owners == class_id)
            if class_id == IGNORE or not len(rows):
                continue
            trusted = of_cells[filtered == class_id]
            closest = (trusted @ self._prototypes.vectors[rows].T).argmax(axis=1)
            for number, row in enumerate(rows):
                if (closest == number).any():
                    mean = trusted[closest == number].mean(axis=0)
                    vector = beta * moved[row] + (1 - beta) * mean / np.linalg.norm(mean)
                    moved[row] = vector / np.linalg.norm(vector)
        return moved

    def _confidence(
        self,
        mask: np.ndarray,
        before: np.ndarray,
        cosines: np.ndarray,
        candidates: Sequence[int],
        scores: np.ndarray,
    ) -> np.ndarray:
        """(H, W) 0..255: how far a label leads the other candidate, or SAM's word where SAM has decided."""
        first, second = cosines[..., 0], cosines[..., 1]
        lead = np.where(mask == candidates[0], first - second, second - first)
        confidence = np.maximum(1, np.rint(255 / (1 + np.exp(-np.clip(lead / 0.1, -30, 30)))))
        changed = (mask != before) & (mask != IGNORE)
        confidence[changed] = np.clip(np.rint(255 * scores[changed]), 1, 255)
        confidence[mask == IGNORE] = 0
        return confidence

    def _sabr(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mask after SAM, and what SAM said of itself where it changed something."""
        sabr, (height, width) = self._settings.sabr, mask.shape
        radius = max(sabr.min_band_px, round(sabr.band_fraction * min(height, width)))
        refined, best = mask.copy(), np.full(mask.shape, -np.inf)
        cleared, claimed = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
        self._predictor.set_image(image)
        for class_id in np.unique(mask):
            if class_id in (IGNORE, self._background):
                continue
            labelled, count = ndimage.label(mask == class_id, np.ones((3, 3)))
            for number in range(1, count + 1):
                region = labelled == number
                if region.sum() < sabr.min_region_px:
                    continue
                ys, xs = np.nonzero(region)
                x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                more_x, more_y = sabr.box_padding * (x1 - x0), sabr.box_padding * (y1 - y0)
                box = np.clip([x0 - more_x, y0 - more_y, x1 + more_x, y1 + more_y], 0, [width, height, width, height])
                answers, scores, _ = self._predictor.predict(box=box, multimask_output=False)
                answer, score = answers[0], float(np.clip(scores[0], 0, 1))
                union = (region | answer).sum()
                if not union or (region & answer).sum() / union < sabr.min_agreement:
                    continue
                edge = region & ~ndimage.binary_erosion(region, border_value=1)
                band = ndimage.binary_dilation(edge, np.ones((2 * radius + 1, 2 * radius + 1)))
                inside = np.zeros(mask.shape, bool)
                inside[int(np.floor(box[1])) : int(np.ceil(box[3])), int(np.floor(box[0])) : int(np.ceil(box[2]))] = (
                    True
                )
                claim = (band | (mask == IGNORE)) & inside & answer & (score > np.where(claimed, best, -np.inf))
                refined[claim], best[claim], claimed[claim] = class_id, score, True
                clear = band & inside & ~answer & region & ~claimed
                refined[clear], best[clear], cleared[clear] = self._background, score, True
        return refined, best


def _require_same(records: Sequence[RenderRecord], ours: Path, loop: Path) -> None:
    for name in ("coarse", "filtered", "relabelled", "mask", "confidence"):
        pairs = [[np.asarray(Image.open(f / f"{r.key}_{name}.png")) for f in (ours, loop)] for r in records]
        # a step of a confidence is rounding, of an id it is not
        apart = [np.abs(one.astype(int) - other) > (1 if name == "confidence" else 0) for one, other in pairs]
        share = float(np.mean(apart))
        if share > LEEWAY:
            raise RuntimeError(f"{name}: {share:.2%} of the pixels differ between the stage and the loop")
