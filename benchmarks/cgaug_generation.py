"""The generation side of CG-Aug: rows cgaug/generation/* and cgaug/gate/*.

generation/*: what becomes of the attempts of `synthgen run cgaug-mini` on drawn days; shares are of attempts but for
`accepted`, of prompts.

gate/*: IoU of the object's label with the truth, of all pictures (without) and of those that SAM's gate keeps, with
SAM's mask (with). Drawn pairs have an exact truth: a fifth of their objects are missing and all is warped by 1.5 px
(cgaug_data.faulty). Nobody has the truth of a generated picture: there an oracle stands for it, a segmenter that has
learnt streets of every weather with objects of the training kinds from exact drawings; `gate/oracle_iou` is its own IoU
on held-out drawings. Spread is over pictures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cgaug_data as data
from benchmarks.flexseg_data import warped_image
from benchmarks.row import SCRATCH, Row, spread_of
from benchmarks.trainings import Training, dataset_of, model_of, scores, whole
from segkit.labels import OUT_OF_DISTRIBUTION
from synthgen import stages
from synthgen.drawn.split import write_split
from synthgen.drawn.street_intruders import TRAINING
from synthgen.images import read_image, read_mask
from synthgen.recipe import read_recipe
from synthgen.render.gates.sam_agreement import SamAgreement, iou

RECIPE = "cgaug-mini"
PLACE = SCRATCH / "cgaug"
SCENES, PAIRS, UNGATED, DRAWN = 1_000, 300, 120, 400
ORACLE_SEED, ORACLE_HELD_OUT_SEED = 3_500_000, 5_000
ORACLE_NETWORK = "--arch Unet --encoder tu-tf_efficientnet_lite0 --encoder-weights package"
FIRST_INTRUDER = 19  # of the label space `streets`
FAULTS = 0.2
REASONS = ("sam_disagrees", "no_anchor", "object_too_large", "object_vanished")
GENERATION_ROWS = (
    *(f"cgaug/generation/{what}" for what in ("pairs", "accepted", "attempts", "first_accepted")),
    *(f"cgaug/generation/{reason}" for reason in REASONS),
    "cgaug/generation/sam_agreement",
)
GATE_ROWS = tuple(
    f"cgaug/gate/{what}"
    for what in (
        *("without_iou", "with_iou", "oracle_iou"),
        *("drawn_without_iou", "drawn_with_iou", "drawn_kept_present", "drawn_kept_missing"),
    )
)
COST_ROWS = tuple(
    f"cgaug/cost/{what}" for what in ("pairs_minute", "compose_share", "render_share", "gate_share", "compose_ratio")
)


def generation() -> Iterator[Row]:
    """cgaug/generation/*."""
    yield from generation_rows(PLACE, SCENES, PAIRS)


def gate() -> Iterator[Row]:
    """cgaug/gate/*."""
    yield from drawn_gate_rows(PLACE, DRAWN)
    yield from generated_gate_rows(PLACE, SCENES, PAIRS, UNGATED)


def cost() -> Iterator[Row]:
    """cgaug/cost/{pairs_minute,compose_share,...}: one process, one thread."""
    yield from cost_rows(PLACE, SCENES)


def generated_pairs(place: Path, day: Path, count: int, *sets: str, name: str = "cgaug") -> Path:
    """The dataset of the recipe on the first `count` maps of a labelled folder."""
    return dataset_of(RECIPE, place / "runs" / name, (*_sets(place, day, count), *sets))


def _sets(place: Path, day: Path, count: int) -> tuple[str, ...]:
    return (
        f"prompts.source.folder={day}",
        f"prompts.source.limit={count}",
        f"render.object_bank.folder={data.objects_of(place, 400)}",
    )


def generation_rows(place: Path, scenes: int, count: int) -> Iterator[Row]:
    """What became of the attempts of the generated pairs."""
    run = generated_pairs(place, data.day(place, scenes), count).parent
    prompts, render = (stages.stages(run)[name] for name in ("prompts", "render"))
    made, refused, asked = render.rows(), list(render.rejected()), prompts.num_rows()
    attempts = len(made) + len(refused)
    reasons = Counter(row.reason for row in refused)
    yield Row("cgaug/generation/pairs", len(made), "pairs")
    yield Row("cgaug/generation/accepted", len(made) / asked, "fraction", "", asked)
    yield Row("cgaug/generation/attempts", attempts / max(1, len(made)), "attempts a pair", "", attempts)
    first = sum(row.pair.attempts == 1 for row in made)
    yield Row("cgaug/generation/first_accepted", first / asked, "fraction", "", asked)
    for reason in REASONS:
        yield Row(f"cgaug/generation/{reason}", reasons[reason] / attempts, "fraction", "", attempts)
    agreed = [row.pair.sam_agreement for row in made]
    yield _of_pictures("cgaug/generation/sam_agreement", agreed)


def generated_gate_rows(
    place: Path, scenes: int, count: int, ungated: int, oracle: tuple[int, int] = (1_500, 1_000)
) -> Iterator[Row]:
    """`oracle`: its drawings and steps."""
    day = data.day(place, scenes)
    segmenter = _oracle(place, *oracle)
    no_gate = ("render.gates.sam_agreement.enabled=false", "render.attempts=1")
    for name, run in (
        ("without", generated_pairs(place, day, ungated, *no_gate, name="ungated").parent),
        ("with", generated_pairs(place, day, count).parent),
    ):
        rows = stages.stages(run)["render"].rows()
        found = segmenter.predict([read_image(run / row.picture.image) for row in rows])
        labels = [read_mask(run / row.picture.layout) == OUT_OF_DISTRIBUTION for row in rows]
        overlaps = [iou(label, seen >= FIRST_INTRUDER) for label, seen in zip(labels, found, strict=True)]
        yield _of_pictures(f"cgaug/gate/{name}_iou", overlaps)
    held_out = [data.street(ORACLE_HELD_OUT_SEED + n, data.weather_of(n), TRAINING[n % 8]) for n in range(ungated)]
    seen = segmenter.predict([picture.image for picture in held_out])
    truths = [picture.mask == OUT_OF_DISTRIBUTION for picture in held_out]
    own = [iou(truth, mask >= FIRST_INTRUDER) for truth, mask in zip(truths, seen, strict=True) if truth.any()]
    yield _of_pictures("cgaug/gate/oracle_iou", own)


def _oracle(place: Path, drawings: int, steps: int) -> Any:
    from segtrain.segmenter import load_model

    folder = whole(
        place / "data" / f"oracle-{drawings}",
        lambda out: write_split(out, "streets", drawings, ORACLE_SEED, intruders=0.9),
    )
    size = f"--steps {steps} --batch-size 16 --crop 64 --seed 0 --num-threads 1 --device cpu"
    training = Training("oracle", tuple(f"train {ORACLE_NETWORK} {size} --data {folder}".split()), {}, keep=True)
    scores([training], place)
    return load_model(model_of("oracle", place), "cpu")


def drawn_gate_rows(place: Path, count: int) -> Iterator[Row]:
    """The recipe's gate over drawn pairs whose truth is known."""
    from synthgen.backends import load

    recipe = read_recipe(RECIPE)
    settings = recipe.render.gates.sam_agreement
    decoder = load("mask_decoder", recipe.refine.mask_decoder.model_dump(), recipe.execution)
    seeds = [seed for seed in range(data.SOURCE_SEED, data.SOURCE_SEED + count) if data.object_of(seed).any()]
    pictures = [data.augmented(seed, "coherent", FAULTS) for seed in seeds]
    labels = [picture.mask == OUT_OF_DISTRIBUTION for picture in pictures]
    verdicts = SamAgreement(decoder, settings.min_iou, settings.replaces).judge([p.image for p in pictures], labels)
    is_missing = np.array([data.misses_object(seed, FAULTS) for seed in seeds])
    truths = [
        np.zeros_like(label) if missing else _warped(label, seed)
        for seed, label, missing in zip(seeds, labels, is_missing.tolist(), strict=True)
    ]
    kept = np.array([not verdict.reason for verdict in verdicts])
    yield _of_pictures("cgaug/gate/drawn_without_iou", [iou(a, b) for a, b in zip(labels, truths, strict=True)])
    pairs = zip(verdicts, truths, strict=True)
    yield _of_pictures("cgaug/gate/drawn_with_iou", [iou(v.mask, truth) for v, truth in pairs if not v.reason])
    for name, chosen in (("present", ~is_missing), ("missing", is_missing)):
        yield Row(f"cgaug/gate/drawn_kept_{name}", float(kept[chosen].mean()), "fraction", "", int(chosen.sum()))


def _warped(mask: np.ndarray, seed: int) -> np.ndarray:
    """(H, W) bool as the warp of a faulty picture moves it."""
    image = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    return warped_image(image, data.WARP_PX, seed)[..., 0] > 127


def cost_rows(place: Path, scenes: int, count: int = 48, *sets: str) -> Iterator[Row]:
    """Where the time of the render stage goes, and how many pairs a minute it gives."""
    from synthgen.backends import load
    from synthgen.pipeline import begin, run_stage
    from synthgen.render import stage

    run = place / "runs" / f"cost-{time.time_ns()}"
    given = [*_sets(place, data.day(place, scenes), count), "execution.workers=1", *sets]
    recipe, _ = begin(read_recipe(RECIPE, given), run)
    for _ in run_stage(recipe, run, "prompts"):
        pass
    built = stage.stage_with(load("renderer", recipe.render.renderer.model_dump(), recipe.execution), recipe, run)
    spent: Counter[str] = Counter()
    for owner, method, name in (
        (built._attempts, "compose", "compose"),
        (built._attempts, "judge", "gate"),
        (built._renderer, "render", "render"),
        (built._renderer, "prepare", "render"),
    ):
        setattr(owner, method, _clocked(getattr(owner, method), spent, name))
    rows = stages.stages(run)["prompts"].rows()
    (run / "render").mkdir()
    began = time.perf_counter()
    made = [row for row in built.process(rows, run / "render", "00000") if hasattr(row, "pair")]
    seconds = time.perf_counter() - began
    yield Row("cgaug/cost/pairs_minute", 60 * len(made) / seconds, "pairs/min", "", len(made))
    for name in ("compose", "render", "gate"):
        yield Row(f"cgaug/cost/{name}_share", spent[name] / seconds, "fraction", "", len(rows))
    yield Row("cgaug/cost/compose_ratio", spent["compose"] / spent["render"], "ratio", "", len(rows))


def _clocked(call: Any, spent: Counter[str], name: str) -> Any:
    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        answer = call(*arguments)
        spent[name] += time.perf_counter() - began  # type: ignore[assignment]
        return answer

    return timed


def _of_pictures(name: str, values: Sequence[float]) -> Row:
    return Row(name, float(np.mean(values)) if values else 0.0, "fraction", spread_of(values), len(values))
