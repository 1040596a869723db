"""`python -m benchmarks.table`: writes the rows of results.csv into the README, between its two markers."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.run import RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- results: written by `python -m benchmarks.table` -->\n"
END = "<!-- end of results -->"
MEANING = {
    "main/dataset_minutes": "`synthgen run syn4seg-mini` from a fresh clone, installation not counted",
    "main/kept_samples": "samples that it keeps",
    "main/peak_rss_gb": "memory of all its processes together, at the most",
    "masks/drawn/coarse_miou": "masks on drawn objects with known truth: prototypes alone, mIoU",
    "masks/drawn/apf_miou": "... after APF",
    "masks/drawn/apr_miou": "... after APR",
    "masks/drawn/sabr_miou": "... after SABR: the final mask",
    "masks/drawn/coarse_boundary_f": "the same masks, boundary F at 1 px: prototypes alone",
    "masks/drawn/apf_boundary_f": "... after APF",
    "masks/drawn/apr_boundary_f": "... after APR",
    "masks/drawn/sabr_boundary_f": "... after SABR",
    "masks/camvid/coarse_miou": "101 CamVid photographs labelled from 10, ImageNet features: coarse mIoU over 11 classes",
    "masks/camvid/final_miou": "... final (a pixel left unlabelled counts as missed)",
    "use/drawn/few_miou": "segtrain on 5 labelled drawings a class, mIoU on held-out drawings",
    "use/drawn/few_plus_synthetic_miou": "... and the set that the default recipe makes from them",
    "minis/vae_psnr_db": "mini VAE: reconstruction of held-out scenes",
    "minis/object_obedience": "mini denoiser: a classifier finds the asked one of 20 classes",
    "minis/domain_obedience": "mini ControlNet: a classifier finds the asked one of 5 domains",
    "minis/controlnet_ratio": "mini ControlNet: a segmenter's mIoU on generated over that on drawn scenes",
    "minis/sam_box_miou": "mini SAM: IoU from ground-truth boxes, objects over 1 % of the image",
    "minis/clip_top1_of_64": "mini CLIP: the right caption is the best of 64",
    "verify/fuzz_cases": "datasets damaged in 16 ways, from a flipped bit to a decompression bomb",
    "verify/fuzz_found": "... that `synthgen verify` calls broken; it raised nothing and wrote nothing",
}


def table() -> str:
    """The rows that MEANING explains, as Markdown in its order."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    names = [name for name in MEANING if name in rows]
    lines = ["| row | what | value | spread (n) |", "|---|---|---|---|"]
    for name in names:
        row = rows[name]
        spread = f"{row['spread']} ({row['n']})" if row["spread"] else f"({row['n']})"
        lines.append(f"| `{name}` | {MEANING.get(name, '')} | {row['value']} {row['unit']} | {spread} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The README's text with a fresh table."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
