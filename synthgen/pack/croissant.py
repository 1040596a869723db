"""`croissant.json`:

the dataset as Croissant 1.1 with the RAI 1.0 terms and PROV-O lineage, so that mlcroissant can load it.

Only what the run knows goes in. Who publishes the dataset, where and when are settings of the recipe (`pack.creator`,
`pack.url`, `pack.date_published`); where they are empty the keys are left out, and a validator warns about that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from segkit.index import Index
from synthgen.models.used import generates
from synthgen.pack.card import dataset_license, license_text
from synthgen.pack.counts import RunCounts, Totals
from synthgen.pack.fields import SAMPLE_FIELDS
from synthgen.recipe import Recipe

_CROISSANT_TERMS = [
    "annotation",
    "arrayShape",
    "citeAs",
    "column",
    "conformsTo",
    "containedIn",
    "data",
    "dataType",
    "equivalentProperty",
    "examples",
    "excludes",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
    "includes",
    "isArray",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "readLines",
    "repeated",
    "replace",
    "samplingRate",
    "sdVersion",
    "separator",
    "source",
    "subField",
    "transform",
    "unArchive",
    "value",
]
_TYPE_OF = {str: "sc:Text", int: "sc:Integer", float: "sc:Float", tuple[str, ...]: "sc:Text"}
_SPLITS = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}
_KEY_OF_NAME = {"extract": {"fileProperty": "filename"}, "transform": {"regex": r"^(?:.*/)?([^./]+)"}}


def croissant_bytes(
    recipe: Recipe, index: Index, totals: Totals, counts: RunCounts, tables: Mapping[str, tuple[str, int]]
) -> bytes:
    """The document. `tables` has sha256 and number of bytes of each shard's table, by file name.

    The same run gives the same bytes.
    """
    _, _, link = dataset_license(recipe, counts)
    models = [model for model in counts.models if model.id]
    document: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": recipe.name,
        "description": f"{index.num_samples} images with a semantic segmentation mask each, {len(index.classes)} "
        "classes; "
        f"images {'made by a generative model' if generates(recipe) else 'taken over from a folder'}, masks "
        "made by machine.",
        "license": link or license_text(recipe, counts),
        "version": "1.0.0",
        "keywords": [*(["synthetic"] if generates(recipe) else []), "semantic segmentation", "webdataset"],
        **_publisher(recipe),
        "rai:dataCollection": f"Made by the recipe {recipe.name} of synthgen, seed {recipe.seed}: prompts, "
        "images, masks, filter.",
        "rai:dataCollectionType": ["Synthetic" if generates(recipe) else "Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": [_filtering(counts)],
        "rai:machineAnnotationTools": [
            model.id for model in models if model.role in ("feature_extractor", "proposer", "mask_decoder")
        ],
        "rai:dataLimitations": "No person has checked the masks one by one; 255 marks pixels without a label.",
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": "synthgen run",
            "prov:used": [_entity(model) for model in models],
        },
        "distribution": [*_files(index, tables), *_file_sets(index, totals)],
        "recordSet": [_splits(index), _classes(index), *map(_pictures, ("image", "mask", "confidence")), _samples()],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _context() -> dict[str, Any]:
    json_valued = ("data", "examples")
    terms: dict[str, Any] = {
        term: f"cr:{term}" for term in _CROISSANT_TERMS if term not in (*json_valued, "conformsTo", "dataType")
    }
    terms |= {term: {"@id": f"cr:{term}", "@type": "@json"} for term in json_valued}
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",  # the specification's http:// is refused by mlcroissant
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "prov": "http://www.w3.org/ns/prov#",
        "conformsTo": "dct:conformsTo",
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        **dict(sorted(terms.items())),
    }


def _publisher(recipe: Recipe) -> dict[str, Any]:
    pack = recipe.pack
    known: dict[str, Any] = {"url": pack.url, "datePublished": pack.date_published}
    if pack.creator:
        known["creator"] = {"@type": "sc:Organization", "name": pack.creator}
    return {key: value for key, value in known.items() if value}


def _filtering(counts: RunCounts) -> str:
    parts = [
        f"{stage}: {made} kept, {sum(counts.rejected.get(stage, {}).values())} refused"
        + "".join(f", {reason} {count}" for reason, count in sorted(counts.rejected.get(stage, {}).items()))
        for stage, made in counts.made.items()
    ]
    return "; ".join(parts) or "none recorded"


def _entity(model: Any) -> dict[str, Any]:
    facts = {
        "prov:label": model.id,
        "prov:hadRole": model.role,
        "sc:version": model.revision,
        "sc:license": model.license_link or model.license,
    }
    return {"@type": "prov:Entity", **{key: value for key, value in facts.items() if value}}


def _files(index: Index, tables: Mapping[str, tuple[str, int]]) -> Iterable[dict[str, Any]]:
    for shard in index.shards:
        yield _file(shard.file, "application/x-tar", shard.sha256, shard.num_bytes)
    for name, (sha256, num_bytes) in tables.items():
        yield _file(name, "application/x-parquet", sha256, num_bytes)


def _file(name: str, kind: str, sha256: str, num_bytes: int) -> dict[str, Any]:
    facts = {
        "name": name,
        "contentUrl": name,
        "encodingFormat": kind,
        "contentSize": f"{num_bytes} B",
        "sha256": sha256,
    }
    return {"@type": "cr:FileObject", "@id": name, **facts}


def _file_sets(index: Index, totals: Totals) -> Iterable[dict[str, Any]]:
    tars = [{"@id": shard.file} for shard in index.shards]
    # `*.png` takes the confidence maps too, and mlcroissant passes over `excludes`: a key has no dot, so its length
    # tells them apart
    keys = ["[!.]" * length for length in sorted(totals.key_lengths)]
    has_originals = "orig.jpg" in index.members  # which `*.jpg` would take for images
    for name, kind, pattern in (
        ("image", "image/jpeg", [f"{key}.jpg" for key in keys] if has_originals else ["*.jpg"]),
        ("mask", "image/png", [f"{key}.png" for key in keys]),
        ("confidence", "image/png", ["*.conf.png"]),
    ):
        includes = pattern[0] if len(pattern) == 1 else pattern
        yield {
            "@type": "cr:FileSet",
            "@id": f"{name}-files",
            "name": f"{name}-files",
            "containedIn": tars,
            "encodingFormat": kind,
            "includes": includes,
        }
    # not contained in anything: they lie beside this document
    kind = "application/x-parquet"
    yield {"@type": "cr:FileSet", "@id": "tables", "name": "tables", "encodingFormat": kind, "includes": "*.parquet"}


def _pictures(name: str) -> dict[str, Any]:
    """Image, mask and confidence are record sets of their own: mlcroissant cannot join file sets, the key does."""
    files = {"fileSet": {"@id": f"{name}-files"}}
    kinds: dict[str, Any] = {
        "image": "sc:ImageObject",
        "mask": ["cr:SegmentationMask", "sc:ImageObject"],
        "confidence": "sc:ImageObject",
    }
    content = {"source": {**files, "extract": {"fileProperty": "content"}}}
    key = {"source": {**files, **_KEY_OF_NAME}}
    set_id = f"{name}s"
    return {
        "@type": "cr:RecordSet",
        "@id": set_id,
        "name": set_id,
        "key": {"@id": f"{set_id}/key"},
        "field": [
            _field(f"{set_id}/key", "sc:Text", "the sample's key", key),
            _field(f"{set_id}/{name}", kinds[name], _MEANING[name], content),
        ],
    }


_MEANING = {
    "image": "RGB image",
    "mask": "8-bit map of class ids; 255 = ignore, 254 = out of distribution",
    "confidence": "0..255 for 0..1 of each pixel's label",
}


def _samples() -> dict[str, Any]:
    fields = []
    for name, kind in SAMPLE_FIELDS.items():
        source = {"source": {"fileSet": {"@id": "tables"}, "extract": {"column": name}}}
        many = {"isArray": True, "arrayShape": "-1"} if kind == tuple[str, ...] else {}
        fields.append(_field(f"samples/{name}", _TYPE_OF[kind], f"{name} of the sample", {**source, **many}))
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "key": {"@id": "samples/key"},
        "field": fields,
    }


def _splits(index: Index) -> dict[str, Any]:
    data = [{"splits/name": entry.name, "splits/url": _SPLITS.get(entry.name, "cr:Split")} for entry in index.splits]
    fields = [
        _field("splits/name", "sc:Text", "name of the split", {}),
        _field("splits/url", "sc:URL", "what it is for", {}),
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": fields,
        "data": data,
    }


def _classes(index: Index) -> dict[str, Any]:
    data = [{"classes/id": entry.id, "classes/name": entry.name} for entry in index.classes]
    fields = [
        _field("classes/id", "sc:Integer", "id in the masks", {}),
        _field("classes/name", "sc:Text", "name of the class", {}),
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "key": {"@id": "classes/id"},
        "field": fields,
        "data": data,
    }


def _field(field_id: str, kind: Any, description: str, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": field_id,
        "name": field_id,
        "description": description,
        "dataType": kind,
        **more,
    }
