"""Puts the page together and writes it: one file, no network, nothing of it trusted.

Prompts and file names come from anywhere. Texts go through jinja's escaping, the script's data through its JSON filter
(no `<` survives), the script writes texts as text only, and the page forbids itself every connection.
"""

from __future__ import annotations

import collections
import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

from segkit.colours import colours_of
from segkit.index import INDEX_FILE, read_index
from segkit.labels import Label
from segkit.reports import place_of, templates
from synthgen import stages
from synthgen.errors import StorageError
from synthgen.files import write_bytes
from synthgen.prompts.coverage import chosen_lambda_div
from synthgen.recipe import chosen_backends
from synthgen.refine.calibration import Calibration, recorded
from synthgen.refine.class_rates import ClassCounts, rates_of
from synthgen.report.gallery import STEPS, Gallery, attribute_values, gallery
from synthgen.report.lineage import Step, lineage
from synthgen.report.prompt_map import PromptMap, duplicate_pair, prompt_map
from synthgen.report.run_rows import KEPT, Row, RunRows, read_run
from synthgen.report.scores import SCORES, histogram

MARK = "<!-- synthgen report -->"
"""The second line of every report: what bears it may be replaced by a newer one."""
NUM_SHOWN = 480
EXAMPLES = 6
_HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What came of it."""

    path: Path
    num_bytes: int
    num_shown: int
    num_images: int


def write_report(run: Path, out: Path | None = None, num_shown: int = NUM_SHOWN) -> Written:
    """Write the report of a run, finished or not; default place `<run>.report.html` beside its folder.

    Raises RunError if the folder is no run, StorageError if `out` is a file that is no report or cannot be written.
    """
    path = place_of(run, out, MARK, "synthgen", StorageError)
    found = read_run(run)
    pictures = gallery(found, num_shown)
    data = page(found, pictures).encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path.parent}: cannot be made ({error.strerror or error}); choose another place with --out"
        ) from error
    write_bytes(data, path)
    return Written(path, len(data), len(pictures.cards), pictures.num_images)


def page(found: RunRows, pictures: Gallery) -> str:
    """The HTML.

    Raises RunError for damaged embeddings, InputError for damaged pictures of the sample whose lineage is told.
    """
    environment = templates(_HERE)
    environment.filters.update(duration=duration, figure=figure)
    prompts = found.stage("prompts")
    bank = prompt_map(found.run, found.prompts, prompts.rejected) if prompts else None
    rules = found.recipe.filter.rules
    facts = {
        "mark": MARK,
        "version": metadata.version("synthgen-seg"),
        "found": found,
        "recipe": found.recipe,
        "space": found.space,
        "backends": chosen_backends(found.recipe),
        "funnel": funnel(found),
        "gallery": pictures,
        "domains": attribute_values(pictures.cards),
        "classes": class_pixels(found, pictures),
        "masks": mask_rates(found),
        "calibration": calibration(found),
        "paraphrases": chosen_lambda_div(found.run / "prompts"),
        "is_packed": _is_packed(found),
        "bank": bank,
        "cut": [f"{row['prompt'].removesuffix(row['cut'])}[{row['cut']}]" for row in found.prompts if row.get("cut")],
        "refusals": refusals(found, pictures),
        "histograms": [made for score in SCORES if (made := histogram(score, found.images, rules))],
        "steps": _told(found, pictures),
        "data": _data(found, pictures, bank),
    }
    return environment.get_template("page.html").render(facts)


def duration(seconds: float) -> str:
    """As a person says it: 4.2 s, 3 min 20 s, 5 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def figure(value: float) -> str:
    """Three digits, never an exponent."""
    return (
        f"{value:,.0f}"
        if value >= 100
        else f"{value:.3g}"
        if value >= 1e-3
        else f"{value:.1g}"
        if value >= 1e-4
        else f"{value:.6f}"
    )


def funnel(found: RunRows) -> list[dict[str, Any]]:
    """What goes into each stage that has begun and what comes out."""
    names = {
        "prompts": "prompts",
        "render": "images",
        "refine": "labelled",
        "score": "scored",
        "filter": "kept",
        "pack": "shards",
    }
    return [
        {
            "name": names[stage.name],
            "made": stage.made,
            "refused": len(stage.rejected),
            "whole": stage.done_units == stage.num_units,
        }
        for stage in found.stages
        if stage.name != "score"
    ]


def _is_packed(found: RunRows) -> bool:
    return (found.run / "dataset" / INDEX_FILE).is_file()


