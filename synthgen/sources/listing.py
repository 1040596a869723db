"""Finds the image and label files of a layout by its path templates. Reads no pixel."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from segkit.label_map import require_classes_of
from segkit.pictures import find_picture
from synthgen.errors import InputError
from synthgen.labels import read_label_space
from synthgen.sources import coco, cvat_masks, label_studio, labelme, roboflow_masks
from synthgen.sources.catalogue import FOLDER, Layout, Source, read_source
from synthgen.sources.encodings import Decoder
from synthgen.sources.folder import LabelledFile, content_hash, list_labelled, names_hash

_EXPORT_READERS = {
    "labelme": labelme.list_files,
    "cvat_masks": cvat_masks.list_files,
    "roboflow_masks": roboflow_masks.list_files,
    "label_studio": label_studio.list_files,
}
_FIELD = re.compile(r"\{(\w+)\}")


def list_source(name: str, folder: Path, split: str = "") -> list[LabelledFile]:
    """The labelled files of a split of a dataset, by path;

    `name` "folder" is the project's own layout, which has no splits.

    Raises InputError for an unknown source or split, and if the folder does not hold the dataset as it is published;
    LabelError for one of other classes in the same layout.
    """
    if name == FOLDER:
        if split:
            raise InputError(f"split {split!r}: a source {FOLDER!r} has none; give the folder of the split")
        return list_labelled(folder)
    source = read_source(name)
    chosen = split or source.splits[0]
    if chosen not in source.splits:
        raise InputError(f"source {name!r} has no split {chosen!r} with labels; there are: {', '.join(source.splits)}")
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; `synthgen sources {name}` says what to download and how it must lie"
        )
    for inner in source.roots:
        for layout in source.layouts:
            files = _files(source, folder / inner, layout, chosen)
            if files:
                if source.checks_label_map:
                    require_classes_of(folder / inner, read_label_space(source.space))
                return files
    looked_for = ", or ".join(
        dict.fromkeys(
            labels
            for layout in source.layouts
            for labels in layout.labels.replace("{split}", layout.splits.get(chosen, chosen)).split("|")
        )
    )
    others = f" (the splits are {', '.join(source.splits)})" if len(source.splits) > 1 else ""
    raise InputError(
        f"{folder}: holds no labels of {source.title}, split {chosen!r}{others}: there is no {looked_for}; see "
        f"`synthgen sources {name}`"
    )


def source_hash(name: str, folder: Path, split: str = "") -> str:
    """32 hex digits that change if the set of files or a size does; for the source "folder" if any byte does, for what
    a labelling tool exports if one of a label does.

    Public datasets are tens of gigabytes and do not change by a byte, so their contents are not read.
    """
    if name == FOLDER:
        return content_hash(folder)
    return names_hash(list_source(name, folder, split), folder, read_labels=read_source(name).is_export)


def _files(source: Source, root: Path, layout: Layout, split: str) -> list[LabelledFile]:
    if layout.splits and split not in layout.splits:
        return []
    word = layout.splits.get(split, split)
    if layout.encoding in _EXPORT_READERS:
        return _EXPORT_READERS[layout.encoding](root, layout.labels.replace("{split}", word))
    if layout.encoding.startswith("coco"):
        return coco.list_files(root, layout.images, layout.labels, layout.encoding, word, source.aliases)
    decode = Decoder(layout.encoding, source.classes[layout.classes])
    images, labels = layout.images.replace("{split}", word), layout.labels.replace("{split}", word)
    if layout.listed:
        path = root / layout.listed.replace("{split}", word)
        if not path.is_file():
            return []
        return [_pair(root, images, labels, {"stem": stem}, decode) for stem in _stems(path, word)]
    pattern = re.compile(
        _FIELD.sub(lambda field: f"(?P<{field[1]}>[^/]+)", re.escape(labels).replace(r"\{", "{").replace(r"\}", "}"))
    )
    files = []
    for path in sorted(root.glob(_FIELD.sub("*", labels))):
        match = pattern.fullmatch(path.relative_to(root).as_posix())
        if match is not None and not path.name.startswith("."):
            files.append(_pair(root, images, labels, match.groupdict(), decode))
    return files


def _pair(root: Path, images: str, labels: str, fields: dict[str, str], decode: Decoder) -> LabelledFile:
    label = root / labels.format(**fields)
    image = root / images.removesuffix(".*").format(**fields)
    if images.endswith(".*"):
        image = find_picture(image) or image
    for path, other in ((image, label), (label, image)):
        if not path.is_file():
            raise InputError(
                f"{path}: no such file, but {other.name} asks for it; the download or its unpacking is not complete"
            )
    return LabelledFile("/".join(fields.values()), image, label, decode)


@functools.lru_cache(maxsize=4)
def _stems(path: Path, split: str) -> tuple[str, ...]:
    if path.suffix != ".mat":
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a list of names ({error})") from error
        # VOC's image lists may say "stem flag"; SBD's are stems alone
        return tuple(line.split()[0] for line in lines if line.strip())
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return tuple(f"{int(number):05d}" for number in loadmat(path)[f"{split}Ids"].ravel())
    except (OSError, MatReadError, KeyError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: has no list {split}Ids ({type(error).__name__}: {error})") from error
