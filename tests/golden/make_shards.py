"""Writes the golden shard set: the format of docs/SHARD_FORMAT.md, made by neither of the two packages.

    python tests/golden/make_shards.py tests/golden/shards

Uses only tarfile, PIL, json. 12 small pictures in two splits: a grey ground (id 0), red boxes (id 3) and blue discs (id
7), with gaps between the ids, three image sizes, a frame of 255 on some samples and a patch of 254 on others. The files
are committed: JPEG bytes differ between Pillow versions, and a contract must not.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import sys
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

CLASSES = [
    {"id": 0, "name": "ground", "colour": [128, 128, 128]},
    {"id": 3, "name": "box", "colour": [200, 40, 40]},
    {"id": 7, "name": "disc", "colour": [40, 60, 200]},
]
SIZES = [(64, 48), (48, 64), (40, 40)]
SPLITS = {"train": [4, 4], "validation": [4]}


def draw(rng: random.Random, number: int) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Image, mask and confidence of one sample."""
    width, height = SIZES[number % len(SIZES)]
    image = Image.new("RGB", (width, height), (rng.randint(110, 150),) * 3)
    mask = Image.new("L", (width, height), 0)
    confidence = Image.new("L", (width, height), 230)
    for class_id, shape, colour in ((3, "rectangle", (200, 40, 40)), (7, "ellipse", (40, 60, 200))):
        side = rng.randint(14, 22)
        x, y = rng.randint(0, width - side - 1), rng.randint(0, height - side - 1)
        for canvas, fill in ((image, colour), (mask, class_id), (confidence, 255)):
            getattr(ImageDraw.Draw(canvas), shape)((x, y, x + side, y + side), fill=fill)
    if number % 4 == 1:
        ImageDraw.Draw(mask).rectangle((0, 0, width - 1, height - 1), outline=255, width=2)
    if number % 4 == 2:
        ImageDraw.Draw(mask).rectangle((0, 0, 5, 5), fill=254)
    return image, mask, confidence


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def facts(key: str, number: int, split: str, mask: Image.Image) -> dict[str, object]:
    pixels = mask.width * mask.height
    counts = mask.histogram()
    return {
        "attributes": ["size=small"],
        "class_fraction": counts[3] / pixels,
        "class_id": 3,
        "class_name": "box",
        "class_rank": 0,
        "filled_fraction": 0.0,
        "guidance": 1.0,
        "height_px": mask.height,
        "key": key,
        "labelled_fraction": 1.0 - counts[255] / pixels,
        "layout": "",
        "model_revision": "none",
        "nearest_image_similarity": 0.0,
        "parent": "p" + key[1:],
        "pixel_std": 1.0,
        "prompt": "a red box and a blue disc",
        "region_similarity": 1.0,
        "renderer": "golden",
        "sam_predicted_iou": 1.0,
        "seed": number,
        "split": split,
        "steps": 1,
        "text_image_score": 0.0,
        "width_px": mask.width,
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20)
    shards, samples = [], []
    class_pixels = {c["id"]: [0, 0] for c in CLASSES}
    number = 0
    for split, sizes in SPLITS.items():
        for part, size in enumerate(sizes):
            path = folder / f"{split}-{part:06d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for _ in range(size):
                    key = f"s{number:015x}"
                    image, mask, confidence = draw(rng, number)
                    members = {
                        "jpg": encoded(image, "JPEG", quality=95, subsampling=0),
                        "png": encoded(mask, "PNG"),
                        "conf.png": encoded(confidence, "PNG"),
                        "json": json.dumps(facts(key, number, split, mask), sort_keys=True).encode(),
                    }
                    for suffix, data in members.items():
                        info = tarfile.TarInfo(f"{key}.{suffix}")
                        info.size, info.mode = len(data), 0o644
                        tar.addfile(info, io.BytesIO(data))
                    pixels = [[i, count] for i, count in enumerate(mask.histogram()) if count]
                    samples.append({"key": key, "shard": len(shards), "class_id": 3, "pixels": pixels})
                    for class_id, count in pixels:
                        if class_id in class_pixels:
                            class_pixels[class_id][0] += count
                            class_pixels[class_id][1] += 1
                    number += 1
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            shards.append(
                {"file": path.name, "split": split, "num_samples": size, "num_bytes": len(data), "sha256": digest}
            )
    index = {
        "format": "synthgen-shards",
        "version": 1,
        "name": "golden",
        "members": ["jpg", "png", "conf.png", "json"],
        "ignore": 255,
        "out_of_distribution": 254,
        "background": 0,
        "classes": CLASSES,
        "num_samples": number,
        "splits": [
            {"name": name, "num_samples": sum(sizes), "num_shards": len(sizes)} for name, sizes in SPLITS.items()
        ],
        "shards": shards,
        "class_pixels": [
            {"id": c["id"], "name": c["name"], "pixels": class_pixels[c["id"]][0], "samples": class_pixels[c["id"]][1]}
            for c in CLASSES
        ],
        "samples": samples,
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
