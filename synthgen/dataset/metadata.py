"""The `{key}.json` of a sample and the form of its key.

The fields and their types are those of `records.Sample` without the artefacts. What the rules prevent, seen
in Hugging Face `datasets`: a float written `1` makes the column an integer and 0.5 is later read as 0; a null
fixes the column to null; a key that is first seen in the sixth sample is dropped without a word.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from synthgen.errors import DatasetError, InputError
from synthgen.records import Sample, columns_of

MEMBERS = ("jpg", "png", "conf.png", "json")
MAX_JSON_BYTES = 2**20
KEY = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9][A-Za-z0-9_-]{0,79}", re.ASCII)
KEY_FORM = "1..80 of A-Z a-z 0-9 _ - (no dot), starting with a letter or digit and not digits alone"
_ARTEFACTS = ("image", "mask", "confidence")
FIELDS: dict[str, Any] = {  # name -> type, sorted by name
    name: kind for name, kind in sorted(columns_of(Sample).items()) if name not in _ARTEFACTS
}


def is_key(key: str) -> bool:
    """Whether loaders keep samples of this key together: see KEY_FORM."""
    return KEY.fullmatch(key) is not None


def metadata_bytes(values: Mapping[str, Any]) -> bytes:
    """The JSON text: one flat object, keys sorted, floats always with a fraction, UTF-8.

    Raises InputError that names sample and field for a missing or unknown field, a value of another type, NaN
    or infinity.
    """
    where = f"sample {values.get('key', '')!r}"
    _same_fields(values, where, InputError)
    parts = []
    for name, kind in FIELDS.items():
        try:
            parts.append(f"{json.dumps(name)}: {_TEXT_OF[kind](values[name])}")
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{where}: field {name!r} cannot be written as JSON: {error} (got {values[name]!r})"
            ) from error
    return ("{" + ", ".join(parts) + "}").encode()


def read_metadata(data: bytes, where: str) -> dict[str, Any]:
    """The values of a JSON member; lists of strings become tuples. Raises DatasetError if it breaks a rule of
    docs/SHARD_FORMAT.md.
    """
    if len(data) > MAX_JSON_BYTES:
        raise DatasetError(f"{where}: {len(data)} bytes of JSON; the most that is read is {MAX_JSON_BYTES}")
    try:
        values = json.loads(data.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{where}: must be one JSON object, this is {type(values).__name__}")
    _same_fields(values, where, DatasetError)
    for name, kind in FIELDS.items():
        values[name] = _checked(values[name], kind, f"{where}: field {name!r}")
    return values


def _same_fields(values: Mapping[str, Any], where: str, error: type[Exception]) -> None:
    missing, unknown = sorted(FIELDS.keys() - values.keys()), sorted(values.keys() - FIELDS.keys())
    if missing or unknown:
        raise error(f"{where}: every sample has the same fields; missing: {missing[:5]}, unknown: {unknown[:5]}")


def _float_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("needs a finite number")
    mantissa, exponent, power = repr(float(value)).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + exponent + power  # 1e-07 becomes 1.0e-07


def _int_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("needs a whole number")
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


_TEXT_OF: dict[Any, Callable[[Any], str]] = {
    float: _float_text,
    int: _int_text,
    str: _str_text,
    tuple[str, ...]: _list_text,
}


def _checked(value: Any, kind: Any, where: str) -> Any:
    shown = repr(value)[:80] if isinstance(value, (bool, int, float, str)) else type(value).__name__
    if kind is float:
        if not isinstance(value, float) or not math.isfinite(value):
            raise DatasetError(f"{where} must be a finite number with a fraction, not {shown}")
        return value
    if kind is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise DatasetError(f"{where} must be a whole number, not {shown}")
        return value
    texts = [value] if kind is str else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and _is_unicode(text) for text in texts):
        raise DatasetError(f"{where} must be {'a text' if kind is str else 'a list of texts'}, not {shown}")
    return value if kind is str else tuple(texts) if texts != [""] else ()


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can escape but no UTF-8 file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
