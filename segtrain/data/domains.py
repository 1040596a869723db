"""Which domain a sample is of: its weather, its time of day, or the set that it comes from.

A folder says it in `domains.txt`, one line a sample, `stem<TAB>domain`. A sample of a finished dataset says it in its
JSON: the text `domain`, or else `domain=NAME` among its `attributes`. Where neither is there, nothing is declared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segkit.documents import parse_json
from segkit.files import read_regular
from segkit.folders import normal_name
from segkit.printable import excerpt
from segtrain.errors import DataError

FILE = "domains.txt"
_MAX_BYTES = 2**27
_PREFIX = "domain="


def read_domains(folder: Path) -> dict[str, str]:
    """Domain by stem (`normal_name`); empty without a `domains.txt`. Raises DataError naming the line that is wrong."""
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        lines = read_regular(path, _MAX_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 text") from error
    domains: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        stem, tab, domain = line.partition("\t")
        stem, domain = normal_name(stem), domain.strip()
        if not tab or not stem or not domain or "\t" in domain:
            raise DataError(f"{path}:{number}: {excerpt(line)} is not `stem<TAB>domain`")
        if domains.setdefault(stem, domain) != domain:
            raise DataError(f"{path}:{number}: {excerpt(stem)} is of {excerpt(domains[stem])} already")
    return domains


def domain_of_metadata(data: bytes, where: str) -> str:
    """What the JSON of a sample declares, "" if nothing. Raises DataError if it is no JSON object."""
    values: Any = parse_json(data, where, DataError)
    if not isinstance(values, dict):
        raise DataError(f"{where}: must be one JSON object, this is {type(values).__name__}")
    domain = values.get("domain", "")
    if isinstance(domain, str) and domain:
        return domain
    attributes = values.get("attributes", [])
    texts = [text for text in attributes if isinstance(text, str)] if isinstance(attributes, list) else []
    return next((text.removeprefix(_PREFIX) for text in texts if text.startswith(_PREFIX)), "")
