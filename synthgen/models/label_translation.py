"""A label map of one label space in the ids of another: what lets a ControlNet be driven by other labels than its own.

    prompts/cityscapes/to_ade20k.yaml     class of cityscapes: class of ade20k, or 255 for what has none there

Many classes may become one. Ids are translated by one table of 256, and colours are painted afterwards: a map never
goes through colours, where two classes may look alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segkit.documents import read_yaml
from segkit.errors import LabelError
from segkit.printable import excerpt
from synthgen.errors import did_you_mean
from synthgen.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from synthgen.shipped import shipped_folder


def translation_table(source: LabelSpace, target: LabelSpace, path: str = "") -> np.ndarray:
    """(256,) uint8: the id in `target` of each id of `source`; 254 stays 254, and what is no class is 255.

    Without `path`, nothing changes if every class of `source` has its id and name in `target` too; otherwise the
    shipped file of the two names says it. Raises LabelError in one line that names the file to write.
    """
    if not path and _is_within(source, target):
        return _table({label.id: label.id for label in source.labels})
    if not path and source.name == target.name:
        raise LabelError(
            f"the maps and the ControlNet both have a label space {source.name!r}, but not the same ids and names: set "
            f"render.renderer.control_translation to a file of `class: class` lines, or give one of them another name"
        )
    return _table(read_translation(Path(path) if path else shipped_translation(source, target), source, target))


def shipped_translation(source: LabelSpace, target: LabelSpace) -> Path:
    """Where the file of two label spaces lies. Raises LabelError if there is none."""
    path = shipped_folder("prompts") / source.name / f"to_{target.name}.yaml"
    if not path.is_file():
        known = sorted(file.stem.removeprefix("to_") for file in path.parent.glob("to_*.yaml"))
        raise LabelError(
            f"the maps have the label space {source.name!r} and the ControlNet has learnt {target.name!r}: write a "
            f"file of lines `{source.labels[0].name}: <class of {target.name}, or 255>` for each class, for example "
            f"{source.name}_to_{target.name}.yaml, and set render.renderer.control_translation to it (shipped for "
            f"{source.name!r}: {', '.join(known) or 'none'})"
        )
    return path


def read_translation(path: Path, source: LabelSpace, target: LabelSpace) -> dict[int, int]:
    """Id of `source` -> id of `target` or 255, for every class of `source`.

    Raises LabelError in one line for a file that cannot be read, that leaves a class out, or that names one that is in
    neither space. Classes go by their names here, not by synonyms.
    """
    raw = read_yaml(path, LabelError)
    if not isinstance(raw, dict):
        raise LabelError(f"{path}: must be lines of `class: class`, this is {type(raw).__name__}")
    ids = {label.name: label.id for label in source.labels}
    target_ids = {label.name: label.id for label in target.labels}
    for name, other in raw.items():
        if name not in ids:
            raise LabelError(f"{path}: {excerpt(name)} is no class of {source.name!r}{did_you_mean(str(name), ids)}")
        is_class = isinstance(other, str) and other in target_ids
        if not is_class and not (isinstance(other, int) and other == IGNORE):
            raise LabelError(
                f"{path}: {name}: {excerpt(other)} is neither a class of {target.name!r} nor 255"
                f"{did_you_mean(str(other), target_ids)}"
            )
    lacking = [name for name in ids if name not in raw]
    if lacking:
        raise LabelError(
            f"{path}: says nothing of {', '.join(map(repr, lacking))}; write 255 for what has no class there"
        )
    return {ids[name]: target_ids.get(other, IGNORE) for name, other in raw.items()}


def _is_within(source: LabelSpace, target: LabelSpace) -> bool:
    try:
        source.require_within(target, "")
    except LabelError:
        return False
    return True


def _table(ids: dict[int, int]) -> np.ndarray:
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[OUT_OF_DISTRIBUTION] = OUT_OF_DISTRIBUTION
    table[list(ids)] = list(ids.values())
    return table
