"""croissant.json: what it names is there, with its sha256; what nobody has said is left out."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from doubles.rows import changed
from pydantic import ValidationError

from synthgen.models.licences import STABILITY
from synthgen.pack.counts import ModelUse, RunCounts
from synthgen.pack.fields import SAMPLE_FIELDS
from synthgen.pack.finish import finish
from synthgen.pack_settings import Pack

MakeRun = Callable[..., Any]
SD3 = ModelUse(
    "renderer",
    "sd3:stabilityai/stable-diffusion-3.5-large",
    "ceddf0a",
    STABILITY.name,
    STABILITY.link,
    STABILITY.hub_name,
)
COUNTS = RunCounts(
    made={"filter": 10},
    rejected={"filter": {"blank_image": 2}},
    models=(SD3, ModelUse("mask_decoder", "mini/sam", "1", "apache-2.0")),
)


def _document(run: Any) -> tuple[Any, dict[str, Any]]:
    dataset = finish(run.recipe, run.folder, run.pack(), run.samples, COUNTS)
    return dataset, json.loads((dataset / "croissant.json").read_text())


def test_every_file_it_names_is_there_with_its_hash(make_run: MakeRun) -> None:
    dataset, document = _document(make_run(count=10, samples_per_shard=3))
    files = [entry for entry in document["distribution"] if entry["@type"] == "cr:FileObject"]
    assert sorted(entry["contentUrl"] for entry in files) == sorted(
        p.name for p in dataset.iterdir() if p.suffix in (".tar", ".parquet")
    )
    for entry in files:
        data = (dataset / entry["contentUrl"]).read_bytes()
        assert (entry["sha256"], entry["contentSize"]) == (hashlib.sha256(data).hexdigest(), f"{len(data)} B")
    assert document["conformsTo"][0].endswith("/1.1") and document["@context"]["@vocab"] == "https://schema.org/"


def test_the_models_and_their_licences_are_carried_over(make_run: MakeRun) -> None:
    _, document = _document(make_run(count=4))
    assert document["license"] == "https://stability.ai/community-license-agreement"
    used = document["prov:wasGeneratedBy"]["prov:used"]
    assert (
        used[0]["prov:label"] == SD3.id
        and used[0]["sc:license"] == document["license"]
        and used[0]["sc:version"] == "ceddf0a"
    )
    assert (
        document["rai:machineAnnotationTools"] == ["mini/sam"]
        and "blank_image 2" in document["rai:dataPreprocessingProtocol"][0]
    )


def test_every_field_of_the_json_members_is_a_column(make_run: MakeRun) -> None:
    _, document = _document(make_run(count=4))
    samples = next(entry for entry in document["recordSet"] if entry["@id"] == "samples")
    assert [field["source"]["extract"]["column"] for field in samples["field"]] == list(SAMPLE_FIELDS)


def test_the_images_of_pairs_are_those_of_the_samples_alone(make_run: MakeRun) -> None:
    run = make_run(count=4)
    run.samples = [changed(row, original=row.picture.image, original_mask=row.labelling.mask) for row in run.samples]
    dataset, document = _document(run)
    names = []
    for path in dataset.glob("*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert sum(name.endswith(".orig.jpg") for name in names) == 4
    keys = {row.key for row in run.samples}
    for kind, ending in (("image", ".jpg"), ("mask", ".png"), ("confidence", ".conf.png")):
        includes = next(entry for entry in document["distribution"] if entry["@id"] == f"{kind}-files")["includes"]
        patterns = [includes] if isinstance(includes, str) else includes
        taken = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
        assert sorted(taken) == sorted(key + ending for key in keys)


def test_a_publisher_is_named_only_if_the_recipe_does(make_run: MakeRun) -> None:
    _, plain = _document(make_run("a", count=3))
    assert not {"creator", "url", "datePublished"} & plain.keys()
    _, named = _document(
        make_run("b", count=3, creator="Example Lab", url="https://example.org/d", date_published="2026-11-21")
    )
    assert (named["creator"]["name"], named["url"], named["datePublished"]) == (
        "Example Lab",
        "https://example.org/d",
        "2026-11-21",
    )
    with pytest.raises(ValidationError):
        Pack(date_published="yesterday")
