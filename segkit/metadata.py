"""The `{key}.json` of a sample and the form of its key.

FIELDS are in every sample of every version; a dataset may have more, the same in each of its samples. What the rules
prevent, seen in Hugging Face `datasets`: a float written `1` makes the column an integer and 0.5 is later read as 0; a
null fixes the column to null; a key that is first seen in the sixth sample is dropped without a word.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from segkit.documents import parse_json
from segkit.errors import DatasetError, InputError
from segkit.printable import excerpt

MEMBERS = ("jpg", "png", "conf.png", "json")
ORIGINAL_MEMBERS = ("orig.jpg", "orig.png")
"""Of version 2: the picture that this one was made from, and its mask."""
MAX_JSON_BYTES = 2**20
KEY = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9][A-Za-z0-9_-]{0,79}", re.ASCII)
KEY_FORM = "1..80 of A-Z a-z 0-9 _ - (no dot), starting with a letter or digit and not digits alone"
Texts = tuple[str, ...]
FIELDS: dict[str, Any] = {  # name -> type, sorted by name
    "attributes": Texts,
    "class_fraction": float,
    "class_id": int,
    "class_name": str,
    "class_rank": int,
    "filled_fraction": float,
    "guidance": float,
    "height_px": int,
    "key": str,
    "labelled_fraction": float,
    "layout": str,
    "model_revision": str,
    "nearest_image_similarity": float,
    "parent": str,
    "pixel_std": float,
    "prompt": str,
    "region_similarity": float,
    "renderer": str,
    "sam_predicted_iou": float,
    "seed": int,
    "split": str,
    "steps": int,
    "text_image_score": float,
    "width_px": int,
}
RESERVED = ("shard", "row", "class_pixels")
"""Columns of the tables beside the shards, which no field may be called."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}", re.ASCII)
_KINDS = {
    float: "a finite number with a fraction",
    int: "a whole number of 64 bits",
    str: "a text",
    Texts: "a list of texts that are not empty",
}


def is_key(key: str) -> bool:
    """Whether loaders keep samples of this key together: see KEY_FORM."""
    return KEY.fullmatch(key) is not None


def metadata_bytes(values: Mapping[str, Any]) -> bytes:
    """The JSON text: one flat object, keys sorted, floats always with a fraction, UTF-8.

    Raises InputError that names sample and field for a field of FIELDS that is missing or of another type, and for any
    other field that is no number, text or tuple of texts.
    """
    where = f"sample {excerpt(values.get('key', ''))}"
    missing = sorted(FIELDS.keys() - values.keys())
    if missing:
        raise InputError(f"{where}: every sample has the same fields; missing: {missing[:5]}")
    parts = []
    for name in sorted(values):
        kind = FIELDS.get(name) or _kind_of(values[name])
        try:
            if not _is_name(name):
                raise TypeError("a name is lower-case letters, digits and _, and no column of the tables")
            parts.append(f"{json.dumps(name)}: {_TEXT_OF[kind](values[name])}")
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise InputError(
                f"{where}: field {name!r} cannot be written as JSON: {error} (got {excerpt(values[name])})"
            ) from error
    return ("{" + ", ".join(parts) + "}").encode()


def read_metadata(data: bytes, where: str, more: bool = True) -> dict[str, Any]:
    """The values of a JSON member; lists of strings become tuples. With `more`, fields beyond FIELDS are read too, as
    every version but the first may have them.

    Raises DatasetError if it breaks a rule of docs/SHARD_FORMAT.md.
    """
    if len(data) > MAX_JSON_BYTES:
        raise DatasetError(f"{where}: {len(data)} bytes of JSON; the most that is read is {MAX_JSON_BYTES}")
    values = parse_json(data, where, DatasetError)
    if not isinstance(values, dict):
        raise DatasetError(f"{where}: must be one JSON object, this is {type(values).__name__}")
    missing = sorted(FIELDS.keys() - values.keys())
    unknown = [] if more else sorted(values.keys() - FIELDS.keys())
    if missing or unknown:
        raise DatasetError(f"{where}: every sample has the same fields; missing: {missing[:5]}, unknown: {unknown[:5]}")
    for name, value in values.items():
        kind = FIELDS.get(name) or _kind_of(value)
        if kind is None or not _is_name(name):
            raise DatasetError(f"{where}: field {excerpt(name)} must be a number, a text or a list of texts")
        values[name] = _checked(value, kind, f"{where}: field {name!r}")
    return values


def kinds_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """name -> type of every field of a sample, sorted by name."""
    return {name: FIELDS.get(name) or _kind_of(values[name]) for name in sorted(values)}


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def _kind_of(value: Any) -> Any:
    """The type of a field that no version names; None for what no field may hold."""
    if isinstance(value, (list, tuple)):
        return Texts
    return type(value) if type(value) in (float, int, str) else None


def _float_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("needs a finite number")
    mantissa, exponent, power = repr(float(value)).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + exponent + power  # 1e-07 becomes 1.0e-07


def _int_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("needs a whole number")
    if not _is_int64(value):
        raise TypeError("needs a whole number of 64 bits, as the tables beside the shards have")
    return str(int(value))


def _str_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("needs a text")
    value.encode()  # a lone surrogate is no UTF-8
    return json.dumps(value, ensure_ascii=False)


def _list_text(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        raise TypeError("needs a list of texts")
    if "" in value:
        raise TypeError("needs texts that are not empty")
    # `[]` in the first samples would make it a column of nulls for Hugging Face `datasets`, and a text in a later one
    # an error
    return "[" + ", ".join(_str_text(item) for item in value or ("",)) + "]"


_TEXT_OF = {float: _float_text, int: _int_text, str: _str_text, Texts: _list_text}


def _checked(value: Any, kind: Any, where: str) -> Any:
    if kind is Texts:
        fits = isinstance(value, list) and all(isinstance(text, str) and _is_unicode(text) for text in value)
        fits = fits and (value == [""] or "" not in value)
    else:
        fits = type(value) is kind and (kind is not str or _is_unicode(value)) and (kind is not int or _is_int64(value))
    if not fits:
        shown = excerpt(value) if isinstance(value, (bool, int, float, str)) else type(value).__name__
        raise DatasetError(f"{where} must be {_KINDS[kind]}, not {shown}")
    return value if kind is not Texts else tuple(value) if value != [""] else ()


def _is_int64(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can escape but no UTF-8 file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
