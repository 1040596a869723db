"""Tells a URL from a path where a folder may be named."""

from __future__ import annotations

import re
from pathlib import Path

# pathlib makes `s3:/bucket` of `s3://bucket`; `simplecache::s3://bucket` is fsspec's chain of two
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+._-]+(::[A-Za-z][A-Za-z0-9+._-]+)*):/+(?P<rest>.*)", re.DOTALL)


def url_of(path: Path | str) -> str:
    """The URL that a command line's path stands for; "" for a plain path."""
    found = _URL.fullmatch(str(path))
    return f"{found['scheme']}://{found['rest'].rstrip('/')}" if found else ""


def local_only(path: Path) -> Path:
    """The path itself, to be written to. Raises ValueError in one line for a URL."""
    url = url_of(path)
    if url:
        raise ValueError(f"{url}: only folders on a disk here are written to, no URLs: copy it there afterwards")
    return path
