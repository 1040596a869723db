"""Does segmentation as latent diffusion pay where the target has no labels? Rows iccld/*; `make claims-iccld`.

Drawn streets: 800 labelled day scenes; as target 800 other layouts without labels, at night, or in night, fog, rain and
snow alike; tested on 200 held-out layouts of the target's weather. CamVid: the day sequences 0006R0 and 0016E5 with
labels, the dusk sequence 0001TP without (its 62 photographs are both target and test; no label of it is read in
training but by the oracle, which is tested on the very pictures that it learnt: a ceiling that nobody reaches).

    ce_source          Unet, cross-entropy, source alone      ce_jitter         ... with strong colour jitter
    ce_selftrain       DACS without diffusion: the real rival
    diffusion_source   label latents denoised, source alone   intercoder        ... with inter-coder connections
    target_seen        ... target passed, nothing learnt      adversarial       ... and aligned by the adversary
    full               ... with DACS: ICCLD-style
    oracle             Unet, cross-entropy, with the target's labels: what a gain is a share of

Each row from diffusion_source to full is one switch more than the one before; `target_seen` passes what the adversary
passes, with a weight of 0, since target pictures in the encoder's batch norm may be a gain of their own. The teacher of
every row that has one remembers about 100 steps (TEACHER). Equal steps, labelled crops a step (the oracle has as many
of each domain), encoder (ImageNet EfficientNet-Lite0) and augmentation. Spread is over seeds; a gain is the mean of the
differences seed by seed. The learning rate is chosen for the source alone and for self-training, without denoising and
with it (RATES, rows iccld/rate_*), until the best is no end of its range: with seed 100 on drawn layouts of all
weathers that are not tested. The rows between take that of the source alone. The paper gives two numbers and no
ablation: none of its figures can be compared with these.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.camvid import at_hand, frames, photographs
from benchmarks.flexseg_data import ADVERSE
from benchmarks.labelled import write_labelled
from benchmarks.row import SCRATCH, Row, row_of_seeds, spread_of
from benchmarks.trainings import Training, scores, whole
from segkit.memory import peak_bytes
from synthgen.drawn import streets

SOURCE_SEED, TARGET_SEED, TEST_SEED, TUNING_LAYOUTS = 3_200_000, 3_300_000, 5_000, 0
TUNING_SEED = 100
TARGETS = {"night": ("night",), "weather": ADVERSE}
NETWORK = "--encoder tu-tf_efficientnet_lite0 --encoder-weights package"
PLAIN = "iccld --no-diffusion --no-adversary"
TEACHER = ("--teacher-decay", "0.99")  # DACS' .999 is of 40,000 steps: over 1,000 it labels worse than its student
VARIANTS = {  # words behind `segtrain`; `train` sees the labelled crops alone
    "ce_source": "train",
    "ce_jitter": "train --photometric",
    "ce_selftrain": PLAIN,
    "diffusion_source": "iccld --no-self-training --no-adversary --no-intercoder",
    "intercoder": "iccld --no-self-training --no-adversary",
    "target_seen": "iccld --no-self-training --adversary-weight 0",
    "adversarial": "iccld --no-self-training",
    "full": "iccld",
    "oracle": "train",
}
GAINS = {  # one switch each: with it, without it
    "jitter": ("ce_jitter", "ce_source"),
    "selftrain": ("ce_selftrain", "ce_source"),
    "selftrain_over_jitter": ("ce_selftrain", "ce_jitter"),
    "diffusion": ("diffusion_source", "ce_source"),
    "intercoder": ("intercoder", "diffusion_source"),
    "target_seen": ("target_seen", "intercoder"),
    "adversary": ("adversarial", "target_seen"),
    "selftrain_of_diffusion": ("full", "adversarial"),
    "full_over_rival": ("full", "ce_selftrain"),
}
RATES = {  # that are tried for each way that has one of its own; what denoises wants lower ones
    "ce_source": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "ce_selftrain": (4e-3, 8e-3, 1.6e-2),  # of .001 to .016 with a teacher that remembered more .008 was the best,
    "diffusion_source": (5e-4, 1e-3, 2e-3, 4e-3),
    "full": (5e-4, 1e-3, 2e-3),  # and of .0005 to .004 .001
}
TUNED = tuple(RATES)
PLACES = (*TARGETS, "camvid_dusk")
STEPS_OF_ANSWER = (1, 3, 10)
RATE_ROWS = tuple(f"iccld/rate_{way}" for way in TUNED)
PLACE_ROWS = {
    place: (
        *(f"iccld/{place}/{variant}_miou" for variant in VARIANTS),
        *(f"iccld/{place}/gain_{gain}" for gain in GAINS),
    )
    for place in PLACES
}
ROWS = (*(name for names in PLACE_ROWS.values() for name in names), *RATE_ROWS)
COST_ROWS = tuple(
    name
    for unit in ("ms", "rss_gb")
    for name in (f"iccld/plain_image_{unit}", *(f"iccld/image_{unit}_{steps}_steps" for steps in STEPS_OF_ANSWER))
)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much of it. The defaults give the rows; smaller ones show that it runs."""

    place: Path = SCRATCH / "iccld"
    seeds: tuple[int, ...] = (0, 1, 2)
    scenes: int = 800
    test: int = 200
    steps: int = 1_000
    labelled: int = 8  # crops of a step; as many of the target beside them
    rates: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=lambda: RATES)
    network: str = NETWORK
    camvid_steps: int = 600


