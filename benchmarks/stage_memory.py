"""Memory of one stage over the number of samples: rows engine/rss_mb_*. Doubles stand for the models."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.row import Row

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the doubles

SIZES = tuple(int(number) for number in os.environ.get("ENGINE_RSS_ROWS", "1000 10000 100000").split())
EMBEDDING = 512  # of CLIP ViT-B


def memory() -> Iterator[Row]:
    """Peak resident memory of the process of one stage over synthetic rows that share a few small images.

    `pack` makes the dataset folder, too.
    """
    for size in SIZES:
        for stage in ("refine", "filter", "pack"):
            with tempfile.TemporaryDirectory() as place:
                yield Row(f"engine/rss_mb_{stage}_{size}", peak_rss_mb(Path(place), stage, size), "MB")


def peak_rss_mb(place: Path, stage: str, size: int) -> float:
    """Peak of a fresh process that runs one stage over `size` rows."""
    code = (
        "import sys; from pathlib import Path; from benchmarks import stage_memory; "
        "stage_memory.one_stage(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])); "
        "from segkit.memory import peak_bytes; print(peak_bytes())"
    )
    make = [sys.executable, "-c", code, str(place), stage, str(-size)]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)  # the rows
    command = [sys.executable, "-c", code, str(place), stage, str(size)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(told.split()[-1]) / 2**20


def one_stage(place: Path, name: str, size: int) -> None:
    """With a negative size write the rows that the stage reads, else run it."""
    from doubles.world import recipe_of_world, write_world

    from synthgen import pipeline
    from synthgen.recipe import recipe_of

    if size < 0:
        write_world(place / "world")
    raw = recipe_of_world(
        place / "world", pack__samples_per_shard=1000, execution={"device": "cpu", "batch_size": 8, "unit_rows": 64}
    )
    recipe = recipe_of(raw, "memory")
    run = place / "run"
    if size < 0:
        _write_rows(recipe, run, name, -size)
        return
    for _ in pipeline.run_stage(recipe, run, name):
        pass


def _write_rows(recipe: Any, run: Path, name: str, size: int) -> None:
    """Units of the stage before `name`, 1,000 rows each, all over the same few files."""
    import numpy as np
    from doubles.world import COLOURS, IDS, paint

    from synthgen import claims, runner, stages
    from synthgen.images import write_image
    from synthgen.records import Rejected, columns_of, from_flat
    from synthgen.rows import write_rows
    from synthgen.runner import Unit

    reads = stages.stages(run)[name].reads
    if reads is None:
        raise ValueError(f"{name} reads no stage")
    (run / "pictures").mkdir(parents=True)
    for class_name in COLOURS:
        image, mask = paint(class_name, 1)
        write_image(image, run / "pictures" / f"{class_name}.png")
        write_image(mask, run / "pictures" / f"{class_name}_mask.png")
    units = [Unit(f"{number:05d}", start, min(size, start + 1000)) for number, start in enumerate(range(0, size, 1000))]
    claims.claim(reads, {}, lambda: units)
    rng = np.random.default_rng(0)
    columns = columns_of(reads.gives)
    plain: dict[Any, Any] = {str: "", int: 1, float: 0.5, tuple[str, ...]: ()}
    for unit in units:
        rows = []
        for number in range(unit.start, unit.stop):
            class_name = list(COLOURS)[number % len(COLOURS)]
            picture = f"pictures/{class_name}"
            known: dict[str, Any] = {
                "key": f"s{number:015x}",
                "parent": f"p{number:015x}",
                "class_name": class_name,
                "class_id": IDS[class_name],
                "prompt": f"a photo of a {class_name}, number {number}",
                "image": f"{picture}.png",
                "mask": f"{picture}_mask.png",
                "confidence": f"{picture}_mask.png",
                "coarse": f"{picture}_mask.png",
                "height_px": 32,
                "width_px": 32,
                "split": "train",
                "pixel_std": 40.0,
                "layout": "",
            }
            if "image_embedding" in columns:
                vector = rng.standard_normal(EMBEDDING)
                known["image_embedding"] = tuple((vector / np.linalg.norm(vector)).tolist())
            rows.append(
                from_flat(reads.gives, {name: known.get(name, plain.get(kind)) for name, kind in columns.items()})
            )
        (reads.folder / unit.name).mkdir()
        write_rows([], Rejected, reads.folder / unit.name / runner.REJECTED)
        (reads.folder / unit.name / runner.SECONDS).write_text("0.0\n")
        write_rows(rows, reads.gives, reads.folder / unit.name / runner.MANIFEST)
