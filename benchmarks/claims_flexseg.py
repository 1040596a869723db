"""`make claims-flexseg`: measures what is claimed for FLEX-Seg and writes docs/results/flexseg.md.

`python -m benchmarks.claims_flexseg --tables-only` only writes the page, from benchmarks/results.csv.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks import flexseg
from benchmarks.flexseg import CAMVID_PARTS, CEILINGS, DRAWN, GAINED, MEASURES, WARPED
from benchmarks.pages import Table, grid, head, shown, text, where, write

WHO = {
    "source": "day alone",
    "jitter": "day alone, strong jitter",
    "plain": "merged set, plain loss (DGInStyle)",
    "ignore": "boundaries ignored",
    "reduce": "boundaries x 0.5",
    "clip": "boundary losses cut at 1 nat",
    "enhance": "boundaries x 2.5",
    "ube": "UBE",
    "gap": "GAP",
    "has": "HAS",
    "gap_ube": "GAP + UBE",
    "all": "GAP + UBE + HAS: FLEX-Seg",
    "ceiling": "ceiling: drawn weather, exact masks, plain loss",
    "ceiling_enhance": "... boundaries x 2.5",
    "ceiling_ube": "... UBE",
}


def main(argv: list[str] | None = None) -> None:
    """Measure unless told otherwise; write the page."""
    write("flexseg", page, argv)


def page(table: Table, took: Mapping[str, str]) -> str:
    """The whole page. `took`: benchmark -> its wall time in words."""
    seeds = len(flexseg.Plan().seeds)
    figures = f"Figures are mIoU in 0..1, mean ± spread (ddof 1) over {seeds} seeds of the trainings."
    parts = [
        *head("FLEX-Seg", "flexseg", figures),
        *_drawn(table, took),
        *_warped(table, took),
        *_camvid(table, took),
        *_cost(table, took),
    ]
    return "\n".join(parts)


def _drawn(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    plan = flexseg.Plan()
    yield "## Drawn streets: day with labels, other weather generated"
    yield ""
    yield from text(
        f"{plan.scenes} labelled day scenes, {4 * plan.windows} generated pictures, {plan.test} held-out layouts in "
        f"five weathers; {plan.steps} steps of {plan.batch} crops, Unet on an ImageNet EfficientNet-Lite0. `boundary` "
        "and `interior`: share of wrong pixels in the boundary band and outside it, mean of the four adverse weathers. "
        "`adverse`, `avg2`, `avg5`: means of mIoU, see there.",
    )
    yield from grid(
        ["trained on, with", *MEASURES],
        [
            [WHO[who], *(shown(table, f"flexseg/{who}_{what}") for what in MEASURES)]
            for who in ("source", "jitter", *DRAWN, *CEILINGS)
        ],
    )
    yield from text(
        "What the parts add, seed by seed: mean ± spread of the difference to the plain loss on the same set. The "
        "share is that of (row - day alone) in (ceiling - day alone).",
    )
    yield from grid(
        ["part", "adverse", "avg5", "share of the room"],
        [
            [
                WHO[who],
                *(shown(table, f"flexseg/gain/{who}_{what}") for what in ("adverse", "avg5")),
                shown(table, f"flexseg/share/{who}_adverse") if who in DRAWN else "",
            ]
            for who in GAINED
        ],
    )
    fair = shown(table, "flexseg/gain/ube_over_enhance_adverse")
    yield from text(f"UBE over its fair control, boundaries x 2.5, seed by seed: {fair}.")
    names = [f"flexseg/{who}_{what}" for who in ("source", "jitter", *DRAWN, *CEILINGS) for what in MEASURES]
    yield from where(table, names, took, ["benchmarks.flexseg:drawn"])


def _warped(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Known misalignment: drawn weather, pictures warped under their masks"
    yield ""
    yield from text(f"As above, {flexseg.Plan().warped_steps} steps, so its figures stand beside each other alone.")
    for px, parts in WARPED.items():
        yield from grid(
            [f"{px:g} px", "adverse", "gain", "avg5", "boundary", "interior"],
            [
                [
                    WHO[who],
                    shown(table, f"flexseg/warp{px:g}/{who}_adverse"),
                    shown(table, f"flexseg/warp{px:g}/gain_{who}_adverse") if who != "plain" else "",
                    *(shown(table, f"flexseg/warp{px:g}/{who}_{what}") for what in ("avg5", "boundary", "interior")),
                ]
                for who in parts
            ],
        )
        fair = shown(table, f"flexseg/warp{px:g}/ube_over_enhance_adverse")
        yield from text(f"UBE over its fair control, boundaries x 2.5, seed by seed: {fair}.")
        by = "warped_by_1_5" if px == 1.5 else "warped_by_3"
        yield from where(table, flexseg.WARPED_ROWS[px], took, [f"benchmarks.flexseg:{by}"])


def _camvid(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Photographs: CamVid's day sequences to its dusk sequence"
    yield ""
    yield from text(
        "305 photographs of 0006R0 and 0016E5 at 160 x 120, and the same darkened; tested on 62 of 0001TP. Never used "
        "to choose a setting."
    )
    yield from grid(
        ["trained on, with", "mIoU", "gain over plain", "boundary error", "interior error"],
        [
            [
                WHO[who],
                shown(table, f"flexseg/camvid_dusk/{who}_miou"),
                shown(table, f"flexseg/camvid_dusk/gain_{who}_miou") if who in CAMVID_PARTS[1:] else "",
                *(shown(table, f"flexseg/camvid_dusk/{who}_{what}") for what in ("boundary", "interior")),
            ]
            for who in ("source", "jitter", *CAMVID_PARTS)
        ],
    )
    yield from where(table, flexseg.CAMVID_ROWS, took, ["benchmarks.flexseg:camvid"])


def _cost(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Cost"
    yield ""
    rows = {
        "steps_s_plain": "steps a second of one core, plain",
        "steps_s_all": "with GAP, UBE and HAS",
        "steps_s_ratio": "the second over the first, round by round",
        "peak_rss_gb": "peak memory of the training",
        "has_table_mb": "HAS in a checkpoint, 1,000,000 images",
        "has_draw_ms": "HAS, drawing a batch from it",
    }
    yield from grid(["what", "value"], [[told, shown(table, f"flexseg/{name}")] for name, told in rows.items()])
    yield from where(table, [f"flexseg/{name}" for name in rows], took, ["benchmarks.flexseg:cost"])


if __name__ == "__main__":
    main()
