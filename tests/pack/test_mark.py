"""The marks in packed images, read back by Pillow and by the C2PA reader:

they say what they must, and no decoded pixel changes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from benchmarks.own_certificate import write_certificate
from segkit.shards import Dataset
from synthgen.dataset.verify import verify
from synthgen.errors import RecipeError
from synthgen.images import jpeg_bytes, read_image
from synthgen.pack import mark, stage
from synthgen.pack.counts import RunCounts
from synthgen.pack.finish import finish
from synthgen.pack_settings import C2pa
from synthgen.settings import Backend

MakeRun = Callable[..., Any]
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def jpegs(dataset: Path) -> dict[str, bytes]:
    import webdataset as wds

    shards = [str(path) for path in sorted(dataset.glob("*.tar"))]
    found = {row["__key__"]: row["jpg"] for row in wds.WebDataset(shards, shardshuffle=False)}
    assert found
    return found


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def terms(jpeg: bytes) -> list[str | None]:
    """What Pillow finds of IPTC's term in the XMP segment."""
    xmp = Image.open(io.BytesIO(jpeg)).info.get("xmp")
    return [node.text for node in ElementTree.fromstring(xmp).iter(IPTC)] if xmp else []


def packed(run: Any) -> Path:
    return finish(run.recipe, run.folder, run.pack(), run.samples, RunCounts())


def rendered_by(run: Any, renderer: str) -> Any:
    run.recipe = run.recipe.model_copy(
        update={"render": run.recipe.render.model_copy(update={"renderer": Backend(name=renderer)})}
    )
    return run


@pytest.mark.filterwarnings(r"ignore:unclosed file .*\.tar:ResourceWarning")
def test_iptc_term_is_in_every_image_and_changes_no_pixel(make_run: MakeRun) -> None:
    marked, plain = make_run("marked", count=4), make_run("plain", count=4, mark="none")
    first, second = jpegs(packed(marked)), jpegs(packed(plain))
    assert first.keys() == second.keys()
    for key, jpeg in first.items():
        assert terms(jpeg) == [TERM] and terms(second[key]) == []
        assert 0 < len(jpeg) - len(second[key]) < 700
        np.testing.assert_array_equal(pixels(jpeg), pixels(second[key]))
    assert verify(marked.folder / "dataset") == []


def test_iptc_shards_have_the_same_bytes_each_time(make_run: MakeRun) -> None:
    assert make_run("once", count=3).pack()[0].sha256 == make_run("twice", count=3).pack()[0].sha256


@pytest.mark.parametrize("options", [{}, {"optimize": True, "progressive": True}, {"exif": Image.Exif().tobytes()}])
def test_the_segment_stands_where_readers_look(options: dict[str, Any]) -> None:
    pytest.importorskip("defusedxml")  # Pillow reads XMP with it
    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(buffer, "JPEG", **options)
    marked = mark.with_xmp(buffer.getvalue())
    image = Image.open(io.BytesIO(marked))
    assert image.getxmp()["xmpmeta"]["RDF"]["Description"]["DigitalSourceType"] == TERM
    assert image.info["jfif"] and marked[2:4] == b"\xff\xe0", "JFIF comes first"
    np.testing.assert_array_equal(np.asarray(image), pixels(buffer.getvalue()))
    with pytest.raises(ValueError, match="no JPEG"):
        mark.with_xmp(b"\x89PNG")


@pytest.mark.filterwarnings(r"ignore:unclosed file .*\.tar:ResourceWarning")
def test_photographs_are_never_marked_as_made_by_a_model(make_run: MakeRun) -> None:
    run = rendered_by(make_run(count=2), "images")
    assert stage.settings(run.recipe)["mark"] == "none"
    dataset = packed(run)
    assert not any(terms(jpeg) for jpeg in jpegs(dataset).values())
    card, croissant = (dataset / "README.md").read_text(), (dataset / "croissant.json").read_text()
    assert (
        "generative" not in card and "synthetic" not in card.split("---")[1] and "trainedAlgorithmicMedia" not in card
    )
    assert "generative" not in croissant and '"Synthetic"' not in croissant
    run = rendered_by(make_run("rendered", count=2), "sd3")
    card = (packed(run) / "README.md").read_text()
    assert "made by a generative model" in card and "trainedAlgorithmicMedia" in card and "- synthetic" in card


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> C2pa:
    pytest.importorskip("c2pa", reason="c2pa-python is not installed (extra c2pa), signing is not tested")
    return write_certificate(tmp_path_factory.mktemp("signer"))


