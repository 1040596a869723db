"""A plain labelled folder a split:

`{split}/images/`, `{split}/labels/`, `{split}/confidence/`, `{split}/metadata.jsonl`, and `labels.yaml`; of pairs
`{split}/orig_images/` and `{split}/orig_labels/` too.

It is what synthgen takes for a support set and segtrain for held-out data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import space_yaml

LOSS = ""
USE = (
    "labels/KEY.png has the ids, 255 = ignore; as a support set: --set support.folder=OUT/train --set "
    "labels.space=OUT/labels.yaml; to train: segtrain train --data OUT/train --classes OUT/labels.yaml"
)


def build(dataset: Dataset) -> Folder:
    return Folder(dataset)


class Folder:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        self._space = dataset.labels

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        image, label, confidence = sample.encoded[:3]
        files = {
            f"{split}/images/{sample.key}.jpg": image,
            f"{split}/labels/{sample.key}.png": label,
            f"{split}/confidence/{sample.key}.png": confidence,
        }
        if sample.encoded[4:]:  # a pair
            original, original_label = sample.encoded[4:]
            files[f"{split}/orig_images/{sample.key}.jpg"] = original
            files[f"{split}/orig_labels/{sample.key}.png"] = original_label
        return Exported(files, ((split, {"file_name": f"images/{sample.key}.jpg", **sample.meta}),))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        for split in self._splits:
            yield f"{split}/metadata.jsonl", (text + "\n" for text in rows(split))
        yield "labels.yaml", [space_yaml(self._space)]
