"""Options of a training in a file: `segtrain iccld --preset gta5-cityscapes`.

A preset is YAML: `command` is the command that it is for, every other key an option without its dashes. Those that come
with the package stand in this folder, COMMAND.NAME.yaml; anybody else's is named by its path. Folders in it count from
where the command runs; `classes` counts from the preset if the file is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segkit.documents import read_yaml
from segkit.printable import excerpt
from segtrain.errors import ConfigError

_FOLDER = Path(__file__).parent


def shipped(command: str) -> list[str]:
    """The names of the presets of a command that come with the package."""
    prefix = f"{command.replace(' ', '-')}."
    return sorted(path.stem.removeprefix(prefix) for path in _FOLDER.glob(f"{prefix}*.yaml"))


def read_preset(value: str, command: str, options: set[str]) -> dict[str, Any]:
    """Values by option, underscored as in `options`, of a shipped preset's name or a file. Raises ConfigError."""
    path = Path(value)
    if value in shipped(command):
        path = _FOLDER / f"{command.replace(' ', '-')}.{value}.yaml"
    elif not path.is_file():
        known = ", ".join(shipped(command))
        raise ConfigError(
            f"--preset {excerpt(value)}: no such file, and no preset of `segtrain {command}`"
            + (f"; there are: {known}" if known else ", which has none: name a file")
        )
    raw = read_yaml(path, ConfigError)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: is no mapping of options to values")
    theirs = raw.pop("command", None)
    if theirs != command:
        raise ConfigError(f"{path}: command: {excerpt(theirs)}: this is `segtrain {command}`")
    values = {}
    for key, content in raw.items():
        name = key.replace("-", "_")
        if name not in options:
            raise ConfigError(f"{path}: {excerpt(key)} is no option of `segtrain {command}`: see --help")
        if not _is_plain(content) and not (isinstance(content, list) and all(map(_is_plain, content))):
            raise ConfigError(f"{path}: {key}: {excerpt(content)} is neither a value nor a list of values")
        values[name] = content
    classes = values.get("classes")
    if isinstance(classes, str) and (path.parent / classes).is_file():
        values["classes"] = str(path.parent / classes)
    return values


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
