"""What benchmarks/clouds.py learns from and is tested on: day scenes, generated pictures and the layouts behind them,
and CamVid's sequences."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from benchmarks.camvid import frames, photographs
from benchmarks.trainings import dataset_of, whole
from segkit.masks import read_mask
from segkit.pictures import read_image
from synthgen import stages
from synthgen.drawn.split import write_split
from synthgen.images import write_image

SOURCE_SEED, LAYOUT_SEED = 3_300_000, 3_400_000
SAME, OTHER, HELD_OUT = "0016E5", "0006R0", "0001TP"  # sequences: the val split's own, another one by day, dusk
TUNING_FRAMES = 80


class Plan(Protocol):
    """What of a plan is asked for here."""

    @property
    def place(self) -> Path: ...
    @property
    def scenes(self) -> int: ...
    @property
    def generated(self) -> int: ...
    @property
    def labelled_frames(self) -> int: ...


def day(plan: Plan) -> Path:
    """The labelled source."""
    place = plan.place / "data" / f"day-{plan.scenes}"
    return whole(place, lambda out: write_split(out, "streets", plan.scenes, SOURCE_SEED, domain="day"))


def maps(plan: Plan, count: int) -> Path:
    """Layouts of other scenes than the source's."""
    return whole(
        plan.place / "data" / f"maps-{count}",
        lambda out: write_split(out, "streets", count, LAYOUT_SEED, domain="day"),
    )


def weather(plan: Plan) -> Path:
    """As many layouts as there are generated pictures, the same ones, each drawn in a weather of its own."""
    return whole(
        plan.place / "data" / f"weather-{plan.generated}",
        lambda out: write_split(out, "streets", plan.generated, LAYOUT_SEED),
    )


def generated_run(plan: Plan, prompts: int, pictures: int) -> Path:
    """The run of `synthgen run clouds-mini` on so many prompts, which gives `pictures` pictures."""
    sets = (f"prompts.source.folder={maps(plan, prompts)}", f"render.images_per_prompt={pictures // prompts}")
    return dataset_of("clouds-mini", plan.place / "runs" / f"prompts-{prompts}-{pictures}", sets).parent


def hidden_layouts(run: Path) -> dict[str, np.ndarray]:
    """What the recipe has thrown away, by key of the sample: its layout (H, W) uint8 at the picture's size."""
    found = {}
    for row in stages.stages(run)["refine"].rows():
        size = (row.picture.width_px, row.picture.height_px)
        layout = Image.fromarray(read_mask(run / row.picture.layout)).resize(size, Image.Resampling.NEAREST)
        found[row.key] = np.asarray(layout)
    return found


def with_layouts(plan: Plan, run: Path) -> Path:
    """The generated pictures with their layouts as labels: what an oracle would say."""

    def make(out: Path) -> None:
        for part in ("images", "labels"):
            (out / part).mkdir(parents=True)
        shutil.copy(day(plan) / "labels.yaml", out)
        for row in stages.stages(run)["refine"].rows():
            write_image(read_image(run / row.picture.image), out / "images" / f"{row.key}.png")
        for key, layout in hidden_layouts(run).items():
            write_image(layout, out / "labels" / f"{key}.png")

    return whole(plan.place / "data" / f"oracle-{run.name}", make)


def few(plan: Plan, sequence: str, seed: int, without: int = 0) -> Path:
    """The labelled frames: so many of one sequence, evenly spaced, beginning elsewhere for each seed; none of those
    that `rest` leaves out."""
    chosen = _labelled(plan, sequence, seed, without)
    return _camvid(plan, f"few-{sequence}-{without}-{chosen[0].stem}", chosen)


def rest(plan: Plan, sequence: str, seed: int, without: int = 0) -> Path:
    """All other frames of both sequences by day but the last `without` ones of the val split's own, with their labels:
    who learns without them names the folder with --unlabelled."""
    labelled = _labelled(plan, sequence, seed, without)
    return _camvid(plan, f"rest-{sequence}-{without}-{labelled[0].stem}", _others(labelled, without))


def labelled_rest(plan: Plan, sequence: str, seed: int, without: int = 0) -> Path:
    """The frames of `rest` with what `synthgen run label-photos` says of them at their own size, 480 x 360, from the
    labelled frames as support; what its filter refuses is left out."""
    labelled = _labelled(plan, sequence, seed, without)
    name = f"{sequence}-{without}-{labelled[0].stem}"
    chosen = _others(labelled, without)
    support = photographs(plan.place / "data" / f"support-{plan.labelled_frames}-{name}", labelled, size=None)
    photos = whole(plan.place / "data" / f"photos-{plan.labelled_frames}-{name}", lambda out: _copied(chosen, out))
    run = plan.place / "runs" / f"label-photos-{plan.labelled_frames}-{name}"
    sets = (f"prompts.source.folder={photos}", f"support.folder={support}", f"support.shots={plan.labelled_frames}")
    dataset_of("label-photos", run, sets)

    def export(out: Path) -> None:
        command = [sys.executable, "-m", "synthgen", "export", str(run), "--to", "photographs", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)

    masks = whole(plan.place / "data" / f"masks-{plan.labelled_frames}-{name}", export)
    folder = plan.place / "data" / f"camvid-{plan.labelled_frames}-labelled-{name}"
    return photographs(folder, chosen, labels=masks / "labels")


def _others(labelled: Collection[Path], without: int) -> list[Path]:
    """The frames of both sequences by day that are not labelled."""
    return [frame for name in (OTHER, SAME) for frame in _frames(name, without) if frame not in labelled]


def _copied(files: Iterable[Path], out: Path) -> None:
    out.mkdir(parents=True)
    for path in files:
        shutil.copy(path, out)


def _labelled(plan: Plan, sequence: str, seed: int, without: int) -> list[Path]:
    every = _frames(sequence, without)
    stride = len(every) // plan.labelled_frames
    return [every[(seed % stride) + stride * number] for number in range(plan.labelled_frames)]


def _frames(sequence: str, without: int) -> list[Path]:
    every = frames("train", sequence)
    return every[: len(every) - without] if sequence == SAME else every


def tuning(plan: Plan) -> Path:
    """The last frames of the val split's own sequence, on which rates are chosen."""
    return _camvid(plan, "tuning", frames("train", SAME)[-TUNING_FRAMES:])


def validation(plan: Plan) -> Path:
    """CamVid's published validation split."""
    return _camvid(plan, "val", frames("val"))


def held_out(plan: Plan) -> Path:
    """The sequence at dusk, of which nothing is learnt."""
    return _camvid(plan, "held-out", frames("train", HELD_OUT))


def _camvid(plan: Plan, name: str, chosen: Iterable[Path]) -> Path:
    return photographs(plan.place / "data" / f"camvid-{plan.labelled_frames}-{name}", chosen)
