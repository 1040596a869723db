"""What photographs without labels are worth: rows clouds/camvid/* and clouds/camvid_other/*.

CamVid at 160 x 120. 20 labelled frames of one sequence, evenly spaced; unlabelled: the other frames of 0006R0 and
0016E5 of the train split. Test: the published val split, which is of 0016E5 as well, and the dusk sequence 0001TP of
which nothing is learnt. Equal steps (1,000 of 8 crops), ImageNet Lite0, which has seen no street labels.

    camvid          the 20 are of 0016E5: who labels a few frames of the camera and the place that are to be segmented
    camvid_other    the 20 are of 0006R0: the place that is tested is seen without labels alone

Labelled crops are augmented alike in all rows, by the defaults; strong jitter of them costs .018 (seed 100, tuning
frames). The learning rate of *every* row is chosen in the same way, of two: with seed 100, without the last 80 frames
of 0016E5, by mIoU on those; with it the share of the crops that are of the other frames, half or three quarters (rows
that are switches keep half).

    few, all_labels    labels of the 20, labels of all            few_selftrain   CLOUDS without SAM
    few_clouds     ... with ramped teacher, ClassMix, strong view, an unlabelled crop's loss counted .3
    few_unimatch, few_unimatch_sinkhorn    few_class_mix, few_confidence, few_strong    few_selftrain with that alone
    few_photos     labels of the 20, and what `synthgen run label-photos` says of the others from those 20
    few_clouds_sam    few_clouds with the mini SAM, which is worse than a filled box on photographs: what it costs

`closed` is (row - few) / (all_labels - few), seed by seed; `labels_of_photos` the mIoU of what
`few_photos` learns from. Spread is over seeds (network, order, crops, frames).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from benchmarks import clouds_data as data
from benchmarks.camvid import at_hand
from benchmarks.clouds import SAM, Plan
from benchmarks.row import Row, row_of_seeds, scored
from benchmarks.trainings import Training, scores
from segkit.masks import read_mask
from segtrain.metrics.iou import mean_iou
from synthgen.labels import read_label_space

STRONG = "--student-view strong"
SELF = "clouds --source-share 0.3 --teacher-every 1 --teacher-decay 0.99 --teacher-ramp"
KIT = f"{SELF} --class-mix 1 {STRONG} --unlabelled-weight 0.3"
WAYS = {  # what is behind `segtrain`; {few}, {rest} and {labelled} are folders, {both} the first two
    "few": "train --data {few}",
    "few_selftrain": f"{SELF} {{both}}",
    "few_class_mix": f"{SELF} --class-mix 1 {{both}}",
    "few_confidence": f"{SELF} --confidence share {{both}}",
    "few_strong": f"{SELF} {STRONG} {{both}}",
    "few_unimatch": "unimatch --teacher-decay 0.99 {both}",
    "few_unimatch_sinkhorn": "unimatch --teacher-decay 0.99 --sinkhorn {both}",
    "few_clouds": f"{KIT} {{both}}",
    "few_clouds_sam": f"{KIT} --sam {SAM} --sam-prompts boxes --min-agreement 0.5 --uncovered teacher {{both}}",
    "few_photos": "train --data {few} --data {labelled} --ratio 1 --ratio {ratio:g}",
    "all_labels": "train --data {few} --data {rest} --ratio 1 --ratio {ratio:g}",
}
ENDS = ("few", "all_labels")  # what every other way is compared with
MAIN = ("few", "few_unimatch", "few_clouds", "few_photos", "all_labels")
SWITCHES = tuple(way for way in WAYS if way not in MAIN)  # of the first setting alone
SHARED = tuple(way for way in MAIN if way != "few")  # whose share is chosen
SETTINGS = {"camvid": data.SAME, "camvid_other": data.OTHER}  # rows -> the labelled sequence
TUNING_SEED = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen for a way."""

    rate: float
    share: float = 0.5  # of the crops that are of the other frames

    def __str__(self) -> str:
        return f"{self.rate:g}" if self.share == 0.5 else f"{self.rate:g}-{self.share:g}"


def rows_of(setting: str, ways: tuple[str, ...] = MAIN) -> tuple[str, ...]:
    """The names of the rows of those ways."""
    return (
        *(f"clouds/{setting}/{who}_{what}" for who in ways for what in ("miou", "held_out", "rate")),
        *(f"clouds/{setting}/{who}_share" for who in ways if who in SHARED),
        *(f"clouds/{setting}/gain_{who}_{what}" for who in ways if who != "few" for what in ("miou", "held_out")),
        *(f"clouds/{setting}/closed_{who}" for who in ways if who not in ENDS),
        *((f"clouds/{setting}/labels_of_photos_miou",) if "few_photos" in ways else ()),
    )


def same() -> Iterator[Row]:
    """clouds/camvid/*."""
    if at_hand():
        yield from rows(Plan(), "camvid")


