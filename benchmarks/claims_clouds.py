"""`make claims-clouds`: measures what is claimed for `segtrain clouds` and `segtrain unimatch` and writes
docs/results/clouds.md.

`python -m benchmarks.claims_clouds --tables-only` only writes the page, from benchmarks/results.csv.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks import clouds, clouds_camvid
from benchmarks.pages import Table, grid, head, shown, text, where, write

WHO = {
    "source": "day alone",
    "source_jitter": "day alone, strong jitter",
    "selftrain": "and the teacher's labels of generated pictures, no SAM",
    "threshold": "... of those over .968 alone",
    "mixed": "the teacher's labels with ClassMix, a strong view, a quick teacher, weights by sure pixels",
    "sam_online": "the teacher's labels redrawn by the mini SAM each step: CLOUDS",
    "sam_offline": "... once a picture, by what the warm-up says",
    "unimatch": "weak-to-strong consistency",
    "oracle": "the layouts behind the pictures as labels",
}
WEATHER = {
    "selftrain": "and the teacher's labels of drawn pictures, no SAM",
    "oracle": "ceiling: their labels as well",
}
FEW = {
    "few": "20 labelled frames",
    "few_selftrain": "and self-training on the others, no SAM",
    "few_class_mix": "... with ClassMix",
    "few_confidence": "... weighted by the share of sure pixels",
    "few_strong": "... with a strong view for the student",
    "few_unimatch": "and weak-to-strong consistency",
    "few_unimatch_sinkhorn": "... with Sinkhorn assignment",
    "few_clouds": "... with ClassMix and a strong view",
    "few_clouds_sam": "... and the mini SAM, which has seen drawings alone",
    "few_photos": "and the labels that `label-photos` gives the others",
    "all_labels": "ceiling: the labels of all frames",
}


def main(argv: list[str] | None = None) -> None:
    """Measure unless told otherwise; write the page."""
    write("clouds", page, argv)


def page(table: Table, took: Mapping[str, str]) -> str:
    """The whole page. `took`: benchmark -> its wall time in words."""
    seeds = len(clouds.Plan().seeds)
    figures = f"Figures are mIoU in 0..1, mean ± spread (ddof 1) over {seeds} seeds."
    parts = [
        *head("CLOUDS and weak-to-strong consistency", "clouds", figures),
        *_drawn(table, took),
        *_pseudo(table, took),
        *_camvid(table, took),
        *_cost(table, took),
    ]
    return "\n".join(parts)


def _drawn(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    plan = clouds.Plan()
    yield "## Drawn streets: day with labels, generated pictures of all weathers without"
    yield ""
    yield from text(
        f"{plan.scenes} labelled day scenes, {plan.generated} generated pictures, {plan.test} held-out layouts in five "
        f"weathers; {plan.steps} steps of {plan.batch} crops for every row. {_rate(table, 'clouds/rate')}"
    )
    yield from grid(
        ["trained on, with", *clouds.DOMAINS],
        [[WHO[who], *(shown(table, f"clouds/{who}_{what}") for what in clouds.DOMAINS)] for who in clouds.DRAWN],
    )
    yield from text("Over day alone with strong jitter, seed by seed:")
    yield from grid(
        ["", *clouds.GAIN_DOMAINS],
        [[WHO[w], *(shown(table, f"clouds/gain/{w}_{what}") for what in clouds.GAIN_DOMAINS)] for w in clouds.GAINED],
    )
    yield from where(table, clouds.DRAWN_ROWS, took, ["benchmarks.clouds:drawn"])
    yield from text(
        f"The same with {plan.generated} drawn pictures of those layouts in all weathers, the tested world itself, in "
        "place of generated ones, and the gains over day alone with strong jitter. "
        f"{_rate(table, 'clouds/weather/rate')}"
    )
    yield from grid(
        ["", *clouds.GAIN_DOMAINS, *(f"gain, {what}" for what in clouds.GAIN_DOMAINS)],
        [
            [
                WEATHER.get(w, WHO[w]),
                *(
                    shown(table, f"clouds/weather/{prefix}{w}_{what}")
                    for prefix in ("", "gain_")
                    for what in clouds.GAIN_DOMAINS
                ),
            ]
            for w in clouds.WEATHER
        ],
    )
    yield from where(table, clouds.WEATHER_ROWS, took, ["benchmarks.clouds:weather"])
    yield from text(
        f"{plan.pictures_of_prompts} pictures of one prompt, or of a hundred; the teacher's labels, no SAM. "
        f"{_rate(table, 'clouds/prompts_rate')}"
    )
    yield from grid(
        ["prompts", "avg5", "adverse"],
        [
            [str(count), *(shown(table, f"clouds/prompts_{count}_{what}") for what in ("avg5", "adverse"))]
            for count in clouds.PROMPTS
        ],
    )
    yield from where(table, clouds.PROMPT_ROWS, took, ["benchmarks.clouds:prompts"])


def _rate(table: Table, row: str) -> str:
    """How the learning rate of a table was chosen; rows of before the choice were all measured at one."""
    plan = clouds.Plan()
    if row not in table:
        return (
            f"Learning rate {plan.learning_rate:g}, at which day alone with strong jitter learns too little "
            "(`clouds/rate`): to be measured again."
        )
    rates = ", ".join(f"{rate:g}" for rate in plan.drawn_rates)
    return (
        f"Learning rate {shown(table, row)}, of {rates} the best for day alone with strong jitter with another seed on "
        "other layouts."
    )


def _pseudo(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Pseudo-labels before and after SAM"
    yield ""
    yield from text(
        "Against the layouts behind the pictures, in the first and the last tenth of the joint steps, SAM in each of "
        f"them. {_rate(table, 'clouds/pseudo/rate')}"
    )
    told = {"teacher": "what the teacher says", "target": "what SAM makes of it"}
    yield from grid(
        ["", *(f"{what}, {when}" for what in clouds.WHAT for when in clouds.WHEN)],
        [
            [
                told[who],
                *(shown(table, f"clouds/pseudo/{who}_{what}_{when}") for what in clouds.WHAT for when in clouds.WHEN),
            ]
            for who in clouds.WHO
        ],
    )
    gains = ", ".join(f"{when} {shown(table, f'clouds/pseudo/gain_sam_miou_{when}')}" for when in clouds.WHEN)
    yield from text(f"SAM's gain in mIoU, seed by seed: {gains}.")
    yield from where(table, clouds.PSEUDO_ROWS, took, ["benchmarks.clouds_pseudo:pseudo"])


def _camvid(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    plan = clouds.Plan()
    yield "## Photographs: 20 labelled frames of CamVid, the others without labels"
    yield ""
    yield from text(
        f"160 x 120, {plan.camvid_steps} steps of {plan.camvid_batch} crops for every row, its learning rate chosen of "
        f"{len(plan.rates)} and the share of crops of the others of {len(plan.shares)}, in one way for all. Tested on "
        "the published val split, and on a sequence at dusk of which nothing is learnt. `closed` is the "
        "share of (ceiling - few)."
    )
    told = {
        "camvid": "The 20 are of the sequence that the val split is of, too:",
        "camvid_other": "The 20 are of another sequence; that of the val split is seen without labels alone:",
    }
    for setting, words in told.items():
        yield from text(words)
        yield from _of_setting(table, took, setting)


def _of_setting(table: Table, took: Mapping[str, str], setting: str) -> Iterator[str]:
    functions = {"camvid": ("same", "switches"), "camvid_other": ("other",)}[setting]
    ways = tuple(clouds_camvid.WAYS) if setting == "camvid" else clouds_camvid.MAIN
    yield from grid(
        ["", "val", "gain", "closed", "dusk", "gain on it", "rate", "share"],
        [
            [
                FEW[who],
                shown(table, f"clouds/{setting}/{who}_miou"),
                shown(table, f"clouds/{setting}/gain_{who}_miou") if who != "few" else "",
                shown(table, f"clouds/{setting}/closed_{who}") if who not in ("few", "all_labels") else "",
                shown(table, f"clouds/{setting}/{who}_held_out"),
                shown(table, f"clouds/{setting}/gain_{who}_held_out") if who != "few" else "",
                shown(table, f"clouds/{setting}/{who}_rate"),
                shown(table, f"clouds/{setting}/{who}_share") if who in clouds_camvid.SHARED else "",
            ]
            for who in ways
        ],
    )
    quality = shown(table, f"clouds/{setting}/labels_of_photos_miou")
    yield from text(f"mIoU of the labels that `label-photos` gives: {quality}.")
    measured = [f"benchmarks.clouds_camvid:{function}" for function in functions]
    yield from where(table, clouds_camvid.rows_of(setting, ways), took, measured)


def _cost(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Cost"
    yield ""
    rows = {
        "source_step_s": "seconds of a step on labels, one core",
        "joint_step_s": "seconds of a joint step",
        "joint_ratio": "the second over the first",
        "share_teacher": "share of the teacher in it",
        "share_components": "... of components and points",
        "share_sam": "... of SAM",
        "source_rss_gb": "peak memory of a training on labels, GB",
        "joint_rss_gb": "... of a joint one",
    }
    yield from grid(["what", "value"], [[told, shown(table, f"clouds/cost/{name}")] for name, told in rows.items()])
    yield from where(table, clouds.COST_ROWS, took, ["benchmarks.clouds_pseudo:cost"])


if __name__ == "__main__":
    main()
