"""Label maps to render from, with a sentence that names what they show (DGInStyle, the generator of FLEX-Seg; CG-Aug).

Every map of a labelled folder, or windows around its rare classes. They are for a renderer with a ControlNet, and the
proposer `layout` then takes the map itself as the coarse mask. One map gives one candidate for each domain word, so a
labelled set of fair days becomes one of nights and fog.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, model_validator

from segkit.folders import files_by_stem, normal_stem
from segkit.labels import IGNORE, Label, LabelSpace
from segkit.pictures import IMAGE_SUFFIXES, read_image
from synthgen.backends import Cost
from synthgen.classes import words_of_shown
from synthgen.errors import InputError
from synthgen.files import file_digest
from synthgen.prompts.bank import Candidate
from synthgen.prompts.need import Need
from synthgen.records import digest_of, ids_digest, pixels_digest, seed_of
from synthgen.settings import Fraction
from synthgen.sources.catalogue import FOLDER
from synthgen.sources.folder import LabelledFile, warn_of_another_space
from synthgen.sources.label_maps import LabelMap
from synthgen.sources.listing import list_source, source_hash
from synthgen.sources.rare_classes import Sampling, rare_windows


class Windows(BaseModel, extra="forbid", frozen=True):
    """Rare class sampling: windows around rare classes instead of whole maps (DGInStyle). They have the aspect of
    `render` and stay as they are cut: the window is the label.
    """

    count: int = Field(ge=1, le=10_000_000, description="windows [DGInStyle: 7,000; FLEX-Seg uses 10,000]")
    temperature: float = Field(
        0.01,
        gt=0,
        description="T of P(c) = softmax((1 - f_c) / T), f_c its share of pixels [code: DAFormer, DGInStyle]",
    )
    min_map_share: Fraction = Field(
        0.0015, description="a map serves for a class that covers this share of it [code: 3,000 of 1052 x 1914 px]"
    )
    min_share: Fraction = Field(
        0.01, description="a window serves for a class that covers this share of it [code: 1 %, 10 tries]"
    )
    side: tuple[Fraction, Fraction] = Field(
        (0.5, 0.5),
        description="range of a window's side, as a share of the largest one that fits [code: 512 of 1052 px]",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Windows:
        if not 0 < self.side[0] <= self.side[1]:
            raise ValueError(f"side is [smallest, largest], shares above 0 (got {list(self.side)})")
        return self


class Options(BaseModel, extra="forbid"):
    """Which maps and what to say of them."""

    folder: str = Field(description="labelled folder: images/, labels/ (PNG of class ids, same stem), or of `source`")
    source: str = Field(FOLDER, description="what it holds: folder, or a public dataset of `synthgen sources`")
    split: str = Field("", description="split of a public dataset; empty = its first")
    limit: int = Field(0, ge=0, description="use this many maps, chosen by the run seed; 0 = all")
    windows: Windows | None = Field(None, description="cut windows around rare classes; without it whole maps")
    domains: tuple[str, ...] = Field(
        ("on a clear day", "at night", "in fog", "in rain", "in snow"),
        min_length=1,
        description="ends of the sentence, one image each",
    )
    domains_per_map: int = Field(
        0, ge=0, description="take so many of the domains for each map or window, drawn by run seed and map; 0 = all"
    )
    domain_weights: tuple[float, ...] = Field(
        (),
        description="chances of the domains, in their order, where domains_per_map draws some; empty = alike [ours]",
    )
    class_weights: dict[str, float] = Field(
        {},
        description="chances of maps and windows by class, where limit or windows choose some; 1 for what is not "
        "named: a map has the greatest weight of the classes it shows, a window that of the class it is around [ours]",
    )
    sentence: str = Field(
        "a street with {things} {domain}",
        description="{things} = the classes that the map shows, {domain} = a word of `domains`",
    )
    words: dict[str, tuple[str, ...]] = Field(
        {}, description="further slots of the sentence, style or place; a word of each is drawn for each image"
    )
    plain_sentence: str = Field("{things}", description="the sentence of images that `plain_share` chooses")
    plain_share: Fraction = Field(
        0.0, description="share of images whose prompt names no domain [DGInStyle, CG-Aug: 0.5]"
    )
    min_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="a class is named if it covers at least this share of the map [ours; DGInStyle: any]",
    )
    control_images: str = Field(
        "",
        description="folder of pictures with the stems of the label maps, for a ControlNet that is fed depth or "
        "another picture; empty = none",
    )
    pairs: bool = Field(
        False, description="the picture of each map goes along: a sample is a pair of original and rendered [CG-Aug]"
    )
    unnamed: tuple[str, ...] = Field(("road", "sidewalk", "sky"), description="classes that go without saying")

    @model_validator(mode="after")
    def _weights_fit(self) -> Options:
        if self.domain_weights and len(self.domain_weights) != len(self.domains):
            raise ValueError(f"domain_weights: {len(self.domain_weights)} numbers for {len(self.domains)} domains")
        for name, weights in (("domain_weights", self.domain_weights), ("class_weights", self.class_weights.values())):
            if not all(0 < weight < math.inf for weight in weights):
                raise ValueError(f"{name} are above 0 and finite (got {list(weights)})")
        return self


def build(options: Options, execution: Any) -> Layouts:
    """List the folder. Raises InputError if it is missing or malformed, or if a sentence has another slot."""
    for key in ("sentence", "plain_sentence"):
        sentence = getattr(options, key)
        try:
            sentence.format(things="", domain="", **dict.fromkeys(options.words, ""))
        except (KeyError, IndexError, ValueError) as error:
            more = "".join(f", {{{name}}}" for name in options.words)
            raise InputError(
                f"prompts.source.{key} {sentence!r}: has the slots {{things}}, {{domain}}{more} only"
            ) from error
    if empty := [name for name, words in options.words.items() if not words]:
        raise InputError(f"prompts.source.words.{empty[0]}: has no word to draw")
    if options.windows and options.control_images:
        raise InputError(
            "prompts.source.control_images are of whole maps: leave prompts.source.windows out, or the pictures"
        )
    pairs = _labelled(options)
    return Layouts(options, [LabelMap.of(pair) for pair in pairs], _control_images(options, pairs))


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """The maps are read."""
    return Cost()


def num_given(options: Options) -> int:
    """How many prompts the maps give."""
    num_maps = len(_labelled(options))
    num_maps = options.windows.count if options.windows else min(num_maps, options.limit or num_maps)
    return num_maps * min(len(options.domains), options.domains_per_map or len(options.domains))


def aimed(options: Options, need: Need, count: int) -> dict[str, Any]:
    """The options of `count` prompts for what a segmenter is weak at: maps or windows of the classes, and domains.

    A domain counts as one of the segmenter's if its words have the other's name ("at night", night).
    """
    needs = [need.of_domain(domain) for domain in options.domains]
    per_map = options.domains_per_map or (1 if any(needs) else len(options.domains))
    number = max(1, round(count / min(per_map, len(options.domains))))
    changed: dict[str, Any] = {"class_weights": dict(need.classes), "domains_per_map": per_map}
    if any(needs):
        told = [value for value in needs if value]
        changed["domain_weights"] = tuple(value or sum(told) / len(told) for value in needs)
    if options.windows:
        return {**changed, "windows": options.windows.model_copy(update={"count": number}).model_dump()}
    return {**changed, "limit": number}


def takes_size(options: Options) -> bool:
    """Whether the size of the images changes what is given: windows have their aspect, originals of pairs that size."""
    return options.windows is not None or options.pairs


def fingerprint(options: Options) -> dict[str, str]:
    """Hash of the names and bytes of the label maps; the images beside them are not read unless they go along. With
    `control_images`, of those pictures too. Of a public dataset names and sizes count.
    """
    pairs, folder = _labelled(options), Path(options.folder).expanduser()
    pictures = _control_images(options, pairs)
    whole = options.pairs or options.source != FOLDER
    digest = source_hash(options.source, folder, options.split) if whole else _digest_of_files([p.label for p in pairs])
    return {"folder": digest} | ({"control_images": _digest_of_files(list(pictures.values()))} if pictures else {})


def _labelled(options: Options) -> list[LabelledFile]:
    return list_source(options.source, Path(options.folder).expanduser(), options.split)


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

    only_files = True

    def __init__(self, options: Options, maps: Sequence[LabelMap], control_images: Mapping[Path, Path]) -> None:
        """`control_images`: label map -> its picture; empty for none."""
        self._options = options
        self._maps = list(maps)
        self._control_images = control_images
        self._size_px: tuple[int, int] | None = None

    def expect_size(self, height_px: int, width_px: int) -> None:
        """Of the images that will be rendered: windows have their aspect."""
        self._size_px = (height_px, width_px)

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """All maps if no single class is wanted, in the order of their names, or windows of them in the order of
        drawing; ids outside the label space raise LabelError.
        """
        if wanted:
            return
        if self._options.source == FOLDER:
            warn_of_another_space(Path(self._options.folder).expanduser(), space)
        copies: Counter[str] = Counter()
        for label_map, ids in self._chosen(space, seed):
            content = ids_digest(ids)
            picture = self._control_images.get(label_map.path)
            if picture is not None:
                content = digest_of(f"{content}\x1f{pixels_digest(read_image(picture))}".encode())
            if self._options.pairs:
                content = digest_of(f"{content}\x1f{pixels_digest(label_map.picture(space))}".encode())
            shares = (np.bincount(ids.ravel(), minlength=256) / ids.size)[[label.id for label in space.labels]]
            things = words_of_shown(shares, space, self._options.min_share, self._options.unnamed)
            rng = np.random.default_rng(seed_of(f"{seed}/{content}/{copies[content]}"))
            copies[content] += 1
            for prompt, about in self._prompts(things, rng):
                yield Candidate(
                    prompt, "", IGNORE, about, layout=label_map, control_image=picture, content=content,
                    origin=label_map.path.name, has_original=self._options.pairs,
                )  # fmt: skip

    def _chosen(self, space: LabelSpace, seed: int) -> Iterator[tuple[LabelMap, np.ndarray]]:
        """(map or window, its ids)."""
        options, windows = self._options, self._options.windows
        order = self._drawn(space, np.random.default_rng(seed))
        maps = [self._maps[number] for number in sorted(order)]
        if windows is None:
            for label_map in maps:
                yield label_map, label_map.ids(space)
            return
        assert self._size_px is not None, "the size of the images is told before windows are cut"
        sampling = Sampling(
            windows.count, windows.temperature, windows.min_map_share, windows.min_share, windows.side,
            tuple(self._weights(space)) if options.class_weights else (),
        )  # fmt: skip
        yield from rare_windows(maps, space, self._size_px, seed, sampling)

    def _drawn(self, space: LabelSpace, rng: np.random.Generator) -> np.ndarray:
        """Numbers of the maps that `limit` chooses, all of them without it."""
        limit, number = self._options.limit or len(self._maps), len(self._maps)
        if not self._options.class_weights or self._options.windows or limit >= number:
            return rng.permutation(number)[:limit]
        of_class, chances = np.array(self._weights(space)), np.ones(number)
        for place, label_map in enumerate(self._maps):
            ids = label_map.ids(space)
            counts = np.bincount(space.channel_of_id[ids].ravel(), minlength=256)[: len(of_class)]
            shown = counts >= max(1, self._options.min_share * ids.size)
            chances[place] = of_class[shown].max(initial=0) or 1.0
        return rng.choice(number, limit, replace=False, p=chances / chances.sum())

    def _weights(self, space: LabelSpace) -> list[float]:
        """Of the classes of the label space, in its order. Raises LabelError for a name that it lacks."""
        weights = {space.by_name(name).id: weight for name, weight in self._options.class_weights.items()}
        return [weights.get(label.id, 1.0) for label in space.labels]

    def _prompts(self, things: str, rng: np.random.Generator) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(sentence, attributes) of each image of a map. What is fixed is not drawn."""
        options = self._options
        domains = list(options.domains)
        if 0 < options.domains_per_map < len(domains):
            weights = np.array(options.domain_weights)
            chosen = (
                rng.choice(len(domains), options.domains_per_map, replace=False, p=weights / weights.sum())
                if len(weights)
                else rng.permutation(len(domains))[: options.domains_per_map]
            )
            domains = [domains[number] for number in sorted(chosen)]
        for domain in domains:
            drawn = {name: words[int(rng.integers(len(words)))] for name, words in sorted(options.words.items())}
            is_plain = options.plain_share > 0 and rng.random() < options.plain_share
            sentence = options.plain_sentence if is_plain else options.sentence
            prompt = " ".join(sentence.format(things=things or "nothing else", domain=domain, **drawn).split())
            said = {name: word for name, word in drawn.items() if word and f"{{{name}}}" in sentence}
            if not is_plain:
                said["domain"] = domain
            yield prompt, tuple(f"{name}={word}" for name, word in sorted(said.items()))
