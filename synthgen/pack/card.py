"""The data card: README.md with the YAML block that the Hugging Face Hub reads.

The body is a jinja2 template of data_cards/, the YAML comes from huggingface_hub. Nothing that changes from
start to start (times, folders, machines) goes in: the same dataset has the same card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from segkit.index import Index
from segkit.labels import IGNORE, LabelSpace
from segkit.metadata import ORIGINAL_MEMBERS
from synthgen.errors import RecipeError
from synthgen.models.used import generates, used_backends
from synthgen.pack.counts import ModelUse, RunCounts, Totals
from synthgen.pack.mark import mark_of
from synthgen.recipe import Recipe
from synthgen.shipped import shipped_folder

NOT_CHOSEN = "not-chosen"  # the Hub wants a name where `license` is `other`
CHOOSE = "not chosen: set pack.license"
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)


def card_text(recipe: Recipe, labels: LabelSpace, index: Index, totals: Totals, counts: RunCounts) -> str:
    """The whole README.md. Raises RecipeError if the template is missing or broken."""
    from huggingface_hub import DatasetCard, DatasetCardData

    hub_license, name, link = dataset_license(recipe, counts)
    data = DatasetCardData(
        pretty_name=recipe.title or recipe.name,
        license=hub_license,
        annotations_creators=["machine-generated"],
        source_datasets=["original"],
        task_categories=["image-segmentation"],
        task_ids=["semantic-segmentation"],
        size_categories=[size_category(index.num_samples)],
        license_name=name or None,
        license_link=link or None,
        tags=[*(["synthetic"] if generates(recipe) else []), "semantic-segmentation", "webdataset", "synthgen"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split.name, "path": f"{split.name}-*.tar"} for split in index.splits],
            }
        ],
    )
    body = _render(recipe.pack.card, _facts(recipe, labels, index, totals, counts, license_text(recipe, counts), link))
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def dataset_license(recipe: Recipe, counts: RunCounts) -> tuple[str, str, str]:
    """(license, license_name, license_link) of the card. Where the recipe names none, the licence of the model that
    made the images goes over to it, if it says so.
    """
    pack = recipe.pack
    if pack.license != "other" or pack.license_name:
        return pack.license, pack.license_name, pack.license_link
    for model in counts.models:
        if model.dataset_license:
            return "other", model.dataset_license, pack.license_link or model.license_link
    return "other", NOT_CHOSEN, pack.license_link


def license_text(recipe: Recipe, counts: RunCounts) -> str:
    """What a person reads for the dataset's licence: its name, or that none was chosen."""
    hub_license, name, _ = dataset_license(recipe, counts)
    return CHOOSE if name == NOT_CHOSEN else name or hub_license


def size_category(num_samples: int) -> str:
    """The Hub's word for a number of samples."""
    return next((word for limit, word in _SIZES if num_samples < limit), "100M<n<1B")


def _facts(
    recipe: Recipe,
    labels: LabelSpace,
    index: Index,
    totals: Totals,
    counts: RunCounts,
    license_name: str,
    license_link: str,
) -> dict[str, Any]:
    """What a template may use."""
    total = totals.pixels.total()
    made_for = totals.made_for
    first = next((split for split in index.splits if split.name == "train"), index.splits[0])
    last = f"{first.num_shards - 1:06d}"
    return {
        "title": recipe.title or recipe.name,
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json"),
        "embeds_text": "text_encoder" in used_backends(recipe),
        "cut_prompts": counts.cut_prompts,
        "lambda_div": _lambda_div(recipe, counts),
        "is_generated": generates(recipe),
        "mark": mark_of(recipe),
        "license_name": license_name,
        "license_link": license_link,
        "num_samples": index.num_samples,
        "is_pairs": set(ORIGINAL_MEMBERS) <= set(index.members),
        "splits": index.splits,
        "num_bytes": {
            split.name: sum(s.num_bytes for s in index.shards if s.split == split.name) for split in index.splits
        },
        "label_space": labels.name,
        "background": labels.background,
        "about_one_class": made_for[IGNORE] < index.num_samples,
        "classes": [
            {
                "id": c.id,
                "name": c.name,
                "made_for": made_for[c.id],
                "samples": c.samples,
                "share": _share(c.pixels, total),
            }
            for c in index.class_pixels
        ],
        "ignored_share": _share(totals.pixels[IGNORE], total),
        "stages": [_stage(stage, made, counts) for stage, made in counts.made.items()],
        "rejects": [
            {
                "stage": stage,
                "reason": reason,
                "count": count,
                "share": _share(count, _stage(stage, made, counts)["seen"]),
            }
            for stage, made in counts.made.items()
            for reason, count in sorted(counts.rejected.get(stage, {}).items(), key=lambda item: (-item[1], item[0]))
        ],
        "calibrated": counts.calibrated,
        "mask_rates": [
            {
                "name": labels.by_id(rate.class_id).name,
                "regions": rate.num_regions,
                "kept": _percent(rate.kept),
                "filled": _percent(rate.filled),
                "returned": _percent(rate.returned),
            }
            for rate in counts.mask_rates
        ],
        "models": [_model(model) for model in counts.models],
        "load_split": first.name,
        "shard_pattern": f"{first.name}-000000.tar"
        if first.num_shards == 1
        else f"{first.name}-{{000000..{last}}}.tar",
    }


def _lambda_div(recipe: Recipe, counts: RunCounts) -> str:
    """The cosine from which on a prompt was refused; "" where none was refused for being like another."""
    given = recipe.prompts.lambda_div if counts.lambda_div is None else counts.lambda_div
    if given == 1 or not counts.compares_prompts:
        return ""
    return given if isinstance(given, str) else f"{given:.4g}"


def _stage(stage: str, made: int, counts: RunCounts) -> dict[str, Any]:
    rejected = sum(counts.rejected.get(stage, {}).values())
    return {"name": stage, "made": made, "rejected": rejected, "seen": made + rejected}


def _model(model: ModelUse) -> dict[str, str]:
    return {
        "role": model.role,
        "id": model.id,
        "revision": model.revision,
        "license": model.license,
        "license_link": model.license_link,
    }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _cell(text: object) -> str:
    """Text that cannot break a table row."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _render(name_or_path: str, facts: dict[str, Any]) -> str:
    path = Path(name_or_path) if "/" in name_or_path else shipped_folder("data_cards") / f"{name_or_path}.md"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped_folder("data_cards").glob("*.md")))
        raise RecipeError(f"pack.card {name_or_path!r}: no file {path}; shipped templates: {known} (a path has a `/`)")
    # a template of one's own comes with a recipe, often a stranger's: it may fill in facts and reach nothing else
    environment = ImmutableSandboxedEnvironment(
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    try:
        return environment.from_string(path.read_text(encoding="utf-8")).render(facts)
    except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
        raise RecipeError(f"pack.card {name_or_path!r}: the template cannot be used: {error}") from error
