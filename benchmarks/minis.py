"""Quality of the mini family on held-out scenes: rows minis/*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import judges
from benchmarks.row import SCRATCH, Row, scored, spread_of
from segtrain.metrics.iou import mean_iou
from synthgen.drawn import objects as objects_world
from synthgen.drawn import streets as streets_world


def autoencoder() -> Iterator[Row]:
    """Reconstruction quality of the VAE over both worlds, half each."""
    from diffusers import AutoencoderKL

    from synthgen.minis.train.vae import psnr_db
    from synthgen.models.weights import resolve

    vae = AutoencoderKL.from_pretrained(resolve("mini/objects"), subfolder="vae", dtype=_float32()).eval()
    values = np.concatenate([psnr_db(vae, judges.held_out(world, 200).images[:]) for world in ("objects", "streets")])
    yield Row("minis/vae_psnr_db", float(values.mean()), "dB", spread_of(values), len(values))


def objects() -> Iterator[Row]:
    """Share of text-to-image samples in which a classifier finds the asked class:

    captions of held-out drawings, balanced over 20 classes.
    """
    jobs = []
    for class_name in objects_world.CLASSES:
        jobs += [(class_name, objects_world.draw(seed, class_name=class_name).caption) for seed in range(10)]
    images = _render("mini/objects", "", [caption for _, caption in jobs], (64, 64))
    judge = judges.classifier("objects", "class", objects_world.CLASSES)
    found = judges.predict(judge, images)
    right = np.array([objects_world.CLASSES[i] == name for i, (name, _) in zip(found, jobs, strict=True)])
    _sheet(images, 20, "objects_generated.png")
    for class_name in objects_world.CLASSES:
        hits = [ok for ok, (name, _) in zip(right, jobs, strict=True) if name == class_name]
        if not all(hits):
            print(f"  {class_name}: {sum(hits)}/{len(hits)}")
    yield Row("minis/object_obedience", float(right.mean()), "fraction", "", len(right))


def streets() -> Iterator[Row]:
    """Domain obedience, and mIoU of a judge on generated scenes against their conditioning maps over its mIoU on drawn
    scenes.
    """
    data = judges.held_out("streets", 120)
    images = _render("mini/streets", "mini/streets-day", list(data.captions), data.images.shape[1:3], data.masks[:])
    _sheet(np.concatenate([data.images[:40], images[:40]]), 10, "streets_generated.png")
    names = streets_world.DOMAINS
    judge = judges.classifier("streets", "domain", names)
    asked = np.array([names.index(dict(row)["domain"]) for row in data.attributes])
    right = judges.predict(judge, images) == asked
    yield Row("minis/domain_obedience", float(right.mean()), "fraction", "", len(right))
    segmenter = judges.segmenter()
    truth, classes = data.masks[:], range(len(streets_world.CLASSES))
    drawn, made = (judges.predict(segmenter, pictures) for pictures in (data.images[:], images))
    whole = scored(mean_iou(made, truth, classes)) / scored(mean_iou(drawn, truth, classes))
    parts = np.array_split(np.arange(len(truth)), 4)
    ratios = [
        scored(mean_iou(made[p], truth[p], classes)) / scored(mean_iou(drawn[p], truth[p], classes)) for p in parts
    ]
    chance = mean_iou(made, np.roll(truth, 1, axis=0), classes)
    print(
        f"  drawn {mean_iou(drawn, truth, classes):.3f}, generated {mean_iou(made, truth, classes):.3f}, "
        f"maps shifted by one {chance:.3f}"
    )
    yield Row("minis/controlnet_ratio", whole, "fraction", spread_of(ratios), len(ratios))


def decoder() -> Iterator[Row]:
    """IoU of the mini SAM for ground-truth boxes of objects over 1 % of the image, both worlds."""
    from synthgen.backends import load
    from synthgen.models import MaskPrompts
    from synthgen.settings import Execution

    sam = load("mask_decoder", {"name": "segment_anything", "model": "mini/sam"}, Execution(device="cpu"))
    values: list[float] = []
    for world in ("objects", "streets"):
        data = judges.held_out(world, 150)
        for image, instances in zip(data.images[:], data.instances[:], strict=True):
            things = [instances == i for i in np.unique(instances) if i and (instances == i).mean() > 0.01]
            if not things:
                continue
            boxes = np.array([_box(thing) for thing in things], dtype=np.float32)
            masks, _ = sam.decode([image], [MaskPrompts(boxes)])[0]
            values += [(m & t).sum() / (m | t).sum() for m, t in zip(masks, things, strict=True)]
    yield Row("minis/sam_box_miou", float(np.mean(values)), "fraction", spread_of(values), len(values))


def scorer() -> Iterator[Row]:
    """How often the right caption is the best of 64: distinct captions, held-out scenes, both worlds."""
    from synthgen.backends import load
    from synthgen.settings import Execution

    clip = load("image_scorer", {"name": "open_clip", "model": "mini/clip"}, Execution(device="cpu"))
    hits: list[bool] = []
    for world in ("objects", "streets"):
        data = judges.held_out(world, 400)
        first = {caption: row for row, caption in reversed(list(enumerate(data.captions)))}
        rows = sorted(first.values())
        for start in range(0, len(rows) - 63, 64):
            part = rows[start : start + 64]
            images = clip.embed_images(list(data.images[part]))
            texts = clip.embed_texts([data.captions[row] for row in part])
            hits += list((images @ texts.T).argmax(1) == np.arange(64))
    yield Row("minis/clip_top1_of_64", float(np.mean(hits)), "fraction", "", len(hits))


def _render(
    model: str, controlnet: str, captions: list[str], size: tuple[int, int], maps: np.ndarray | None = None
) -> np.ndarray:
    from synthgen.backends import load
    from synthgen.models import RenderJob
    from synthgen.records import seed_of
    from synthgen.settings import Execution

    config = {
        "name": "sd3",
        "model": model,
        "steps": 20,
        "guidance": 2.0 if controlnet else 3.0,
        "controlnet": controlnet,
        "control_palette": "cityscapes",
    }
    renderer = load("renderer", config, Execution(device="cpu"))
    jobs = [
        RenderJob(
            str(n),
            text,
            "",
            seed_of(f"bench{n}"),
            size[0],
            size[1],
            None,
            None,
            None,
            None if maps is None else maps[n],
        )
        for n, text in enumerate(captions)
    ]
    return np.stack([made.image for i in range(0, len(jobs), 8) for made in renderer.render(jobs[i : i + 8])])


def _sheet(images: np.ndarray, columns: int, name: str) -> None:
    from synthgen.images import write_image

    rows = [
        np.concatenate(list(images[i : i + columns]), axis=1)
        for i in range(0, len(images) // columns * columns, columns)
    ]
    SCRATCH.mkdir(exist_ok=True)
    write_image(np.concatenate(rows), SCRATCH / name)


def _box(thing: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(thing.any(1)), np.flatnonzero(thing.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _float32() -> Any:
    import torch

    return torch.float32
