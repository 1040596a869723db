"""What `synthgen adapt` is worth: rows adapt/*. `make claims-adapt` measures them all (under 3 hours on 2 cores).

Setting (DGInStyle's ablation in miniature): mini/streets has learnt every weather from captions alone and never saw a
label map. It is adapted to drawn day scenes; then label maps of *other* scenes are rendered in five weathers. Two
judges that know nothing of the minis say whether the asked weather is seen (`domain`: share of pictures that a
classifier puts where the prompt did) and whether the map is followed (`map`: mIoU of a segmenter on the generated
pictures over its mIoU on the drawn ones; over 18 classes).

    finetuned   look (LoRA) and ControlNet, rendered with the look
    swap        the same ControlNet on the prior without the look: what `synthgen adapt` is for

The rest is trained shorter (a full adaptation takes over half an hour on two slow cores), 700 steps of half as many
samples, and compared within itself only:

    none        the ControlNet beside the prior itself, no look learnt; also `labels_600` and `palette`
    labels_*    the same from fewer labelled scenes             onehot    the same, the map as a channel a class
    leaky       the same from scenes of all weathers, whose captions do not name it: no honest generator
    foreign_*   `finetuned` and `swap` again, from 600 day scenes in a look that the prior never draws, as DGInStyle's
                game is none of its prior's photographs: sepia, bright, with dark corners

Spread is over three parts of the held-out layouts, each with noise of its own; a training is one seed. The judges'
scenes are seeds from 1,000,000, the prior's too; the labelled ones from 3,000,000, the held-out ones from 5,000. Steps
and rates of the recipe were chosen on layouts 0-199.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import judges
from benchmarks.peak import peak_of
from benchmarks.row import SCRATCH, Row, scored, spread_of
from segkit.pictures import read_image
from segtrain.metrics.iou import mean_iou
from synthgen.drawn import streets
from synthgen.images import write_image

RECIPE = "streets-mini"
FOLDER = SCRATCH / "adapt"
LABELLED = 600
FIRST_LABELLED = 3_000_000
FIRST_HELD_OUT = 5_000
LAYOUTS = 150
PARTS = 3
PROCESSES = 2
BATCH = 32  # samples a step of the recipe
INTRUDERS = 0.4  # share of the labelled scenes that hold an object that no street has
SHORT = ("adapt.controlnet.steps=700", "adapt.controlnet.batch_size=16", "adapt.lora.batch_size=16")
ALONE = (*SHORT, "adapt.lora.steps=0")  # the ControlNet alone
ADAPTATIONS: dict[str, tuple[str, int, tuple[str, ...]]] = {  # name -> domain, labelled scenes, other settings
    "day": ("day", LABELLED, ()),
    "none": ("day", LABELLED, ALONE),
    "labels_200": ("day", 200, ALONE),
    "labels_50": ("day", 50, ALONE),
    "onehot": ("day", LABELLED, (*ALONE, "adapt.control=onehot")),
    "leaky": ("", LABELLED, (*ALONE, "adapt.captions.sentence='a street with {things}'")),
    "foreign": ("day", LABELLED, SHORT),
}


def swap() -> Iterator[Row]:
    """adapt/{finetuned,swap}_{domain,map}."""
    yield from _pair("finetuned", "day", look=True)
    yield from _pair("swap", "day")


def short() -> Iterator[Row]:
    """adapt/{none,leaky}_{domain,map}, adapt/labels_{50,200,600}_map and adapt/{palette,onehot}_map. Two trainings of
    one process at once.
    """
    names = [name for name in ADAPTATIONS if name not in ("day", "foreign")]
    with ThreadPoolExecutor(max_workers=PROCESSES) as pool:
        pairs = dict(zip(names, pool.map(lambda name: _pair(name, name), names), strict=True))
    for name in ("none", "leaky"):
        yield from pairs[name]
    of_none = pairs["none"][1]
    yield from (dataclasses.replace(of_none, name=f"adapt/{name}_map") for name in ("labels_600", "palette"))
    for name in ("labels_200", "labels_50", "onehot"):
        yield pairs[name][1]


def foreign() -> Iterator[Row]:
    """adapt/foreign_{finetuned,swap}_{domain,map}."""
    yield from _pair("foreign_finetuned", "foreign", look=True)
    yield from _pair("foreign_swap", "foreign")


def cost() -> Iterator[Row]:
    """adapt/minutes and adapt/peak_rss_gb of the adaptation `day`, adapt/steps_s_{ours,plain} beside a plain loop."""
    from benchmarks.adapt_speed import rows

    facts = json.loads((adapted("day").parent / "day.json").read_text(encoding="utf-8"))
    yield Row("adapt/minutes", facts["minutes"], "min")
    yield Row("adapt/peak_rss_gb", facts["peak_rss_gb"], "GB")
    yield from rows(labelled("day", 64), RECIPE)


def memory() -> Iterator[Row]:
    """adapt/peak_rss_{300,3000}_scenes_gb: that memory does not grow with the labelled set. Few steps; everything is
    encoded and read.
    """
    for count in (300, 3_000):
        out = FOLDER / "models" / f"memory-{count}"
        shutil.rmtree(out, ignore_errors=True)
        few = ("adapt.lora.steps=20", "adapt.controlnet.steps=20", "adapt.samples_every=0")
        peak_gb = peak_of(_command(labelled("day", count), out, few, processes=1))
        yield Row(f"adapt/peak_rss_{count}_scenes_gb", peak_gb, "GB")


def labelled(domain: str, count: int) -> Path:
    """A labelled folder of drawn streets, made where it lacks; the first `count` seeds, so that small sets lie in large
    ones.
    """
    folder = FOLDER / f"labelled-{domain or 'any'}-{count}"
    if not folder.is_dir():
        from synthgen.drawn.split import write_split

        scratch = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        write_split(scratch, "streets", count, FIRST_LABELLED, domain=domain, intruders=INTRUDERS)
        scratch.rename(folder)
    return folder


def foreign_scenes() -> Path:
    """The labelled day scenes in a look of their own."""
    folder = FOLDER / "labelled-foreign"
    if not folder.is_dir():
        scratch = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(labelled("day", LABELLED), scratch)
        for path in sorted((scratch / "images").iterdir()):
            write_image(foreign_look(read_image(path)), path)
        scratch.rename(folder)
    return folder


def foreign_look(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to the same: sepia, brighter, darker towards the corners."""
    grey = image @ np.array([0.3, 0.59, 0.11])
    toned = 0.3 * image + 0.7 * grey[..., None] * np.array([1.2, 1.0, 0.7])
    y, x = (np.linspace(-1, 1, side) for side in image.shape[:2])
    corners = 1 - 0.35 * (y[:, None] ** 2 + x[None, :] ** 2) / 2
    return np.clip(np.rint((toned * 1.1 + 25) * corners[..., None]), 0, 255).astype(np.uint8)