def tuning() -> Iterator[Row]:
    """iccld/rate_*."""
    yield from rate_rows(Plan())


def night() -> Iterator[Row]:
    """iccld/night/*."""
    yield from drawn_rows(Plan(), "night")


def weather() -> Iterator[Row]:
    """iccld/weather/*."""
    yield from drawn_rows(Plan(), "weather")


def camvid() -> Iterator[Row]:
    """iccld/camvid_dusk/*."""
    if at_hand():
        yield from camvid_rows(Plan())


def rate_rows(plan: Plan) -> Iterator[Row]:
    """The rates that are chosen."""
    for way, rate in chosen(plan).items():
        yield Row(f"iccld/rate_{way}", rate, "1")


def drawn_rows(plan: Plan, place: str) -> Iterator[Row]:
    """Of one of TARGETS: choose the rates, measure what is missing, then put it together."""
    source, target = _drawn(plan, place)
    test = _scenes(plan, f"test-{place}", TEST_SEED, plan.test, TARGETS[place])
    yield from _rows(plan, place, chosen(plan), source, target, test)


def camvid_rows(plan: Plan) -> Iterator[Row]:
    """Choose the rates, measure what is missing, then put it together."""
    day = photographs(plan.place / "data" / "camvid-day", frames("train", "0006R0", "0016E5"))
    dusk = photographs(plan.place / "data" / "camvid-dusk", frames("train", "0001TP"))
    yield from _rows(plan, "camvid_dusk", chosen(plan), day, dusk, dusk)


def chosen(plan: Plan) -> dict[str, float]:
    """Of each of TUNED the rate that is best for it; the first of equals."""
    source, target = _drawn(plan, "weather")
    test = {"test": ("--data", str(_scenes(plan, "tuning", TUNING_LAYOUTS, plan.test, TARGETS["weather"])))}
    trainings = {
        (way, rate): Training(
            f"tuning-{way}-{rate:g}", _words(plan, "weather", way, TUNING_SEED, rate, source, target), test
        )
        for way in TUNED
        for rate in plan.rates[way]
    }
    made = scores(trainings.values(), plan.place)

    def best(way: str) -> float:
        return max(plan.rates[way], key=lambda rate: float(made[trainings[way, rate].name]["test"]["miou"]))

    return {way: best(way) for way in TUNED}


def tuned_as(variant: str) -> str:
    """Whose rate a variant takes: one of TUNED."""
    if variant in TUNED:
        return variant
    return "ce_source" if variant in ("ce_jitter", "oracle") else "diffusion_source"


def cost() -> Iterator[Row]:
    """iccld/plain_image_*, iccld/image_*_{1,3,10}_steps: one picture of 512 x 512 px, one thread, networks with random
    weights; milliseconds are medians of 9, gigabytes the peak of a process that answers once.
    """
    import torch

    torch.set_num_threads(1)
    networks = {name: _network(name) for name in COST_ROWS if "_ms" in name}
    images = torch.randn(1, 3, 512, 512)
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for _ in range(10):
            for name, network in networks.items():
                began = time.perf_counter()
                network(images)
                times[name].append(1_000 * (time.perf_counter() - began))
    for name, of_network in times.items():
        yield Row(name, float(np.median(of_network[1:])), "ms", spread_of(of_network[1:]), len(of_network) - 1)
    for name in networks:
        code = f"from benchmarks.iccld import answer; print(answer({name!r}))"
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        yield Row(name.replace("_ms", "_rss_gb"), float(told), "GB")


