"""What a model folder of ours says of itself: `synthgen.json`, beside the folders of diffusers.

    max_sequence_length   T5 tokens that the denoiser has learnt with
    control               the kind of condition that `controlnet/` was trained on
    label_space           name, ids and colours of the classes, for a condition that is made of them
    scale                 how its pixels are scaled, where it is another way than [-1, 1]
    base                  model and commit that a ControlNet goes with
    swap                  true: render with the base itself, without the LoRA of the source's look (DGInStyle's style
                          swap, arXiv 2312.03048)

All keys may be missing, and others are left alone. A folder without the file says nothing.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from segkit.documents import read_json
from segkit.labels import label_space_of
from segkit.printable import excerpt
from synthgen.errors import ModelError
from synthgen.files import write_bytes
from synthgen.labels import LabelSpace
from synthgen.models.control import Control, Kind, Scale

FACTS = "synthgen.json"
MAX_BYTES = 2**20
DEFAULT_T5_TOKENS = 256
_MAX_TOKENS = 512


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """The contents of a `synthgen.json`; None and empty texts for what it does not say."""

    max_sequence_length: int | None = None
    control: Control | None = None
    base_model: str = ""
    base_revision: str = ""
    swap: bool = False

    def to_json(self) -> dict[str, Any]:
        """The form that `read_model_facts` reads."""
        facts: dict[str, Any] = {}
        if self.control is not None:
            facts["control"] = self.control.kind
            if self.control.labels is not None:
                facts["label_space"] = self.control.labels.to_json()
            if self.control.scale != "signed":
                facts["scale"] = self.control.scale
        if self.base_model:
            facts["base"] = {"model": self.base_model, "revision": self.base_revision}
        if self.max_sequence_length is not None:
            facts["max_sequence_length"] = self.max_sequence_length
        return facts | ({"swap": True} if self.swap else {})


def write_model_facts(facts: ModelFacts, folder: Path) -> None:
    """`synthgen.json` of `folder`, whole or not at all."""
    write_bytes((json.dumps(facts.to_json(), indent=1, ensure_ascii=False) + "\n").encode(), folder / FACTS)


def read_model_facts(folder: Path | str) -> ModelFacts:
    """What a local folder says of itself; nothing for one without the file, for a file, and for an id of the Hub.

    Raises ModelError or LabelError in one line for a file that cannot be read.
    """
    path = Path(folder) / FACTS
    return parse_model_facts(path) if isinstance(folder, Path) and path.is_file() else ModelFacts()


def num_t5_tokens(folder: Path | str, asked: int) -> int:
    """T5 tokens of a prompt for the model in `folder`: `asked`, or, for -1, what the folder says, or else 256."""
    if asked >= 0:
        return asked
    said = read_model_facts(folder).max_sequence_length
    return DEFAULT_T5_TOKENS if said is None else said


def parse_model_facts(path: Path) -> ModelFacts:
    """The facts in a file. Raises ModelError or LabelError in one line that names it."""
    raw = read_json(path, ModelError, MAX_BYTES)
    if not isinstance(raw, dict):
        raise ModelError(f"{path}: must be an object of facts, this is {type(raw).__name__}")
    base = _get(raw, "base", dict, path) or {}
    length = _get(raw, "max_sequence_length", int, path)
    if length is not None and not 0 <= length <= _MAX_TOKENS:
        raise ModelError(f"{path}: max_sequence_length is {length}, must be in 0..{_MAX_TOKENS}")
    return ModelFacts(
        max_sequence_length=length,
        control=_control(raw, path),
        base_model=_get(base, "model", str, path) or "",
        base_revision=_get(base, "revision", str, path) or "",
        swap=_get(raw, "swap", bool, path) or False,
    )


def _control(raw: dict[str, Any], path: Path) -> Control | None:
    kind = _get(raw, "control", str, path)
    space = raw.get("label_space")
    labels: LabelSpace | None = None if space is None else label_space_of(space, f"{path}: label_space")
    if kind is None:
        return None
    scale: Any = _get(raw, "scale", str, path) or "signed"
    for key, value, known in (("control", kind, typing.get_args(Kind)), ("scale", scale, typing.get_args(Scale))):
        if value not in known:
            raise ModelError(f"{path}: {key} is {excerpt(value)}, must be one of {', '.join(known)}")
    if labels is None and kind in ("palette", "onehot"):
        raise ModelError(f"{path}: control is {kind}, so it must have the key label_space; write the classes there")
    return Control(kind, labels, scale)


def _get(raw: dict[str, Any], key: str, kind: type, path: Path) -> Any:
    value = raw.get(key)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ModelError(f"{path}: {key} is {excerpt(value)}, must be {_NAMES[kind]}")
    return value


_NAMES = {dict: "an object", int: "a whole number", str: "a text", bool: "true or false"}