def adapted(name: str) -> Path:
    """The model of an adaptation, made where it lacks; a killed one goes on. `day` takes all cores, the others one."""
    domain, count, sets = ADAPTATIONS[name]
    out = FOLDER / "models" / name
    if (out / "synthgen.json").is_file():
        return out
    processes = PROCESSES if name == "day" else 1
    data = foreign_scenes() if name == "foreign" else labelled(domain, count)
    command = _command(data, out, ("adapt.samples_every=500", *sets), processes)
    facts_path = out.with_name(f"{name}.json")
    facts = json.loads(facts_path.read_text(encoding="utf-8")) if facts_path.is_file() else {}
    began = time.monotonic()
    peak_gb = peak_of(command)
    facts = {
        "minutes": facts.get("minutes", 0.0) + (time.monotonic() - began) / 60,
        "peak_rss_gb": max(facts.get("peak_rss_gb", 0.0), peak_gb),
    }
    facts_path.write_text(json.dumps(facts), encoding="utf-8")
    print(f"  {name}: {facts['minutes']:.1f} min, {peak_gb:.2f} GB", flush=True)
    return out


def _command(data: Path, out: Path, sets: tuple[str, ...], processes: int) -> list[str]:
    """`synthgen adapt` with as many samples a step as the recipe's one process takes, or as `sets` say."""
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launch, "-m", "synthgen", "adapt", RECIPE, "--data", str(data), "--out", str(out)]
    shares = tuple(f"adapt.{stage}.batch_size={BATCH // processes}" for stage in ("lora", "controlnet"))
    return command + [word for setting in (*shares, *sets) for word in ("--set", setting)]


