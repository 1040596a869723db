"""A run folder on an object store: any fsspec URL (`s3://bucket/runs`), worked on through a local copy.

Stages read and write plain files of the copy, which is a temporary folder of this process. What they make is uploaded
unit by unit, `manifest.parquet` last, as a rename makes a unit appear on a disk. What the store has comes when it is
asked for: a unit's tables as soon as it is seen to be done, an image when it is read, a shard never: the dataset's
shards are copied within the store. Two launches that do one unit put the same bytes, so a store needs no leases.

Every function but `local_copy` and `local_dataset` takes paths of local folders too, and has nothing to do then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from segkit.urls import url_of
from synthgen import local_copies, urls
from synthgen.errors import StorageError, in_one_line
from synthgen.files import write_bytes

LAST = "manifest.parquet"  # of a unit; `index.json` of a dataset is written last by its maker
FETCHED_WHEN_READ = (".png", ".tar")
_NO_BUCKET = re.compile(r"bucket does not exist|NoSuchBucket|bucket not found", re.IGNORECASE)
_CHUNK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Store:
    """One folder of an object store and its local copy."""

    url: str
    root: Path  # the copy
    files: Any  # fsspec's file system
    place: str  # the folder's path as `files` takes it

    def at(self, path: Path) -> str:
        """Where a path of the copy lies in the store."""
        inside = path.relative_to(self.root).as_posix()
        return self.place if inside == "." else f"{self.place}/{inside}"


_stores: dict[Path, Store] = {}
_numbers = itertools.count()


def local_copy(path: Path) -> Path:
    """The folder to work on:

    the path itself, or a local copy of the store's folder, for now with its small top-level files and the event log.

    Raises StorageError in one line if the URL cannot be used.
    """
    url = url_of(path)
    here = urls.on_this_disk(url)
    if not url or here is not None:
        return here or path
    known = next((root for root, store in _stores.items() if store.url == url), None)
    if known is not None:
        return known
    parent = local_copies.new()
    root = parent / url.rpartition("/")[2]
    attach(root, url)
    store = _stores[root]
    with _error_context(store):
        for entry in _listed(store, store.place):
            if entry["type"] == "file" and not entry["name"].endswith(FETCHED_WHEN_READ):
                _get(store, entry["name"], root / entry["name"].rpartition("/")[2])
        for entry in _listed(store, f"{store.place}/events"):
            _get(store, entry["name"], root / "events" / entry["name"].rpartition("/")[2])
    return root


def local_dataset(path: Path) -> Path:
    """A finished dataset, whole:

    the path itself, or a temporary copy of what the URL holds (or of its `dataset/`, for a run folder).
    """
    root = local_copy(path)
    store = _stores.get(root)
    if store is None:
        return root
    folder = root if (root / "index.json").is_file() or not names(root / "dataset") else root / "dataset"
    with _error_context(store):
        for entry in _listed(store, store.at(folder)):
            if entry["type"] == "file":
                _get(store, entry["name"], folder / entry["name"].rpartition("/")[2])
    return root


def attach(root: Path, url: str) -> None:
    """Make `root` the copy of a URL in this process; workers do so with the folder of what started them."""
    if root in _stores:
        return
    files, place = urls.opened(url)
    root.mkdir(parents=True, exist_ok=True)
    _stores[root] = Store(url, root, files, place)


def store_of(path: Path) -> Store | None:
    """The store whose copy a path lies in; None for local folders."""
    return next((store for root, store in _stores.items() if path.is_relative_to(root)), None)


def url_for(path: Path) -> str:
    """The URL of a copy's root, for `attach` in another process; "" for local folders."""
    store = store_of(path)
    return store.url if store else ""


def with_urls(text: object) -> str:
    """A message with URLs where it names the copy."""
    found = str(text)
    for root, store in _stores.items():
        found = found.replace(str(root), store.url)
    return found


def names(folder: Path) -> list[str]:
    """What a folder holds, here or in the store; sorted. Raises FileNotFoundError for a missing local folder."""
    store = store_of(folder)
    if store is None:
        return sorted(entry.name for entry in folder.iterdir())
    here = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    with _error_context(store):
        return sorted(here | {entry["name"].rpartition("/")[2] for entry in _listed(store, store.at(folder))})


def fetch(path: Path) -> None:
    """Bring one file that is not in the copy. That the store does not have it either is for the reader to tell."""
    if _stores and not path.exists():
        refresh(path)


def refresh(path: Path) -> None:
    """Bring one file as the store has it now."""
    store = store_of(path)
    if store is not None:
        with _error_context(store), contextlib.suppress(FileNotFoundError):
            _get(store, store.at(path), path)


def fetch_units(stage: Path, units: Collection[str]) -> None:
    """Bring the tables of those units that are done in the store and not in the copy."""
    store = store_of(stage)
    if store is None:
        return
    wanted = [unit for unit in units if not (stage / unit).exists()]
    with _error_context(store):
        if len(wanted) > 1:
            begun = {entry["name"].rpartition("/")[2] for entry in _listed(store, store.at(stage))}
            wanted = [unit for unit in wanted if unit in begun]
        for unit in wanted:
            listed = [entry["name"] for entry in _listed(store, store.at(stage / unit))]
            if f"{store.at(stage / unit)}/{LAST}" not in listed:
                continue
            scratch = store.root.parent / f"fetched-{os.getpid()}-{next(_numbers)}"
            scratch.mkdir()
            for name in listed:
                if not name.endswith(FETCHED_WHEN_READ):
                    _get(store, name, scratch / name.rpartition("/")[2])
            stage.mkdir(parents=True, exist_ok=True)
            try:
                scratch.rename(stage / unit)
            except OSError:  # another worker was first
                shutil.rmtree(scratch)


