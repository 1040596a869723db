"""Run folders made of rows alone: as many as one likes, over a handful of pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.rows import row as row_of
from doubles.world import COLOURS, IDS, SIZE_PX, paint, recipe_of_world, write_world

from synthgen import lock
from synthgen.images import write_image
from synthgen.models import TextEmbedding
from synthgen.prompts.store import EMBEDDINGS, EmbeddingWriter
from synthgen.recipe import Recipe
from synthgen.records import (
    Labelling,
    MaskRecord,
    Picture,
    PromptRecord,
    Rejected,
    RenderRecord,
    Sample,
    ScoredRecord,
    Scores,
    ShardRecord,
    key_of,
    seed_of,
)
from synthgen.rows import write_rows

RECORDS = {
    "prompts": PromptRecord,
    "render": RenderRecord,
    "refine": MaskRecord,
    "score": ScoredRecord,
    "filter": Sample,
    "pack": ShardRecord,
}


def write_stage(run: Path, name: str, rows: list[Any], rejected: list[Rejected]) -> None:
    """One finished unit."""
    unit = run / name / "00000"
    unit.mkdir(parents=True, exist_ok=True)
    claim = {"settings": {}, "units": [{"name": "00000", "start": 0, "stop": len(rows)}]}
    (run / name / "stage.json").write_text(json.dumps(claim))
    write_rows(rows, RECORDS[name], unit / "manifest.parquet")
    write_rows(rejected, Rejected, unit / "rejected.parquet")
    (unit / "seconds.txt").write_text("12.5\n")


@pytest.fixture(scope="session")
def rows_run() -> Callable[..., Path]:
    """`rows_run(folder, count, size_px=..., prompt=lambda i: ...)`:

    a finished run of `count` images, a tenth of them refused.

    All images share one picture of noise (the worst for compression) and its masks.
    """

    def make(folder: Path, count: int, size_px: int = SIZE_PX, prompt: Callable[[int], str] | None = None) -> Path:
        write_world(folder / "world")
        recipe = Recipe.model_validate(recipe_of_world(folder / "world"))
        run = folder / "run"
        unit = run / "render" / "00000"
        unit.mkdir(parents=True)
        lock.take(recipe, run)
        rng = np.random.default_rng(0)
        write_image(rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8), unit / "image.png")
        for number, name in enumerate(("coarse", "filtered", "relabelled", "mask", "confidence")):
            write_image(paint("disc", number, size_px)[1], unit / f"{name}.png")
        where = {
            name: f"render/00000/{name}.png"
            for name in ("image", "coarse", "filtered", "relabelled", "mask", "confidence")
        }
        prompts, rendered, masks, scored, kept, refused = [], [], [], [], [], []
        (run / "prompts" / "00000").mkdir(parents=True)
        with EmbeddingWriter(run / "prompts" / "00000", max(1, count)) as writer:
            for i in range(count):
                name = list(COLOURS)[i % 3]
                text = prompt(i) if prompt else f"a photo of a small {name} on sand {i}"
                row = row_of(
                    PromptRecord,
                    key=key_of("p", text, i),
                    class_name=name,
                    class_id=IDS[name],
                    prompt=text,
                    attributes=(f"place=p{i % 5}", "size=small"),
                    source="grammar",
                    order=i,
                    similarity=0.5,
                    embedder="double",
                    embedding_file=f"prompts/00000/{EMBEDDINGS.format(0)}",
                )
                prompts.append(row)
                writer.add(row.key, TextEmbedding(np.zeros((1, 1), np.float32), rng.normal(size=64).astype(np.float32)))
        for i, row in enumerate(prompts):
            key = key_of("s", row.key)
            picture = Picture(where["image"], size_px, size_px, seed_of(key), "double", "r1", 20, 3.0, "", "")
            rendered.append(RenderRecord(key, row.key, row.subject, picture))
            labelling = Labelling(where["mask"], where["confidence"], 0.5, 0.75, 1.0, 0.2, 0.9)
            steps = [where[step] for step in ("coarse", "filtered", "relabelled")]
            masks.append(MaskRecord(key, row.key, row.subject, picture, *steps, labelling, 3, 2, 1))
            score = float(rng.random())
            scores = Scores(score, i % 4, 30.0)
            scored.append(ScoredRecord(key, row.key, row.subject, picture, labelling, scores, (1.0, 0.0)))
            if i % 10 == 9:
                refused.append(Rejected(key, key, "filter", "class_absent", f"{score:.4g} < 0.02", score))
            else:
                kept.append(Sample(key, row.key, "train", row.subject, picture, labelling, scores, 0.3))
        near = [
            Rejected(
                f"r{i}",
                "",
                "prompts",
                "near_duplicate",
                f"{'again ' + row.subject.prompt!r} is too near to {row.subject.prompt!r}",
                0.97,
            )
            for i, row in enumerate(prompts[: count // 10])
        ]
        write_stage(run, "prompts", prompts, near)
        write_stage(run, "render", rendered, [])
        write_stage(run, "refine", masks, [])
        write_stage(run, "score", scored, [])
        write_stage(run, "filter", kept, refused)
        keys = tuple(row.key for row in kept)
        write_stage(
            run,
            "pack",
            [ShardRecord("train-000000", keys, "train", "pack/00000/train-000000.tar", len(keys), 1, "0" * 64)],
            [],
        )
        return run

    return make
