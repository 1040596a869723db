"""Where a recipe's label space lies: a shipped one by name, or a file. What one is: segkit.labels."""

from __future__ import annotations

from pathlib import Path

import segkit.labels
from segkit.errors import LabelError, did_you_mean
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, Label, LabelSpace
from synthgen.shipped import shipped_folder

__all__ = ["IGNORE", "OUT_OF_DISTRIBUTION", "Label", "LabelSpace", "read_label_space"]


def read_label_space(name_or_path: str) -> LabelSpace:
    """A shipped label space by name (`prompts/<name>/labels.yaml`), or the YAML file at a path with a `/` or `.yaml`.

    Raises LabelError if it is missing or malformed.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    else:
        path = shipped_folder("prompts") / name_or_path / "labels.yaml"
    if not path.exists():
        known = sorted(p.parent.name for p in shipped_folder("prompts").glob("*/labels.yaml"))
        raise LabelError(
            f"label space {name_or_path!r}: no file {path}; shipped ones: {', '.join(known)}"
            f"{did_you_mean(name_or_path, known)}"
        )
    return segkit.labels.read_label_space(path)