def publish(path: Path, source: Path | None = None) -> None:
    """Upload one file, or `source` in its place. Raises StorageError in one line."""
    store = store_of(path)
    if store is not None:
        with _error_context(store):
            store.files.put_file(str(source or path), store.at(path))


def sha256_of(path: Path) -> str | None:
    """Hex digest of what the store has, read in pieces; None if it has nothing, and for local folders."""
    store = store_of(path)
    if store is not None:
        with _error_context(store), contextlib.suppress(FileNotFoundError):
            return _sha256(store, store.at(path))
    return None


def remove(path: Path) -> None:
    """Remove one file of the store, if it is there."""
    store = store_of(path)
    if store is not None:
        with _error_context(store), contextlib.suppress(FileNotFoundError):
            store.files.rm_file(store.at(path))


def publish_first(path: Path) -> bool:
    """Upload one file unless the store has it; False if it holds other bytes, which are then here. Of several writers
    one wins where the store can put if absent (S3, Google, Azure), elsewhere the last one does."""
    store = store_of(path)
    if store is None:
        return True
    data = path.read_bytes()
    with _error_context(store):
        with contextlib.suppress(FileExistsError):
            try:
                store.files.pipe_file(store.at(path), data, mode="create")
            except (NotImplementedError, TypeError):  # a file system that does not know the mode
                if not store.files.exists(store.at(path)):
                    store.files.pipe_file(store.at(path), data)
        _get(store, store.at(path), path)
    return path.read_bytes() == data


def publish_unit(scratch: Path, unit: Path) -> None:
    """Upload what a unit has made, its manifest last. Doing it again, or in two launches, puts the same bytes."""
    store = store_of(unit)
    if store is None:
        return
    made = sorted(path.name for path in scratch.iterdir() if path.name != LAST)
    with _error_context(store):
        if made:
            store.files.put([str(scratch / name) for name in made], [f"{store.at(unit)}/{name}" for name in made])
        store.files.put_file(str(scratch / LAST), f"{store.at(unit)}/{LAST}")


def size_of(path: Path) -> int | None:
    """Bytes of a file here or in the store; None if there is none."""
    if path.is_file():
        return path.stat().st_size
    store = store_of(path)
    if store is None:
        return None
    with _error_context(store):
        try:
            return int(store.files.info(store.at(path))["size"])
        except FileNotFoundError:
            return None


def copy_within(source: Path, target: Path, sha256: str) -> bool:
    """Put a file of the store under another name, not through this machine; False if another file has that name."""
    store = store_of(source)
    if store is None:
        raise ValueError(f"{source} is a local file")
    with _error_context(store):
        if store.files.exists(store.at(target)):
            return _sha256(store, store.at(target)) == sha256
        store.files.cp_file(store.at(source), store.at(target))
    return True


def move(folder: Path, target: Path, last: str) -> None:
    """Give a folder of the store another name: all is copied, then the old names go, the file `last` after all
    others."""
    store = store_of(folder)
    if store is None:
        return
    old, new = store.at(folder), store.at(target)
    with _error_context(store):
        found = store.files.find(old)
        for name in found:
            store.files.cp_file(name, new + name.removeprefix(old))
        for name in sorted(found, key=lambda name: (name == f"{old}/{last}", name)):
            store.files.rm_file(name)


def _sha256(store: Store, name: str) -> str:
    digest = hashlib.sha256()
    with store.files.open(name, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _listed(store: Store, place: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = store.files.ls(place, detail=True)
    except FileNotFoundError as error:
        if _NO_BUCKET.search(str(error)):
            raise
        return []
    return [
        {**entry, "name": entry["name"].rstrip("/")} for entry in found if entry["name"].strip("/") != place.strip("/")
    ]


def _get(store: Store, name: str, path: Path) -> None:
    """Bring a file whole or not at all."""
    if name.endswith(".tar"):  # may be larger than memory
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = store.root.parent / f"fetched-{os.getpid()}-{next(_numbers)}"
        store.files.get_file(name, str(scratch))
        scratch.replace(path)
        return
    data = store.files.cat_file(name)
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(data, path)


@contextlib.contextmanager
def _error_context(store: Store) -> Iterator[None]:
    """What a store's client raises, as one line. A missing file passes: it may be no error."""
    try:
        yield
    except StorageError:
        raise
    except _faults() as error:
        why = in_one_line(error)
        if isinstance(error, FileNotFoundError):
            if not _NO_BUCKET.search(why):
                raise
            raise StorageError(
                f"{store.url}: there is no such bucket ({why}); make it first, or choose another place"
            ) from error
        if isinstance(error, PermissionError) or "credential" in why.lower():
            raise StorageError(
                f"{store.url}: not allowed ({why}); look at your credentials and at the bucket's rights"
            ) from error
        raise StorageError(f"{store.url}: cannot be used ({why}); the same command goes on where it stopped") from error


def _faults() -> tuple[type[BaseException], ...]:
    """OSError, what boto3's engine and the Hub's client raise without making it one, and what a store that is only read
    says of writing."""
    botocore = sys.modules.get("botocore.exceptions")
    of_s3 = (botocore.BotoCoreError, botocore.ClientError) if botocore else ()
    of_hub = tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    return (OSError, NotImplementedError, *of_s3, *of_hub)
