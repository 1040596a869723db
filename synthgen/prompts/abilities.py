"""What a prompt source may have beside its candidates; the stage asks for each by its protocol."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from segkit.labels import Label
from synthgen.prompts.replies import Replies


@runtime_checkable
class ListsAttributes(Protocol):
    """What a source may also have: the attribute values that it could give for a class."""

    def attribute_values(self, label: Label) -> dict[str, tuple[str, ...]]: ...


@runtime_checkable
class KeepsReplies(Protocol):
    """What a source may also have: answers that cost something to get and may not come the same again."""

    replies: Replies


@runtime_checkable
class TakesSize(Protocol):
    """What a source may also have: what it gives follows from the size of the images (`takes_size` of its file)."""

    def expect_size(self, height_px: int, width_px: int) -> None: ...


@runtime_checkable
class GivesFiles(Protocol):
    """What a source may also have: it gives files of the user's alone, so nobody need read them all to find no text."""

    only_files: bool


@runtime_checkable
class CountsReplies(Protocol):
    """What the iterator of such a source has."""

    asked: int
    bad_replies: int
