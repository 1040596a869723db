"""FiftyOne's ImageSegmentationDirectory, one a split: `{split}/data/`, `{split}/labels/`, and `mask_targets.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows

LOSS = ""
USE = (
    "fo.Dataset.from_dir('OUT/train', dataset_type=fo.types.ImageSegmentationDirectory), then "
    "default_mask_targets from mask_targets.json"
)


def build(dataset: Dataset) -> FiftyOne:
    return FiftyOne(dataset)


class FiftyOne:
    def __init__(self, dataset: Dataset) -> None:
        self._targets = {label.id: label.name for label in dataset.labels.labels}

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        return Exported(
            {f"{split}/data/{sample.key}.jpg": sample.encoded[0], f"{split}/labels/{sample.key}.png": sample.encoded[1]}
        )

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        targets = {**self._targets, OUT_OF_DISTRIBUTION: "out of distribution", IGNORE: "ignore"}
        yield "mask_targets.json", [json.dumps(targets, indent=1, ensure_ascii=False) + "\n"]
