"""Tells how a download from the Hub goes on: 27 GB behind a line that says "0/1 units" look like a program that hangs.

The libraries' own bars are for a terminal and know one file each; a watcher sees the repository's folder in the cache
grow, whoever fills it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

EVERY_S = 10.0
_log = logging.getLogger(__name__)
_watched: set[str] = set()


@contextlib.contextmanager
def telling_downloads(repository: str) -> Iterator[None]:
    """Inside, a line every EVERY_S seconds in which files of the repository (`owner/name`) have come.

    Nested calls for one repository are one.
    """
    if repository in _watched:
        yield
        return
    _watched.add(repository)
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(repository, _blobs(repository), ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        _watched.discard(repository)


def _blobs(repository: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"


def _watch(repository: str, folder: Path, ended: threading.Event) -> None:
    first = last = _bytes_in(folder)
    began = before = time.monotonic()
    while not ended.wait(EVERY_S):
        size, now = _bytes_in(folder), time.monotonic()
        if size > last:
            rate = (size - last) / (now - before) / 1e6
            _log.warning(
                "download: %s, %.2f GB in %.0f s, %.3g MB/s now", repository, (size - first) / 1e9, now - began, rate
            )
        last, before = size, now


def _bytes_in(folder: Path) -> int:
    """Of whole files and of those that are being written."""
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # renamed meanwhile
                total += path.stat().st_size
    return total
