"""Prompts that are longer than the bank's text encoder reads.

Two that differ only beyond its context have one embedding, so the second is a near-duplicate of the first. What is cut
is kept with the prompt and told; a class that is named nowhere else would not be rendered, so such a prompt is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from segkit.printable import excerpt
from synthgen.models import TellsUnread, TextEncoder, Unread
from synthgen.records import PromptRecord

_log = logging.getLogger(__name__)


class Context:
    """What the text encoder of a bank reads of a prompt. The encoder is loaded when the first prompt is asked about."""

    def __init__(self, encoder: Callable[[], TextEncoder], is_renderers: bool) -> None:
        """`is_renderers` = the renderer takes this very encoder's embeddings."""
        self._encoder, self._is_renderers = encoder, is_renderers

    def rendered(self, prompt: str) -> str:
        """The beginning that reaches the renderer; the whole prompt where the renderer encodes it by itself."""
        unread = self._unread(prompt).tokens if self._is_renderers else ""
        return prompt.rstrip().removesuffix(unread)

    def uncompared(self, prompt: str) -> str:
        """The end that is compared with no other prompt; "" if all of it is."""
        return self._unread(prompt).pooled

    def tell(self, made: Sequence[PromptRecord]) -> None:
        """One warning about all accepted prompts that are cut."""
        cut = [row for row in made if row.cut]
        if cut:
            unseen = sum(1 for row in cut if self.rendered(row.subject.prompt) != row.subject.prompt.rstrip())
            _log.warning(
                "prompts: %s cuts %d of %d prompts, the first before %s: what is beyond is compared with no other%s; "
                "write shorter prompts",
                self._encoder().id,
                len(cut),
                len(made),
                excerpt(cut[0].cut, 80),
                f", and not rendered of {unseen}" if unseen else "",
            )

    def _unread(self, prompt: str) -> Unread:
        encoder = self._encoder()
        return encoder.unread(prompt) if isinstance(encoder, TellsUnread) else Unread("", "")
