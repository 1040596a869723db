"""Label maps to render from:

every mask of a labelled folder, with a sentence that names what it shows (DGInStyle prompts, generator of FLEX-Seg).

They are for a renderer with a ControlNet, and the proposer `layout` then takes the map itself as the coarse mask. One
map gives one candidate for each domain word, so a labelled set of fair days becomes one of nights and fog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from segkit.folders import files_by_stem, normal_stem
from segkit.labels import IGNORE, Label, LabelSpace
from segkit.masks import read_mask
from segkit.pictures import IMAGE_SUFFIXES, read_image
from synthgen.backends import Cost
from synthgen.errors import InputError
from synthgen.files import file_digest
from synthgen.prompts.bank import Candidate
from synthgen.records import digest_of, ids_digest, pixels_digest
from synthgen.sources.folder import LabelledFile, list_labelled


class Options(BaseModel, extra="forbid"):
    """Which maps and what to say of them."""

    folder: str = Field(description="labelled folder: images/ and labels/ (PNG of class ids, same stem)")
    limit: int = Field(0, ge=0, description="use this many maps, chosen by the run seed; 0 = all")
    domains: tuple[str, ...] = Field(
        ("on a clear day", "at night", "in fog", "in rain", "in snow"),
        min_length=1,
        description="ends of the sentence, one image each",
    )
    sentence: str = Field(
        "a street with {things} {domain}",
        description="{things} = the classes that the map shows, {domain} = a word of `domains`",
    )
    min_share: float = Field(
        0.01, ge=0, le=1, description="a class is named if it covers at least this share of the map [DGInStyle: 1 %]"
    )
    control_images: str = Field(
        "",
        description="folder of pictures with the stems of the label maps, for a ControlNet that is fed depth or "
        "another picture; empty = none",
    )
    unnamed: tuple[str, ...] = Field(("road", "sidewalk", "sky"), description="classes that go without saying")


def build(options: Options, execution: Any) -> Layouts:
    """List the folder. Raises InputError if it is missing or malformed, or if the sentence has another slot."""
    try:
        options.sentence.format(things="", domain="")
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"prompts.source.sentence {options.sentence!r}: has the slots {{things}} and {{domain}} only"
        ) from error
    pairs = list_labelled(Path(options.folder).expanduser())
    return Layouts(options, [pair.label for pair in pairs], _control_images(options, pairs))


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """The maps are read."""
    return Cost()


def num_given(options: Options) -> int:
    """How many images the maps give."""
    num_maps = len(list_labelled(Path(options.folder).expanduser()))
    return min(num_maps, options.limit or num_maps) * len(options.domains)


def fingerprint(options: Options) -> dict[str, str]:
    """Hash of the names and bytes of the label maps; the images beside them are not used and not read. With
    `control_images`, of those pictures too.
    """
    pairs = list_labelled(Path(options.folder).expanduser())
    pictures = _control_images(options, pairs)
    digests = {"folder": _digest_of_files([pair.label for pair in pairs])}
    return digests | ({"control_images": _digest_of_files(list(pictures.values()))} if pictures else {})


def _digest_of_files(paths: Sequence[Path]) -> str:
    return digest_of("\n".join(f"{path.name}\x1f{file_digest(path)}" for path in paths).encode())


def _control_images(options: Options, pairs: Sequence[LabelledFile]) -> dict[Path, Path]:
    """Label map -> the picture with its stem, in the order of the maps; {} without the option.

    Raises InputError in one line if the folder is missing or lacks a picture.
    """
    if not options.control_images:
        return {}
    folder = Path(options.control_images).expanduser()
    by_stem = files_by_stem(folder, IMAGE_SUFFIXES, "prompts.source.control_images is a folder of pictures")
    lacking = [pair.label for pair in pairs if normal_stem(pair.label) not in by_stem]
    if lacking:
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise InputError(
            f"{lacking[0]}{more}: has no picture {folder / lacking[0].stem}.*; add it, or leave "
            "prompts.source.control_images out"
        )
    return {pair.label: by_stem[normal_stem(pair.label)] for pair in pairs}


class Layouts:
    """A prompt source that only gives label maps."""

    def __init__(self, options: Options, paths: Sequence[Path], control_images: Mapping[Path, Path]) -> None:
        """`control_images`: label map -> its picture; empty for none."""
        self._options = options
        self._paths = list(paths)
        self._control_images = control_images

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """All maps if no single class is wanted, in the order of their names;

        ids outside the label space raise LabelError.
        """
        if wanted:
            return
        options = self._options
        order = np.random.default_rng(seed).permutation(len(self._paths))[: options.limit or len(self._paths)]
        for number in sorted(order):
            path = self._paths[number]
            mask = read_mask(path, space)
            content = ids_digest(mask)
            picture = self._control_images.get(path)
            if picture is not None:
                content = digest_of(f"{content}\x1f{pixels_digest(read_image(picture))}".encode())
            shares = np.bincount(mask.ravel(), minlength=256) / mask.size
            named = [
                label
                for label in space.labels
                if shares[label.id] >= options.min_share and label.name not in options.unnamed
            ]
            words = [label.spoken for label in named]
            things = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
            for domain in options.domains:
                prompt = " ".join(options.sentence.format(things=things or "nothing else", domain=domain).split())
                about = (f"domain={domain}",)
                yield Candidate(
                    prompt, "", IGNORE, about,
                    layout=path, control_image=picture, content=content, origin=path.name,
                )  # fmt: skip
