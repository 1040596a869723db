"""Settings of the stage `pack`: what a recipe says under `pack`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthgen.settings import Fraction, Section


class C2pa(Section):
    """Who signs the images, for `pack.mark: c2pa`."""

    certificate: str = Field("", description="PEM file: the signer's certificate, then those that it hangs on")
    private_key: str = Field("", description="PEM file (PKCS 8) of its key; only the path is ever written anywhere")
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = Field(
        "es256", description="that of the key"
    )


class Pack(Section):
    """Shards, index, card."""

    samples_per_shard: int = Field(1000, ge=1, description="planned by count; about 1 GB a shard is what loaders like")
    validation_fraction: Fraction = Field(
        0.0, description="share that goes to the split `validation`; samples of one prompt or one file stay together"
    )
    jpeg_quality: int = Field(95, ge=50, le=100)
    mark: Literal["none", "iptc", "c2pa"] = Field(
        "iptc",
        description="say in each rendered JPEG that a model made it: iptc = IPTC trainedAlgorithmicMedia in XMP, "
        "always the same bytes; "
        "c2pa = that and a signed manifest, other bytes each time; photographs are never marked",
    )
    c2pa: C2pa = C2pa()
    card: str = Field("synthetic", description="template of data_cards/, or a path with a `/`")
    license: str = Field("other", description="licence id of the dataset card (Hub identifiers)")
    license_name: str = Field("", description="name of the licence if `license` is `other`")
    license_link: str = Field("", description="where it can be read")
    creator: str = Field("", description="who publishes the dataset, for croissant.json; left out if empty")
    url: str = Field("", description="where it is published, for croissant.json; left out if empty")
    date_published: str = Field(
        "", pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="2026-11-21, for croissant.json; left out if empty"
    )
