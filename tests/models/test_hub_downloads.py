"""What of a repository is in the cache, by the real client and a loopback stand-in of the Hub; and how its download
goes on."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.hub import Hub, hub
from doubles.published import as_variant, write_published
from huggingface_hub import constants, hf_hub_download, snapshot_download

from synthgen.models import downloads
from synthgen.models.downloads import telling_downloads
from synthgen.models.hub_cache import concerns, missing_in
from synthgen.models.weights import loading
from synthgen.planning import machine
from synthgen.planning.estimate import estimate
from synthgen.planning.machine import Half, Machine
from synthgen.planning.readiness import RecipeCheck, check_recipe, download_gb
from synthgen.recipe import read_recipe

NAME = "somebody/tiny-sd3"
TEXTS = ["model_index.json", "text_encoder*", "tokenizer*", "transformer/config.json"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published") / "sd3")


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub() as server:
        yield server


def fetch(standin: Hub, *patterns: str) -> Path:
    cache = constants.HF_HUB_CACHE
    return Path(snapshot_download(NAME, endpoint=standin.url, cache_dir=cache, allow_patterns=list(patterns) or None))


def here(**changes: object) -> Machine:
    models, halves = machine._hub_models()
    plain = Machine("Linux", "3.11", 2, 500.0, (), {}, False, True, models, {}, halves)
    return dataclasses.replace(plain, **changes)


def checked(here: Machine, **options: object) -> RecipeCheck:
    renderer = json.dumps({"name": "sd3", "model": NAME, **options})
    recipe = read_recipe("syn4seg-mini", [f"render.renderer={renderer}", "prompts.embedder=null"])
    return check_recipe(recipe, here)


def test_half_a_repository_is_not_there_for_whoever_needs_the_other_half(standin: Hub, published: Path) -> None:
    standin.add(NAME, published)
    snapshot = fetch(standin, *TEXTS)
    assert {entry.partition(":")[0] for entry in missing_in(snapshot)} == {"transformer", "vae", "scheduler"}
    (line,) = [line for line in checked(here()).missing if NAME in line]
    there = "(scheduler: is not there; transformer: has no weights; vae: is not there)"
    assert f"only a part of it is in the local cache {there}" in line
    online = checked(here(hub_offline=False))
    assert not online.missing
    unknown = checked(
        here(hub_offline=False), controlnet="models/adapted"
    )  # may as well be a folder that is not made yet
    assert any(note.startswith("models/adapted: no folder of that name here; will be") for note in unknown.notes)
    assert any(f"will be downloaded, the rest of it {there}" in note for note in online.notes)
    fetch(standin)
    assert missing_in(snapshot) == () and not machine._hub_models()[1]
    assert not [line for line in checked(here()).missing if NAME in line]


def test_a_part_that_nobody_loads_is_not_asked_for(standin: Hub, published: Path) -> None:
    standin.add(NAME, published)
    for part in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae", "scheduler"):
        fetch(standin, "model_index.json", f"{part}/*")
    (line,) = [line for line in checked(here()).missing if NAME in line]
    assert "_3" in line
    assert not [line for line in checked(here(), t5=False).missing if NAME in line]


def test_shards_are_counted_and_one_network_alone_is_one(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "copy"))
    as_variant(folder / "text_encoder_3", "fp16", shards=True)
    assert missing_in(folder) == ()
    (folder / "text_encoder_3" / "model.fp16-00002-of-00002.safetensors").unlink()
    assert missing_in(folder) == ("text_encoder_3: lacks model.fp16-00002-of-00002.safetensors",)
    alone = folder / "vae"
    assert missing_in(alone) == ()
    next(alone.glob("*.safetensors")).unlink()
    (entry,) = missing_in(alone)
    assert entry == ": has no weights" and concerns(entry, ("transformer",))
    assert not concerns("vae: is not there", ("transformer",)) and concerns("vae: is not there", ())


def test_what_is_there_of_a_half_is_not_counted_as_a_download() -> None:
    large = "stabilityai/stable-diffusion-3.5-large"
    sizes = estimate(read_recipe("syn4seg", ["support.folder=''", "support.drawn={world: objects}"]))
    nothing = Machine("Linux", "3.11", 2, 500.0, (), {}, False, False, (), {})
    half = dataclasses.replace(nothing, hub_models=(large,), hub_halves={large: Half(("vae: is not there",), 11.5)})
    whole = dataclasses.replace(nothing, hub_models=(large,))
    assert download_gb(sizes, nothing) - download_gb(sizes, half) == pytest.approx(11.5)
    assert download_gb(sizes, half) - download_gb(sizes, whole) == pytest.approx(27.6 - 11.5)


def test_a_download_tells_how_it_goes_on(
    standin: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(downloads, "EVERY_S", 0.1)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"x" * (1 << 18))
    standin.add(NAME, tmp_path / "model")
    standin.pause_s = 0.1
    with caplog.at_level(logging.WARNING), loading(NAME), telling_downloads(NAME):
        hf_hub_download(NAME, "weights.bin", endpoint=standin.url, cache_dir=constants.HF_HUB_CACHE)
    lines = [record.message for record in caplog.records if record.name == downloads.__name__]
    assert len(lines) >= 2 and all(line.startswith(f"download: {NAME}, ") and "MB/s" in line for line in lines)
    assert len(lines) <= 30, "nested watchers are one"
    caplog.clear()
    with caplog.at_level(logging.WARNING), loading(NAME):
        hf_hub_download(NAME, "weights.bin", endpoint=standin.url, cache_dir=constants.HF_HUB_CACHE)
    assert not caplog.records
