"""`make claims-syn4seg`:

measures what is claimed for Syn4Seg and writes docs/results/syn4seg.md from benchmarks/results.csv.

`python -m benchmarks.claims_syn4seg --tables-only` only writes the page. Without it every row family below is measured
again, which takes hours on 2 cores; each is also a `make bench ROWS=...` of its own, and what is already there stays
until it is measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import dedup, fewshot, prompt_images, prompts, run, sensitivity
from benchmarks.dedup import FUNCTIONS, INDEXES, LAMBDA_DIV, METHODS, SIZES
from benchmarks.pages import MISSING, Table, grid, n, number, shown, text, where
from benchmarks.table import results, times

PAGE = Path(__file__).parents[1] / "docs" / "results" / "syn4seg.md"
FAMILIES = ("refine/sam_speedup", "dedup/", "prompts/", "masks/", "gfss/")
STEPS = ("coarse", "apf", "apr", "sabr")
PROPOSERS = ("prototype", "segmenter", "dense_clip", "attention")
VARIANTS = {
    "none": "no synthetic images",
    "classname": "+ class-name images, coarse masks",
    "hdig": "+ HDIG prompts, coarse masks",
    "ape": "+ APE masks (APF, APR)",
    "sabr": "+ SABR masks: the full stack",
    "true": "ceiling: drawings with their true masks",
}


def main(argv: list[str] | None = None) -> None:
    """Measure unless told otherwise; write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims_syn4seg", description=__doc__)
    parser.add_argument("--tables-only", action="store_true", help="measure nothing, write the page from results.csv")
    if not parser.parse_args(argv).tables_only:
        run.main(list(FAMILIES))
        sensitivity.main([])
    PAGE.write_text(page(results(), times()), encoding="utf-8")
    print(PAGE)


def page(table: Table, took: Mapping[str, str]) -> str:
    """The whole page. `took`: benchmark -> its wall time in words."""
    parts = [
        "# Syn4Seg: what was measured",
        "",
        *text(
            "Written by `make claims-syn4seg` from `benchmarks/results.csv`: do not edit. `python -m "
            "benchmarks.claims_syn4seg --tables-only` writes",
            "it again from the rows that are there. A figure is value ± spread; what is spread over and how many "
            "there were (n) stands at each",
            f"table. Rows that nobody has measured yet say `{MISSING}`.",
        ),
        *_masks(table, took),
        *_prompts(table, took),
        *_dedup(table, took),
        *_gains(table, took),
        *_speed(table, took),
        "## The full-size recipe",
        "",
        *text(
            "`synthgen run syn4seg --dry-run` prints the plan of `pipelines/syn4seg.yaml` (SD3.5-Large, SAM "
            "ViT-H, CLIP ViT-L, 1024 px): units, an",
            "estimate of GPU hours, disk and memory, and what is missing. Nothing on this page was made with "
            "those weights.",
        ),
    ]
    return "\n".join(parts)


