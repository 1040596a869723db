"""What of a Hub repository lies in the local cache: a repository of which one file is there is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from segkit.documents import read_json
from synthgen.errors import ModelError

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_INDEX = "model_index.json"


def missing_in(snapshot: Path) -> tuple[str, ...]:
    """What a cached snapshot lacks, as "part: what"; () if it is whole.

    Of a pipeline the parts are the folders that its model_index.json names, and each must have its configuration and,
    where that is a network's, its weights. Of a single network the part is "". Which of several forms of weights is
    there does not matter, and files that nothing loads are not asked for.
    """
    if not (snapshot / _INDEX).is_file():
        lacks = _network_lacks(snapshot)
        return (f": {lacks}",) if lacks else ()
    try:
        index = read_json(snapshot / _INDEX, ModelError)
    except ModelError:
        return (f"{_INDEX}: cannot be read",)
    parts = [
        name
        for name, value in (index.items() if isinstance(index, dict) else ())
        if isinstance(value, list) and len(value) == 2 and value[0] is not None
    ]
    return tuple(f"{name}: {lacks}" for name in parts if (lacks := _part_lacks(snapshot / name)))


def concerns(missing: str, parts: tuple[str, ...]) -> bool:
    """Whether an entry of `missing_in` is about one of the parts; () = any."""
    part = missing.partition(":")[0]
    return not parts or not part or part in parts or part == _INDEX


def _part_lacks(folder: Path) -> str:
    if not folder.is_dir() or not any(folder.iterdir()):
        return "is not there"
    return _network_lacks(folder) if (folder / "config.json").is_file() else ""


def _network_lacks(folder: Path) -> str:
    files = [path.name for path in folder.iterdir() if path.is_file()]
    indexes = [name for name in files if ".index." in name and name.endswith(".json")]
    for name in indexes:
        absent = [shard for shard in _shards(folder / name) if shard not in files]
        if not absent:
            return ""
        if name == indexes[-1]:
            return f"lacks {absent[0]}"
    return "" if any(name.endswith(WEIGHTS) for name in files) else "has no weights"


def _shards(index: Path) -> Iterator[str]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return
    yield from sorted({str(place) for place in places})
