"""What unlabelled pictures are worth: rows clouds/*; `make claims-clouds` (6 to 7 hours on 2 cores).

Drawn world. Source: 600 drawn day scenes with masks. Unlabelled: 600 pictures of `synthgen run clouds-mini`, one for
each of 600 drawn layouts in one of five weathers, masks thrown away; mini/streets has seen every weather with
captions, mini/streets-day maps of other day scenes alone. Test: 200 held-out layouts, each drawn in all five weathers.
Equal steps for all (1,600: 800 of warm-up, 800 of 16 crops, of which half are unlabelled); what learns from labels
alone takes as many steps of 16 labelled crops. 800 were too few: seed 100, other layouts, source_jitter .467 and .561.
The rate is that which suits source_jitter best (clouds/rate): at .001 it has .480 on those layouts, at .003 .556.

    source, source_jitter    day alone; with strong jitter, as all below    oracle    the pictures' layouts as labels
    selftrain      the teacher's labels, no SAM                   threshold    ... those over .968 alone
    sam_online     CLOUDS: mini/sam by 5 points, each step        sam_offline  once a picture, by the warm-up
    mixed          selftrain with ClassMix, a strong view, a quick teacher, weights by the share of sure pixels
    unimatch       weak-to-strong consistency

The teacher keeps .67 of the warm-up, as in 40k steps of the paper: interval 10, decay .99. mini/sam has learnt
from single points and boxes. `clouds/gain/*` are differences to `source_jitter` seed by seed, which has the student's
jitter; `clouds/prompts_{1,100}` learn from 300 pictures of one prompt, and of 100. `clouds/weather/*` have pictures of
the tested world itself in place of generated ones, drawn in all weathers from the same layouts: there is more room.
What the paper cannot show is `clouds/pseudo/*` (benchmarks/clouds_pseudo.py).
Spread is over seeds (network, order, crops). Photographs: benchmarks/clouds_camvid.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clouds_data as data
from benchmarks import flexseg_data
from benchmarks.flexseg import measures
from benchmarks.row import SCRATCH, Row, row_of_seeds
from benchmarks.trainings import Training, scores
from synthgen.drawn import streets

SAM = Path(__file__).parents[1] / "synthgen" / "minis" / "weights" / "sam"
NETWORK = "--encoder tu-tf_efficientnet_lite0 --encoder-weights package"
TEACHER = "--teacher-every 10 --teacher-decay 0.99 --no-teacher-ramp"
SELF = f"clouds --photometric {TEACHER}"
ONLINE = f"{SELF} --sam {SAM}"
DRAWN = {  # what is behind `segtrain`; {day} and {unlabelled} are folders, {oracle} the labelled twin of the second
    "source": "train --data {day}",
    "source_jitter": "train --data {day} --photometric",
    "selftrain": f"{SELF} {{both}}",
    "threshold": f"{SELF} --confidence threshold --threshold 0.968 {{both}}",
    "sam_online": f"{ONLINE} {{both}}",
    "sam_offline": f"{ONLINE} --sam-when offline {{both}}",
    "mixed": "clouds --photometric --teacher-every 1 --teacher-decay 0.99 --teacher-ramp --class-mix 1 "
    "--student-view strong --confidence share {both}",
    "unimatch": "unimatch --photometric --source-share {warmup} --cut-mix 0.5 {both}",
    "oracle": "train --data {day} --data {oracle} --ratio 1 --ratio 1 --photometric",
}
TUNING_SEED, TUNING_LAYOUTS = 100, 9_000
PROMPTS = (1, 100)
WEATHER = ("selftrain", "mixed", "sam_online", "unimatch", "oracle")  # of DRAWN, with drawn pictures
DOMAINS = ("avg5", "adverse", *streets.DOMAINS)
GAIN_DOMAINS = ("avg5", "adverse", "day")
GAINED = tuple(name for name in DRAWN if name not in ("source", "source_jitter"))

DRAWN_ROWS = (
    *(f"clouds/{who}_{what}" for who in DRAWN for what in DOMAINS),
    *(f"clouds/gain/{who}_{what}" for who in GAINED for what in GAIN_DOMAINS),
    "clouds/rate",
)
WEATHER_ROWS = (
    *(f"clouds/weather/{prefix}{who}_{what}" for prefix in ("", "gain_") for who in WEATHER for what in GAIN_DOMAINS),
    "clouds/weather/rate",
)
PROMPT_ROWS = (
    *(f"clouds/prompts_{count}_{what}" for count in PROMPTS for what in ("avg5", "adverse")),
    "clouds/prompts_rate",
)
WHO, WHEN, WHAT = ("teacher", "target"), ("start", "end"), ("miou", "coverage")
PSEUDO_ROWS = (
    *(f"clouds/pseudo/{who}_{what}_{when}" for who in WHO for what in WHAT for when in WHEN),
    *(f"clouds/pseudo/gain_sam_miou_{when}" for when in WHEN),
    "clouds/pseudo/rate",
)
PARTS = ("teacher", "components", "sam")
COST_ROWS = (
    *(f"clouds/cost/{step}_step_s" for step in ("source", "joint")),
    "clouds/cost/joint_ratio",
    *(f"clouds/cost/share_{part}" for part in PARTS),
    *(f"clouds/cost/{step}_rss_gb" for step in ("source", "joint")),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much of it. The defaults give the rows; smaller ones show that it runs."""

    place: Path = SCRATCH / "clouds"
    seeds: tuple[int, ...] = (0, 1, 2)
    scenes: int = 600
    generated: int = 600
    pictures_of_prompts: int = 300
    test: int = 200
    first_test_seed: int = 5_000
    steps: int = 1_600
    warmup: int = 800
    batch: int = 16
    drawn_rates: tuple[float, ...] = (1e-3, 3e-3, 6e-3, 1.2e-2)  # of all that is drawn: `tuned`
    learning_rate: float = 1e-3  # of costs
    network: str = NETWORK
    drawn_network: str = f"{NETWORK} --decoder-channels 64,48,32,24,16"  # two thirds of the time
    labelled_frames: int = 20
    camvid_steps: int = 1_000
    camvid_batch: int = 8
    camvid_crop: int = 96
    rates: tuple[float, ...] = (5e-4, 2e-3)
    shares: tuple[float, ...] = (0.5, 0.75)  # of crops of the other frames; the first for what is not tuned


