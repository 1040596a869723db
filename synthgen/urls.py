"""What a URL in place of a run folder stands for: a path of this disk, or an object store that fsspec opens."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from synthgen.errors import StorageError, in_one_line

_DISK = ("file", "local")  # fsspec's two names of it


def on_this_disk(url: str) -> Path | None:
    """The path of a `file://` or `local://` URL; None for other URLs and for "". Such a path is absolute: the three
    slashes of `file:///runs` and the two of a relative one are one to pathlib."""
    scheme, _, rest = url.partition("://")
    return Path("/", rest) if scheme in _DISK else None


def opened(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the place in it. Raises StorageError in one line."""
    if "::" in url:
        raise StorageError(f"{url}: chains of URLs (::) are not taken; give the last one alone")
    try:
        core = importlib.import_module("fsspec.core")
        files, place = core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise StorageError(
            f"{url}: needs the extra: pip install 'synthgen-seg[cloud]' ({in_one_line(error)})"
        ) from error
    except ValueError as error:
        raise StorageError(
            f"{url}: no such kind of storage ({in_one_line(error)}); s3://, gs:// and az:// are some that fsspec has"
        ) from error
    except (OSError, RuntimeError, TypeError, AttributeError) as error:  # they connect here, or need more than a URL
        raise StorageError(
            f"{url}: cannot be opened ({type(error).__name__}: {in_one_line(error)}); s3://, gs:// and az:// are some "
            "that can"
        ) from error
    return files, place.rstrip("/")
