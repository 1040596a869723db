"""Puts a finished dataset on an object store; it is whole where its `index.json` is, which is sent last.

.synthgen-upload.json    which dataset is on its way; put before all else, removed when all is there

The bytes are those on the disk, so a dataset is made once and may lie in several places; where it lies is no part of
its recipe.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from segkit.index import INDEX_FILE, read_index_head
from segkit.printable import excerpt
from segkit.urls import url_of
from synthgen import local_copies, ownership, storage, urls
from synthgen.dataset.side_files import CROISSANT_FILE, table_file, wids_file
from synthgen.dataset.verify_side_files import CARD, CONTACT_SHEET
from synthgen.errors import DatasetError, InputError, StorageError
from synthgen.export.run import dataset_folder
from synthgen.files import sha256_of

CLAIM_FILE = ".synthgen-upload.json"
_ELSEWHERE = "choose another place, or remove it there first"


@dataclasses.dataclass(frozen=True, slots=True)
class UploadReport:
    """What an upload came to."""

    url: str
    num_samples: int
    num_files: int
    num_sent: int  # files sent this time; 0 if all was there already
    left_out: tuple[str, ...]  # names in the folder that are not of the dataset


def target_url(out: Path | str) -> str:
    """The URL that a command line's path stands for. Raises InputError unless it is one of an object store."""
    url = url_of(out)
    scheme, _, rest = url.partition("://")
    if not rest or urls.on_this_disk(url) or scheme in ("http", "https"):
        raise InputError(
            f"{url or out}: must be a place on an object store, for example s3://bucket/sets/mine; a folder on a disk "
            "is made with cp -r"
        )
    return url


def upload(run_or_dataset: Path, url: str, on_sent: Callable[[str], None] = lambda name: None) -> UploadReport:
    """Send what of the dataset is not at `url` yet, `index.json` last; `on_sent` hears the name of each file sent.

    What is there already is read back and compared with the index's sha256, so that no file is sent twice. Raises
    StorageError if anything else lies there (nothing is overwritten then) or the store cannot be used, DatasetError
    for a shard that is not the index's.
    """
    folder = dataset_folder(run_or_dataset)
    files, num_samples = _files_of(folder)
    left_out = tuple(sorted({path.name for path in folder.iterdir()} - files.keys()))
    target = local_copies.new() / "upload"  # stands for the URL, and stays empty but for the claim
    storage.attach(target, url)
    there = set(storage.names(target))
    claim = target / CLAIM_FILE
    whole = _has_index(folder, target, url, files)
    if not whole:
        _require_own(url, there, files)
        _claim(claim, folder, url, files)
        try:
            _has_index(folder, target, url, files)  # an upload of another dataset may have ended in between
        except StorageError:
            storage.remove(claim)
            raise
    wanted = [name for name in files if name != INDEX_FILE and not _is_there(folder, target, name, files, there)]
    changed = next((name for name in wanted if whole and name in there), None)
    if changed is not None:
        raise StorageError(
            f"{url}/{changed}: has other bytes than {folder / changed}; nothing was sent, remove it there to send yours"
        )
    if not whole:
        wanted.append(INDEX_FILE)
    for name in wanted:
        _send(folder / name, target / name, files[name])
        on_sent(name)
    if not whole or CLAIM_FILE in there:  # a kill between the two last steps leaves it
        storage.remove(claim)
    return UploadReport(url, num_samples, len(files), len(wanted), left_out)


def _files_of(folder: Path) -> tuple[dict[str, str], int]:
    """sha256 of each file of the dataset by name, the index last, and the number of samples."""
    index = read_index_head(folder)
    for shard in index.shards:
        path = folder / shard.file
        if not path.is_file() or path.stat().st_size != shard.num_bytes:
            raise DatasetError(
                f"{path}: is missing or not of the size that {INDEX_FILE} says; nothing was sent, look with "
                "`synthgen verify`"
            )
    beside = [table_file(shard.file) for shard in index.shards] + [wids_file(split.name) for split in index.splits]
    beside += [ownership.MARK, CARD, CONTACT_SHEET, CROISSANT_FILE, INDEX_FILE]
    files = {shard.file: shard.sha256 for shard in index.shards}
    files |= {name: sha256_of(folder / name) for name in beside if (folder / name).is_file()}
    return files, index.num_samples


def _has_index(folder: Path, target: Path, url: str, files: Mapping[str, str]) -> bool:
    """Whether the store has this dataset's index. Raises StorageError if it has another one."""
    found = storage.sha256_of(target / INDEX_FILE)
    if found not in (None, files[INDEX_FILE]):
        raise StorageError(
            f"{url}: holds another dataset ({INDEX_FILE} is not that of {folder}); nothing was sent, {_ELSEWHERE}"
        )
    return found is not None


def _require_own(url: str, there: set[str], files: Mapping[str, str]) -> None:
    """Raise StorageError if there is anything that no upload of this dataset can have left."""
    foreign = sorted(there - files.keys() - {CLAIM_FILE} if CLAIM_FILE in there else there)
    if foreign:
        listed = ", ".join(excerpt(name) for name in foreign[:4])
        more = f" and {len(foreign) - 4} more" if len(foreign) > 4 else ""
        raise StorageError(f"{url}: holds {listed}{more}, not of this dataset; nothing was sent, {_ELSEWHERE}")


def _claim(claim: Path, folder: Path, url: str, files: Mapping[str, str]) -> None:
    claim.write_text(json.dumps({"index_sha256": files[INDEX_FILE]}) + "\n", encoding="utf-8")
    if not storage.publish_first(claim):
        raise StorageError(
            f"{url}: an upload of another dataset than {folder} has begun there ({CLAIM_FILE}); nothing was sent, "
            f"{_ELSEWHERE}"
        )


def _is_there(folder: Path, target: Path, name: str, files: Mapping[str, str], there: set[str]) -> bool:
    return (
        name in there
        and storage.size_of(target / name) == (folder / name).stat().st_size
        and storage.sha256_of(target / name) == files[name]
    )


def _send(source: Path, target: Path, sha256: str) -> None:
    if sha256_of(source) != sha256:
        raise DatasetError(
            f"{source}: is damaged or has just been changed, the upload stopped before {INDEX_FILE}; look with "
            "`synthgen verify`, then run it again"
        )
    storage.publish(target, source)