def tuned(plan: Plan) -> Plan:
    """The plan with the rate of all drawn rows: that which is best for `source_jitter`, which they are compared with,
    over five weathers, with another seed on other layouts; the first of equals."""
    if not plan.drawn_rates:
        return plan
    test = {"test": ("--data", str(flexseg_data.test(plan.place, TUNING_LAYOUTS, plan.test)), "--by-domain")}
    plans = {rate: dataclasses.replace(plan, learning_rate=rate) for rate in plan.drawn_rates}
    trainings = {
        rate: Training(
            f"tuning-source_jitter-{rate:g}", drawn_words(one, "source_jitter", Path(), None, TUNING_SEED), test
        )
        for rate, one in plans.items()
    }
    made = scores(trainings.values(), plan.place)
    return plans[max(plans, key=lambda rate: measures(made[trainings[rate].name]["test"]["domains"])["avg5"])]


def drawn() -> Iterator[Row]:
    """clouds/{source,...,oracle}_*, clouds/gain/*, clouds/rate."""
    yield from drawn_rows(Plan())


def weather() -> Iterator[Row]:
    """clouds/weather/*."""
    yield from weather_rows(Plan())


def prompts() -> Iterator[Row]:
    """clouds/prompts_*."""
    yield from prompt_rows(Plan())


