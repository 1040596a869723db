"""What is written of a sample as JSON: the columns of its record, but for the artefacts."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from synthgen.records import Sample, columns_of, flat

# paths of the run, of which the shard has the content
_ARTEFACTS = ("image", "mask", "confidence", "original", "original_mask", "pasted")
SAMPLE_FIELDS: dict[str, Any] = {
    name: kind for name, kind in sorted(columns_of(Sample).items()) if name not in _ARTEFACTS
}
"""name -> type, sorted by name. A field that the record gains later is no new version of the format."""


def metadata_of(row: Sample) -> dict[str, Any]:
    """The values of SAMPLE_FIELDS. Of `layout` the file name stays: its folder is the run's affair."""
    values = flat(row) | {"layout": PurePosixPath(row.picture.layout).name}
    return {name: values[name] for name in SAMPLE_FIELDS}
