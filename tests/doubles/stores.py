"""What lies in an object store, seen past synthgen's own code."""

from __future__ import annotations

import hashlib
from typing import Any


def files_of(url: str) -> Any:
    """fsspec's file system of a URL, without any cache."""
    import fsspec

    return fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)[0]


def stored(url: str) -> dict[str, str]:
    """sha256 of every object below an s3:// URL, by relative name."""
    files, place = files_of(url), url.removeprefix("s3://")
    return {
        name.removeprefix(f"{place}/"): hashlib.sha256(files.cat_file(name)).hexdigest() for name in files.find(place)
    }
