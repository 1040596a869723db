"""The sentences that a template of a grammar can give, as one regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_FIELD = re.compile(r"\{([^{}]*)\}")


def sentence_pattern(template: str, wordings: Callable[[str, str], Iterable[str]]) -> re.Pattern[str]:
    """Matches a sentence of the template as a whole: every slot has any of `wordings(slot, form)`, or is left out.

    `{a}` and `{A}` are an article, `{class}` and `{classes}` anything.
    """
    parts, end = [], 0
    for match in _FIELD.finditer(template):
        parts.append(re.escape(template[end : match.start()]))
        end = match.end()
        name = match[1]
        if name in ("a", "A"):
            parts.append("(?:an?|An?)")
        elif name in ("class", "classes"):
            parts.append(".+?")
        else:
            slot, _, form = name.partition(".")
            words = sorted(set(wordings(slot, form)), key=len, reverse=True)
            parts.append("(?:" + "|".join(map(re.escape, [*words, ""])) + ")")
    parts.append(re.escape(template[end:]))
    # empty slots leave double blanks, and blanks before a comma, which the grammar closes up
    return re.compile("".join(parts).replace(r"\ ", " *"))
