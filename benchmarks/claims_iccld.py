"""`make claims-iccld`: measures what is claimed for segmentation as latent diffusion and writes docs/results/iccld.md.

`python -m benchmarks.claims_iccld --tables-only` only writes the page, from benchmarks/results.csv.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks import iccld
from benchmarks.pages import Table, grid, head, shown, text, where, write

WHO = {
    "ce_source": "Unet, cross-entropy, source alone",
    "ce_jitter": "... with strong colour jitter",
    "ce_selftrain": "... with DACS self-training in its place: the real rival",
    "diffusion_source": "label latents denoised, source alone",
    "intercoder": "... and inter-coder connections",
    "target_seen": "... and target pictures in the encoder's batch norm, nothing learnt of them",
    "adversarial": "... and the adversary",
    "full": "... and self-training: ICCLD-style",
    "oracle": "ceiling: Unet, cross-entropy, with the target's labels",
}
GAINS = {
    "jitter": "strong jitter, cross-entropy",
    "selftrain": "self-training, cross-entropy",
    "selftrain_over_jitter": "the same over strong jitter",
    "diffusion": "denoising in place of cross-entropy, source alone",
    "intercoder": "inter-coder connections",
    "target_seen": "target pictures in the batch norm",
    "adversary": "adversary",
    "selftrain_of_diffusion": "self-training, denoising",
    "full_over_rival": "ICCLD-style over the real rival",
}
MEASURED = ("tuning", "night", "weather", "camvid")
PLACES = {"night": "night, drawn", "weather": "all weathers, drawn", "camvid_dusk": "CamVid's dusk sequence"}


def main(argv: list[str] | None = None) -> None:
    """Measure unless told otherwise; write the page."""
    write("iccld", page, argv)


def page(table: Table, took: Mapping[str, str]) -> str:
    """The whole page. `took`: benchmark -> its wall time in words."""
    seeds = len(iccld.Plan().seeds)
    figures = f"Figures are mIoU in 0..1, mean ± spread (ddof 1) over {seeds} seeds."
    return "\n".join([*head("ICCLD", "iccld", figures), *_targets(table, took), *_cost(table, took)])


def _targets(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    plan = iccld.Plan()
    rate = {way: f"{shown(table, f'iccld/rate_{way}')} of {_numbers(plan.rates[way])}" for way in iccld.TUNED}
    yield "## A target without labels"
    yield ""
    yield from text(
        f"{plan.scenes} labelled drawn day scenes, {plan.scenes} others of the target without labels, {plan.test} "
        "held-out ones of it for the test; CamVid's 62 photographs at dusk are both target and test, so its ceiling "
        f"has learnt the labels that it is tested on. {plan.steps} steps ({plan.camvid_steps} on CamVid) with "
        f"{plan.labelled} labelled crops of the source each, teachers that remember "
        "about 100 of the steps. The learning rate was chosen with another seed on other layouts: cross-entropy on "
        f"the source alone {rate['ce_source']}, with self-training {rate['ce_selftrain']}, denoising on the source "
        f"alone {rate['diffusion_source']}, with self-training {rate['full']}; the rows between take that of the "
        "source alone. "
        "The paper gives two numbers of full-size sets and no ablation: only signs can be claimed."
    )
    yield from grid(
        ["trained on, with", *PLACES.values()],
        [[told, *(shown(table, f"iccld/{place}/{who}_miou") for place in PLACES)] for who, told in WHO.items()],
    )
    yield from text("What each switch adds, seed by seed:")
    yield from grid(
        ["switch", *PLACES.values()],
        [[told, *(shown(table, f"iccld/{place}/gain_{name}") for place in PLACES)] for name, told in GAINS.items()],
    )
    yield from where(table, iccld.ROWS, took, [f"benchmarks.iccld:{one}" for one in MEASURED])


def _numbers(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _cost(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Cost"
    yield ""
    rows = {"iccld/plain_image_ms": "plain head"} | {
        f"iccld/image_ms_{steps}_steps": f"denoised in {steps} step{'s' * (steps > 1)}"
        for steps in iccld.STEPS_OF_ANSWER
    }
    yield from text(
        "One picture of 512 x 512 px on one core, milliseconds, the light form; peak memory of its process."
    )
    yield from grid(
        ["answer", "ms", "GB"],
        [[told, shown(table, name), shown(table, name.replace("_ms", "_rss_gb"))] for name, told in rows.items()],
    )
    yield from where(table, iccld.COST_ROWS, took, ["benchmarks.iccld:cost"])


if __name__ == "__main__":
    main()
