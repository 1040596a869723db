"""The way of one sample from the sentence template to its place in a shard."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from synthgen.backends import statement
from synthgen.errors import SynthgenError
from synthgen.images import read_image, read_mask
from synthgen.prompts.coverage import chosen_lambda_div
from synthgen.report.gallery import STEPS
from synthgen.report.run_rows import Row, RunRows
from synthgen.report.scores import SCORES, value_of
from synthgen.report.thumbnails import grey, overlay, photograph

LARGE_PX = 384
SMALL_PX = 150


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is, what it made, and its facts as (name, value). `under` and `over` are data addresses of
    pictures, "" for none; those of a small image are shown as the pixels that they are."""

    title: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()
    under: str = ""
    over: str = ""
    small: bool = False


def lineage(found: RunRows, row: Row) -> list[Step]:
    """The steps of one image of the run, as far as the run has come. Raises InputError that names a missing picture."""
    recipe, prompt = found.recipe, next((each for each in found.prompts if each["key"] == row["parent"]), None)
    steps = [Step("Template", template_of(found, row) or f"source {recipe.prompts.source.name}", _attributes(row))]
    if prompt is not None:
        facts = [("key", prompt["key"]), ("place in its bank", str(prompt["order"]))]
        if prompt["similarity"] >= 0:
            facts.append(
                (
                    "cosine to the nearest accepted before",
                    f"{prompt['similarity']:.3f}, must be below {_lambda_div(found):.4g}",
                )
            )
        if prompt["embedder"]:
            facts.append(("embedded by", prompt["embedder"]))
        if prompt.get("cut"):
            facts.append(("beyond its context, compared with no other", prompt["cut"]))
        steps.append(
            Step("Prompt", prompt["prompt"] or f"the photograph {Path(prompt['photograph']).name}", tuple(facts))
        )
    image = photograph(read_image(found.run / row["image"]), LARGE_PX)
    made = (
        ("key", row["key"]),
        ("seed", str(row["seed"])),
        ("model", row["renderer"]),
        ("revision", row["model_revision"]),
    )
    steps.append(
        Step(
            "Image",
            f"{row['width_px']} x {row['height_px']} px",
            (*made, ("steps", f"{row['steps']}, guidance {row['guidance']:g}")),
            image,
        )
    )
    for column, word in STEPS:
        if row.get(column):
            told = _of_mask(column, row)
            steps.append(
                Step(
                    f"Mask: {word}",
                    _MASK_TEXT[column],
                    told,
                    image,
                    overlay(read_mask(found.run / row[column]), found.space, LARGE_PX),
                )
            )
    if row.get("confidence"):
        steps.append(
            Step(
                "Confidence", "white = sure of its label", (), grey(read_mask(found.run / row["confidence"]), LARGE_PX)
            )
        )
    if row.get("pixel_std") is not None:
        steps.append(Step("Scores", f"outcome: {row['outcome'].replace('_', ' ')}", _of_scores(found, row)))
    shard = next((each for each in found.shards if row["shard"] == f"{each['key']}.tar"), None)
    if shard is not None:
        place = (
            ("split", shard["split"]),
            ("sample", f"{row['place'] + 1} of {shard['num_samples']}"),
            ("sha256", shard["sha256"]),
        )
        steps.append(Step("Shard", row["shard"], place))
    return [dataclasses.replace(step, small=max(row["width_px"], row["height_px"]) < SMALL_PX) for step in steps]


_MASK_TEXT = {
    "coarse": "what the proposer gave",
    "filtered": "regions unlike the support prototype are freed (APF)",
    "relabelled": "freed pixels are labelled again by image-adaptive prototypes (APR)",
    "mask": "boundaries by the mask decoder (SABR); this one is packed",
}


def _lambda_div(found: RunRows) -> float:
    chosen = chosen_lambda_div(found.run / "prompts")
    return float(found.recipe.prompts.lambda_div) if chosen is None else chosen.lambda_div


def template_of(found: RunRows, row: Row) -> str:
    """The template that the prompt source made this sentence from; "" where it has none or cannot say any more."""
    if not row["class_name"]:
        return ""
    source = found.recipe.prompts.source.model_dump()
    try:
        return str(statement("prompt_source", source, "template_of", "", row["prompt"]))
    except SynthgenError:
        return ""


def _attributes(row: Row) -> tuple[tuple[str, str], ...]:
    named = (("class", row["class_name"]),) if row["class_name"] else ()
    return (*named, *((name, value) for name, _, value in (text.partition("=") for text in row["attributes"])))


def _of_mask(column: str, row: Row) -> tuple[tuple[str, str], ...]:
    if column == "filtered":
        return (
            ("regions kept", f"{row['num_kept_regions']} of {row['num_regions']}"),
            ("their similarity", f"{row['region_similarity']:.3f}" if row["num_kept_regions"] else "-"),
        )
    if column == "relabelled":
        has_freed = row["num_kept_regions"] < row["num_regions"]
        return (("freed pixels labelled again", f"{row['filled_fraction']:.0%}" if has_freed else "-"),)
    if column == "mask":
        return (
            ("boxes", str(row["num_sam_boxes"])),
            ("labelled", f"{row['labelled_fraction']:.1%}"),
            ("of the class", f"{row['class_fraction']:.1%}"),
        )
    return ()


def _of_scores(found: RunRows, row: Row) -> tuple[tuple[str, str], ...]:
    told = []
    for score in SCORES:
        value = value_of(score, row)
        if math.isnan(value):
            continue
        least, most = score.thresholds(found.recipe.filter.rules)
        bounds = [f"{word} {bound:g}" for word, bound in (("at least", least), ("at most", most)) if bound is not None]
        told.append((score.title, f"{value:.4g}" + (f" ({', '.join(bounds)})" if bounds else "")))
    if row["detail"]:
        told.append(("refused because", row["detail"]))
    return tuple(told)
