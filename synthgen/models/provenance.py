"""Which revision of which weights a model name stands for, as far as it can be known without loading anything."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from synthgen.errors import ModelError
from synthgen.models.weights import resolve

_WHOLE_BYTES = 256 * 2**20  # smaller folders are hashed by content, larger ones by names and sizes
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".json", ".gz")


@functools.cache
def revision_of(model: str, revision: str = "") -> str:
    """The Hub revision that was asked for, the commit that the local cache holds for it, or a digest of a local
    folder's weights.
    """
    try:
        place = resolve(model)
    except ModelError:
        return revision
    if isinstance(place, Path):
        return f"local-{_digest(place)}"
    try:
        from huggingface_hub import CacheNotFound, scan_cache_dir

        for repository in scan_cache_dir().repos:
            for cached in repository.revisions:
                if repository.repo_id == place and (not revision or revision in (*cached.refs, cached.commit_hash)):
                    return cached.commit_hash
    except (OSError, ValueError, CacheNotFound):  # a fresh machine has no cache yet
        pass
    return revision or "main"


def folder_facts(place: Path | str) -> dict[str, Any]:
    """What a model folder says of itself in `synthgen.json`:

    for example that its denoiser was trained without any T5 tokens.
    """
    if isinstance(place, Path) and (place / "synthgen.json").is_file():
        return json.loads((place / "synthgen.json").read_text(encoding="utf-8"))
    return {}


def _digest(place: Path) -> str:
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file() and p.suffix in _WEIGHTS)
    whole = sum(path.stat().st_size for path in files) <= _WHOLE_BYTES
    digest = hashlib.blake2b(digest_size=6)
    for path in files:
        digest.update(f"{path.relative_to(place) if path != place else path.name}:{path.stat().st_size}".encode())
        if whole:
            digest.update(path.read_bytes())
    return digest.hexdigest()
