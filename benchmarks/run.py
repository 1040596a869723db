"""`python -m benchmarks.run [NAME ...]`: measures and writes rows of benchmarks/results.csv.

A name is a row or the beginning of one (`minis/`, `masks/camvid`). Without names every benchmark runs. A benchmark is a
function that gives a few rows at once; it is listed below with the names that it gives. Rows that are not measured
again stay as they are. Scratch files (judges, runs) go to `benchmarks/scratch/` and are used again.
"""

from __future__ import annotations

import csv
import datetime
import importlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import (
    calibration,
    cgaug,
    cgaug_cost,
    cgaug_generation,
    clouds,
    clouds_camvid,
    dedup,
    fewshot,
    flexseg,
    fuzz_readers,
    hand_outlines,
    iccld,
    loop,
    packing,
    photographs,
    prompt_images,
    prompts,
    proposers,
    reading,
    refine_loop,
    render,
    start,
    trainings,
    use,
)
from benchmarks.row import Row, device

RESULTS = Path(__file__).parent / "results.csv"
TIMES = Path(__file__).parent / "times.csv"  # wall time of each benchmark's last run
COLUMNS = ("name", "value", "unit", "spread", "n", "command", "device", "date")


def _masks(kind: str) -> tuple[str, ...]:
    return tuple(
        f"masks/{kind}/{step}_{what}" for step in ("coarse", "apf", "apr", "sabr") for what in ("miou", "boundary_f")
    )