def manifest_of(jpeg: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(report of the reader, active manifest)."""
    import c2pa

    with c2pa.Reader("image/jpeg", io.BytesIO(jpeg)) as reader:
        report = json.loads(reader.json())
    return report, report["manifests"][report["active_manifest"]]


@pytest.mark.filterwarnings(r"ignore:unclosed file .*\.tar:ResourceWarning")
def test_c2pa_manifest_is_valid_and_says_what_made_the_image(make_run: MakeRun, signer: C2pa) -> None:
    run, plain = make_run("signed", count=3, mark="c2pa", c2pa=signer), make_run("plain", count=3, mark="none")
    signed, unsigned = jpegs(packed(run)), jpegs(packed(plain))
    assert verify(run.folder / "dataset") == []
    by_key = {sample.key: sample for sample in Dataset(run.folder / "dataset").samples()}
    for key, jpeg in signed.items():
        report, manifest = manifest_of(jpeg)
        assert report["validation_state"] == "Valid"
        assert {each["code"] for each in report["validation_status"]} == {"signingCredential.untrusted"}, (
            "only that the root is our own"
        )
        [actions] = [
            each["data"]["actions"] for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")
        ]
        assert (actions[0]["action"], actions[0]["digitalSourceType"]) == ("c2pa.created", TERM)
        assert actions[0]["softwareAgent"]["name"] == by_key[key].meta["renderer"] and manifest["title"] == f"{key}.jpg"
        assert "thumbnail" not in manifest and len(jpeg) - len(unsigned[key]) < 5000
        assert terms(jpeg) == [TERM]
        np.testing.assert_array_equal(pixels(jpeg), pixels(unsigned[key]))


def test_a_pixel_that_was_changed_after_signing_is_noticed(make_run: MakeRun, signer: C2pa) -> None:
    run = make_run(count=1, mark="c2pa", c2pa=signer)
    row = run.samples[0]
    jpeg = bytearray(mark.marker(run.recipe)(jpeg_bytes(read_image(run.folder / row.picture.image)), row))
    jpeg[-40] ^= 1
    report, _ = manifest_of(bytes(jpeg))
    assert report["validation_state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in {each["code"] for each in report["validation_status"]}


def test_the_private_key_stands_nowhere_in_the_dataset_or_the_settings(make_run: MakeRun, signer: C2pa) -> None:
    run = make_run(count=1, mark="c2pa", c2pa=signer)
    secret = Path(signer.private_key).read_bytes().splitlines()[1]
    assert stage.settings(run.recipe).keys() == {
        "format_version",
        "samples_per_shard",
        "jpeg_quality",
        "mark",
        "certificate_sha256",
    }
    for path in packed(run).iterdir():
        assert secret not in path.read_bytes() and signer.private_key.encode() not in path.read_bytes()


def test_keys_that_cannot_sign_are_told_in_one_line(make_run: MakeRun, signer: C2pa, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no key")
    for wrong, said in (
        (
            {"certificate": ""},
            r"^pack\.c2pa\.certificate: is empty; signing needs a certificate chain and its private key",
        ),
        ({"private_key": str(tmp_path / "none.pem")}, r"none\.pem': cannot be read \(No such file"),
        ({"certificate": str(tmp_path / "note.txt")}, r"note\.txt': is no PEM file"),
    ):
        run = make_run(
            f"run{said[:5]}{len(wrong)}{next(iter(wrong))}{len(said)}",
            count=0,
            mark="c2pa",
            c2pa=signer.model_copy(update=wrong),
        )
        with pytest.raises(RecipeError, match=said):
            stage.settings(run.recipe)
    run = make_run("algorithm", count=1, mark="c2pa", c2pa=signer.model_copy(update={"algorithm": "ed25519"}))
    with pytest.raises(RecipeError, match=r"cannot sign with ed25519 \(") as error:
        run.pack()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("package", ["none", "another one of the same import name"])
def test_signing_without_the_package_is_told_before_any_work(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    def version(name: str) -> str:
        raise mark.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(mark.util, "find_spec", lambda name: None if package == "none" else object())
    monkeypatch.setattr(mark.metadata, "version", version)
    with pytest.raises(
        RecipeError,
        match=r"c2pa-python is not installed; pip install 'synthgen-seg\[c2pa\]', or set pack\.mark to iptc",
    ):
        stage.settings(make_run(count=0, mark="c2pa").recipe)
