"""What is known about public labelled datasets and exports of labelling tools: a YAML file of this folder for each.
Of datasets nothing is in code.

    title, licence, download      what it is, under which terms, what to download from where and how it must lie
    space, splits                 the shipped label space that it fills (none for what a labelling tool exports), and
                                  the splits that have labels
    roots                         where inside the given folder the layout may begin, tried in order
    layouts                       where images and labels lie, tried in order; `{split}` is the split, any other
                                  `{field}` one path part
    checks_label_map              whether a labelmap.txt of other classes is refused
    classes                       tables: stored value -> class name of the label space; values under `ignored` become
                                  255

Class names meet the recipe's label space by name or synonym, so a source serves any space that shares classes with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segkit.documents import read_yaml
from synthgen.errors import InputError, did_you_mean, in_one_line

_FOLDER = Path(__file__).resolve().parent
FOLDER = "folder"
"""The project's own layout, images/ and labels/: the only source without a YAML file."""

Encoding = Literal[
    "ids",
    "first_channel_16bit",
    "colours",
    "sbd_mat",
    "coco_panoptic",
    "coco_instances",
    "coco_export",
    "labelme",
    "cvat_masks",
    "roboflow_masks",
    "label_studio",
]
EXPORTS = ("coco_export", "labelme", "cvat_masks", "roboflow_masks", "label_studio")
"""Encodings of labelling tools: the classes are the user's own, and all of it is looked at before anything is made."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Layout(_Part):
    """One way in which a dataset lies on disk."""

    images: str = Field(
        description="template of the image path; an ending `.*` stands for any image suffix; of `coco_export` the "
        "folders where the pictures may lie, with | between them"
    )
    labels: str = Field(description="template of the label path; of `labelme` several with | between them")
    encoding: Encoding = "ids"
    classes: str = Field("", description="which table of `classes`; empty for datasets that bring their own")
    splits: dict[str, str] = Field(
        {}, description="split -> the word for it in this layout, where it is another; only these splits lie in it"
    )
    listed: str = Field(
        "",
        description="template of a file with the split's stems, one a line or in a .mat; empty = all labels that "
        "are there",
    )


class ClassTable(_Part):
    """Stored values of a label file. A value that is neither in `names` nor in `ignored` is an error;

    255 is ignored anyway.
    """

    names: dict[int | str, str]
    ignored: tuple[int | str, ...] = ()


class Source(_Part):
    """One dataset."""

    name: str
    title: str
    licence: str
    download: str
    space: str = ""
    splits: tuple[str, ...] = Field(min_length=1)
    roots: tuple[str, ...] = ("",)
    layouts: tuple[Layout, ...] = Field(min_length=1)
    classes: dict[str, ClassTable] = {}
    checks_label_map: bool = Field(
        False,
        description="other datasets lie in this layout too and name their classes in a labelmap.txt: refuse these",
    )
    aliases: dict[str, str] = Field({}, description="class name -> the word to try in a label space that lacks it")

    @property
    def is_export(self) -> bool:
        """Whether a labelling tool writes it."""
        return self.layouts[0].encoding in EXPORTS

    @model_validator(mode="after")
    def _whole(self) -> Source:
        for layout in self.layouts:
            if layout.classes and layout.classes not in self.classes:
                raise ValueError(
                    f"layout {layout.labels!r} asks for the class table {layout.classes!r}, which is not there"
                )
            if not set(layout.splits) <= set(self.splits):
                raise ValueError(f"layout {layout.labels!r} names splits that the source does not have")
        return self


def source_names() -> list[str]:
    """Names of the public datasets that are known, sorted. The folder is the list."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_source(name: str) -> Source:
    """Raises InputError that lists the known ones if there is none of that name."""
    path = _FOLDER / f"{name}.yaml"
    if name not in source_names():
        known = [FOLDER, *source_names()]
        raise InputError(
            f"source {name!r} is not known; there are: {', '.join(known)} (see `synthgen "
            f"sources`){did_you_mean(name, known)}"
        )
    try:
        return Source.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: not a description of a source ({in_one_line(error, 160)})") from error
