"""Quality of the masks on images with known truth: rows masks/*. An unlabelled pixel (255) of a mask counts as missed.

Every proposer's coarse masks go through the same APF, APR and SABR, with the settings of the recipe. `dense_clip` and
`attention` are given no word but the class name; `segmenter` is a network that segtrain learns from the support set
alone (kept in benchmarks/scratch/). On photographs `dense_clip` and `attention` stand on minis that have seen drawings
only: those rows tell how far they are from a use on photographs, not how good the methods are with SD3.5 or CLIP ViT-L.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import SCRATCH, Row, scored, spread_of
from segkit.labels import IGNORE
from segkit.masks import read_mask as read_label_map
from segkit.pictures import read_image as read_photograph
from segtrain.config import train_config
from segtrain.methods.supervised.method import train
from segtrain.metrics.boundary import boundary_f, mean_of_images, tolerance_px
from segtrain.metrics.calibration import expected_calibration_error
from segtrain.metrics.iou import mean_iou
from synthgen.drawn import objects as objects_world
from synthgen.drawn.drawing import Drawing
from synthgen.images import read_mask, write_image
from synthgen.labels import read_label_space
from synthgen.models.proposers.attention import AttentionProposer
from synthgen.models.proposers.dense_clip import DenseClipProposer
from synthgen.recipe import Recipe, read_recipe
from synthgen.records import MaskRecord, Picture, RenderRecord, Subject, flat
from synthgen.refine import stage
from synthgen.refine.support import support_shots
from synthgen.refine.whitening import WhitenedFeatures
from synthgen.shipped import shipped_folder

STEPS = {"coarse": "coarse", "apf": "filtered", "apr": "relabelled", "sabr": "mask"}
SUPPORT_SEEDS = (7, 8, 9)
CAMVID = Path(os.environ.get("SYNTHGEN_CAMVID", Path(__file__).parents[2] / "shared" / "data" / "camvid"))
# What the recipe's settings were for prototypes: its own are for a proposer that tells probabilities.
WITHOUT_PROBABILITIES = (
    "refine.apf.lambda_apf=0.3",
    "refine.sabr={band_fraction: 0.05, min_band_px: 3, min_region_px: 20, min_agreement: 0.4}",
)
OF_PROTOTYPES = ("refine.proposer={name: prototype}", *WITHOUT_PROBABILITIES)
Masks = dict[str, np.ndarray]  # step -> (H, W) uint8
Answers = dict[str, dict[Any, Any]]  # what models have answered, by kind and question


def drawn() -> Iterator[Row]:
    """The default recipe's refinement on 200 held-out drawings, ten of each class, with its own drawn support set;

    3 support seeds.
    """
    for row in _drawn("recipe", ()):
        yield Row(row.name.replace("/recipe/", "/"), row.value, row.unit, row.spread, row.n)


def drawn_prototype() -> Iterator[Row]:
    """As `drawn`, with coarse masks from prototypes."""
    return _drawn("prototype", OF_PROTOTYPES)


def drawn_dense_clip() -> Iterator[Row]:
    """As `drawn`, with coarse masks from mini/clip and class names."""
    proposer = "refine.proposer={name: dense_clip, space: objects, model: mini/clip}"
    return _drawn("dense_clip", (proposer, *WITHOUT_PROBABILITIES))


def drawn_attention() -> Iterator[Row]:
    """As `drawn`, with coarse masks from the joint attention of mini/objects."""
    proposer = "refine.proposer={name: attention, space: objects, model: mini/objects}"
    return _drawn("attention", (proposer, *WITHOUT_PROBABILITIES))


def drawn_segmenter() -> Iterator[Row]:
    """As `drawn`, with coarse masks from a UNet that has learnt from the support set alone: 500 steps each."""
    return _drawn("segmenter", WITHOUT_PROBABILITIES)


def camvid() -> Iterator[Row]:
    """The recipe label-photos on the 101 CamVid val photographs, support of 10 images a class of the train split, real
    ImageNet features.

    `final` is what the recipe gives.
    """
    yield from _camvid("prototype", ())


def camvid_dense_clip() -> Iterator[Row]:
    """As `camvid`, with coarse masks from mini/clip and class names."""
    return _camvid("dense_clip", ("refine.proposer={name: dense_clip, space: camvid, model: mini/clip}",))


def camvid_attention() -> Iterator[Row]:
    """As `camvid`, with coarse masks from the joint attention of mini/objects, one forward a class."""
    return _camvid("attention", ("refine.proposer={name: attention, space: camvid, model: mini/objects}",))


def camvid_segmenter() -> Iterator[Row]:
    """As `camvid`, with coarse masks from a UNet that has learnt from the support set alone:

    500 steps on crops of 256 px.
    """
    return _camvid("segmenter", ())


def _drawn(proposer: str, settings: Sequence[str]) -> Iterator[Row]:
    scenes = drawn_scenes(10)
    found: dict[str, list[float]] = {}
    answers: Answers = {}
    for seed in SUPPORT_SEEDS:
        recipe = read_recipe("syn4seg-mini", [f"support.drawn.seed={seed}", *settings])
        if proposer == "segmenter":
            model = learn_from_support(recipe, f"masks-segmenter-drawn-{seed}", crop_px=64, batch_size=16)
            recipe = read_recipe(
                "syn4seg-mini",
                [
                    f"support.drawn.seed={seed}",
                    f"refine.proposer={{name: segmenter, space: objects, model: {model}}}",
                    *settings,
                ],
            )
        with tempfile.TemporaryDirectory() as place:
            built = remembering(stage.build(recipe, Path(place)), answers)
            masks = refine(built, Path(place), [s.image for s in scenes], class_ids_of(scenes))
        for name, value in drawn_scores(masks, scenes).items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        yield Row(
            f"masks/drawn/{proposer}/{name}",
            float(np.mean(values)),
            "fraction",
            spread_of(values),
            len(values),
        )


def drawn_scenes(per_class: int) -> list[Drawing]:
    """Held-out drawings, class by class in turn."""
    return [objects_world.draw(5000 + n, class_name=objects_world.CLASSES[n % 20]) for n in range(20 * per_class)]


def class_ids_of(scenes: Sequence[Drawing]) -> list[int]:
    """The class that each drawing is about."""
    return [1 + objects_world.CLASSES.index(dict(scene.attributes)["class"]) for scene in scenes]


def drawn_scores(masks: Sequence[Masks], scenes: Sequence[Drawing]) -> dict[str, float]:
    """`<step>_miou` over all classes and the background, `<step>_boundary_f` of the wanted class, mean over images, and
    `confidence_ece`, the expected calibration error of the confidence of labelled pixels.
    """
    space = read_label_space("objects")
    truth = [scene.mask for scene in scenes]
    scores = {}
    for step in STEPS:
        scores[f"{step}_miou"] = scored(mean_iou([m[step] for m in masks], truth, space.ids))
        of_images = [
            boundary_f(m[step], t, [class_id], tolerance_px(t.shape))
            for m, class_id, t in zip(masks, class_ids_of(scenes), truth, strict=True)
        ]
        scores[f"{step}_boundary_f"] = scored(mean_of_images(of_images))
    labelled = [m["sabr"] != IGNORE for m in masks]
    sure = np.concatenate([m["confidence"][known] / 255 for m, known in zip(masks, labelled, strict=True)])
    right = np.concatenate([(m["sabr"] == t)[known] for m, t, known in zip(masks, truth, labelled, strict=True)])
    scores["confidence_ece"] = scored(expected_calibration_error(sure, right))
    return scores


def _camvid(proposer: str, settings: Sequence[str]) -> Iterator[Row]:
    if not CAMVID.is_dir():
        print(f"  not run: no CamVid in {CAMVID}; set SYNTHGEN_CAMVID to the folder that holds train/ and val/")
        return
    base = [
        f"support.folder={CAMVID}",
        "support.source=camvid",
        "support.split=train",
        f"prompts.source.folder={CAMVID}/val/images",
        *settings,
    ]
    default = read_recipe("label-photos", base)
    if proposer == "segmenter":
        model = learn_from_support(default, "masks-segmenter-camvid", crop_px=256, batch_size=8)
        base.append(f"refine.proposer={{name: segmenter, space: camvid, model: {model}}}")
    recipe = read_recipe("label-photos", base)
    space = read_label_space(recipe.labels.space)
    files = sorted((CAMVID / "val" / "images").iterdir())
    with tempfile.TemporaryDirectory() as place:
        photographs = [read_photograph(file) for file in files]
        masks = refine(stage.build(recipe, Path(place)), Path(place), photographs, [IGNORE] * len(files))
    truth = [read_label_map(CAMVID / "val" / "labels" / f"{file.stem}.png") for file in files]
    truth = [np.where(np.isin(t, space.ids), t, IGNORE).astype(np.uint8) for t in truth]
    overlap = {step: scored(mean_iou([m[step] for m in masks], truth, space.ids)) for step in STEPS}
    for step in STEPS:
        yield Row(f"masks/camvid/{proposer}/{step}_miou", overlap[step], "fraction", "", len(files))
        of_images = [
            scored(boundary_f(m[step], t, space.ids, tolerance_px(t.shape))) for m, t in zip(masks, truth, strict=True)
        ]
        yield Row(
            f"masks/camvid/{proposer}/{step}_boundary_f",
            float(np.mean(of_images)),
            "fraction",
            spread_of(of_images),
            len(files),
        )
    if proposer == "prototype":
        yield Row("masks/camvid/coarse_miou", overlap["coarse"], "fraction", "", len(files))
        yield Row(
            "masks/camvid/final_miou",
            overlap["sabr" if default.refine.sabr.enabled else "apr"],
            "fraction",
            "",
            len(files),
        )


def refine(built: stage.RefineStage, run: Path, images: Sequence[np.ndarray], class_ids: Sequence[int]) -> list[Masks]:
    """Each image's mask after every step, by the pipeline's own stage, built for the run folder `run`.

    `class_ids` 255 = any class.
    """
    (run / "refine" / "0").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (image, class_id) in enumerate(zip(images, class_ids, strict=True)):
        write_image(image, run / f"{number}.png")
        rows.append(
            RenderRecord(
                f"s{number:05d}",
                "p",
                Subject("", class_id, "", ()),
                Picture(f"{number}.png", image.shape[0], image.shape[1], 0, "", "", 0, 0.0, "", ""),
            )
        )
    made = {row.key: row for row in built.process(rows, run / "refine" / "0", "0") if isinstance(row, MaskRecord)}
    files = {**STEPS, "confidence": "confidence"}
    return [{step: read_mask(run / flat(made[row.key])[field]) for step, field in files.items()} for row in rows]


def remembering(built: stage.RefineStage, answers: Answers) -> stage.RefineStage:
    """A stage whose models answer the same question only once, also for other support sets and settings.

    `answers` is shared between stages of one proposer. Features and masks from boxes follow from the image alone,
    coarse masks too unless the proposer learns from the support set.
    """
    features, propose = answers.setdefault("features", {}), answers.setdefault("coarse", {})
    extractor: Any = built._extractor
    proposer: Any = built._proposer
    decoder: Any = built._decoder
    if isinstance(extractor, WhitenedFeatures):  # its whitening follows from the support set, what it whitens does not
        extractor = extractor.extractor
    extractor.features = _remembered(extractor.features, lambda image: image.tobytes(), features)
    if isinstance(built._proposer, AttentionProposer | DenseClipProposer):
        proposer.propose_scored = _remembered(
            proposer.propose_scored, lambda r: (r.image.tobytes(), r.candidates, r.prompt), propose
        )
    if decoder is not None:
        boxes = answers.setdefault("boxes", {})
        decoder.decode = _remembered(
            decoder.decode, lambda image, asked: (image.tobytes(), asked.boxes.tobytes()), boxes
        )
    return built


def _remembered(
    function: Callable[..., list[Any]], key: Callable[..., Any], answers: dict[Any, Any]
) -> Callable[..., list[Any]]:
    """A function of lists (lists in, list out, each item by itself) that asks only for what is not in `answers` yet."""

    def asked(*lists: Sequence[Any]) -> list[Any]:
        items = list(zip(*lists, strict=True))
        keys = [key(*item) for item in items]
        new = [n for n, k in enumerate(keys) if k not in answers]
        if new:
            given = function(*([items[n][part] for n in new] for part in range(len(lists))))
            answers.update((keys[n], answer) for n, answer in zip(new, given, strict=True))
        return [answers[k] for k in keys]

    return asked


def learn_from_support(recipe: Recipe, name: str, crop_px: int, batch_size: int) -> Path:
    """A folder of segtrain's with a small UNet, learnt in 500 steps from the recipe's support shots;

    made once and kept.
    """
    folder, out = SCRATCH / f"{name}-support", SCRATCH / name
    if not folder.is_dir():
        making = folder.with_name(f".{folder.name}.{os.getpid()}")
        for part in ("images", "labels"):
            (making / part).mkdir(parents=True)
        for number, shot in enumerate(support_shots(recipe, read_label_space(recipe.labels.space))):
            write_image(shot.image, making / "images" / f"{number:04d}.png")
            write_image(shot.mask, making / "labels" / f"{number:04d}.png")
        shutil.copy(shipped_folder("prompts") / recipe.labels.space / "labels.yaml", making)
        making.rename(folder)
    train(
        train_config(
            data=(str(folder),), out=out, steps=500, crop_px=crop_px, batch_size=batch_size, seed=0, num_threads=1
        )
    )
    return out
