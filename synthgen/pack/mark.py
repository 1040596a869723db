"""Says inside the packed JPEG that a model made the picture:

IPTC's term in XMP, or that and a C2PA manifest that is signed.

Both are segments beside the image data, so no decoded pixel changes. The XMP is the same for every image and has no
date: shards stay the same byte for byte. A C2PA manifest has a random id and a salted hash, so signed shards differ
each time that they are packed; what they decode to does not. Loaders that encode images anew lose both: the JSON member
says the same once more.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

from synthgen.errors import RecipeError, in_one_line
from synthgen.models.used import generates
from synthgen.pack_settings import C2pa
from synthgen.recipe import Recipe
from synthgen.records import Sample

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
).encode()
_SOI, _APP0, _APP1 = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1"

Marker = Callable[[bytes, Sample], bytes]


def mark_of(recipe: Recipe) -> str:
    """`none`, `iptc` or `c2pa`. Photographs that were taken over are never marked as made by a model."""
    return recipe.pack.mark if generates(recipe) else "none"


def settings(recipe: Recipe) -> dict[str, Any]:
    """What the mark puts into a shard's bytes. The private key is read later and stands nowhere.

    Raises RecipeError if images cannot be signed here: told before anything is rendered.
    """
    mark = mark_of(recipe)
    if mark != "c2pa":
        return {"mark": mark}
    if util.find_spec("c2pa") is None or not _has_c2pa_python():
        raise RecipeError(
            "pack.mark c2pa: the package c2pa-python is not installed; pip install 'synthgen-seg[c2pa]', or set "
            "pack.mark to iptc"
        )
    _read(recipe.pack.c2pa, "private_key")
    return {"mark": mark, "certificate_sha256": hashlib.sha256(_read(recipe.pack.c2pa, "certificate")).hexdigest()}


def marker(recipe: Recipe) -> Marker:
    """The function that marks one encoded image. Raises RecipeError for keys that cannot sign."""
    mark = mark_of(recipe)
    if mark == "none":
        return lambda jpeg, row: jpeg
    if mark == "iptc":
        return lambda jpeg, row: with_xmp(jpeg)
    settings(recipe)
    sign = signer(recipe.pack.c2pa)
    return lambda jpeg, row: sign(with_xmp(jpeg), row.key, row.picture.renderer, row.picture.model_revision)


def with_xmp(jpeg: bytes) -> bytes:
    """The JPEG with the IPTC term, behind the JFIF segment, which must come first."""
    if not jpeg.startswith(_SOI):
        raise ValueError("no JPEG")
    start = 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[2:4] == _APP0 else 2
    content = XMP_HEADER + _XMP
    return jpeg[:start] + _APP1 + (len(content) + 2).to_bytes(2, "big") + content + jpeg[start:]


def signer(keys: C2pa) -> Callable[[bytes, str, str, str], bytes]:
    """`sign(jpeg, key, model, revision)` gives the JPEG with its manifest. Needs c2pa-python.

    Raises RecipeError for keys that cannot sign.
    """
    import c2pa

    def told(error: Exception) -> RecipeError:
        where = f"pack.c2pa.certificate {keys.certificate!r}, private_key {keys.private_key!r}"
        return RecipeError(f"{where}: cannot sign with {keys.algorithm} ({in_one_line(error)})")

    # without this every image carries a thumbnail of itself
    context = c2pa.Context(settings=c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}}))
    try:
        # no timestamp authority: an empty address is refused by the library, None is not
        info = c2pa.C2paSignerInfo(
            keys.algorithm.encode(), _read(keys, "certificate"), _read(keys, "private_key"), None
        )
        signing = c2pa.Signer.from_info(info)
    except c2pa.C2paError as error:
        raise told(error) from error

    def sign(jpeg: bytes, key: str, model: str, revision: str) -> bytes:
        agent = {"name": model, **({"version": revision} if revision else {})}
        action = {"action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE, "softwareAgent": agent}
        manifest = {
            "claim_generator_info": [{"name": "synthgen", "version": metadata.version("synthgen-seg")}],
            "title": f"{key}.jpg",
            "format": "image/jpeg",
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        signed = io.BytesIO()
        try:
            with c2pa.Builder(manifest, context=context) as builder:
                builder.sign(signing, "image/jpeg", io.BytesIO(jpeg), signed)
        except c2pa.C2paError as error:
            raise told(error) from error
        return signed.getvalue()

    return sign


def _read(keys: C2pa, name: str) -> bytes:
    path = getattr(keys, name)
    if not path:
        raise RecipeError(
            f"pack.c2pa.{name}: is empty; signing needs a certificate chain and its private key, both as PEM files"
        )
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(f"pack.c2pa.{name} {path!r}: cannot be read ({error.strerror or error})") from error
    if b"-----BEGIN " not in data:
        raise RecipeError(f"pack.c2pa.{name} {path!r}: is no PEM file")
    return data


def _has_c2pa_python() -> bool:
    """`c2pa` on the package index is another, unrelated project with the same import name."""
    try:
        metadata.version("c2pa-python")
    except metadata.PackageNotFoundError:
        return False
    return True
