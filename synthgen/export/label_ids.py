"""How the ids of a dataset become those of another tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import yaml

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, Label, LabelSpace
from segkit.shards import Dataset
from synthgen.export.catalogue import Rows

SPLIT_WORDS = {"validation": "val"}


def split_word(split: str) -> str:
    """The word that most tools use for a split: `val` for `validation`, others as they are."""
    return SPLIT_WORDS.get(split, split)


def has_out_of_distribution(dataset: Dataset) -> bool:
    """Whether any mask has 254, by the index."""
    return any(class_id == OUT_OF_DISTRIBUTION for row in dataset.index.samples for class_id, _ in row.pixels)


def contiguous(labels: tuple[Label, ...]) -> np.ndarray:
    """(256,) uint8: id -> place in `labels`, 255 for every other id. Trainers want classes 0..N-1 without gaps."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    for place, label in enumerate(labels):
        table[label.id] = place
    return table


def coco_categories(space: LabelSpace, labels: Iterable[Label], out_of_distribution: bool) -> list[dict[str, object]]:
    """COCO's `categories`. A category's id is the label's id + 1, for 0 means "nothing" to many readers;

    `label_id` keeps our own.
    """
    categories: list[dict[str, object]] = [
        {
            "id": label.id + 1,
            "name": label.name,
            "supercategory": "background" if label.id == space.background else "class",
            "isthing": 0,  # which object a pixel belongs to is not known: every class is "stuff"
            "color": list(label.colour),
            "label_id": label.id,
        }
        for label in labels
    ]
    if out_of_distribution:
        name = "out_of_distribution"
        colour = [255, 0, 255]
        categories.append(
            {
                "id": OUT_OF_DISTRIBUTION + 1,
                "name": name,
                "supercategory": name,
                "isthing": 0,
                "color": colour,
                "label_id": OUT_OF_DISTRIBUTION,
            }
        )
    return categories


def space_yaml(space: LabelSpace) -> str:
    """The content of `labels.yaml`."""
    labels = [{"id": label.id, "name": label.name, "colour": list(label.colour)} for label in space.labels]
    named = {"name": space.name, "background": space.background, "labels": labels}
    return yaml.safe_dump(named, sort_keys=False, allow_unicode=True)


def json_document(head: str, lists: Iterable[tuple[str, str]], rows: Rows) -> Iterator[str]:
    """One JSON object in pieces:

    the text of `head` (`"a":1,"b":2`), then each (key, table) as a list of the table's rows, one a line.
    """
    yield "{" + head
    for key, table in lists:
        yield f',\n"{key}":['
        for number, text in enumerate(rows(table)):
            yield (",\n" if number else "\n") + text
        yield "]"
    yield "}\n"