def switches() -> Iterator[Row]:
    """clouds/camvid/* of SWITCHES."""
    if at_hand():
        wanted = rows_of("camvid", SWITCHES)
        yield from (row for row in rows(Plan(), "camvid", (*ENDS, *SWITCHES)) if row.name in wanted)


def other() -> Iterator[Row]:
    """clouds/camvid_other/*."""
    if at_hand():
        yield from rows(Plan(), "camvid_other")


def rows(plan: Plan, setting: str, ways: tuple[str, ...] = MAIN) -> Iterator[Row]:
    """Choose for each way, then measure what is missing, then put it together. ENDS must be among them."""
    chosen = _chosen(plan, setting, ways)
    made = scores([training(plan, setting, way, seed, chosen[way]) for seed in plan.seeds for way in ways], plan.place)
    found = {
        way: {
            what: np.array([made[f"{setting}-{way}-seed{seed}-{chosen[way]}"][what]["miou"] for seed in plan.seeds])
            for what in ("miou", "held_out")
        }
        for way in ways
    }
    few, room = found["few"], found["all_labels"]["miou"] - found["few"]["miou"]
    for way, by_test in found.items():
        for what, values in by_test.items():
            yield row_of_seeds(f"clouds/{setting}/{way}_{what}", values)
            if way != "few":
                yield row_of_seeds(f"clouds/{setting}/gain_{way}_{what}", values - few[what])
        yield Row(f"clouds/{setting}/{way}_rate", chosen[way].rate, "1")
        if way in SHARED:
            yield Row(f"clouds/{setting}/{way}_share", chosen[way].share, "fraction")
        if way not in ENDS:
            yield row_of_seeds(f"clouds/{setting}/closed_{way}", (by_test["miou"] - few["miou"]) / room)
    if "few_photos" in ways:
        of_seeds = np.array([_labels_of_photos(plan, SETTINGS[setting], seed) for seed in plan.seeds])
        yield row_of_seeds(f"clouds/{setting}/labels_of_photos_miou", of_seeds)


def _labels_of_photos(plan: Plan, sequence: str, seed: int) -> float:
    """mIoU of what `label-photos` says, at the size that is learnt from; a frame that it leaves out has no say."""
    made, truth = data.labelled_rest(plan, sequence, seed), data.rest(plan, sequence, seed)
    names = sorted(path.name for path in (made / "labels").iterdir())
    said, true = ([read_mask(folder / "labels" / name) for name in names] for folder in (made, truth))
    return scored(mean_iou(said, true, read_label_space("camvid").ids))


def _chosen(plan: Plan, setting: str, ways: tuple[str, ...]) -> dict[str, Choice]:
    """For each way the rate and share that are best with the tuning seed, on frames that none of them learns from; the
    first of equals."""
    choices = {
        way: [Choice(rate, share) for share in plan.shares[: None if way in SHARED else 1] for rate in plan.rates]
        for way in ways
    }
    trainings = {(way, one): tuning(plan, setting, way, one) for way, of_way in choices.items() for one in of_way}
    made = scores(trainings.values(), plan.place)

    def score(way: str, one: Choice) -> float:
        return float(made[trainings[way, one].name]["tuning"]["miou"])

    return {way: max(of_way, key=lambda one: score(way, one)) for way, of_way in choices.items()}


def training(plan: Plan, setting: str, way: str, seed: int, choice: Choice) -> Training:
    """One that is tested."""
    tests = {"miou": ("--data", str(data.validation(plan))), "held_out": ("--data", str(data.held_out(plan)))}
    return Training(f"{setting}-{way}-seed{seed}-{choice}", _words(plan, setting, way, seed, choice, 0), tests)


def tuning(plan: Plan, setting: str, way: str, choice: Choice) -> Training:
    """One by which it is chosen."""
    words = _words(plan, setting, way, TUNING_SEED, choice, data.TUNING_FRAMES)
    return Training(f"{setting}-tuning-{way}-{choice}", words, {"tuning": ("--data", str(data.tuning(plan)))})


def _words(plan: Plan, setting: str, way: str, seed: int, choice: Choice, without: int) -> tuple[str, ...]:
    sequence = SETTINGS[setting]
    few, rest = data.few(plan, sequence, seed, without), data.rest(plan, sequence, seed, without)
    both = f"--data {few} --unlabelled {rest}"
    if choice.share != 0.5:
        both += f" --unlabelled-share {choice.share:g}"
    ratio = choice.share / (1 - choice.share)
    places: dict[str, object] = {"few": few, "rest": rest, "both": both, "ratio": ratio}
    if "{labelled}" in WAYS[way]:
        places["labelled"] = data.labelled_rest(plan, sequence, seed, without)
    words = f"{WAYS[way].format(**places)} {plan.network} --seed {seed} --num-threads 1 --device cpu"
    words += f" --steps {plan.camvid_steps} --batch-size {plan.camvid_batch} --crop {plan.camvid_crop}"
    return (*words.split(), "--learning-rate", str(choice.rate))