def _masks(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Masks: each proposer, step by step"
    yield ""
    yield from text(
        "An unlabelled pixel (255) counts as missed. The settings of APF, APR and SABR are the recipe's, the "
        "same for every proposer.",
    )
    for world, told in (
        (
            "drawn",
            "Drawn: 200 held-out drawings, ten of each class, known truth, 64 px; mIoU over 20 classes and "
            "background, boundary F (Euclidean, 0.75 % of the diagonal) of the wanted class. The class is given, as "
            "a prompt gives it; the mini SAM has learnt from 16,000 drawings of this world with their masks; the "
            "band is 5 % of the side, five times the documented one. Spread over 3 support sets of 5 images a class "
            "(n). Recipe `syn4seg-mini`. Masks of generated images: rows `masks/generated/*` in the README.",
        ),
        (
            "camvid",
            "CamVid: the 101 val photographs, support of 10 images a class (95 images) of the train split, 11 "
            "classes. Val is a part of a video sequence of which train has 204 frames, so this is the same street "
            "seen again: on sequences that the support has not seen the refinement gains nothing beyond its spread "
            "(rows `photographs/*` in the README). Boundary F was not measured again since its definition changed. "
            "Recipe `label-photos`, with SABR on. `dense_clip` and `attention` stand on minis that have seen "
            "drawings only, and the mini SAM has seen no photograph either: these rows say how far they are from "
            "a use on photographs, not how good "
            "the methods are.",
        ),
    ):
        yield from text(told)
        for what, unit in (("miou", "mIoU"), ("boundary_f", "boundary F")):
            yield from grid(
                [f"proposer, {unit}", "coarse", "+ APF", "+ APR", "+ SABR", "n"],
                [
                    [
                        f"`{proposer}`",
                        *(shown(table, f"masks/{world}/{proposer}/{step}_{what}") for step in STEPS),
                        n(table, f"masks/{world}/{proposer}/sabr_{what}"),
                    ]
                    for proposer in PROPOSERS
                ],
            )
        yield from _gain_lines(table, world)
        if world == "drawn":
            error = shown(table, "masks/drawn/prototype/confidence_ece")
            yield from (f"- `prototype`: expected calibration error of the confidence map {error}", "")
        names = [
            f"masks/{world}/{proposer}/{step}_{what}"
            for proposer in PROPOSERS
            for step in STEPS
            for what in ("miou", "boundary_f")
        ]
        yield from where(
            table,
            names,
            took,
            [f"benchmarks.masks:{world}{suffix}" for suffix in ("", *(f"_{p}" for p in PROPOSERS[1:]))],
        )
    yield from text(
        "The sweep over beta, lambda_apf and the width of the band: "
        "[syn4seg_sensitivity.md](syn4seg_sensitivity.md). What the steps do: APF frees",
        "a region that looks unlike its class's prototype, so of a proposer that is made of these prototypes, or "
        "of clean masks of one object, it",
        "frees little but specks, and APR has little to fill; on photographs, where the masks of `segmenter` and "
        "`attention` are noisy, both help.",
        "SABR moves the edge of masks that are too large or ragged, and a wider band moves more of it; with a "
        "SAM that has seen no photograph it can",
        "cost some there (`refine.sabr.enabled=false` leaves it out).",
    )


def _gain_lines(table: Table, world: str) -> Iterator[str]:
    lines = []
    for proposer in PROPOSERS:
        by = []
        for what in ("miou", "boundary_f"):
            before, after = (number(table, f"masks/{world}/{proposer}/{step}_{what}") for step in ("coarse", "sabr"))
            by += [100 * (after - before)] if before is not None and after is not None else []
        if len(by) == 2:
            lines.append(
                f"- `{proposer}`: the full stack changes mIoU by {by[0]:+.1f} points and boundary F by "
                f"{by[1]:+.1f} against its coarse masks"
            )
    if lines:
        yield from lines
        yield ""


def _prompts(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Prompts: class names, a template list, HDIG, at equal budget"
    yield ""
    yield from text(
        "Sentences: 19 Cityscapes classes, 10 prompts each; nearest neighbour by all-MiniLM-L6-v2 (lower is more "
        "diverse); near-duplicates by words",
        "(Jaccard of at least 0.7; CLOUDS' published list: 0.11); share of classes that at least half of their "
        "equal share of prompts names; share",
        "of (class, time of day) and (class, weather) pairs that some prompt names. Images: 20 classes of the "
        "drawn objects world, 4 prompts each,",
        "one image a prompt by mini/objects; 1 - cosine between images of one class (higher is more diverse) and "
        "KID to 600 held-out drawings (lower",
        "is nearer), both on ImageNet features (`benchmarks/prompt_images.py`; not comparable with published "
        "KIDs). Spread over seeds (n).",
    )
    measures = (*prompts.MEASURES, *prompt_images.MEASURES)
    heads = ["bank", *(measure.replace("_", " ") for measure in measures), "n of sentences, images"]
    rows = []
    for bank in prompts.BANKS:
        seeds = ", ".join(
            filter(None, (n(table, f"prompts/{bank}/{each[0]}") for each in (prompts.MEASURES, prompt_images.MEASURES)))
        )
        rows.append([f"`{bank}`", *(shown(table, f"prompts/{bank}/{measure}") for measure in measures), seeds])
    yield from grid(heads, rows)
    names = [f"prompts/{bank}/{measure}" for bank in prompts.BANKS for measure in measures]
    yield from where(table, names, took, ["benchmarks.prompts:coverage", "benchmarks.prompt_images:images"])


def _dedup(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Greedy dedup: seconds, and agreement with the exact greedy answer"
    yield ""
    yield from text(
        "Embedded sentences of the grammar `cityscapes` in one bank, all-MiniLM-L6-v2; 2048 wide by a projection "
        "that keeps cosines. Seconds are",
        "processor time of one thread, vectors in memory; beside them recall: the lower of the shares of kept "
        "and of refused prompts that are",
        "treated as the exact greedy answer treats them. `ours` is `prompts.dedup=exact`, `ours_ivf` is "
        "`prompts.dedup=indexed`; `faiss` is",
        "IndexFlatIP, `faiss_ivf` IndexIVFFlat.",
    )
    sizes = [f"{size}_{dim}" for size, dim in FUNCTIONS.values()]
    rows = []
    reasons: dict[str, None] = {}
    for size in sizes:
        kept, lambda_div = number(table, f"dedup/{size}/kept"), LAMBDA_DIV[size.partition("_")[0]]
        cells = []
        for method in (*METHODS, *INDEXES):
            if method in INDEXES and size.startswith("10k"):
                cells.append("-")
                continue
            seconds, recall = table.get(f"dedup/{size}/{method}_s"), table.get(f"dedup/{size}/{method}_recall")
            if seconds is None or recall is None:
                cells.append(MISSING)
            elif seconds.number is None:
                reasons[f"{SIZES[size.partition('_')[0]]:,} x {size.partition('_')[2]}: {seconds.value}"] = None
                cells.append("not run")
            else:
                cells.append(f"{seconds.shown} s, {recall.value}")
        count, dim = SIZES[size.partition("_")[0]], size.partition("_")[2]
        rows.append([f"{count:,} x {dim}", f"{lambda_div}", f"{kept:.0%}" if kept is not None else MISSING, *cells])
    yield from grid(["prompts", "lambda_div", "kept", *(f"`{method}`" for method in (*METHODS, *INDEXES))], rows)
    for reason in reasons:
        yield from (f"- {reason}", "")
    names = [name for what in FUNCTIONS.values() for name in dedup.names(*what)]
    yield from where(table, names, took, [f"benchmarks.dedup:{function}" for function in FUNCTIONS])


def _gains(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Gains: generalised few-shot segmentation"
    yield ""
    yield from text(
        "The protocol of PASCAL-5i on the drawn objects world: folds 0-3 of 5 novel classes, 15 base classes, 1 "
        "or 5 labelled images a novel class.",
        "mIoU over base classes, over novel classes, their mean and their harmonic mean, background left out "
        "(DIaM's convention). Mean over folds;",
        "spread (ddof 1) over the seeds, which choose shots, images and training draws (n = seeds). What the "
        "generator knew: its denoiser has learnt from captioned drawings of the novel classes, its SAM from masks of "
        "such drawings. Images, steps and learning rate were chosen on folds 0 to 2, seed 0, looking at the test "
        "drawings; fold 3 and seeds 1 and 2 had no say.",
    )
    for shots in fewshot.SHOTS:
        names = {
            variant: [f"gfss/{shots}shot/{variant}/{measure}" for measure in fewshot.MEASURES]
            for variant in fewshot.VARIANTS
        }
        yield from grid(
            [f"{shots}-shot", *fewshot.MEASURES, "n"],
            [
                [VARIANTS[variant], *(shown(table, name) for name in names[variant]), n(table, names[variant][0])]
                for variant in fewshot.VARIANTS
            ],
        )
        for measure, wanted in (("novel", 5), ("harmonic", 3)):
            gain = table.get(f"gfss/{shots}shot/gain/{measure}")
            if gain is not None and gain.number is not None:
                points, spread = 100 * gain.number, 100 * float(gain.spread or 0)
                reached = (
                    "reached"
                    if points - spread >= wanted
                    else "not reached beyond the spread"
                    if points >= wanted
                    else "not reached"
                )
                gained = f"{points:+.1f} ± {spread:.1f} points (aim: {wanted}; {reached})"
                yield f"- full stack against none, {measure}: {gained}{_headroom(table, shots, measure)}"
                yield ""
    yield from text(
        "Full stack, but the set first and the shots alone at last (`--synthetic-first 0.5`), and its gain over no "
        "synthetic images, measured beside it:"
    )
    yield from grid(
        ["", *fewshot.MEASURES, "gain, novel", "gain, harmonic"],
        [
            [
                f"{shots}-shot",
                *(shown(table, f"gfss/{shots}shot/first/{measure}") for measure in fewshot.MEASURES),
                *(shown(table, f"gfss/{shots}shot/gain_first/{measure}") for measure in ("novel", "harmonic")),
            ]
            for shots in fewshot.SHOTS
        ],
    )
    yield from where(table, fewshot.FIRST_ROWS, took, ["benchmarks.fewshot:first"])
    # over all kills and resumptions; the last run's own time says nothing
    spent = {"benchmarks.fewshot:objects": f"{shown(table, 'gfss/minutes')} min"} if "gfss/minutes" in table else {}
    yield from where(
        table, [name for name in fewshot.ROWS if not name.endswith("minutes")], spent, ["benchmarks.fewshot:objects"]
    )


def _headroom(table: Table, shots: int, measure: str) -> str:
    """What true drawings with true masks gain in place of the generated set."""
    none, true = (number(table, f"gfss/{shots}shot/{variant}/{measure}") for variant in ("none", "true"))
    return (
        "" if none is None or true is None else f"; as many true drawings with true masks: {100 * (true - none):+.1f}"
    )


def _speed(table: Table, took: Mapping[str, str]) -> Iterator[str]:
    yield "## Speed of the mask decoder"
    yield ""
    yield from text(
        "An image is encoded once and all of its 8 boxes are decoded in one call: "
        f"{shown(table, 'refine/sam_speedup')} times as fast on one thread as `SamPredictor` of segment_anything "
        "(`set_image` once, then `predict` a box), with equal masks; "
        f"{shown(table, 'refine/sam_speedup_reencoding')} times as fast as a loop that calls `set_image` for every "
        "region. Median over images (n = images), mini SAM.",
    )
    names = ["refine/sam_speedup", "refine/sam_speedup_reencoding"]
    yield from where(table, names, took, ["benchmarks.refine:sam_speedup"])


if __name__ == "__main__":
    main()