BENCHMARKS: dict[str, tuple[str, ...]] = {
    "benchmarks.minis:autoencoder": ("minis/vae_psnr_db",),
    "benchmarks.minis:objects": ("minis/object_obedience",),
    "benchmarks.minis:streets": ("minis/domain_obedience", "minis/controlnet_ratio"),
    "benchmarks.minis:decoder": ("minis/sam_box_miou",),
    "benchmarks.minis:scorer": ("minis/clip_top1_of_64",),
    "benchmarks.main_job:dataset": ("main/dataset_minutes", "main/kept_samples", "main/peak_rss_gb"),
    "benchmarks.masks:drawn": (*_masks("drawn"), "masks/drawn/confidence_ece"),
    "benchmarks.masks:drawn_prototype": (*_masks("drawn/prototype"), "masks/drawn/prototype/confidence_ece"),
    **{f"benchmarks.masks:drawn_{name}": _masks(f"drawn/{name}") for name in ("dense_clip", "attention", "segmenter")},
    "benchmarks.masks:camvid": ("masks/camvid/coarse_miou", "masks/camvid/final_miou", *_masks("camvid/prototype")),
    **{
        f"benchmarks.masks:camvid_{name}": _masks(f"camvid/{name}") for name in ("dense_clip", "attention", "segmenter")
    },
    "benchmarks.generated:masks": tuple(
        f"masks/generated/{what}"
        for what in (
            "coarse_iou",
            "apf_iou",
            "apr_iou",
            "final_iou",
            "kept_final_iou",
            "coarse_broken",
            "final_broken",
            "coarse_boundary_f",
            "final_boundary_f",
            "worst_class_iou",
            "oracle_iou",
            "oracle_drawn_miou",
            "no_object",
        )
    ),
    "benchmarks.hand_outlines:rows": hand_outlines.ROWS,
    "benchmarks.photographs:unseen": (
        *(f"photographs/{s}_{m}" for s in ("coarse", "apf", "apr", "sabr") for m in ("miou", "boundary_f")),
        *(f"photographs/{step}_touched" for step in ("apf", "apr", "sabr")),
        "photographs/gain_apr_miou",
        "photographs/gain_sabr_miou",
        *(f"photographs/gain_{name}_miou" for name in photographs.GAINS),
        *(f"photographs/{plain}_coarse_{m}" for plain in photographs.PLAIN for m in ("miou", "boundary_f")),
    ),
    **{f"benchmarks.calibration:{data}": names for data, names in calibration.ROWS.items()},
    **{f"benchmarks.proposers:{data}": names for data, names in proposers.ROWS.items()},
    "benchmarks.photographs:sam": ("photographs/sam_box_iou", "photographs/filled_box_iou"),
    "benchmarks.refine:sam_speedup": ("refine/sam_speedup", "refine/sam_speedup_reencoding"),
    "benchmarks.refine_loop:rows": refine_loop.ROWS,
    "benchmarks.use:drawn": use.rows_of(""),
    "benchmarks.use:curve": tuple(name for setting in use.SETTINGS if setting for name in use.rows_of(setting)),
    "benchmarks.fewshot:first": fewshot.FIRST_ROWS,
    "benchmarks.fewshot:objects": fewshot.ROWS,
    "benchmarks.prompts:coverage": tuple(f"prompts/{b}/{m}" for b in prompts.BANKS for m in prompts.MEASURES),
    "benchmarks.prompt_images:images": tuple(f"prompts/{b}/{m}" for b in prompts.BANKS for m in prompt_images.MEASURES),
    **{f"benchmarks.dedup:{function}": dedup.names(*what) for function, what in dedup.FUNCTIONS.items()},
    "benchmarks.fuzz:rows": ("verify/fuzz_cases", "verify/fuzz_found"),
    **{f"benchmarks.fuzz_readers:{name}": names for name, names in fuzz_readers.NAMES.items()},
    "benchmarks.engine:kills": ("engine/kills", "engine/kills_identical"),
    "benchmarks.stage_memory:memory": tuple(
        f"engine/rss_mb_{stage}_{n}" for n in (1000, 10000, 100000) for stage in ("refine", "filter", "pack")
    ),
    "benchmarks.scale:costs": tuple(
        f"scale/{what}"
        for what in (
            "commit_ms",
            "plan_ms",
            "missing_ms",
            "footers_ms",
            "rows_ms",
            "listing_ms",
            "manifest_bytes",
            "plan_bytes",
        )
    ),
    "benchmarks.scale:dedup": ("scale/dedup_s_2000", "scale/dedup_s_4000", "scale/dedup_s_8000"),
    "benchmarks.scale:tails": tuple(
        f"scale/tail_{who}_{w}x{u}" for w in (1, 8, 1000) for u in (8, 64) for who in ("rank", "queue")
    ),
    "benchmarks.render:overhead": ("engine/overhead_cpu",),
    "benchmarks.render:throughput": tuple(
        f"engine/{v}{s}_images_s_cpu" for s in ("", "_controlnet") for v in render.VARIANTS
    ),
    "benchmarks.render:quality": tuple(
        f"engine/cache{s}_{what}" for s in ("", "_text") for what in ("psnr_db", "agreement", "runs")
    ),
    "benchmarks.render:gpu": render.gpu_names(),
    "benchmarks.adapt:cost": (
        "adapt/minutes",
        "adapt/peak_rss_gb",
        "adapt/steps_s_ours",
        "adapt/steps_s_plain",
        "adapt/steps_s_ratio",
    ),
    "benchmarks.adapt:swap": tuple(
        f"adapt/{who}_{what}" for who in ("finetuned", "swap") for what in ("domain", "map")
    ),
    "benchmarks.adapt:short": (
        *(f"adapt/{who}_{what}" for who in ("none", "leaky") for what in ("domain", "map")),
        *(f"adapt/{who}_map" for who in ("labels_50", "labels_200", "labels_600", "palette", "onehot")),
    ),
    "benchmarks.adapt:foreign": tuple(
        f"adapt/foreign_{who}_{what}" for who in ("finetuned", "swap") for what in ("domain", "map")
    ),
    "benchmarks.adapt:memory": tuple(f"adapt/peak_rss_{count}_scenes_gb" for count in (300, 3_000)),
    "benchmarks.flexseg:drawn": flexseg.DRAWN_ROWS,
    "benchmarks.flexseg:warped_by_1_5": flexseg.WARPED_ROWS[1.5],
    "benchmarks.flexseg:warped_by_3": flexseg.WARPED_ROWS[3.0],
    "benchmarks.flexseg:camvid": flexseg.CAMVID_ROWS,
    "benchmarks.flexseg:cost": (
        *(f"flexseg/steps_s_{which}" for which in ("plain", "all", "ratio")),
        "flexseg/peak_rss_gb",
        "flexseg/has_table_mb",
        "flexseg/has_draw_ms",
    ),
    "benchmarks.clouds:drawn": clouds.DRAWN_ROWS,
    "benchmarks.clouds:weather": clouds.WEATHER_ROWS,
    "benchmarks.clouds:prompts": clouds.PROMPT_ROWS,
    "benchmarks.clouds_camvid:same": clouds_camvid.rows_of("camvid"),
    "benchmarks.clouds_camvid:switches": clouds_camvid.rows_of("camvid", clouds_camvid.SWITCHES),
    "benchmarks.clouds_camvid:other": clouds_camvid.rows_of("camvid_other"),
    "benchmarks.clouds_pseudo:pseudo": clouds.PSEUDO_ROWS,
    "benchmarks.clouds_pseudo:cost": clouds.COST_ROWS,
    "benchmarks.cgaug:drawn": cgaug.DRAWN_ROWS,
    "benchmarks.cgaug:selection": cgaug.SELECTION_ROWS,
    "benchmarks.cgaug_generation:generation": cgaug_generation.GENERATION_ROWS,
    "benchmarks.cgaug:generated": cgaug.GENERATED_ROWS,
    "benchmarks.cgaug_generation:gate": cgaug_generation.GATE_ROWS,
    "benchmarks.cgaug:camvid": cgaug.CAMVID_ROWS,
    "benchmarks.cgaug_generation:cost": cgaug_generation.COST_ROWS,
    "benchmarks.cgaug_cost:steps": cgaug_cost.STEP_ROWS,
    "benchmarks.cgaug_cost:metrics": cgaug_cost.METRIC_ROWS,
    "benchmarks.iccld:tuning": iccld.RATE_ROWS,
    "benchmarks.iccld:night": iccld.PLACE_ROWS["night"],
    "benchmarks.iccld:weather": iccld.PLACE_ROWS["weather"],
    "benchmarks.iccld:camvid": iccld.PLACE_ROWS["camvid_dusk"],
    "benchmarks.iccld:cost": iccld.COST_ROWS,
    "benchmarks.loop:objects": loop.ROWS,
    "benchmarks.packing:writers": packing.WRITE_ROWS,
    "benchmarks.packing:checks": packing.CHECK_ROWS,
    "benchmarks.reading:readers": reading.READ_ROWS,
    "benchmarks.reading:crops": reading.CROP_ROWS,
    "benchmarks.reading:loop": reading.LOOP_ROWS,
    "benchmarks.start:commands": start.ROWS,
    "benchmarks.wiring:full_size": ("wiring/sd35_large_s", "wiring/sd35_large_gb"),
}


