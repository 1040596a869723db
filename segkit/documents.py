"""The one reader of JSON and YAML: every document that the packages open comes through here.

A document is plain data: mappings with text keys, lists, texts, numbers, true, false and null. Refused in one line,
with the place: what is larger, deeper or longer than any document of ours, a key that occurs twice, NaN and infinity,
whole numbers beyond 64 bits, YAML's aliases (ten lines of them unfold to gigabytes) and tags, text that is not UTF-8,
and what is no regular file. Of YAML 1.1's surprises, `010` and `1:30` are refused, dates stay the texts that they are
written as; `no` and `~` are false and null, which is the caller's to judge.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from segkit.errors import InputError, UserError
from segkit.files import read_regular
from segkit.printable import excerpt, in_one_line, printable

MAX_BYTES = 16 * 2**20
MAX_YAML_BYTES = 2**20
MAX_DEPTH = 64
MAX_INTEGER = 2**64


def read_json(path: Path, error: type[UserError] = InputError, max_bytes: int = MAX_BYTES, finite: bool = True) -> Any:
    """The value of a JSON file. Raises `error` in one line."""
    return parse_json(read_regular(path, max_bytes, error), str(path), error, finite)


def read_yaml(path: Path, error: type[UserError] = InputError) -> Any:
    """The value of a YAML file; None for an empty one. Raises `error` in one line."""
    return parse_yaml(read_regular(path, MAX_YAML_BYTES, error), str(path), error)


def parse_json(data: bytes | str, where: str, error: type[UserError] = InputError, finite: bool = True) -> Any:
    """The value of a JSON text. Raises `error` in one line that begins with `where`.

    Without `finite`, NaN and infinity come through: the caller knows better where they stand.
    """
    try:
        value = json.loads(
            _text(data),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant if finite else float,
            parse_float=_finite if finite else None,
            parse_int=_integer,
        )
        _require_shallow(value)
    except RecursionError as reason:
        raise error(f"{where}: is nested more than {MAX_DEPTH} levels deep") from reason
    except ValueError as reason:
        raise error(f"{where}: cannot be read as JSON ({in_one_line(reason)})") from reason
    return value


def parse_yaml(data: bytes | str, where: str, error: type[UserError] = InputError, comment_after: bool = True) -> Any:
    """The value of a YAML text, None for an empty one. Raises `error` in one line that begins with `where`.

    Without `comment_after`, a comment behind the value is refused: where nobody means one, a name would be cut off.
    """
    try:
        if len(data) > MAX_YAML_BYTES:
            raise ValueError(f"{len(data)} bytes; at most {MAX_YAML_BYTES} are read")
        text = _text(data)
        if not comment_after:
            node = yaml.compose(text, _Loader)
            comment = text[node.end_mark.index if node else 0 :].strip()
            if comment:
                raise ValueError(f"{excerpt(comment)} would be a comment: put the value in quotes")
        return yaml.load(text, _Loader)
    except RecursionError as reason:
        raise error(f"{where}: is nested more than {MAX_DEPTH} levels deep") from reason
    except yaml.MarkedYAMLError as reason:
        place = f" in line {reason.problem_mark.line + 1}" if reason.problem_mark else ""
        raise error(f"{where}: cannot be read as YAML ({printable(reason.problem or 'damaged')}{place})") from reason
    except (ValueError, yaml.YAMLError) as reason:
        raise error(f"{where}: cannot be read as YAML ({in_one_line(reason)})") from reason


def require_unique_keys(data: bytes, where: str, error: type[UserError] = InputError) -> None:
    """Raise `error` for a JSON text that is none, or in which a key occurs twice; its values are not kept, so that a
    text of gigabytes can be looked at before a typed parser reads it."""
    try:
        json.loads(_text(data), object_pairs_hook=_forget, parse_constant=_refuse_constant)
    except RecursionError as reason:
        raise error(f"{where}: is nested too deep") from reason
    except ValueError as reason:
        raise error(f"{where}: cannot be read as JSON ({in_one_line(reason)})") from reason


def _forget(pairs: list[tuple[str, Any]]) -> None:
    _object(pairs)


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise ValueError(f"byte {reason.start} is not UTF-8") from reason


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {excerpt(next(key for key in keys if keys.count(key) > 1))} occurs twice")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{excerpt(text)} is not a finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > 21 or abs(value := int(text)) >= MAX_INTEGER:
        raise ValueError(f"{excerpt(text)} is a whole number of more than 64 bits")
    return value


def _require_shallow(value: Any) -> None:
    """Raise RecursionError beyond MAX_DEPTH: who walks the value later must not."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise RecursionError


class _Loader(yaml.SafeLoader):
    """YAML as plain data."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"alias *{event.anchor} in line {_line(event)}: write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.YAMLError(f"tag {event.tag} in line {_line(event)}: write the value without a tag")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RecursionError
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                raise yaml.YAMLError(f"key {excerpt(key)} in line {_line(key_node)} is no text: write it in quotes")
            if key in keys:
                raise yaml.YAMLError(f"key {excerpt(key)} occurs twice, again in line {_line(key_node)}")
            keys.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: Any) -> int:
        text = str(self.construct_scalar(node))
        if re.fullmatch(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)", text) is None:
            raise yaml.YAMLError(
                f"{excerpt(text)} in line {_line(node)} is another number in YAML (base 8 or 60): write it plainly, or "
                "in quotes if it is a text"
            )
        # Python refuses to read thousands of digits, and they would take quadratic time
        value = self.construct_yaml_int(node) if len(text) <= 80 else MAX_INTEGER
        if abs(value) >= MAX_INTEGER:
            raise yaml.YAMLError(f"{excerpt(text)} in line {_line(node)} is a whole number of more than 64 bits")
        return int(value)

    def construct_float(self, node: Any) -> float:
        text = str(self.construct_scalar(node))
        if ":" in text:
            raise yaml.YAMLError(f"{excerpt(text)} in line {_line(node)} is a number of base 60 in YAML: quote it")
        value = float(self.construct_yaml_float(node))
        if not math.isfinite(value):
            raise yaml.YAMLError(f"{excerpt(text)} in line {_line(node)} is not a finite number")
        return value


def _line(place: Any) -> int:
    return int(place.start_mark.line) + 1


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(("timestamp", "merge", "value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
