"""Which weights a model name stands for: the commit of a Hub repository, or a digest of a local folder.

An id of the Hub is a moving name. So a run resolves each one to a commit once, when its folder is claimed, keeps the
commits in `recipe.lock.yaml` (`models:`), loads exactly these and compares nothing else: a second launch, another
machine and a resume after a kill all see the same weights, whatever the Hub or the local cache has learnt since.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synthgen.backends import check_options, weights
from synthgen.errors import ModelError
from synthgen.models.weights import HUB_ERRORS, hub_error, resolve

_WHOLE_BYTES = 256 * 2**20  # smaller folders are hashed by all of their content, of larger ones parts of each file
_PARTS, _PART_BYTES = 64, 2**16  # at equal distances: weights that were trained again differ everywhere
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".json", ".gz")
_COMMIT = re.compile("[0-9a-f]{40}")
UNRESOLVED = "unresolved"
TIMEOUT_S = 30.0  # of a question to the Hub about one repository


class Pins:
    """Commits of Hub repositories: those that a run is pinned to, and what is resolved beyond them."""

    def __init__(self, commits: Mapping[str, str] | None = None) -> None:
        """`commits` maps `owner/name` or `owner/name@revision` to a commit."""
        self.commits = dict(commits or {})

    def commit(self, repository: str, revision: str = "") -> str:
        """The commit of `repository` at `revision` ("" = main); the same answer as long as this object lives.

        Raises ModelError if there is no such repository or revision, or if neither Hub nor cache can say.
        """
        if _COMMIT.fullmatch(revision):
            return revision
        name = f"{repository}@{revision}" if revision else repository
        if name not in self.commits:
            self.commits[name] = _commit_on_hub(repository, revision)
        return self.commits[name]


_pins: contextvars.ContextVar[Pins | None] = contextvars.ContextVar("pins", default=None)
_process_pins = Pins()


@contextlib.contextmanager
def pinned(commits: Mapping[str, str]) -> Iterator[Pins]:
    """Inside, these commits hold; others are resolved at first use and stand in what is given."""
    pins = Pins(commits)
    token = _pins.set(pins)
    try:
        yield pins
    finally:
        _pins.reset(token)


@contextlib.contextmanager
def unasked(commits: Mapping[str, str]) -> Iterator[None]:
    """Inside, the Hub is not asked and a name that is not pinned stays unresolved: for a look before a run."""
    token = _pins.set(_Unasked(commits))
    try:
        yield
    finally:
        _pins.reset(token)


class _Unasked(Pins):
    def commit(self, repository: str, revision: str = "") -> str:
        name = f"{repository}@{revision}" if revision else repository
        return self.commits.get(name, revision if _COMMIT.fullmatch(revision) else UNRESOLVED)


def revision_of(model: str, revision: str = "") -> str:
    """The commit of a Hub model, `local-<digest>` of a local one, "" for a local one that is not there.

    Raises ModelError if an id of the Hub cannot be resolved.
    """
    try:
        place = resolve(model)
    except ModelError:
        return revision
    return f"local-{digest_of_weights(place)}" if isinstance(place, Path) else _commit(place, revision)


def pinned_revision(model: str, revision: str = "") -> dict[str, str]:
    """`{"revision": commit}` for the loaders of diffusers, transformers and huggingface_hub; {} for a local folder."""
    place = resolve(model)
    return {} if isinstance(place, Path) else {"revision": _commit(place, revision)}


def _commit(repository: str, revision: str) -> str:
    """`owner/name/file` is a file of a repository."""
    return (_pins.get() or _process_pins).commit("/".join(repository.split("/")[:2]), revision)


def chosen_options(role: str, backend: Any) -> dict[str, Any]:
    """`{name, **options}` of a recipe's backend with every default of the backend's own file filled in."""
    config = backend.model_dump()
    return {"name": config["name"], **check_options(role, config).model_dump(mode="json")}


def revisions_of(role: str, backend: Any) -> dict[str, str]:
    """Model -> revision (see `revision_of`) of all weights of a recipe's backend, for a stage's fingerprint."""
    return {
        f"{model}@{revision}" if revision else model: revision_of(model, revision)
        for model, revision in weights(role, backend.model_dump())
    }


def _commit_on_hub(repository: str, revision: str) -> str:
    """Ask the Hub; where it cannot be reached, what the local cache has for this name.

    A branch of the cache is what `refs/<revision>` says: other snapshots beside it were pinned by somebody once.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        commit = HfApi().model_info(repository, revision=revision or None, timeout=TIMEOUT_S).sha
        if commit:
            return str(commit)
        raise ModelError(f"model {repository!r}: the Hub names no commit for it; give `revision`")
    except (HTTPError, *HUB_ERRORS) as error:
        answered = isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code < 500
        if not answered and (cached := _commit_in_cache(repository, revision)):
            return cached
        raise hub_error(repository, error, revision) from error


def _commit_in_cache(repository: str, revision: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    try:
        commit = (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return commit if _COMMIT.fullmatch(commit) else ""


def digest_of_weights(place: Path) -> str:
    """12 hex digits of a local file or folder: of its content up to 256 MiB, of names, sizes and parts beyond."""
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file() and p.suffix in _WEIGHTS)
    stats = [path.stat() for path in files]
    names = [path.relative_to(place).as_posix() if path != place else path.name for path in files]
    state = tuple((n, p, s.st_size, s.st_mtime_ns) for n, p, s in zip(names, files, stats, strict=True))
    return _digest(state)


@functools.lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    whole = sum(size for _, _, size, _ in files) <= _WHOLE_BYTES
    digest = hashlib.blake2b(digest_size=6)
    for name, path, size, _ in files:
        digest.update(f"{name}:{size}".encode())
        for part in (path.read_bytes(),) if whole else _parts_of(path, size):
            digest.update(part)
    return digest.hexdigest()


def _parts_of(path: Path, size: int) -> Iterator[bytes]:
    """Some of a file of that many bytes, its first and its last ones among them."""
    with path.open("rb") as file:
        for number in range(_PARTS):
            file.seek(number * max(0, size - _PART_BYTES) // (_PARTS - 1))
            yield file.read(_PART_BYTES)