def main(wanted: list[str]) -> None:
    """Run the benchmarks that give any of the wanted rows."""
    chosen = [
        path for path, names in BENCHMARKS.items() if not wanted or any(n.startswith(w) for n in names for w in wanted)
    ]
    if not chosen:
        known = ", ".join(sorted({f"{name.partition('/')[0]}/" for names in BENCHMARKS.values() for name in names}))
        sys.exit(f"no row begins with {' or '.join(wanted)}; rows begin with {known}; docs/RESULTS.md lists them")
    for path in chosen:
        module, _, function = path.partition(":")
        print(f"# {path}", flush=True)
        trainings.earlier_s.clear()
        began = time.monotonic()
        rows = list(getattr(importlib.import_module(module), function)())
        store(rows)
        if rows:
            store_time(path, time.monotonic() - began + sum(trainings.earlier_s) / (os.cpu_count() or 1))
        for row in rows:
            print(f"{row.name:36} {row.value} {row.unit} (spread {row.spread}, n {row.n})", flush=True)


def store(rows: Iterable[Row]) -> None:
    """Put rows in their places in results.csv: one line a name, sorted."""
    table: dict[str, dict[str, str]] = {}
    if RESULTS.is_file():
        with RESULTS.open(encoding="utf-8", newline="") as file:
            table = {line["name"]: line for line in csv.DictReader(file)}
    for row in rows:
        table[row.name] = {
            "name": row.name,
            "value": _text(row.value),
            "unit": row.unit,
            "spread": _text(row.spread),
            "n": str(row.n),
            "command": f"make bench ROWS={row.name}",
            "device": row.device or device(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
    temporary = RESULTS.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[name] for name in sorted(table))
    temporary.replace(RESULTS)


def store_time(benchmark: str, seconds: float) -> None:
    """Put the wall time of a benchmark in its place in times.csv."""
    table: dict[str, dict[str, str]] = {}
    if TIMES.is_file():
        with TIMES.open(encoding="utf-8", newline="") as file:
            table = {line["benchmark"]: line for line in csv.DictReader(file)}
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    table[benchmark] = {"benchmark": benchmark, "minutes": f"{seconds / 60:.2f}", "device": device(), "date": date}
    temporary = TIMES.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("benchmark", "minutes", "device", "date"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[name] for name in sorted(table))
    temporary.replace(TIMES)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    main(sys.argv[1:])