def drawn_rows(plan: Plan) -> Iterator[Row]:
    """Choose the rate, measure what is missing, then put it together."""
    plan = tuned(plan)
    yield Row("clouds/rate", plan.learning_rate, "1")
    run = data.generated_run(plan, plan.generated, plan.generated)
    pictures, labelled = run / "dataset", data.with_layouts(plan, run)
    made = scores([_drawn(plan, way, pictures, labelled, seed) for seed in plan.seeds for way in DRAWN], plan.place)
    found = {name: _by_measure(plan, made, name) for name in DRAWN}
    for name, by_measure in found.items():
        for measure in DOMAINS:
            yield row_of_seeds(f"clouds/{name}_{measure}", by_measure[measure])
    for name in GAINED:
        for measure in GAIN_DOMAINS:
            yield row_of_seeds(f"clouds/gain/{name}_{measure}", found[name][measure] - found["source_jitter"][measure])


def weather_rows(plan: Plan) -> Iterator[Row]:
    """The same with drawn pictures; their labels are the oracle's alone. Gains are over `source_jitter`."""
    plan, drawn = tuned(plan), data.weather(plan)
    yield Row("clouds/weather/rate", plan.learning_rate, "1")
    trainings = [
        _drawn(plan, way, drawn, drawn, seed, f"weather-{way}" if way in WEATHER else way)
        for seed in plan.seeds
        for way in ("source_jitter", *WEATHER)
    ]
    made = scores(trainings, plan.place)
    jitter = _by_measure(plan, made, "source_jitter")
    for way in WEATHER:
        found = _by_measure(plan, made, f"weather-{way}")
        for measure in GAIN_DOMAINS:
            yield row_of_seeds(f"clouds/weather/{way}_{measure}", found[measure])
            yield row_of_seeds(f"clouds/weather/gain_{way}_{measure}", found[measure] - jitter[measure])


def prompt_rows(plan: Plan) -> Iterator[Row]:
    """One prompt against a hundred, as many pictures of each, the teacher's labels without SAM."""
    plan = tuned(plan)
    yield Row("clouds/prompts_rate", plan.learning_rate, "1")
    runs = {count: data.generated_run(plan, count, plan.pictures_of_prompts) for count in PROMPTS}
    trainings = [
        _drawn(plan, "selftrain", run / "dataset", None, seed, f"prompts_{count}")
        for seed in plan.seeds
        for count, run in runs.items()
    ]
    made = scores(trainings, plan.place)
    for count in PROMPTS:
        found = _by_measure(plan, made, f"prompts_{count}")
        for measure in ("avg5", "adverse"):
            yield row_of_seeds(f"clouds/prompts_{count}_{measure}", found[measure])


def _drawn(plan: Plan, way: str, pictures: Path, labelled: Path | None, seed: int, name: str = "") -> Training:
    words = drawn_words(plan, way, pictures, labelled, seed)
    test = ("--data", str(flexseg_data.test(plan.place, plan.first_test_seed, plan.test)), "--by-domain")
    return Training(f"{name or way}-seed{seed}", words, {"test": test})


def drawn_words(plan: Plan, way: str, pictures: Path, labelled: Path | None, seed: int) -> tuple[str, ...]:
    """Behind `segtrain`, without --out. `labelled` = the same pictures with their layouts, which an oracle needs."""
    warmup, day = plan.warmup / plan.steps, data.day(plan)
    places = {"day": day, "warmup": warmup, "both": f"--data {day} --unlabelled {pictures}", "oracle": labelled}
    words = f"{DRAWN[way].format(**places)} {plan.drawn_network} --seed {seed} --num-threads 1 --device cpu"
    words += f" --steps {plan.steps} --batch-size {plan.batch} --crop 64 --learning-rate {plan.learning_rate}"
    if DRAWN[way].startswith("clouds"):
        words += f" --source-share {warmup}"
    return tuple(words.split())


def _by_measure(plan: Plan, made: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, np.ndarray]:
    of_seeds = [measures(made[f"{name}-seed{seed}"]["test"]["domains"]) for seed in plan.seeds]
    return {measure: np.array([values[measure] for values in of_seeds]) for measure in DOMAINS}