@functools.cache
def _pair(name: str, model: str, look: bool = False) -> tuple[Row, Row]:
    """The rows `domain` and `map` of a model."""
    data = judges.scenes("streets", LAYOUTS, FIRST_HELD_OUT, cache=judges.CACHE)
    drawings = [streets.draw(FIRST_HELD_OUT + n, domain=streets.DOMAINS[n % 5]) for n in range(LAYOUTS)]
    truth = np.stack([drawing.mask for drawing in drawings])
    assert np.array_equal(truth, data.masks[:])  # the weather moves no edge
    drawn = np.stack([drawing.image for drawing in drawings])
    made = _made(name, adapted(model), [drawing.caption for drawing in drawings], truth, look)
    write_image(_sheet(drawn[:20], made[:20]), FOLDER / f"{name}.png")
    names = streets.DOMAINS
    seen = judges.predict(judges.classifier("streets", "domain", names), made)
    right = seen == np.arange(LAYOUTS) % 5
    segmenter = judges.segmenter()
    of_made, of_drawn = judges.predict(segmenter, made), judges.predict(segmenter, drawn)
    classes = range(len(streets.CLASSES))

    def ratio(rows: np.ndarray) -> float:
        drawn_miou = mean_iou(of_drawn[rows], truth[rows], classes)
        return scored(mean_iou(of_made[rows], truth[rows], classes)) / scored(drawn_miou)

    parts = [np.arange(LAYOUTS)[part::PARTS] for part in range(PARTS)]
    for k, domain in enumerate(names):
        rows = np.arange(LAYOUTS)[k::5]
        print(f"  {name} {domain:6} domain {right[rows].mean():.2f}, map {ratio(rows):.3f}", flush=True)
    shifted = scored(mean_iou(of_made, np.roll(truth, 1, axis=0), classes))
    chance = shifted / scored(mean_iou(of_drawn, truth, classes))
    print(f"  {name} maps shifted by one: {chance:.3f}", flush=True)
    return (
        Row(
            f"adapt/{name}_domain", float(right.mean()), "fraction", spread_of([right[p].mean() for p in parts]), PARTS
        ),
        Row(f"adapt/{name}_map", ratio(np.arange(LAYOUTS)), "fraction", spread_of([ratio(p) for p in parts]), PARTS),
    )


def _made(name: str, model: Path, captions: list[str], maps: np.ndarray, look: bool) -> np.ndarray:
    """What `_rendered` gives, kept beside the models: remove it with them to begin anew."""
    path = FOLDER / "models" / f"{name}.npy"
    if not path.is_file():
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, _rendered(model, captions, maps, look))
        temporary.replace(path)
    pictures: np.ndarray = np.load(path, allow_pickle=False)
    return pictures


def _rendered(model: Path, captions: list[str], maps: np.ndarray, look: bool) -> np.ndarray:
    """(N, H, W, 3) uint8 by the product's renderer, with its recipe's settings."""
    from synthgen.backends import load
    from synthgen.models import RenderJob
    from synthgen.recipe import read_recipe
    from synthgen.records import seed_of

    recipe = read_recipe(RECIPE)
    config = recipe.render.renderer.model_dump() | {"controlnet": str(model), "lora": str(model) if look else ""}
    renderer = load("renderer", config, recipe.execution)
    if hasattr(renderer, "expect_labels"):
        from synthgen.labels import read_label_space

        renderer.expect_labels(read_label_space("cityscapes"))
    height, width = maps.shape[1:]
    jobs = [
        RenderJob(str(n), caption, "", seed_of(f"adapt{n}"), height, width, None, None, None, maps[n])
        for n, caption in enumerate(captions)
    ]
    renderer.prepare(captions)
    made = [item.image for start in range(0, len(jobs), 8) for item in renderer.render(jobs[start : start + 8])]
    return np.stack([image for image in made if image is not None])


def _sheet(drawn: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Ten columns: drawn above, made below, twice."""
    lines = []
    for start in range(0, len(drawn), 10):
        for pictures in (drawn, made):
            lines.append(np.concatenate(list(pictures[start : start + 10]), axis=1))
    return np.concatenate(lines)
