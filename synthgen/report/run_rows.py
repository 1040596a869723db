"""Reads from a run folder what the report tells:

every image with all that the stages say of it, what was refused, and how long it took.

Only the columns that are told are read: a scorer's embeddings are most of a score manifest and none of the report. A
run may be unfinished.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segkit.documents import MAX_YAML_BYTES, parse_yaml
from segkit.errors import InputError
from segkit.files import read_regular
from segkit.labels import LabelSpace
from synthgen import lock, runner, stages
from synthgen.errors import RunError, in_one_line
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe
from synthgen.records import Rejected
from synthgen.rows import StoredRows
from synthgen.runner import StageRun

Row = dict[str, Any]
KEPT = "kept"
PENDING = "not judged yet"

COLUMNS = {
    "prompts": (
        "key",
        "class_name",
        "class_id",
        "prompt",
        "attributes",
        "source",
        "order",
        "similarity",
        "nearest",
        "embedder",
        "embedding_file",
        "photograph",
        "cut",
    ),
    "render": (
        "key",
        "parent",
        "class_name",
        "class_id",
        "prompt",
        "attributes",
        "seed",
        "image",
        "height_px",
        "width_px",
        "renderer",
        "model_revision",
        "steps",
        "guidance",
        "layout",
        "original",
        "attempts",
        "sam_agreement",
        "known_probability",
    ),
    "refine": (
        "key",
        "coarse",
        "filtered",
        "relabelled",
        "mask",
        "confidence",
        "num_regions",
        "num_kept_regions",
        "region_similarity",
        "filled_fraction",
        "labelled_fraction",
        "class_fraction",
        "num_sam_boxes",
        "sam_predicted_iou",
    ),
    "score": ("key", "text_image_score", "class_rank", "pixel_std"),
    "filter": ("key", "split", "nearest_image_similarity"),
    "pack": ("key", "parents", "split", "num_samples", "num_bytes", "sha256"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class StageFacts:
    """How one stage went. `unit_seconds` has one entry for each finished unit, in plan order."""

    name: str
    num_units: int
    done_units: int
    made: int
    rejected: tuple[Rejected, ...]
    unit_seconds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Working time added up over units: with several workers more than the clock showed."""
        return sum(self.unit_seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class RunRows:
    """A run as the report sees it. `images` is in the order of rendering; each has `outcome`:

    KEPT, PENDING or the reason of its refusal.
    """

    run: Path
    recipe: Recipe
    lock_text: str
    space: LabelSpace
    stages: tuple[StageFacts, ...]  # those that have begun
    prompts: list[Row]
    images: list[Row]
    shards: list[Row]

    def stage(self, name: str) -> StageFacts | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def read_run(run: Path) -> RunRows:
    """Raises RunError if the folder is no run or a manifest is damaged, LabelError if its label space is gone."""
    path = run / lock.LOCK
    try:
        if not path.exists():
            raise RunError(f"{run}: is not a run folder (no {lock.LOCK}); runs lie in runs/ by default")
        data = read_regular(path, MAX_YAML_BYTES, InputError)
        recipe, text = Recipe.model_validate(parse_yaml(data, "YAML")), data.decode()
    except (InputError, ValidationError) as error:
        raise RunError(
            f"{path}: cannot be read ({in_one_line(error, 160)}); run the recipe again to write it anew"
        ) from error
    begun = {name: stage for name, stage in stages.stages(run).items() if stage.is_claimed()}
    rows = {name: _rows(begun[name], columns) if name in begun else [] for name, columns in COLUMNS.items()}
    facts = tuple(_facts(stage) for stage in begun.values())
    return RunRows(
        run=run,
        recipe=recipe,
        lock_text=text,
        space=read_label_space(recipe.labels.space),
        stages=facts,
        prompts=rows["prompts"],
        images=_joined(rows, facts),
        shards=rows["pack"],
    )


def _facts(stage: StageRun) -> StageFacts:
    units = stage.units()
    done = [unit for unit in units if stage.is_done(unit)]
    times = tuple(runner.read_seconds(stage.folder / unit.name / runner.SECONDS) for unit in done)
    return StageFacts(stage.name, len(units), len(done), stage.num_rows(), tuple(stage.rejected()), times)


def _rows(stage: StageRun, columns: tuple[str, ...]) -> list[Row]:
    done = [stage.folder / unit.name / runner.MANIFEST for unit in stage.units() if stage.is_done(unit)]
    return [row for table in StoredRows(done, stage.gives).tables(columns) for row in table.to_pylist()]


def _joined(rows: dict[str, list[Row]], facts: tuple[StageFacts, ...]) -> list[Row]:
    """Every rendered image with the columns of all later stages that know its key."""
    images = {
        row["key"]: {**row, "outcome": PENDING, "stage": "", "detail": "", "score": 0.0, "shard": "", "place": -1}
        for row in rows["render"]
    }
    for name in ("refine", "score", "filter"):
        for row in rows[name]:
            if row["key"] in images:
                images[row["key"]].update(row, **({"outcome": KEPT} if name == "filter" else {}))
    for stage in facts:
        for refusal in stage.rejected:
            image = images.get(refusal.key) or images.get(refusal.parent)
            if image is not None and stage.name != "prompts":
                image.update(outcome=refusal.reason, stage=stage.name, detail=refusal.detail, score=refusal.score)
    for shard in rows["pack"]:
        for place, key in enumerate(shard["parents"]):
            if key in images:
                images[key].update(shard=f"{shard['key']}.tar", place=place)
    return list(images.values())