def class_pixels(found: RunRows, pictures: Gallery) -> list[dict[str, Any]]:
    """Pixels and samples of each class of the finished dataset, in the order of the label space;

    while there is none, of the gallery's masks.
    """
    counted = pictures.class_pixels
    if _is_packed(found):
        counted = {entry.id: (entry.pixels, entry.samples) for entry in read_index(found.run / "dataset").class_pixels}
    if not counted:
        return []
    asked = collections.Counter(row["class_id"] for row in found.images if row["outcome"] == KEPT)
    tried = collections.Counter(row["class_id"] for row in found.images)
    own = {label.id for label in found.space.labels}
    total = sum(pixels for class_id, (pixels, _) in counted.items() if class_id in own) or 1
    largest = (
        max(
            (pixels for class_id, (pixels, _) in counted.items() if class_id in own - {found.space.background}),
            default=1,
        )
        or 1
    )
    listed = []
    for label in found.space.labels:
        pixels, samples = counted.get(label.id, (0, 0))
        listed.append(
            {
                "label": label,
                "is_background": label.id == found.space.background,
                "pixels": pixels,
                "samples": samples,
                "share": pixels / total,
                "bar": min(1.0, pixels / largest),
                "kept": asked[label.id],
                "tried": tried[label.id],
            }
        )
    return listed


def mask_rates(found: RunRows) -> list[tuple[Label, ClassCounts]]:
    """What APF and APR did to each class, the lowest keep rate first;

    empty before the stage and for runs of an older version.
    """
    labels = {label.id: label for label in found.space.labels}
    rates = rates_of(stages.stages(found.run)["refine"]) if found.stage("refine") else {}
    return sorted(
        ((labels[k], counts) for k, counts in rates.items() if k in labels),
        key=lambda each: (each[1].keep_rate, each[0].id),
    )


def calibration(found: RunRows) -> Calibration | None:
    """How the thresholds were chosen that the recipe leaves open; None where it fixes all, or before the stage."""
    return recorded(stages.stages(found.run)["refine"]) if found.stage("refine") else None


def refusals(found: RunRows, pictures: Gallery) -> list[dict[str, Any]]:
    """Reasons by stage, most frequent first, each with a few examples:

    pairs of prompts, or indices of cards, or details.
    """
    listed = []
    for stage in found.stages:
        reasons = collections.Counter(row.reason for row in stage.rejected)
        for reason, count in reasons.most_common():
            rows = sorted((row for row in stage.rejected if row.reason == reason), key=lambda row: row.key)
            cards = [
                number
                for number, card in enumerate(pictures.cards)
                if (card["stage"], card["outcome"]) == (stage.name, reason)
            ]
            pairs = [(pair, row.score) for row in rows if (pair := duplicate_pair(row.detail))]
            listed.append(
                {
                    "stage": stage.name,
                    "reason": reason,
                    "count": count,
                    "share": count / (stage.made + len(stage.rejected)),
                    "cards": cards[:EXAMPLES],
                    "pairs": pairs[:EXAMPLES],
                    "details": [] if cards or pairs else [row.detail for row in rows[:EXAMPLES]],
                }
            )
    return listed


def _told(found: RunRows, pictures: Gallery) -> list[Step]:
    """Lineage of the sample that went furthest: a kept one whose mask the steps have changed, if there is one."""
    shown = {card["key"]: card for card in pictures.cards}
    rows = [row for row in found.images if row["key"] in shown]
    best = max(rows, key=lambda row: _interest(row, shown[row["key"]]), default=None)
    return lineage(found, best) if best else []


def _interest(row: Row, card: dict[str, Any]) -> tuple[bool, int, float, str]:
    changed = sum(isinstance(mask, str) for mask in card["masks"])
    return row["shard"] != "", changed, row.get("text_image_score") or 0.0, str(row["key"])


def _data(found: RunRows, pictures: Gallery, bank: PromptMap | None) -> dict[str, Any]:
    rules, colours = found.recipe.filter.rules, colours_of(found.space)
    return {
        "cards": pictures.cards,
        "steps": [word for _, word in STEPS],
        "classes": [{"id": label.id, "name": label.name, "colour": colours[label.id]} for label in found.space.labels],
        "background": found.space.background,
        "scores": [
            {
                "key": score.key,
                "title": score.title,
                "explained": score.explained,
                "least": bounds[0],
                "most": bounds[1],
            }
            for score in SCORES
            for bounds in [score.thresholds(rules)]
        ],
        "points": []
        if bank is None
        else [
            [round(p.x, 4), round(p.y, 4), p.prompt, p.class_name, list(p.attributes), p.near, round(p.similarity, 4)]
            for p in bank.points
        ],
    }
