"""PASCAL VOC: `JPEGImages/`, `SegmentationClass/`, `ImageSets/Segmentation/{train,val}.txt`, `labelmap.txt`.

The masks are palette PNGs whose indices are our ids; the colours are the label space's, or VOC's own where two classes
have one.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from segkit.colours import colours_of, distinct_table
from segkit.errors import LabelError
from segkit.label_map import ANOMALY_NAME, IGNORED_NAME
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import split_word

LOSS = ""
USE = (
    "np.asarray(Image.open('SegmentationClass/KEY.png')) has the ids, 255 = void; torchvision's "
    "VOCSegmentation wants it under VOCdevkit/VOC2012"
)


def build(dataset: Dataset) -> Voc:
    """Raises LabelError for a class name that labelmap.txt cannot hold."""
    unfit = next(
        (label.name for label in dataset.labels.labels if ":" in label.name or label.name.startswith("#")), None
    )
    if unfit is not None:
        raise LabelError(
            f"class {unfit!r}: labelmap.txt parts its fields with colons and its comments begin with #; export to "
            "another format, or rename the class"
        )
    return Voc(dataset)


class Voc:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        self._labels = dataset.labels.labels
        self._colours = colours_of(dataset.labels)
        self._palette = distinct_table(dataset.labels).tobytes()

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        files = {
            f"JPEGImages/{sample.key}.jpg": sample.encoded[0],
            f"SegmentationClass/{sample.key}.png": self._png(sample.mask),
        }
        return Exported(files, ((split, sample.key),))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        for split in self._splits:
            yield f"ImageSets/Segmentation/{split_word(split)}.txt", (key.strip('"') + "\n" for key in rows(split))
        # datumaro and CVAT read the masks by colour and refuse one that is not listed
        more = ((ANOMALY_NAME, OUT_OF_DISTRIBUTION), (IGNORED_NAME, IGNORE))
        named = [(label.name, label.id) for label in self._labels] + list(more)
        lines = [f"{name}:{','.join(map(str, self._colours[class_id]))}::\n" for name, class_id in named]
        yield "labelmap.txt", ["# label:color_rgb:parts:actions\n", *lines]

    def _png(self, mask: np.ndarray) -> bytes:
        picture = Image.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
        picture.putpalette(self._palette)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()