def answer(name: str) -> float:
    """Let the network of a cost row answer once; the most memory that this process ever held, in 2^30 bytes."""
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        _network(name)(torch.randn(1, 3, 512, 512))
    return peak_bytes() / 2**30


def _network(name: str) -> Any:
    """Of a cost row, ready to answer."""
    from segkit.networks.folder import NetworkSpec, create_network

    arguments: dict[str, Any] = {
        "_model_class": "Unet",
        "encoder_name": "tu-tf_efficientnet_lite0",
        "encoder_weights": None,
        "in_channels": 3,
        "classes": 19,
        "decoder_channels": [128, 64, 64, 32, 32],
    }
    if name.startswith("iccld/plain"):
        return create_network(NetworkSpec(arguments)).eval()
    steps = int(name.removesuffix("_steps").rpartition("_")[2])
    return create_network(
        NetworkSpec(arguments, "latent_diffusion", {"bits": 5, "code": "simplex", "steps": steps})
    ).eval()


def _rows(plan: Plan, place: str, rates: Mapping[str, float], source: Path, target: Path, test: Path) -> Iterator[Row]:
    trainings = [
        Training(
            f"{place}-{variant}-seed{seed}",
            _words(plan, place, variant, seed, rates[tuned_as(variant)], source, target),
            {"test": ("--data", str(test))},
        )
        for seed in plan.seeds
        for variant in VARIANTS
    ]
    found = _by_variant(plan, place, scores(trainings, plan.place))
    for variant, values in found.items():
        yield row_of_seeds(f"iccld/{place}/{variant}_miou", values)
    for gain, (with_it, without) in GAINS.items():
        yield row_of_seeds(f"iccld/{place}/gain_{gain}", found[with_it] - found[without])


def _words(plan: Plan, place: str, variant: str, seed: int, rate: float, source: Path, target: Path) -> tuple[str, ...]:
    """Behind `segtrain`. Every row has as many labelled crops of the source a step; the oracle as many of the target
    beside them."""
    method = VARIANTS[variant].split()
    words = [*method, *plan.network.split(), "--seed", str(seed), "--num-threads", "1", "--device", "cpu"]
    steps, crop = (plan.steps, 64) if place in TARGETS else (plan.camvid_steps, 96)
    words += ["--steps", str(steps), "--crop", str(crop), "--learning-rate", str(rate), "--data", str(source)]
    if method[0] == "iccld":
        teacher = () if {"--no-self-training", "--no-adversary"} <= set(method) else TEACHER  # nobody asks one
        return (*words, "--unlabelled", str(target), "--batch-size", str(2 * plan.labelled), *teacher)
    if variant == "oracle":
        words += ["--data", str(target), "--ratio", "1", "--ratio", "1"]
    return (*words, "--batch-size", str(2 * plan.labelled if variant == "oracle" else plan.labelled))


def _by_variant(plan: Plan, place: str, made: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """variant -> (seeds,) mIoU."""
    return {
        variant: np.array([made[f"{place}-{variant}-seed{seed}"]["test"]["miou"] for seed in plan.seeds])
        for variant in VARIANTS
    }


def _drawn(plan: Plan, place: str) -> tuple[Path, Path]:
    """Labelled day scenes, and other layouts of the target."""
    target = _scenes(plan, f"target-{place}", TARGET_SEED, plan.scenes, TARGETS[place])
    return _scenes(plan, "source", SOURCE_SEED, plan.scenes, ("day",)), target


def _scenes(plan: Plan, name: str, first_seed: int, count: int, domains: tuple[str, ...]) -> Path:
    """A labelled folder of drawn streets whose weathers take turns."""
    pictures = (
        (f"streets_{first_seed + number:08d}", streets.draw(first_seed + number, domain=domains[number % len(domains)]))
        for number in range(count)
    )
    return whole(plan.place / "data" / name, lambda out: write_labelled(out, pictures))
