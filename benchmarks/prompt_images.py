"""What a prompt bank does to the images at equal budget: rows prompts/<bank>/image_diversity and prompts/<bank>/kid.

The three banks of benchmarks/prompts.py in the words that the mini denoiser knows (vocabulary `objects`), 4 prompts for
each of 20 classes, one image a prompt, the settings of the recipe syn4seg-mini:

classname   "a photo of a <class>", 4 times with other noise
templates   classes, openings and places drawn at random, times and weathers as often as in CLOUDS' list; nothing
compared with anything
hdig        the grammar through the bank, as the recipe does it

image_diversity   mean of 1 - cosine between the images of one class, averaged over the classes
kid               kernel inception distance (Binkowski et al., ICLR 2018: unbiased squared MMD, cubic kernel) to 600
held-out drawings, 30 a class.
                  Features are ImageNet's (EfficientNet-Lite0, averaged over the image), scaled so that those of the
                  drawings have mean square 1; they are not Inception's, so the values compare with each other only

Images are kept in benchmarks/scratch and used again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.prompts import BANKS, bank_of, shares_of
from benchmarks.row import SCRATCH, Row, spread_of
from segkit.labels import LabelSpace
from synthgen.backends import load
from synthgen.drawn import objects as world
from synthgen.labels import read_label_space
from synthgen.models import FeatureExtractor, RenderJob
from synthgen.prompts.words import article
from synthgen.recipe import read_recipe
from synthgen.records import seed_of
from synthgen.settings import Execution

MEASURES = ("image_diversity", "kid")
PER_CLASS = 4
SEEDS = (0, 1, 2)
DRAWN_PER_CLASS = 30
OPENINGS = ("a photo of", "a picture of")
WHEN = {"on a rainy day": 11, "on a clear day": 13, "at night": 7, "on a foggy day": 3, "": 66}
CPU = Execution(device="cpu")


def images() -> Iterator[Row]:
    """All rows, mean and spread over three seeds: 720 images, about 6 minutes of one core."""
    yield from rows(PER_CLASS, SEEDS, DRAWN_PER_CLASS, SCRATCH / "prompt-images")


def rows(per_class: int, seeds: tuple[int, ...], drawn_per_class: int, place: Path) -> Iterator[Row]:
    """The same for any size."""
    extractor = load("feature_extractor", {"name": "efficientnet_lite0", "input_px": 224}, CPU)
    drawings = [world.draw(5000 + n, class_name=world.CLASSES[n % 20]).image for n in range(20 * drawn_per_class)]
    drawn = pooled(extractor, drawings)
    print(
        f"  drawings against other drawings: kid {kid(drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]):.5f}, "
        f"diversity {diversity(drawn, np.arange(len(drawn)) % 20):.4f}"
    )
    space = read_label_space("objects")
    found: dict[tuple[str, str], list[float]] = {}
    for seed, bank in itertools.product(seeds, BANKS):
        prompts = prompts_of(bank, space, per_class, seed)
        made = pooled(extractor, list(rendered(prompts, place / f"{bank}-{per_class}-{seed}.npy", seed)))
        found.setdefault((bank, "image_diversity"), []).append(
            diversity(made, np.array([class_id for class_id, _ in prompts]))
        )
        found.setdefault((bank, "kid"), []).append(kid(made, drawn))
        print(
            f"  {bank} seed {seed}: " + ", ".join(f"{measure} {found[bank, measure][-1]:.4f}" for measure in MEASURES),
            flush=True,
        )
    for (bank, measure), values in found.items():
        unit = "1 - cosine" if measure == "image_diversity" else "squared MMD"
        yield Row(
            f"prompts/{bank}/{measure}",
            float(np.mean(values)),
            unit,
            spread_of(values),
            len(values),
        )


def prompts_of(bank: str, space: LabelSpace, per_class: int, seed: int) -> list[tuple[int, str]]:
    """(class id, prompt) of a bank; the same number whichever bank."""
    if bank == "classname":
        return [
            (label.id, f"a photo of {article(label.spoken)} {label.spoken}")
            for label in space.foreground
            for _ in range(per_class)
        ]
    if bank == "templates":
        rng = np.random.default_rng(seed)
        return [_drawn_at_random(space, rng) for _ in range(per_class * len(space.foreground))]
    recipe = read_recipe("syn4seg-mini")
    encoder = load("text_encoder", recipe.prompts.embedder.model_dump(), CPU)
    lambda_div, budget = recipe.prompts.lambda_div, recipe.prompts.budget_per_class
    assert isinstance(lambda_div, float)  # of this recipe, not chosen by paraphrases
    entries = bank_of(space, "objects", encoder, lambda_div, per_class, budget, seed)
    return [(entry.candidate.class_id, entry.candidate.prompt) for entry in entries]


def _drawn_at_random(space: LabelSpace, rng: np.random.Generator) -> tuple[int, str]:
    label = space.foreground[int(rng.integers(len(space.foreground)))]
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    place = world.PLACES[int(rng.integers(len(world.PLACES)))]
    where = {"road": "on the road", "sea": "on the sea", "room": "in a room"}.get(place, f"on {place}")
    when = list(WHEN)[int(rng.choice(len(WHEN), p=shares_of(WHEN)))]
    return label.id, " ".join(f"{opening} {article(label.spoken)} {label.spoken} {where} {when}".split())


def rendered(prompts: list[tuple[int, str]], path: Path, seed: int) -> np.ndarray:
    """(N, H, W, 3) uint8; made once and kept."""
    if path.is_file():
        return np.asarray(np.load(path))
    render = read_recipe("syn4seg-mini").render
    renderer = load("renderer", render.renderer.model_dump(), CPU)
    jobs = [
        RenderJob(
            str(n),
            text,
            render.negative,
            seed_of(f"prompts{seed}-{n}"),
            render.height_px,
            render.width_px,
            None,
            None,
            None,
            None,
        )
        for n, (_, text) in enumerate(prompts)
    ]
    made = np.stack([one.image for i in range(0, len(jobs), 8) for one in renderer.render(jobs[i : i + 8])])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, made)
    temporary.replace(path)
    return made


def pooled(extractor: FeatureExtractor, pictures: list[np.ndarray]) -> np.ndarray:
    """(N, D) float64: the features of each image, averaged over its cells."""
    return np.stack(
        [grid.reshape(-1, grid.shape[-1]).mean(axis=0, dtype=np.float64) for grid in extractor.features(pictures)]
    )


def diversity(features: np.ndarray, class_ids: np.ndarray) -> float:
    """Mean of 1 - cosine over the pairs of a class, averaged over the classes that have a pair."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    groups = [unit[class_ids == k] for k in np.unique(class_ids)]
    return float(np.mean([1 - (g @ g.T)[~np.eye(len(g), dtype=bool)].mean() for g in groups if len(g) > 1]))


def kid(made: np.ndarray, drawn: np.ndarray) -> float:
    """Unbiased squared MMD of (N, D) and (M, D) features, kernel (x .

    y / D + 1)^3, after both are scaled by the second's root mean square.
    """
    scale = np.sqrt((drawn**2).mean())
    x, y = made / scale, drawn / scale

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    own, theirs = kernel(x, x), kernel(y, y)
    within = (own.sum() - np.trace(own)) / (len(x) * (len(x) - 1)) + (theirs.sum() - np.trace(theirs)) / (
        len(y) * (len(y) - 1)
    )
    return float(within - 2 * kernel(x, y).mean())
