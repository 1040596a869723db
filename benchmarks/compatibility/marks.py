"""Readers of what a packed image says of its origin."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.compatibility.checks import Made, check, same
from benchmarks.own_certificate import write_certificate
from synthgen.pack.mark import DIGITAL_SOURCE_TYPE, signer


@check("pillow", "XMP of the images in the shards", module="defusedxml", tool="Pillow getxmp")
def iptc_mark(made: Made) -> str:
    count = 0
    for path in sorted(made.objects.glob("*.tar")):
        with tarfile.open(path) as shard:
            for member in (each for each in shard if each.name.endswith(".jpg")):
                with Image.open(io.BytesIO(_content(shard, member))) as image:
                    found = image.getxmp()["xmpmeta"]["RDF"]["Description"]["DigitalSourceType"]
                assert found == DIGITAL_SOURCE_TYPE, found
                count += 1
    return f"{count} images say trainedAlgorithmicMedia; their pixels are compared in the rows above"


@check("c2pa-python", "images of the shards, signed as `pack.mark: c2pa` does it", module="c2pa", tool="C2PA reader")
def c2pa_manifests(made: Made) -> str:
    import c2pa

    truth = made.truth()
    states = set()
    for key, jpeg in signed_images(made).items():
        with c2pa.Reader("image/jpeg", io.BytesIO(jpeg)) as reader:
            report = json.loads(reader.json())
        manifest = report["manifests"][report["active_manifest"]]
        action = next(each for each in manifest["assertions"] if each["label"].startswith("c2pa.actions"))["data"][
            "actions"
        ][0]
        assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", DIGITAL_SOURCE_TYPE), action
        assert report["validation_state"] == "Valid", report
        states |= {each["code"] for each in report["validation_status"]}
        same(Image.open(io.BytesIO(jpeg)), truth[key].image, key)
    assert states == {"signingCredential.untrusted"}, states
    return f"{len(truth)} manifests valid (the root is our own, so untrusted); every pixel equal"


def signed_images(made: Made) -> dict[str, bytes]:
    """key -> JPEG, signed with a key and a certificate that are made here."""
    with tempfile.TemporaryDirectory() as folder:
        sign = signer(write_certificate(Path(folder)))
    signed = {}
    for path in sorted(made.objects.glob("*.tar")):
        with tarfile.open(path) as shard:
            for member in (each for each in shard if each.name.endswith(".jpg")):
                key = member.name.removesuffix(".jpg")
                signed[key] = sign(_content(shard, member), key, "renderer", "revision")
    return signed


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = shard.extractfile(member)
    assert file is not None
    return file.read()
